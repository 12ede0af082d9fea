#!/usr/bin/env bash
# Runs the tests: in a private host on this machine's kernel, then, under a second kernel, those that need a feature
# which this one lacks. A test that ran on neither fails the run. Without arguments, lint, types and build come first.
# usage: test/run.sh [argument of bun test...]      e.g. test/run.sh test/ipam -t 'round robin'
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH

lint_types_and_build() {
  tsc --noEmit &
  local types=$!
  biome check --error-on-warnings .
  wait "$types"
  bun tools/build.ts --quiet
}

[ $# -gt 0 ] || lint_types_and_build

# what runs beside the Go plugins fails, rather than being left out, when they cannot be had
bash test/peers.sh >/dev/null || echo "tests beside the Go plugins will fail: these could not be fetched" >&2

mkdir -p .cache
CATENA_TEST_RESULTS=$(mktemp -d "$PWD/.cache/results.XXXXXX")
export CATENA_TEST_RESULTS
trap 'rm -rf "$CATENA_TEST_RESULTS"' EXIT

here() { bash test/private.sh bun test --timeout 60000 "$@" 2>&1; }
on_second_kernel() {
  CATENA_TEST_KERNEL=second bash test/kernel/run.sh \
    "$(command -v bun)" test --timeout 120000 -t '\(needs [^()]+\)$' "$@" 2>&1
}

# Tests wait more than they work: two halves at once, on hosts of their own, take half the time on two cores.
both_halves() {
  local failed=0
  here --shard=2/2 >"$CATENA_TEST_RESULTS/half-2" &
  local second=$!
  here --shard=1/2 | tee "$CATENA_TEST_RESULTS/half-1" || failed=1
  wait "$second" || failed=1
  cat "$CATENA_TEST_RESULTS/half-2"
  return "$failed"
}

# Some tests hold that something takes less than a second, and the machine may have been busy with the other half: files
# with a failure run once more, alone, and that counts. More than ten such files are no accident, since what one test
# leaves behind fails others after it. What failed is told
# at the end of the run, also what did so only once.
# usage: once_more RUNNER OUTPUT...
once_more() {
  local runner=$1 files
  shift
  mapfile -t files < <(bun test/failures.ts files "$@")
  bun test/failures.ts "$@" >>"$CATENA_TEST_RESULTS/failures"
  [ "${#files[@]}" -ge 1 ] && [ "${#files[@]}" -le 10 ] || return 1
  echo "once more, alone: ${files[*]}"
  "$runner" "${files[@]}" | tee "$CATENA_TEST_RESULTS/again"
}

status=0
if [ $# -gt 0 ]; then
  bash test/private.sh bun test --timeout 30000 "$@" || status=$?
else
  both_halves || once_more here "$CATENA_TEST_RESULTS"/half-{1,2} || status=1
fi

# files with tests that could not run here, one per line
bun test/kernel/verdict.ts files >"$CATENA_TEST_RESULTS/files"
if [ -s "$CATENA_TEST_RESULTS/files" ]; then
  echo "These need what this kernel lacks, and run on the second one: $(tr '\n' ' ' <"$CATENA_TEST_RESULTS/files")" >&2
  mapfile -t files <"$CATENA_TEST_RESULTS/files"
  on_second_kernel "${files[@]}" | tee "$CATENA_TEST_RESULTS/second-kernel" ||
    once_more on_second_kernel "$CATENA_TEST_RESULTS/second-kernel" || status=1
fi
bun test/kernel/verdict.ts || status=$?

if [ -s "$CATENA_TEST_RESULTS/failures" ]; then
  echo
  if [ "$status" = 0 ]; then
    echo "What failed at first, and passed when it was alone:"
  else
    echo "What failed (and what failed again, above):"
  fi
  cat "$CATENA_TEST_RESULTS/failures"
fi
exit "$status"
