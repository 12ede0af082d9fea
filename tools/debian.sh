#!/usr/bin/env bash
# Fetches a package of a Debian release that need not be this machine's, with lists, cache and sources of apt's that are private:
# the machine's stay as they are. Takes the mirror that the machine's apt uses; apt checks the archive's signature.
# usage: tools/debian.sh binary|source SUITE PACKAGE FOLDER      leaves the .deb, or the .dsc and what it names, in FOLDER
#        tools/debian.sh mirror                                  says which mirror that is
set -euo pipefail
kind=$1 suite=${2:-} package=${3:-} folder=${4:-}

main() {
  [ "$kind" != mirror ] || { mirror; exit; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{lists/partial,cache/archives/partial,parts} "$folder"
  local line="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main"
  cd "$folder"
  if [ "$kind" = source ]; then
    echo "deb-src $line" >"$work/sources.list"
    private_apt -qq update >&2
    private_apt -qq --download-only source "$package" >&2
  else
    echo "deb $line" >"$work/sources.list"
    private_apt -qq update >&2
    private_apt -qq download "$package" >&2
  fi
}

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
  if [ -z "$found" ]; then
    echo "this machine's apt sources name no Debian mirror" >&2
    exit 1
  fi
  echo "$found"
}

main
