#!/usr/bin/env bash
# Runs chains of plugins from the static executable under the kernels that Debian ships (5.10, 6.1, 6.12; emulated, see debian.sh)
# or, with "here", on this machine's: bridge, tuning, bandwidth, portmap, firewall with each backend: ADD, CHECK, a request through
# the published port, one from the container to outside, DEL; then ADD, CHECK, DEL of every other interface plugin. Takes minutes.
# usage: bash test/kernel/chains.sh [bullseye|bookworm|trixie|here]...      without an argument: the three of Debian
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin

main() {
  [ $# -gt 0 ] || set -- bullseye bookworm trixie
  bun tools/build.ts --quiet
  local release failed=0
  for release; do
    if [ "$release" = here ]; then
      bash test/private.sh bash test/kernel/chains.sh --inside || failed=1
    else
      LIMIT=${LIMIT:-1800} nice bash test/kernel/debian.sh "$release" bash test/kernel/chains.sh --inside || failed=1
    fi
  done
  exit "$failed"
}

failed=0
say() {
  printf '%-5s %s\n' "$1" "$2"
  [ "$1" = ok ] || failed=1
}

# attempt WHAT COMMAND...: a line about it, and what it printed where it failed
attempt() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then say ok "$what"; else say FAIL "$what: $(tr '\n' ' ' <<<"$output" | cut -c1-400)"; fi
}

# request NAMESPACE ADDRESS PORT: reads the page; a server that has just been started may not listen yet
request() {
  # shellcheck disable=SC2016 # for the inner shell
  ip netns exec "$1" timeout 60 bash -c 'until exec 3<>"/dev/tcp/$0/$1"; do :; done 2>/dev/null
    printf "GET / HTTP/1.0\r\n\r\n" >&3; grep "through the chain" <&3' "$2" "$3"
}

# network NAME PLUGINS: writes the list that `catena` finds by its name
network() { echo "{\"cniVersion\":\"1.1.0\",\"name\":\"$1\",\"plugins\":[$2]}" >"$NETCONFPATH/$1.conflist"; }

inside() {
  local work=/run/chains backend
  mkdir -p "$work/net.d" "$work/www" /var/lib/cni
  export NETCONFPATH=$work/net.d CNI_PATH=$PWD/dist catena=$PWD/dist/catena
  echo "through the chain" >"$work/www/index.html"
  echo "Linux $(uname -r)"
  attempt "VERSION" env CNI_COMMAND=VERSION "$CNI_PATH/bridge" </dev/null
  ip netns add outside
  ip link add uplink type veth peer name eth0 netns outside
  ip address add 192.0.2.1/24 dev uplink
  ip link set uplink up
  ip -n outside address add 192.0.2.2/24 dev eth0
  ip -n outside link set eth0 up
  ip -n outside link set lo up
  ip netns exec outside busybox httpd -f -p 80 -h "$work/www" &
  local outside=$!
  for backend in nftables iptables silent; do chain "$backend" "$work/www"; done
  kill "$outside"
  every_interface
  exit "$failed"
}

chain() {
  local backend=$1 www=$2 named='' masquerade='' server
  [ "$backend" = silent ] || { named=",\"backend\":\"$backend\"" masquerade=",\"ipMasqBackend\":\"$backend\""; }
  network "$backend" "
    {\"type\":\"bridge\",\"bridge\":\"cni0\",\"isDefaultGateway\":true,\"ipMasq\":true$masquerade,\"ipam\":{\"type\":\"host-local\",
      \"ranges\":[[{\"subnet\":\"10.90.0.0/24\"}],[{\"subnet\":\"fd00:90::/64\"}]]}},
    {\"type\":\"tuning\",\"sysctl\":{\"net.core.somaxconn\":\"512\"}},
    {\"type\":\"bandwidth\",\"ingressRate\":80000000,\"ingressBurst\":8000000,\"egressRate\":80000000,\"egressBurst\":8000000},
    {\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}$named},
    {\"type\":\"firewall\"$named}"
  export CAP_ARGS='{"portMappings":[{"hostPort":8090,"containerPort":80,"protocol":"tcp"}]}'
  attempt "$backend: ADD bridge, tuning, bandwidth, portmap, firewall" "$catena" add "$backend" web --create
  ip netns exec web busybox httpd -f -p 80 -h "$www" &
  server=$!
  attempt "$backend: CHECK" "$catena" check "$backend" web
  attempt "$backend: a request from outside through the published port" request outside 192.0.2.1 8090
  attempt "$backend: a request from the container to outside, masqueraded" request web 192.0.2.2 80
  kill "$server"
  attempt "$backend: DEL" "$catena" del "$backend" web
  ip netns delete web
  ip link delete cni0 2>/dev/null || say FAIL "$backend: no bridge was there"
  unset CAP_ARGS
  [ -z "$(ls "/var/lib/cni/networks/$backend" | grep -v -e lock -e last)" ] || say FAIL "$backend: addresses are left"
}

every_interface() {
  local ipam='"ipam":{"type":"static","addresses":[{"address":"10.91.0.2/24"}]}' name
  ip link add lent type veth peer name lent-peer
  network ptp '{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.92.0.0/24"}],[{"subnet":"fd00:92::/64"}]]}}'
  network macvlan "{\"type\":\"macvlan\",\"master\":\"uplink\",$ipam}"
  network macvlan-queue "{\"type\":\"macvlan\",\"master\":\"uplink\",\"bcqueuelen\":2000,$ipam}"
  network ipvlan "{\"type\":\"ipvlan\",\"master\":\"lent-peer\",$ipam}"
  network vlan "{\"type\":\"vlan\",\"master\":\"uplink\",\"vlanId\":7,$ipam}"
  network dummy "{\"type\":\"dummy\",$ipam}"
  network tap "{\"type\":\"tap\",$ipam}"
  network host-device "{\"type\":\"host-device\",\"device\":\"lent\",$ipam}"
  network bridge-vlan "{\"type\":\"bridge\",\"bridge\":\"cni1\",\"vlan\":9,\"portIsolation\":true,\"macspoofchk\":true,$ipam}"
  network loopback '{"type":"loopback"}'
  network sbr "{\"type\":\"macvlan\",\"master\":\"uplink\",\"ipam\":{\"type\":\"static\",
    \"addresses\":[{\"address\":\"10.91.0.2/24\",\"gateway\":\"10.91.0.1\"}]}},{\"type\":\"sbr\"}"
  network vrf "{\"type\":\"dummy\",$ipam},{\"type\":\"vrf\",\"vrfname\":\"blue\"}"
  for name in ptp macvlan macvlan-queue ipvlan vlan dummy tap host-device bridge-vlan loopback sbr vrf; do
    ip netns add one
    attempt "$name: ADD" "$catena" add "$name" one
    attempt "$name: CHECK" "$catena" check "$name" one
    attempt "$name: DEL" "$catena" del "$name" one
    ip netns delete one
  done
}

if [ "${1:-}" = --inside ]; then inside; else main "$@"; fi
