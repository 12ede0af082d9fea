#!/usr/bin/env bash
# Runs a command under a second kernel, User Mode Linux, which shares this machine's files but not its network, and has
# VLAN devices, ipvlan, dummy, VRF, traffic control and bridges that filter VLANs. It takes no nft tables.
# Start-up takes seconds and programs run slowly: hand it one command that does everything.
# usage: test/kernel/run.sh COMMAND [ARG...]      in the current folder, with the current environment
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
memory=1G
modules=(8021q ipvlan macvlan dummy vrf veth bridge tun ifb sch_tbf sch_ingress cls_u32 cls_matchall act_mirred)

command -v linux.uml >/dev/null || { echo "test/kernel: linux.uml is missing: apt-get install user-mode-linux" >&2; exit 127; }

# The guest finds modules below a folder that depmod has indexed, once per kernel release.
release=$(ls /usr/lib/uml/modules | tail -1)
tree=$here/.cache/kernel/$release
if [ ! -e "$tree/indexed" ]; then
  rm -rf "$tree" && mkdir -p "$tree/lib/modules"
  cp -r "/usr/lib/uml/modules/$release" "$tree/lib/modules/"
  depmod -b "$tree" "$release"
  touch "$tree/indexed"
fi

# Whatever registers the processor has: see there. Made beside its place and moved there: another run may do the same.
registers=$here/.cache/kernel/registers.so
if [ ! "$registers" -nt "$here/test/kernel/registers.c" ]; then
  gcc -O2 -Wall -Werror -shared -fPIC -o "$registers.$$" "$here/test/kernel/registers.c"
  mv "$registers.$$" "$registers"
fi

work=$(mktemp -d /var/tmp/catena-kernel.XXXXXX)
trap 'rm -rf "$work"' EXIT
[ -t 1 ] || export NO_COLOR=1 # the guest's output is a console in any case
{
  echo '#!/bin/bash'
  declare -px | grep -v -E '^declare -[a-z]*r|^declare -x TMPDIR=' || true
  cat <<GUEST
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /run/tmp
for folder in /var/lib/cni /etc/cni; do mkdir -p \$folder && mount -t tmpfs -o mode=755 cni \$folder; done
export TMPDIR=/run/tmp
modprobe -a -q -d $(printf %q "$tree") ${modules[*]}
cd $(printf %q "$PWD")
$(printf '%q ' "$@")
echo \$? >$(printf %q "$work/status")
sync
halt -f -p 2>/dev/null
GUEST
} >"$work/init"
chmod +x "$work/init"

LD_PRELOAD=$registers linux.uml rootfstype=hostfs root=/dev/root rootflags=/ rw "mem=$memory" "init=$work/init" con=null con0=fd:0,fd:1 ssl=null quiet \
  </dev/null 2>"$work/errors" |
  sed -u -e 's/\r$//' -e '/^Powering off/d; /^reboot: /d; /^SELinux: /d; /^mmapper_init/d; /^Failed to initialize ubd/d' || true
if [ ! -s "$work/status" ]; then
  cat "$work/errors" >&2
  echo "test/kernel: the second kernel ended before the command did" >&2
  exit 125
fi
exit "$(cat "$work/status")"
