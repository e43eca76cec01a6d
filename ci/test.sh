#!/usr/bin/env bash
# Builds in place and runs the suite in parallel processes, a part of it in Node and in
# Chromium, which it installs on Debian if there is none.
#   ci/test.sh --quick   no sockets, no other programs, one loop: under a minute
#   ci/test.sh           all that guards behavior
#   ci/test.sh --full    every test on every loop, and what needs Firefox, WebKit, nginx, and
#                        HAProxy, which it installs on Debian as well
# Arguments go to pytest: ci/test.sh -m 'not slow', ci/test.sh tests/unit/edn -x
# Tests that are named run in one process. Fails if a test fails, and if none ran.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv test
if [[ " $* " != *" --quick "* ]]; then
    need_chromium
    need_redis
    need_node
fi
if [[ " $* " == *" --full "* ]]; then need_full; fi
build_in_place
cd "$ROOT"
"$VENV/bin/python" -c 'import uvloop' || die "expected uvloop in $VENV: the suite runs on both loops"

# One process waits for networks in Chromium, one for Node; the others compute.
processes=(-n "$(($(nproc 2>/dev/null || echo 2) + 2))" --dist loadfile)
if [[ " $* " == *" --quick "* ]]; then processes=(-n "$(nproc 2>/dev/null || echo 2)" --dist loadfile); fi
for argument in "$@"; do
    if [ -e "${argument%%::*}" ] || [ "$argument" = --pdb ]; then processes=(); fi
done

# Each process would compile the tests again, and each program that they start the package.
unset PYTHONDONTWRITEBYTECODE

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$VENV/bin/python" -m pytest ${processes[@]+"${processes[@]}"} "$@" 2>&1 | tee "$log" || status=$?
[ "$status" = 0 ] || exit "$status"
grep -Eq '[0-9]+ (passed|xfailed)' "$log" || die "expected at least one test to run, got none"
