#!/usr/bin/env bash
# Measures chansock beside its baselines, in the same run, and ends with a table of ratios.
#   ci/bench.sh                      everything
#   ci/bench.sh fanout               bench/bench_fanout.py alone: one event, and bursts, to all
#   ci/bench.sh wire                 sockets: echo, connect and request/reply
#   ci/bench.sh resume               what resume costs; BASELINE=FOLDER: beside an older checkout
#   ci/bench.sh cluster              events between processes through a Redis
#   ci/bench.sh scaling              what 1, 2, and 4 workers of one host do
#   ci/bench.sh connect              of these, connect alone
#   ci/bench.sh tail                 how long the slowest requests take, beside pushes
#   ci/bench.sh memory               connections that do nothing, and what leavers leave
#   ci/bench.sh embed                in an application under uvicorn, beside its own server
#   ci/bench.sh edn                  the reader and the writer
#   ci/bench.sh msgpack              the same of MessagePack
#   ci/bench.sh hostile              what hostile peers cost
#   ci/bench.sh slow                 what clients that read nothing cost
#   ci/bench.sh js                   bench/js alone: edn in JavaScript, and its size
#   ci/bench.sh browsers             bench/browsers.py alone: pages whose server or network
#                                    fails, in Chromium, Firefox, and WebKit; half an hour
#   ci/bench.sh --quick              few and short rounds, and fewer questions: some minutes
# Other arguments go to pytest. Servers run on core 0 and the load generator on core 1,
# where taskset is there; close other programs, and trust ratios rather than times.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv bench
cd "$ROOT"

install_js() {
    need_node
    npm_install "$ROOT/bench/js"
}

js() {
    install_js
    node bench/js/edn.mjs "$@"
}

if [ "${1:-}" = browsers ]; then
    make_venv test
    need_chromium
    need_full
    build_in_place
    exec "$VENV/bin/python" -P bench/browsers.py "${@:2}"
fi

files=()
options=()
quick=()
wants_js=
for argument in "$@"; do
    if [ "$argument" = js ]; then
        wants_js=only
    elif [ -f "bench/bench_$argument.py" ]; then
        files+=("bench/bench_$argument.py")
        case $argument in cluster | scaling) need_redis ;; esac
        [ "$argument" != cluster ] || install_js
        [ "$argument" != wire ] || files+=(bench/bench_connect.py bench/bench_request_reply.py)
    else
        options+=("$argument")
        [ "$argument" != --quick ] || quick=(--quick)
    fi
done
if [ ${#files[@]} = 0 ]; then
    if [ -n "$wants_js" ]; then
        js ${quick[@]+"${quick[@]}"}
        exit
    fi
    files=(bench)
    need_redis
    install_js
    wants_js=too
fi

build_in_place
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
"$VENV/bin/python" -m pytest -q -o python_files='bench_*.py' -o filterwarnings= \
    --benchmark-columns=median,min,max,stddev,rounds --benchmark-sort=name \
    --benchmark-group-by=group "${files[@]}" ${options[@]+"${options[@]}"}
[ -z "$wants_js" ] || js ${quick[@]+"${quick[@]}"}
