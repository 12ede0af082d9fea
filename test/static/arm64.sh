#!/usr/bin/env bash
# Builds the executable for arm64 and runs it under qemu's user emulation, in a private host: VERSION of every plugin, host-local's
# and static's answers, loopback, which reads links and addresses over netlink, and what the loader makes of a warm service's answers.
# Takes about a minute; installs qemu-user-static and the cross compiler where they are missing. What qemu does not translate (nf_tables)
# is not tried.
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
  [ -f "$plugin" ] || continue
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

# asked WHAT STATUS PATTERN STEP...: a warm service that is none does the steps; bridge is to end with the status, its output is to match
gcc -O1 -o /run/false-service test/static/false-service.c
asked() {
  local what=$1 wanted=$2 pattern=$3 output status=0
  shift 3
  rm -f /run/catena/warm.sock /run/ready
  /run/false-service "$@" >/run/ready &
  local service=$!
  until [ -s /run/ready ]; do sleep 0.01; done
  output=$(CNI_COMMAND=VERSION qemu-aarch64-static "$folder/bridge" </dev/null | tr -d ' \n') || status=$?
  kill "$service" 2>/dev/null || true
  wait "$service" 2>/dev/null || true
  if [ "$status" = "$wanted" ] && [[ $output =~ $pattern ]]; then
    echo "ok    $what"
  else
    echo "FAIL  $what: status $status, $output"
    failed=1
  fi
}
asked 'a service that does the call' 7 '^done$' hello say A go print done status 7
asked 'a service that declines' 0 '"supportedVersions":\[' hello
asked 'a service that says nothing' 0 '"supportedVersions":\[' hello gone
asked "another user's service" 0 '"supportedVersions":\[' user 65534 hello say A go status 7
asked 'a service that dies over the call' 1 '"code":11,' hello say A go die
exit "$failed"
