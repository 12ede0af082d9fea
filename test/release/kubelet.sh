#!/usr/bin/env bash
# A pod as the kubelet asks containerd's CRI for one: its network is one of ours, installed by `catena install --conf bridge` into Debian 12's
# containerd (whose package looks for plugins in /usr/lib/cni); its address is there, its published port answers, and nothing is left. The
# pod's own container is a program of three lines in an image made here. Takes a quarter of a minute.
# usage: bash test/release/kubelet.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
cache=$PWD/.cache/containerd

if [ "${1:-}" != --inside ]; then
  bash test/release/containerd.sh >/dev/null
  [ -x dist/catena ] || bun tools/build.ts --quiet
  exec bash test/private.sh bash test/release/kubelet.sh --inside
fi

place=/run/kubelet
socket=$place/socket
mkdir -p $place /run/pods
PATH=$cache/usr/bin:$cache/usr/sbin:$PATH
ip link set lo up
ip link add uplink0 type veth peer name uplink1 && ip addr add 192.0.2.1/24 dev uplink0 && ip link set uplink0 up && ip link set uplink1 up
mount -t tmpfs opt /opt

# the pod's pause container
cat >$place/pause.c <<'C'
#include <unistd.h>
int main(void) { for (;;) pause(); }
C
gcc -static -O2 -o $place/pause $place/pause.c
cat >$place/image.ts <<IMAGE
import { imageOf } from '$PWD/tools/release/image.ts'
const executable = await Bun.file('$place/pause').bytes()
const about = { name: 'localhost/pause:1', version: '1', commit: 'none', seconds: 0 }
await Bun.write('$place/pause.tar', imageOf([{ architecture: process.arch === 'x64' ? 'amd64' : 'arm64', executable }], about))
IMAGE
bun $place/image.ts

cat >$place/config.toml <<CONFIG
version = 2
root = "$place/root"
state = "$place/state"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
CONFIG
containerd --config $place/config.toml >$place/log 2>&1 &
daemon=$!
trap 'status=$?; [ $status = 0 ] || tail -5 $place/log >&2; kill $daemon; wait $daemon || true' EXIT
ctr() { command ctr --address $socket -n k8s.io "$@"; }
cri() { bun test/release/cri.ts $socket "$@"; }
until ctr version >/dev/null 2>&1; do kill -0 $daemon; done
ctr images import $place/pause.tar >/dev/null

cri status | grep -q 'cni plugin not initialized' && echo "ok    without a network the runtime is not ready"
dist/catena install --conf bridge >/dev/null
until cri status | grep -qv 'cni plugin not initialized'; do kill -0 $daemon; done
echo "ok    catena install --conf bridge: the runtime is ready"
before=$(ip -br link | wc -l)
one=$(cri run one 8095)
two=$(cri run two 8096)
address=$(cri ip "$one")
echo "ok    RunPodSandbox: two pods, the first has $address"
process=$(ctr tasks ls | awk -v id="$one" '$1 == id { print $2 }')
nsenter --net=/proc/"$process"/ns/net bash -c "echo 'from the pod' >/run/pods/index.html; busybox httpd -f -p 80 -h /run/pods" &
server=$!
reached() { busybox wget -q -O - "http://$1/index.html" 2>/dev/null || nsenter --net=/proc/"$process"/ns/net true; }
until [ "$(reached "$address")" = "from the pod" ]; do kill -0 $server; done
[ "$(reached 192.0.2.1:8095)" = "from the pod" ]
echo "ok    the pod answers at its address and at the published port"
kill $server
dist/catena list >/dev/null
dist/catena reconcile --cri $socket --grace 0 --json >$place/reconciled
grep -q '"sandboxes": 2' $place/reconciled && grep -q '"attachments": \[\]' $place/reconciled && grep -q '"alive": 4' $place/reconciled # with loopback's
echo "ok    catena reconcile asks the runtime for its sandboxes, and leaves both pods alone"
cri stop "$one" >/dev/null
cri stop "$two" >/dev/null
[ -z "$(ls /var/lib/cni/networks/bridge | grep -E '^[0-9]+\.')" ]
ip link del cni0 2>/dev/null || true
[ "$(ip -br link | wc -l)" -le "$before" ]
echo "ok    StopPodSandbox: no address and no link is left"
