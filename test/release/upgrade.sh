#!/usr/bin/env bash
# What an older version has added and kept on disk is checked, deleted and collected by this one, and by this one's installation over it: every
# row of test/contract, on both kernels. Builds the older commit by Bun's own way into .cache/older; needs the history. Takes a minute.
# usage: bash test/release/upgrade.sh [-t PATTERN]
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
older=1040560 # version 0.1.0
folder=$PWD/.cache/older

if [ "$(cat "$folder/.commit" 2>/dev/null)" != "$older" ]; then
  source=$(mktemp -d "$PWD/.cache/older-source.XXXXXX")
  trap 'rm -rf "$source"' EXIT
  git archive "$older" | tar -x -C "$source"
  ln -s "$PWD/node_modules" "$source/node_modules"
  rm -rf "$folder"
  (cd "$source" && bun chain/build.ts --quiet --into "$folder")
  echo "$older" >"$folder/.commit"
fi
bun tools/build.ts --quiet
bash test/run.sh ./test/release/upgrade.ts "$@"
