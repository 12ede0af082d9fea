#!/usr/bin/env bash
# Runs the demonstration on a host of its own: nothing of this machine's network is touched.
# usage: test/demo/run.sh [FOLDER of the executables]
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
exec bash test/private.sh bun test/demo/demo.ts "${1:-$PWD/.cache/plain}"
