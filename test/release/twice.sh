#!/usr/bin/env bash
# Makes a release of this commit in two checkouts, in different folders and with different times of their files, packed quickly: every
# byte has to be the same. Takes about a minute.
# usage: bash test/release/twice.sh [TARGET...]       x64 without one
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- x64
work=$(mktemp -d "$PWD/.cache/twice.XXXXXX")
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD)
for folder in "$work/one" "$work/another/further below"; do
  mkdir -p "${folder%/*}"
  git clone -q --no-checkout . "$folder"
  git -C "$folder" checkout -q --detach "$commit"
  mkdir "$folder/.cache"
  cp -al node_modules "$folder/node_modules" # Bun is asked for where it is
  cp -al .cache/static "$folder/.cache/static"
  (cd "$folder" && bash tools/release.sh "$@" --level 1 >/dev/null && cd release && sha256sum --quiet -c SHA256SUMS)
done
diff "$work/one/release/SHA256SUMS" "$work/another/further below/release/SHA256SUMS"
cat "$work/one/release/SHA256SUMS"
echo "ok: the same bytes twice"
