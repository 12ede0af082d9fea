#!/usr/bin/env bash
# Builds the executable for arm64 and runs it under qemu's user emulation, in a private host: VERSION of every plugin, host-local's
# and static's answers, and loopback, which reads links and addresses over netlink. Takes about a minute; installs qemu-user-static
# and the cross compiler where they are missing. What qemu does not translate (nf_tables) is not tried.
# usage: bash test/static/arm64.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin

if [ "${1:-}" != --inside ]; then
  command -v qemu-aarch64-static >/dev/null || {
    echo "arm64: installing Debian's qemu-user-static" >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null
  }
  bun tools/build.ts --target arm64
  exec bash test/private.sh bash test/static/arm64.sh --inside
fi

folder=$PWD/dist-arm64
ip netns add web
export CNI_CONTAINERID=web CNI_NETNS=/run/netns/web CNI_IFNAME=lo CNI_PATH=$folder
ranges='"ranges":[[{"subnet":"10.5.0.0/24"}]]'
failed=0

# expect NAME VERB KEYS PATTERN: the plugin's standard output, in one line, is to match
expect() {
  local name=$1 verb=$2 keys=$3 pattern=$4 output status=0
  output=$(echo "{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"$name\"$keys}" |
    CNI_COMMAND=$verb qemu-aarch64-static "$folder/$name" | tr -d ' \n') || status=$?
  if [ "$status" = 0 ] && [[ $output =~ $pattern ]]; then
    echo "ok    $name $verb"
  else
    echo "FAIL  $name $verb: status $status, $output"
    failed=1
  fi
}

for plugin in "$folder"/*; do
  case ${plugin##*/} in catena | *.service | *.socket) ;; *) expect "${plugin##*/}" VERSION '' '"supportedVersions":\[' ;; esac
done
expect host-local ADD ",\"ipam\":{\"type\":\"host-local\",$ranges}" '"address":"10.5.0.2/24"'
[ -e /var/lib/cni/networks/net/10.5.0.2 ] || failed=1
expect host-local DEL ",\"ipam\":{\"type\":\"host-local\",$ranges}" '^$'
[ ! -e /var/lib/cni/networks/net/10.5.0.2 ] || failed=1
expect static ADD ',"ipam":{"type":"static","addresses":[{"address":"10.5.0.9/24"}]}' '"address":"10.5.0.9/24"'
expect loopback ADD '' '"127.0.0.1/8".*"::1/128"'
expect loopback CHECK ',"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"lo","sandbox":"/run/netns/web"}],"ips":[]}' '^$'
ip -n web link show lo | grep -q UP || failed=1
expect loopback DEL '' '^$'
exit "$failed"
