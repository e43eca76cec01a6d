#!/usr/bin/env bash
# Builds in place and runs the whole suite, on asyncio's loop and on uvloop, and a part of
# it in Chromium, which it installs on Debian if there is none.
# Arguments go to pytest: ci/test.sh -m 'not slow', ci/test.sh tests/test_edn.py -x
# With --full it also runs the tests marked full, in Firefox and WebKit and behind nginx and
# HAProxy; on Debian it installs those as well.
# Fails if a test fails, and if none ran.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv test
need_chromium
if [[ " $* " == *" --full "* ]]; then need_full; fi
build_in_place
need_node
cd "$ROOT"
"$VENV/bin/python" -c 'import uvloop' || die "expected uvloop in $VENV: the suite runs on both loops"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$VENV/bin/python" -m pytest "$@" 2>&1 | tee "$log" || status=$?
[ "$status" = 0 ] || exit "$status"
grep -Eq '[0-9]+ (passed|xfailed)' "$log" || die "expected at least one test to run, got none"
