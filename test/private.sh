#!/usr/bin/env bash
# Runs a command as on a host of its own: empty network stack, own processes, empty /run, /var/lib/cni and /etc/cni.
# What it leaves behind goes with it, and nothing of the machine's network can be touched. Needs no root.
# usage: test/private.sh COMMAND [ARG...]
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
if [ "${1:-}" != --inside ]; then
  user=()
  [ "$(id -u)" = 0 ] || user=(--user --map-root-user)
  exec unshare "${user[@]}" --net --mount --pid --fork --kill-child --mount-proc -- bash "${BASH_SOURCE[0]}" --inside "$@"
fi
shift
trap 'exit 130' INT TERM # process 1 of a namespace ignores signals that it does not handle

umount -q /run/netns 2>/dev/null || true # of this machine's, where `ip netns` has been used: podman would take it for the private host's
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock
for folder in /var/lib/cni /etc/cni; do
  # where a user may not make the folder, the one above gets a writable layer
  [ -d "$folder" ] || mkdir -p "$folder" 2>/dev/null || {
    above=${folder%/*}
    layer=/run/layers$above
    mkdir -p "$layer/upper/${folder##*/}" "$layer/work"
    mount -t overlay -o "lowerdir=$above,upperdir=$layer/upper,workdir=$layer/work,userxattr" layer "$above"
  }
  mount -t tmpfs -o mode=755 cni "$folder"
done
# /sys shows the network devices of the namespace that mounted it
if [ -d /sys/fs/cgroup ]; then
  mkdir /run/cgroup && mount --rbind /sys/fs/cgroup /run/cgroup
  mount -t sysfs sysfs /sys && mount --rbind /run/cgroup /sys/fs/cgroup
  umount -l /run/cgroup && rmdir /run/cgroup
fi

export CATENA_PRIVATE_HOST=1
status=0
"$@" || status=$?
exit "$status"
