#!/usr/bin/env bash
# Makes what is handed out, in release/: an archive for each target, an OCI image of all of them, a bill of materials, SHA-256 sums.
# Bun's bytecode depends on the folder that it is compiled in, so it is compiled in one that is the same on every machine: this
# checkout, seen as /mnt/catena in a mount namespace. The same commit gives the same bytes.
# usage: tools/release.sh [TARGET...] [--into FOLDER] [--level LEVEL]      x64, x64-baseline, arm64; all of them without one
set -euo pipefail
cd "$(dirname "$0")/.."
user=()
[ "$(id -u)" = 0 ] || user=(--user --map-root-user)
# shellcheck disable=SC2016 # for the inner shell
exec unshare "${user[@]}" --mount -- sh -ec '
  mount -t tmpfs release /mnt
  mkdir /mnt/catena
  mount --rbind "$PWD" /mnt/catena
  cd /mnt/catena
  exec env SOURCE="$0" node_modules/.bin/bun tools/release.ts "$@"' "$PWD" "$@"
