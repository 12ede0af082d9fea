#!/usr/bin/env bash
# The same tests on the static executable and on Bun's own glibc build, each plugin as a process: every test has to end in the same way. By
# itself it compares the contract of all plugins (test/contract), which takes some minutes; other files can be named.
# usage: bash test/static/builds.sh [argument of bun test...]      e.g. test/meta/portmap.test.ts
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
[ $# -gt 0 ] || set -- test/contract
bun tools/build.ts --quiet
bun tools/build.ts --quiet --plain --into .cache/plain
bash test/peers.sh >/dev/null
work=$(mktemp -d "$PWD/.cache/builds.XXXXXX")
trap 'rm -rf "$work"' EXIT

# what ends how on a build, one line for each test; what this kernel cannot run is left out on both
verdicts() {
  mkdir "$work/$1.results"
  CATENA_TEST_RESULTS=$work/$1.results CATENA_EXECUTABLES=$2 \
    bash test/private.sh bun test --timeout 120000 "${@:3}" >"$work/$1.log" 2>&1 || true
  sed -n 's/^(\(pass\|fail\)) \(.*\)$/\1 \2/p' "$work/$1.log" | sed 's/ \[[0-9.]*ms\]$//' | sort -u >"$work/$1"
}
verdicts static "$PWD/dist" "$@" &
verdicts plain "$PWD/.cache/plain" "$@"
wait
for build in static plain; do
  echo "$build: $(grep -c '^pass' "$work/$build" || true) passed, $(grep -c '^fail' "$work/$build" || true) failed"
done
[ -s "$work/static" ] || { tail -20 "$work/static.log" >&2; exit 1; }
diff "$work/static" "$work/plain"
grep '^fail' "$work/static" || true
echo "ok: the same of both"
