#!/usr/bin/env bash
# The OCI image under containerd: imported with `ctr`, run to install into a folder of the host, and the plugins that it has installed
# used by a container's network; then by podman, which reads the same archive. Debian's containerd and runc are unpacked into .cache, not
# installed: nothing of this machine's changes. Takes half a minute.
# usage: bash test/release/image.sh [IMAGE.tar]        without one, an image for this machine is made
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
cache=$PWD/.cache/containerd

main() {
  local image=${1:-}
  bash test/release/containerd.sh >/dev/null
  if [ -z "$image" ]; then
    bash tools/release.sh x64 --level 1 --into .cache/release >/dev/null
    image=$(ls .cache/release/catena-*-image.tar)
  fi
  exec bash test/private.sh bash test/release/image.sh --inside "$(realpath "$image")"
}

inside() {
  local image=$1 place=/run/image name
  mkdir -p "$place/host"
  PATH=$cache/usr/bin:$cache/usr/sbin:$PATH
  ip link set lo up
  cat >"$place/config.toml" <<CONFIG
version = 2
root = "$place/root"
state = "$place/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$place/socket"
CONFIG
  containerd --config "$place/config.toml" >"$place/log" 2>&1 &
  daemon=$!
  # shellcheck disable=SC2064
  trap "kill $daemon; wait $daemon || true" EXIT
  ctr() { command ctr --address "$place/socket" "$@"; }
  until ctr version >/dev/null 2>&1; do kill -0 "$daemon" || { tail -5 "$place/log" >&2; exit 1; }; done

  ctr images import "$image"
  name=$(ctr images list -q)
  echo "ok    ctr images import: $name"
  # install as the DaemonSet does: a folder of the host, and nothing else
  ctr run --rm --snapshotter native --mount "type=bind,src=$place/host,dst=/host,options=rbind:rw" "$name" install \
    /catena install --root /host --conf bridge --backend nftables >"$place/installed"
  grep -c installed "$place/installed" | sed 's/^/ok    ctr run … install: files that are new: /'
  ctr run --rm --snapshotter native --mount "type=bind,src=$place/host,dst=/host,options=rbind:ro" "$name" verify \
    /catena doctor --node --root /host >"$place/verified" || { cat "$place/verified"; exit 1; }
  echo "ok    ctr run … doctor: $(grep -o '[0-9]* plugins are in[^"]*' "$place/verified")"
  # containerd's own client gives a container a network by what has been installed
  mkdir -p /etc/cni/net.d
  cp "$place/host/etc/cni/net.d/10-bridge.conflist" /etc/cni/net.d/
  mount -t tmpfs plugins /opt && mkdir -p /opt/cni && cp -al "$place/host/opt/cni/bin" /opt/cni/ 2>/dev/null || cp -a "$place/host/opt/cni/bin" /opt/cni/
  ctr run --rm --cni --snapshotter native "$name" networked /catena --version | sed 's/^/ok    ctr run --cni: /'
  [ -z "$(ls /var/lib/cni/networks/bridge | grep '^10\.')" ] || { echo "FAIL  an address is left"; exit 1; }
  echo "ok    no address is left"
  podman --root "$place/podman" --runroot "$place/podman-run" load -q -i "$image" >"$place/loaded"
  podman --root "$place/podman" --runroot "$place/podman-run" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | sed 's/^/ok    podman load: /'
}

if [ "${1:-}" = --inside ]; then inside "$2"; else main "$@"; fi
