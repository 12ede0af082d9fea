#!/usr/bin/env bash
# Makes a Debian machine that has node and npm ready to run Catena's sources; --for-build adds what a static executable is made
# with, --for-arm64 and --for-x64 the same for one of another machine, --for-tests all that tests need.
# Says in one line what it installs, and takes a few milliseconds when there is nothing to install.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# package:command, installed when the command is not there
needed=(nftables:nft)
needed_for_build=(gcc:gcc g++:g++ make:make dpkg-dev:dpkg-source xz-utils:xz) # musl and what Bun asks of libstdc++
needed_for_arm64=(gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc g++-aarch64-linux-gnu:aarch64-linux-gnu-g++)
needed_for_x64=(gcc-x86-64-linux-gnu:x86_64-linux-gnu-gcc g++-x86-64-linux-gnu:x86_64-linux-gnu-g++)
needed_for_tests=(
  "${needed_for_build[@]}" file:file
  user-mode-linux:linux.uml kmod:depmod         # the second kernel
  gcc:gcc libc6-dev:gencat                      # what is preloaded into it
  iptables:iptables                             # the other backend, and what the Go plugins leave behind
  dnsmasq-base:dnsmasq udhcpd:udhcpd            # DHCP servers
  kea-dhcp6-server:kea-dhcp6 radvd:radvd        # the same for IPv6, and a router
  firewalld:firewalld dbus-daemon:dbus-daemon   # another firewall, and the bus that it is called over
  systemd:systemd-socket-activate               # starts the daemon of dhcp when somebody asks it
  iproute2:ip iperf3:iperf3 strace:strace tcpdump:tcpdump
  podman:podman crun:crun busybox:busybox
  chromium-headless-shell:chromium-headless-shell fonts-dejavu-core:chromium-headless-shell # looks at the pages of `catena graph`
  zsh:zsh fish:fish groff-base:groff            # completions and manual pages are made for
)
for word in "$@"; do
  case $word in
    --for-build) needed+=("${needed_for_build[@]}") ;;
    --for-arm64) needed+=("${needed_for_arm64[@]}") ;;
    --for-x64) needed+=("${needed_for_x64[@]}") ;;
    --for-tests) needed+=("${needed_for_tests[@]}") ;;
    *) echo "usage: tools/setup.sh [--for-build] [--for-arm64] [--for-x64] [--for-tests]" >&2 && exit 2 ;;
  esac
done

main() {
  missing=()
  for entry in "${needed[@]}"; do
    command -v "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
  done
  if [ ${#missing[@]} -gt 0 ] || stale; then
    mkdir -p .cache
    exec 9>.cache/setup.lock
    flock 9 # two set-ups at once would install over one another
    install_debian_packages
    if stale; then install_npm_packages; fi
  fi
}

stale() { ! cmp -s package-lock.json node_modules/.installed-lock.json; }

install_debian_packages() {
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "setup: please install as root, then try again: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  keep_services_off
  echo "setup: installing Debian's ${missing[*]}" >&2
  apt_install >/dev/null 2>&1 || { apt-get update -qq && apt_install >/dev/null; }
}

# The tests start these in a host of their own. As services, which their packages would make them, they would guard this
# machine and serve its neighbours.
services=(firewalld kea-dhcp6-server radvd udhcpd)
keep_services_off() {
  local service unit
  for service in "${services[@]}"; do
    unit=/etc/systemd/system/$service.service
    [[ " ${missing[*]} " = *" $service "* && ! -e $unit ]] || continue
    mkdir -p "${unit%/*}"
    ln -sf /dev/null "$unit" # masked
  done
}

# Without the recommended packages: podman's would bring a network stack of their own.
apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
}

install_npm_packages() {
  echo "setup: installing the npm packages that package-lock.json names" >&2
  npm ci --loglevel=error >/dev/null
  # npm may refuse to run the package's own postinstall step, which puts the executable in place
  node_modules/.bin/bun --version >/dev/null 2>&1 || node node_modules/bun/install.js
  node_modules/.bin/bun --version >/dev/null
  cp package-lock.json node_modules/.installed-lock.json
}

main
