#!/usr/bin/env bash
# Runs the suite once on a build under AddressSanitizer and UndefinedBehaviorSanitizer; the
# first fault ends it with a report. Arguments go to pytest: ci/sanitize.sh tests/unit/edn
# Left out is what runs JavaScript, measures memory, or builds anew: none tells of this build.
set -euo pipefail
VENV=${VENV:-$(cd "$(dirname "$0")/.." && pwd)/.venv-fuzz}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/sanitizers.sh"

make_venv test fuzz
build_sanitized
build_in_place # for programs that tests start by themselves
cd "$ROOT"
found=$(sanitized "$VENV/bin/python" -P -c 'import chansock; print(chansock.__file__)')
[ "$found" = "$SANITIZED/lib/chansock/__init__.py" ] ||
    die "expected chansock from $SANITIZED/lib, got $found"
sanitized "$VENV/bin/python" -P -m pytest -o pythonpath= -p no:cacheprovider --capture=sys \
    --hypothesis-profile=ci --ignore=tests/browser --ignore-glob='tests/*/test_js*' \
    --ignore=tests/integration/test_http_many.py --ignore=tests/integration/test_hostile.py \
    --ignore=tests/packaging/test_portable.py \
    --deselect=tests/soak/test_soak.py::test_a_short_soak_finds_nothing "$@"
