#!/usr/bin/env bash
# Makes an sdist, and from it a wheel for every CPython >= 3.11 that pyenv has (without
# pyenv: for the one Python found). Each wheel is installed in a bare environment, and
# README's two programs run on it against each other, outside of the source tree; so does a
# server that has to offer the browser's client.
# sdist and wheels stay in dist/.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

make_venv test
cd "$ROOT"
if [ -n "${PYTHON:-}" ]; then
    pythons=$(find_python)
else
    pythons=$(pyenv_pythons)
    [ -n "$pythons" ] || pythons=$(find_python)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf dist
say "sdist"
"$VENV/bin/python" -m build --sdist --outdir dist . >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
sdist=$(echo dist/chansock-*.tar.gz)

for python in $pythons; do
    need_compiler "$python"
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    say "wheel for CPython $version"
    "$python" -m venv "$work/$version"
    bare=$work/$version/bin/python
    made=$work/wheel-$version
    "$bare" -m pip wheel -q --no-deps --wheel-dir "$made" "$sdist"
    "$bare" -m pip install -q "$made"/chansock-*.whl
    cp "$made"/chansock-*.whl dist/
    mkdir -p "$work/outside"
    cp README.md tests/support/readme_pair.py tests/support/browser_offer.py "$work/outside/"
    (
        cd "$work/outside"
        "$bare" -c 'import chansock, sys
if not chansock.__file__.startswith(sys.prefix):
    sys.exit(f"expected chansock from {sys.prefix}, got {chansock.__file__}")'
        "$bare" readme_pair.py README.md
        "$bare" browser_offer.py "$ROOT/js"
    )
done

"$VENV/bin/python" tests/support/dist_content.py dist/*
say "dist/ holds $(find dist -type f | wc -l) archives, each wheel ran README's programs"
