# A build of the compiled modules under AddressSanitizer and UndefinedBehaviorSanitizer, with
# libFuzzer's counters at each edge, in build/sanitized: never in place. Sourced after lib.sh.
#
# The runtime of all three is one library that atheris brings, so that clang's own is not
# needed; it must be in the process before Python is, hence LD_PRELOAD.

SANITIZED=$ROOT/build/sanitized
# An unsigned wrap is no fault in C; a function cast is, but CPython lives by them.
SANITIZE="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=function \
-fno-omit-frame-pointer -g1"

need_clang() { # clang, and what turns addresses of a report into lines
    if command -v clang >/dev/null 2>&1 && command -v llvm-symbolizer >/dev/null 2>&1; then
        return 0
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing clang and llvm"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            clang llvm >&2
    else
        die "expected clang and llvm-symbolizer; install clang and llvm"
    fi
}

build_sanitized() { # the package as it would be installed, in $SANITIZED/lib
    need_clang
    if [ "$(cat "$SANITIZED/flags" 2>/dev/null)" != "$SANITIZE" ]; then
        rm -rf "$SANITIZED"
        mkdir -p "$SANITIZED"
        printf '%s' "$SANITIZE" >"$SANITIZED/flags"
    fi
    say "building with $(clang --version | head -n 1)"
    find "$SANITIZED" -name '*.py' -delete # build_py does not take away what is gone
    # The flags stand with the compiler: in CFLAGS they would reach the linker, which then
    # asks for clang's own runtime.
    (cd "$ROOT" && CHANSOCK_DEBUG=1 CC="clang $SANITIZE" LDSHARED="clang -shared" \
        "$VENV/bin/python" setup.py -q build --build-base "$SANITIZED" \
        --build-lib "$SANITIZED/lib" --parallel "$(nproc 2>/dev/null || echo 2)" >&2)
}

sanitized() { # sanitized COMMAND...: run with that build, and end at the first fault
    local runtime
    runtime=$("$VENV/bin/python" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
    # malloc for all of Python, since pymalloc hides its blocks; Python never frees all at its
    # end, so leaks are not looked for; short stacks, since each of them is walked.
    LD_PRELOAD=$runtime PYTHONMALLOC=malloc PYTHONPATH=$SANITIZED/lib:$ROOT/tests:$ROOT/tests/support \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:malloc_context_size=8:quarantine_size_mb=64 \
        UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:suppressions=$ROOT/ci/ubsan.txt \
        ASAN_SYMBOLIZER_PATH=$(command -v llvm-symbolizer) \
        "$@"
}
