"""The JavaScript tests of js/test/, its types and its size, run under Node.

Each .test.mjs file is one test here, with a server of js/test/server.py that all of them
share. What they need of npm stands in js/test/package.json and is installed once. Without
a Node of version 20 or later these tests fail: the browser's client is not checked then.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from dist_content import ROOT

pytestmark = pytest.mark.slow

JS = ROOT / "js"
HERE = JS / "test"
BIN = HERE / "node_modules" / ".bin"
FILES = sorted(path.name for path in HERE.glob("*.test.mjs"))
LIMIT = 300.0  # seconds for one file, or for npm
# Minified and compressed. 2.3 KiB of chansock.js are for resuming, a third of that over a reload.
MAX_BYTES = {"chansock": 18_600, "json": 1024, "msgpack": 4 * 1024}


def run(*command: str | Path, **variables: str) -> tuple[int, str]:
    """Run a program with all that it starts to its end: its status, and what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        program = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | str = program.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            with suppress(ProcessLookupError):  # who is left of its group, itself included
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        printed.seek(0)
        text = printed.read()
    return status, text if status != -1 else f"{text}\nexpected an end within {LIMIT} s"


@pytest.fixture(scope="session")
def node() -> str:
    """The node of PATH."""
    found = shutil.which("node")
    version = run(found, "--version")[1].strip() if found else "none"
    if not re.match(r"v[2-9]\d\.", version):
        pytest.fail(f"expected node 20 or later on PATH, got {version}", pytrace=False)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def packages(node: str) -> None:
    """What package.json names, in js/test/node_modules."""
    stamp = HERE / "node_modules" / ".stamp"
    wanted = sha256((HERE / "package.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("expected npm on PATH, beside node, got none", pytrace=False)
    status, printed = run(npm, "install")
    if status != 0:
        pytest.fail(f"npm install ended with {status}\n{printed}", pytrace=False)
    stamp.write_text(wanted)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Where js/test/server.py has its channel."""
    command = [sys.executable, str(HERE / "server.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("chansock: serving http://"), line
            yield line.split()[2]
        finally:
            server.kill()


@pytest.mark.parametrize("file", FILES)
def test_javascript(file: str, node: str, packages: None, url: str) -> None:
    status, printed = run(
        node,
        "--test-reporter=spec",
        HERE / file,
        CHANSOCK_URL=url,
        PYTHON=sys.executable,
        PYTHONPATH=str(ROOT),
    )
    if status != 0 or not re.search(r"^ℹ tests [1-9]", printed, re.MULTILINE):
        pytest.fail(f"{file} ended with {status}\n{printed}", pytrace=False)


def test_there_are_javascript_tests() -> None:
    assert FILES


def test_what_the_types_promise_compiles_and_nothing_else(node: str, packages: None) -> None:
    assert run(BIN / "tsc", "--project", HERE) == (0, "")


def test_sources_type_check(node: str, packages: None) -> None:
    assert run(BIN / "tsc", "--project", HERE / "tsconfig.sources.json") == (0, "")


def test_a_bundler_finds_the_same_types(node: str, packages: None) -> None:
    resolution = ("--module", "esnext", "--moduleResolution", "bundler")
    assert run(BIN / "tsc", "--project", HERE, *resolution) == (0, "")


@pytest.mark.parametrize("module", MAX_BYTES)
def test_a_module_stays_small(module: str, node: str, packages: None, tmp_path: Path) -> None:
    small = tmp_path / f"{module}.min.js"
    command = (BIN / "esbuild", JS / f"{module}.js", "--minify", "--format=esm")
    status, printed = run(*command, f"--outfile={small}")
    assert status == 0, printed
    size = len(gzip.compress(small.read_bytes(), 9, mtime=0))
    print(f"{module}.js: {size} bytes, minified and compressed")
    assert size <= MAX_BYTES[module]


def test_every_module_is_measured() -> None:
    assert {path.stem for path in JS.glob("*.js")} == set(MAX_BYTES)
