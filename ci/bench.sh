#!/usr/bin/env bash
# Measures chansock beside its baselines, in the same run, and ends with a table of ratios.
#   ci/bench.sh                      everything
#   ci/bench.sh broadcast            bench/bench_broadcast.py alone
#   ci/bench.sh --quick              few and short rounds, under a minute
# Other arguments go to pytest. Servers run on core 0 and the load generator on core 1,
# where taskset is there; close other programs, and trust ratios rather than times.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv bench
build_in_place
cd "$ROOT"

files=()
options=()
for argument in "$@"; do
    if [ -f "bench/bench_$argument.py" ]; then
        files+=("bench/bench_$argument.py")
    else
        options+=("$argument")
    fi
done
[ ${#files[@]} -gt 0 ] || files=(bench)
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
exec "$VENV/bin/python" -m pytest -q -o python_files='bench_*.py' -o filterwarnings= \
    --benchmark-columns=median,min,max,stddev,rounds --benchmark-sort=name \
    --benchmark-group-by=group "${files[@]}" ${options[@]+"${options[@]}"}
