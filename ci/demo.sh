#!/usr/bin/env bash
# Serves examples/chat at http://127.0.0.1:8000: a lobby to chat in, with a view of what
# travels on the wire. Ctrl-C ends it gracefully. HOST and PORT say another address;
# PORT=0 takes a free port, and the server's line says which. WORKERS=2 serves by two processes,
# joined by a Redis or Valkey that chansock starts: the drawer shows which of them serves a tab.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "${WORKERS:-1}" -gt 1 ]; then make_venv workers; else make_venv; fi
build_in_place
cd "$ROOT"
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
exec "$VENV/bin/python" examples/chat/server.py
