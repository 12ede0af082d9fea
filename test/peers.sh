#!/usr/bin/env bash
# Fetches the Go plugins (Debian's containernetworking-plugins, of a release newer than this machine's) into
# .cache/peers, without installing anything, and prints the folder. Takes the mirror that the machine's apt uses.
# usage: test/peers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
suite=forky
package=containernetworking-plugins
oldest=1.9
peers=$PWD/.cache/peers

main() {
  if [ ! -x "$peers/bridge" ]; then
    mkdir -p .cache
    exec 9>.cache/peers.lock
    flock 9
    [ -x "$peers/bridge" ] || fetch
  fi
  echo "$peers"
}

fetch() {
  echo "peers: fetching Debian's $package from $suite" >&2
  work=$(mktemp -d "$PWD/.cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  bash tools/debian.sh binary "$suite" "$package" "$work"
  version=$(dpkg-deb -f "$work/$package"_*.deb Version)
  dpkg --compare-versions "$version" ge "$oldest" || fail "$suite has $package $version, needed is $oldest or newer"
  dpkg-deb -x "$work/$package"_*.deb "$work/tree"
  echo "$version" >"$work/tree/usr/lib/cni/.version"
  rm -rf "$peers"
  mv "$work/tree/usr/lib/cni" "$peers"
}

fail() {
  echo "peers: $*" >&2
  exit 1
}

main
