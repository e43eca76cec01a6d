#!/usr/bin/env bash
# Everything that is judged without running a test: ruff, cython-lint, mypy --strict,
# stubtest, which compares each .pyi with the compiled module it describes, and mypy and
# pyright on the code of README, docs/ and examples/.
# Goes on after a finding, so that one run shows all of them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv lint test
build_in_place
cd "$ROOT"
bin=$VENV/bin
export PATH=$bin:$PATH # cython-lint calls pycodestyle by its name
failed=()

check() { # check NAME COMMAND...
    say "$1"
    "${@:2}" || failed+=("$1")
}

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
mapfile -t modules < <(find chansock -name '*.pyx' | sort | sed 's/\.pyx$//; s#/#.#g')
if [ ${#modules[@]} -gt 0 ]; then
    check "cython-lint" "$bin/cython-lint" chansock
    check "stubtest" "$bin/python" -m mypy.stubtest --mypy-config-file pyproject.toml \
        --allowlist ci/stubtest.txt --ignore-unused-allowlist --ignore-disjoint-bases "${modules[@]}"
fi
check "mypy" "$bin/mypy" --strict chansock
check "types of README, docs and examples" "$bin/python" tests/support/docs_typed.py

[ ${#failed[@]} = 0 ] || die "failed: $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
say "lint is clean"
