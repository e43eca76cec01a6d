#!/usr/bin/env bash
# A soak on real sockets: 500 clients, half WebSocket and half Ajax, come, lag, break and come
# back while the server sends numbered events, a million in half an hour and the floods besides.
# Each user has a packer by the seed: edn, MessagePack, transit, JSON, or gzip around edn.
#   ci/soak.sh 30                     for half an hour
#   ci/soak.sh 1 --seed 7             for a minute, with that seed (it is printed)
#   ci/soak.sh 1 --clients 100        with fewer clients, and as much less to send
#   ci/soak.sh resume 30              resume alone: tests/soak/resume, whose README.md says more
#   ci/soak.sh cluster 30             several workers behind one engine: tests/soak/cluster
#   ci/soak.sh 30 --cluster           the same
#   ci/soak.sh clients 30             both clients against a server that misbehaves: tests/soak/wrong
# What no client may see, and what must add up, stands in tests/soak: numbers rise by one within
# a connection, none comes twice, and what is missing at a break was either written to it or
# stands in a counter. Memory must be flat from the second sixth on, descriptors and tables must
# be at the end what they were at the start. Takes less than one core, server and clients
# together. Ends with a table, and fails if a rule was broken. The soak of resume follows, for as
# long.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "${2:-}" = --cluster ]; then
    exec "$0" cluster "$1" "${@:3}"
fi
if [ "${1:-}" = cluster ]; then
    shift
    make_venv test
    build_in_place
    case " $* " in *" --no-engine "*) ;; *)
        command -v redis-server >/dev/null || die "expected redis-server on PATH" ;;
    esac
    cd "$ROOT"
    limit=$(ulimit -n)
    [ "$limit" = unlimited ] || [ "$limit" -ge 4096 ] || ulimit -n 4096
    PYTHONPATH=$ROOT:$ROOT/tests:$ROOT/tests/support \
        exec "$VENV/bin/python" -P -m soak.cluster.run "$@"
fi
if [ "${1:-}" = clients ] || [ "${1:-}" = resume ]; then
    package=soak.${1/clients/wrong}
    shift
    make_venv test
    build_in_place
    need_node
    npm_install "$ROOT/js/test"
    cd "$ROOT"
    PYTHONPATH=$ROOT:$ROOT/tests:$ROOT/tests/support exec "$VENV/bin/python" -P -m "$package.run" "$@"
fi
[[ ${1:-} =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "expected MINUTES, got ${1:-nothing}"
make_venv test
build_in_place
cd "$ROOT"
limit=$(ulimit -n)
[ "$limit" = unlimited ] || [ "$limit" -ge 4096 ] || ulimit -n 4096
PYTHONPATH=$ROOT:$ROOT/tests:$ROOT/tests/support "$VENV/bin/python" -P -m soak.run "$@"
exec "$0" resume "$1"
