#!/usr/bin/env bash
# Runs the demonstration on a host of its own: nothing of this machine's network is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
exec bash test/private.sh bun test/demo/demo.ts
