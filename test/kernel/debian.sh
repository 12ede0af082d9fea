#!/usr/bin/env bash
# Runs a command as root under the kernel of a Debian release, emulated by qemu: bullseye (5.10), bookworm (6.1), trixie (6.12).
# The guest sees this machine's files; what it writes goes with it. It has no network but its own. Programs run ten to
# thirty times slower than here: nothing is measured there.
# usage: test/kernel/debian.sh RELEASE COMMAND [ARG...]      in the current folder, with the current environment
# LIMIT: seconds until it is ended, boot included (default 900)
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/../.." && pwd)
say() { echo "test/kernel: $*" >&2; }
[ $# -ge 2 ] || { say "usage: test/kernel/debian.sh bullseye|bookworm|trixie COMMAND [ARG...]"; exit 2; }
release=$1
shift
cache=$here/.cache/kernel/$release

main() {
  install_missing
  mkdir -p "$cache"
  exec 9>"$cache.lock"
  flock 9 # two runs at once would unpack over one another
  [ -e "$cache/ready" ] || prepare
  flock -u 9
  boot "$@"
}

install_missing() {
  local entry missing=()
  for entry in qemu-system-x86:qemu-system-x86_64 busybox-static:busybox kmod:depmod xz-utils:xz; do
    command -v "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
  done
  file -L "$(command -v busybox || echo /dev/null)" 2>/dev/null | grep -q 'statically linked' || missing+=(busybox-static)
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian's ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

# The release's kernel and its modules, by an apt of its own: lists, sources and packages of this machine stay as they are.
prepare() {
  say "fetching the kernel of Debian $release"
  local apt=$cache/apt options mirror package version
  rm -rf "$cache" && mkdir -p "$apt"/{lists/partial,archives/partial} "$cache/root"
  mirror=$(bash "$here/tools/debian.sh" mirror)
  echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$apt/sources"
  : >"$apt/status"
  options=(-qq -o "Dir::Etc::sourcelist=$apt/sources" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  package=$(apt-cache "${options[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -1)
  (cd "$apt" && apt-get "${options[@]}" download "$package")
  dpkg-deb -x "$apt/$package"*.deb "$cache/root"
  [ -d "$cache/root/lib/modules" ] || ln -s usr/lib "$cache/root/lib" # newer releases have /lib merged into /usr/lib
  version=$(ls "$cache/root/lib/modules")
  depmod -b "$cache/root" "$version"
  make_initramfs "$version"
  rm -rf "$apt"
  echo "$version" >"$cache/ready"
}

# Mounts this machine's root through 9p, with a writable layer of memory above it, and goes on there.
make_initramfs() {
  local tree=$cache/initramfs module file
  mkdir -p "$tree"/{bin,modules,below,above,root,proc,dev}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for module in virtio_pci 9p 9pnet_virtio overlay virtio_console; do
    modprobe -d "$cache/root" -S "$1" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' | while read -r file; do
    module=$(basename "${file%.xz}")
    if [ "${file%.xz}" = "$file" ]; then cp "$file" "$tree/modules/$module"; else xz -dc "$file" >"$tree/modules/$module"; fi
    echo "$module"
  done >"$tree/order"
  cat >"$tree/init" <<'GUEST'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t devtmpfs dev /dev
while read module; do $b insmod /modules/$module; done </order
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /below || $b poweroff -f
$b mount -t tmpfs -o size=75% above /above && $b mkdir /above/files /above/work
$b mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work root /root || $b poweroff -f
for word in $($b cat /proc/cmdline); do case $word in job=*) job=${word#job=} ;; esac; done
for place in proc dev; do $b mount --move /$place /root/$place; done
$b mount -t sysfs sys /root/sys
exec $b switch_root /root /bin/bash "$job/init"
GUEST
  chmod +x "$tree/init"
  (cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$cache/initramfs.gz")
}

# What the plugins and the tests use, and what Debian has as modules: nothing loads them on demand in every namespace.
modules=(9p overlay veth bridge br_netfilter 8021q macvlan ipvlan dummy vrf ifb tun sch_tbf sch_ingress sch_fq_codel cls_u32 act_mirred
  nf_tables nf_conntrack nf_conntrack_netlink nf_nat nft_chain_nat nft_ct nft_nat nft_masq nft_redir nft_compat nft_fib_inet nft_meta_bridge
  nft_reject_inet nft_objref nft_limit nft_hash nft_numgen nft_log nft_counter x_tables ip_tables iptable_nat iptable_filter ip6_tables
  xt_MASQUERADE xt_nat xt_conntrack xt_comment xt_mark xt_multiport xt_addrtype xt_tcpudp xt_statistic)

boot() {
  local work status=0
  work=$(mktemp -d /var/tmp/catena-kernel.XXXXXX)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  trap 'exit 130' INT TERM
  {
    declare -px | grep -v -E '^declare -[a-z]*r' || true
    cat <<GUEST
mount -t tmpfs -o mode=755 run /run && mkdir -p /run/netns /run/lock /dev/pts /dev/shm
mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd; ln -sfn fd/0 /dev/stdin; ln -sfn fd/1 /dev/stdout; ln -sfn fd/2 /dev/stderr
ip link set lo up
modprobe -q -a -d $(printf %q "$cache/root") ${modules[*]}
cd $(printf %q "$PWD")
$(printf '%q ' "$@") </dev/null >/dev/hvc0 2>&1
status=\$?
for port in /dev/vport*p1; do echo \$status >\$port; done # p0 is the console
busybox poweroff -f
GUEST
  } >"$work/init"
  mkfifo "$work/out"
  cat "$work/out" &
  timeout -k 5 "${LIMIT:-900}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m 3G -nodefaults -no-user-config \
    -display none -no-reboot -kernel "$cache/root/boot/vmlinuz-$(cat "$cache/ready")" -initrd "$cache/initramfs.gz" \
    -append "console=ttyS0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on job=$work" \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=root,mount_tag=root \
    -device virtio-serial-pci -chardev "file,id=out,path=$work/out" -device virtconsole,chardev=out \
    -chardev "file,id=status,path=$work/status" -device virtserialport,chardev=status </dev/null || status=$?
  : <>"$work/out" # should qemu not have opened it, cat ends all the same
  wait
  [ -s "$work/status" ] && exit "$(cat "$work/status")"
  [ "$status" = 124 ] && { say "over the limit of ${LIMIT:-900} s"; exit 124; }
  tail -20 "$work/console" >&2
  say "the guest ended before the command did"
  exit 125
}

main "$@"
