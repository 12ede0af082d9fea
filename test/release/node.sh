#!/usr/bin/env bash
# From nothing to a working node: a minimal Debian (made by debootstrap, kept in .cache) with an archive of ours at a file:// address,
# in a private host. The two commands are those at the top of docs/install.md, word for word. Takes a minute, and two more at first.
# usage: bash test/release/node.sh [ARCHIVE]       without one, an archive for this machine is made, packed quickly
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
root=$PWD/.cache/debian-root

main() {
  local archive=${1:-}
  [ -e "$root/made" ] || make_root
  if [ -z "$archive" ]; then
    bash tools/release.sh x64 --level 3 --into .cache/release >/dev/null
    archive=$(ls .cache/release/catena-*-linux-x64.tar.zst)
  fi
  exec bash test/private.sh bash test/release/node.sh --inside "$(realpath "$archive")"
}

make_root() {
  command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
  echo "node: making a minimal Debian (once)" >&2
  rm -rf "$root"
  debootstrap --variant=minbase --include=zstd,curl bookworm "$root" "$(bash tools/debian.sh mirror)" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 1; }
  touch "$root/made"
}

# Everything that is written goes into a layer of memory above the root.
inside() {
  local archive=$1 place=/run/node command
  mkdir -p "$place/above" && mount -t tmpfs above "$place/above"
  mkdir -p "$place"/above/{files,work} "$place/root"
  mount -t overlay -o "lowerdir=$root,upperdir=$place/above/files,workdir=$place/above/work" node "$place/root"
  mount -t proc proc "$place/root/proc"
  mount -t sysfs sys "$place/root/sys"
  mount --bind /dev "$place/root/dev"
  mount -t tmpfs run "$place/root/run"
  install -D "$archive" "$place/root/srv/$(basename "$archive")"
  ip link set lo up
  # the first block of commands of the page
  sed -n '/^```sh$/,/^```$/p' docs/install.md | sed '1d;/^```$/,$d' >"$place/commands"
  while read -r command; do
    command=${command%%#*}
    echo "# $command"
    # a container, and whoever it runs for, ends with the shell that ran the command: as on a node, /run stays
    chroot "$place/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
      ARCHIVE="file:///srv/$(basename "$archive")" bash -euo pipefail -c "cd; $command"
  done <"$place/commands"
  [ "$(chroot "$place/root" ls /opt/cni/bin | wc -l)" = 20 ] || { echo "not all plugins are there" >&2; exit 1; }
  echo "ok: two commands"
}

if [ "${1:-}" = --inside ]; then inside "$2"; else main "$@"; fi
