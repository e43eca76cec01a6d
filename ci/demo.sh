#!/usr/bin/env bash
# Serves examples/demo.py at http://127.0.0.1:8000: README's server, and a page at / that
# says how to connect and shows the packets. Ctrl-C ends it gracefully.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv
build_in_place
cd "$ROOT"
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
say "http://127.0.0.1:8000"
exec "$VENV/bin/python" examples/demo.py
