#!/usr/bin/env bash
# Fuzzes a target with libFuzzer, by way of atheris, under sanitizers; see tests/fuzz.
#   ci/fuzz.sh edn 5                             for five minutes
#   ci/fuzz.sh edn build/fuzz/edn/crash-12ab...  again with these inputs
# Targets: deflate, edn, frames, gzip, http, json, msgpack, transit. What is found out stays in
# build/fuzz/TARGET: the corpus, from which the next run goes on, and for each failure its
# input, and in INPUT.txt how to reproduce it and the report. Ends at the first failure. What
# leaks is found by tests/fuzz/leaks.py.
#   ci/fuzz.sh model 60                          sessions against tests/support/model.py, for an hour
# No bytes there but steps, which Hypothesis draws; it prints the fewest that fail.
#   ci/fuzz.sh cost edn 5 --seed 1               packets that cost the most, for five minutes
#   ci/fuzz.sh cost edn build/fuzz/cost/edn/...  measures such packets again
# Of the packers edn, gzip, json, msgpack, and transit: see tests/fuzz/cost.py. It measures the
# ordinary build. It fails and saves the packet if one takes more than 20 ms of CPU time for
# 64 KiB, if its cost grows faster than its size, or if its value holds more than twice its weight.
#   ci/fuzz.sh differential 20                   what one packer writes against all its readers, in
# Python and JavaScript; the minutes are shared by its eight tests (tests/conformance/test_differential.py)
set -euo pipefail
if [ "${1:-}" = cost ]; then
    . "$(dirname "$0")/lib.sh"
    [ $# -ge 3 ] || die "expected cost PACKER MINUTES or cost PACKER FILE..., got $# arguments"
    make_venv test
    build_in_place
    cd "$ROOT"
    PYTHONPATH=$ROOT:$ROOT/tests:$ROOT/tests/support exec "$VENV/bin/python" -P -m fuzz.cost "${@:2}"
fi
VENV=${VENV:-$(cd "$(dirname "$0")/.." && pwd)/.venv-fuzz}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/sanitizers.sh"

[ $# -ge 2 ] || die "expected TARGET MINUTES or TARGET FILE..., got $# arguments"
target=$1
shift
[ "$target" = model ] || [ "$target" = differential ] || [ -f "$ROOT/tests/fuzz/fuzz_$target.py" ] ||
    die "expected deflate, edn, frames, gzip, http, json, msgpack, transit, model or differential, got $target"

make_venv test fuzz
build_sanitized
if [ "$target" = model ]; then
    cd "$ROOT"
    export MODEL_MINUTES=$1
    sanitized "$VENV/bin/python" -P -m pytest -q -o pythonpath= -p no:cacheprovider \
        --capture=sys tests/conformance/test_model.py
    exit
fi
if [ "$target" = differential ]; then
    cd "$ROOT"
    export DIFFERENTIAL_MINUTES=$1
    sanitized "$VENV/bin/python" -P -m pytest -q -o pythonpath= -p no:cacheprovider \
        --capture=no tests/conformance/test_differential.py
    exit
fi
if [ -f "$1" ]; then
    sanitized "$VENV/bin/python" -P -m fuzz.run "$target" "$@"
    exit
fi
[[ $1 =~ ^[0-9]+$ ]] || die "expected minutes or files, got $1"

cd "$ROOT"
work=build/fuzz/$target
log=$work/log
mkdir -p "$work/corpus"
rm -rf "$work/seeds"
sanitized "$VENV/bin/python" -P -m fuzz.run "$target" --seeds "$work/seeds" --words "$work/words"
options=(
    -max_total_time=$(($1 * 60))
    -max_len=4096
    -timeout=20 # seconds for one input; the slowest good one takes a tenth of that
    -rss_limit_mb=3072
    -detect_leaks=0
    -dict="$work/words"
    -artifact_prefix="$work/"
    -print_final_stats=1
)
touch "$work/start"
status=0
sanitized "$VENV/bin/python" -P -m fuzz.run "$target" "${options[@]}" \
    "$work/corpus" "$work/seeds" 2>&1 |
    grep --line-buffered -vE '^#[0-9]+\s+(REDUCE|NEW|RELOAD)|NEW_FUNC|: Instrumenting|# Uses:' |
    tee "$log" || status=$?

for input in $(find "$work" -maxdepth 1 -name '*-*' ! -name '*.txt' -newer "$work/start"); do
    {
        echo "ci/fuzz.sh $target $input"
        sed -nE '/Uncaught Python exception|ERROR: |runtime error/,$p' "$log"
    } >"$input.txt"
    say "found $input, see $input.txt"
    status=1
done
exit "$status"
