#!/usr/bin/env bash
# From an empty folder to two browsers that chat under FastAPI, as a new user gets there: a
# virtual environment, what docs/fastapi.md has installed, its programs word by word, its command,
# and two tabs of Chromium. Prints the seconds that each step took, and fails past 120 in all.
#   ci/quickstart.sh          with a wheel made of this tree
#   ci/quickstart.sh WHEEL    with that one
# Only the user's part is counted: the wheel, which a user gets from an index, and the browser
# come before. Packages come from the index that pip is set to.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv test
need_chromium
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheel=${1:-}
if [ -z "$wheel" ]; then
    build_in_place
    say "a wheel of what is built in place"
    cd "$ROOT"
    mkdir "$work/lib"
    cp --parents chansock/_fast/*/*.so "$work/lib/"
    "$VENV/bin/python" setup.py -q build --build-base "$work/build" --build-lib "$work/lib" \
        egg_info --egg-base "$work" bdist_wheel --dist-dir "$work/dist" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
    wheel=$(echo "$work"/dist/*.whl)
fi
[ -f "$wheel" ] || die "expected a wheel, got $wheel"
export PYTHONPATH=$ROOT/tests/support:$ROOT/tests/browser
"$VENV/bin/python" "$ROOT/tests/support/quickstart.py" "$ROOT/docs/fastapi.md" "$wheel"
