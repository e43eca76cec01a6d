#!/usr/bin/env bash
# Runs the Autobahn|Testsuite against the raw echo (python -m chansock.testing.echo).
#   ci/autobahn.sh                   all 517 cases; ten minutes and more
#   ci/autobahn.sh --plain           the 301 without compression; under a minute
#   ci/autobahn.sh '6.4.*' 9.1.6     these alone
# The suite runs on CPython 2.7 alone (PYTHON2=... says which one), in an environment of its
# own, .venv-autobahn. With --or-skip it is no failure if there is none, or no network.
# Ends with a table, and fails on FAILED, NON-STRICT and UNIMPLEMENTED, and if a case is missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

is_python2() {
    "$1" -c 'import platform, ssl, sys, zlib
sys.exit(sys.version_info[:2] != (2, 7) or platform.python_implementation() != "CPython")' \
        >/dev/null 2>&1
}

find_python2() {
    local name
    if [ -n "${PYTHON2:-}" ]; then
        is_python2 "$PYTHON2" || die "expected a CPython 2.7 in PYTHON2, got $PYTHON2"
        command -v "$PYTHON2"
        return
    fi
    for name in python2.7 python2 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python; do
        if is_python2 "$name"; then
            command -v "$name"
            return
        fi
    done
}

make_suite() { # the suite and what it needs, all by version: nobody changes them any more
    local sum
    sum=$(sha256sum <"$ROOT/ci/autobahn.txt")
    [ "$(cat "$SUITE/.stamp" 2>/dev/null)" != "$sum" ] || return 0
    say "making $SUITE with $("$1" -V 2>&1)"
    rm -rf "$SUITE"
    # the last virtualenv to make one of 2.7
    "$VENV/bin/python" -m pip install -q 'virtualenv<20.22' &&
        "$VENV/bin/python" -m virtualenv -q --no-periodic-update -p "$1" "$SUITE" &&
        "$SUITE/bin/python" -W ignore -m pip install -q --no-deps -r "$ROOT/ci/autobahn.txt" ||
        return 1
    # Quicker by a minute where it can be compiled.
    "$SUITE/bin/python" -W ignore -m pip install -q --no-deps wsaccel==0.6.2 >/dev/null 2>&1 ||
        say "no wsaccel for this Python: the suite will be slower"
    printf '%s' "$sum" >"$SUITE/.stamp"
}

or_skip() { # or_skip WHY: end, as a failure unless that was allowed
    [ -n "$may_skip" ] || die "$1"
    echo "ci/autobahn.sh skipped: $1"
    exit 0
}

plain=
may_skip=
cases=()
for argument in "$@"; do
    case $argument in
        --plain) plain=1 ;;
        --or-skip) may_skip=1 ;;
        [0-9]*) cases+=("$argument") ;;
        *) die "expected --plain, --or-skip or cases like 6.4.*, got $argument" ;;
    esac
done

python2=$(find_python2)
[ -n "$python2" ] ||
    or_skip "no CPython 2.7 on PATH, in pyenv or in PYTHON2, on which alone the suite runs"
make_venv test
build_in_place
SUITE=$ROOT/.venv-autobahn
make_suite "$python2" || or_skip "could not install the suite for $python2"

work=$ROOT/build/autobahn
rm -rf "$work"
mkdir -p "$work"
cd "$work"
touch echo.out # it is read before the echo may have begun
options=(--port 0)
[ -n "$plain" ] || options+=(--deflate)
PYTHONPATH=$ROOT "$VENV/bin/python" -m chansock.testing.echo "${options[@]}" >echo.out 2>echo.log &
echo_pid=$!
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
trap 'exit 1' INT TERM
url=
until [ -n "$url" ]; do
    kill -0 "$echo_pid" 2>/dev/null || die "the echo did not start: $(tail -n 3 echo.log)"
    url=$(sed -nE 's/^listening on (ws:.*)$/\1/p' echo.out)
    [ -n "$url" ] || sleep 0.1
done

"$VENV/bin/python" - "$url" "$plain" "${cases[@]:-*}" >spec.json <<'PY'
import json, sys
url, plain, *cases = sys.argv[1:]
json.dump(
    {
        "outdir": "report",
        "servers": [{"agent": "chansock", "url": url}],
        "cases": cases,
        "exclude-cases": ["12.*", "13.*"] if plain else [],
        "exclude-agent-cases": {},
    },
    sys.stdout,
)
PY

asked=$("$SUITE/bin/python" -W ignore - <<'PY'
import json
from autobahntestsuite import fuzzing as suite
cases = suite.CaseSet(
    suite.CaseSetname, suite.CaseBasename, suite.Cases, suite.CaseCategories,
    suite.CaseSubCategories,
)
print(len(cases.parseSpecCases(json.load(open("spec.json")))))
PY
)
[ "$asked" -gt 0 ] || die "no case matches ${cases[*]}"
if [ ${#cases[@]} = 0 ]; then
    all=517
    [ -z "$plain" ] || all=301
    [ "$asked" = "$all" ] || die "expected the suite to have $all cases, got $asked"
fi

say "running the suite; its report will be $work/report/index.html"
"$SUITE/bin/python" -W ignore "$SUITE/bin/wstest" -m fuzzingclient -s spec.json >suite.log 2>&1 &
# waited for, since a trap is not heard while a command runs
wait $! || die "the suite failed: $(tail -n 3 suite.log)"

"$VENV/bin/python" - "$asked" <<'PY'
import json, sys
from collections import Counter
from pathlib import Path

asked = int(sys.argv[1])
index = Path("report/index.json")
cases = json.loads(index.read_text())["chansock"] if index.exists() else {}
fields = ("behavior", "behaviorClose")
counts = [Counter(case[field] for case in cases.values()) for field in fields]
names = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED"]
names += sorted({name for count in counts for name in count} - set(names))
good = {"OK", "INFORMATIONAL"}
for name, case in sorted(cases.items(), key=lambda item: [int(k) for k in item[0].split(".")]):
    if not good.issuperset(case[field] for field in fields):
        print(f"{name}: behaviour {case['behavior']}, closing {case['behaviorClose']}")
print(f"{len(cases)} of {asked} cases    behaviour    closing")
for name in names:
    print(f"{name:<20}{counts[0][name]:>9}{counts[1][name]:>11}")
sys.exit(len(cases) < asked or any(set(count) - good for count in counts))
PY
