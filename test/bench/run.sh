#!/usr/bin/env bash
# Measures our plugins beside the Go plugins, in a private host. Prints a table, and writes all samples as JSON.
# usage: npm run bench [-- --part N --json FILE --plots FOLDER]: the figures that matter, warm and cold beside Go, in some minutes
#        npm run bench -- cases [--rounds N --neighbours N --json FILE --ours FOLDER --theirs FOLDER --list NAME...]: plugins in pairs
#        npm run bench -- start [--rounds N]: the static executable beside Bun's own and Go's, doing nothing
#        npm run bench -- connections [--ports N,N... --rounds N]: what a new connection through a published port costs
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
bun tools/build.ts --quiet
bash test/peers.sh >/dev/null
mkdir -p .cache/bench
# As an installation leaves them: out of the page cache, and there again by being started. Pages that a build wrote lie otherwise.
for file in dist/catena .cache/peers/*; do
  dd of="$file" oflag=nocache conv=notrunc,fdatasync count=0 status=none
  CNI_COMMAND=VERSION "$file" </dev/null >/dev/null 2>&1 || true
done
case ${1:-} in
  connections) script=connections; shift ;;
  start) script=start; shift; bun tools/build.ts --plain --quiet --into .cache/plain ;;
  cases) script=bench; shift ;;
  '' | --part* | --json* | --plots*) script=figures ;;
  *) script=bench ;;
esac
exec bash test/private.sh bun "test/bench/$script.ts" "$@"
