#!/usr/bin/env bash
# Fetches the Go reference plugins (Debian's containernetworking-plugins, of a release newer than this machine's) into
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
  mkdir -p "$work"/{lists/partial,cache/archives/partial,parts}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$work/sources.list"
  private_apt -qq update >&2
  (cd "$work" && private_apt -qq download "$package" >&2)
  version=$(dpkg-deb -f "$work/$package"_*.deb Version)
  dpkg --compare-versions "$version" ge "$oldest" || fail "$suite has $package $version, needed is $oldest or newer"
  dpkg-deb -x "$work/$package"_*.deb "$work/tree"
  echo "$version" >"$work/tree/usr/lib/cni/.version"
  rm -rf "$peers"
  mv "$work/tree/usr/lib/cni" "$peers"
}

# apt with lists, cache and sources of its own: the machine's stay as they are
private_apt() {
  apt-get -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts" \
    -o Dir::Etc::Preferences=/dev/null -o "Dir::Etc::PreferencesParts=$work/parts" \
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" \
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}

# The first Debian mirror of the machine's apt sources, in either of their formats
mirror() {
  local found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
    sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' \
      -e 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]\+\)\?\([^[:space:]]\+\)[[:space:]].*/\2/p' |
    grep -m 1 -E '/debian/?$') || true
  [ -n "$found" ] || fail "this machine's apt sources name no Debian mirror"
  echo "$found"
}

fail() {
  echo "peers: $*" >&2
  exit 1
}

main
