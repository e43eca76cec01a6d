"""edn and MessagePack in JavaScript against ours: what one writes, the other reads as the same.

JavaScript has one type for numbers, so a whole float comes back as an integer; all other
types are kept. js/test/edn.test.mjs judges it by what ClojureScript answered, packers.test.mjs
by what Sente's client wrote.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dist_content import ROOT
from edn_corpus import tree
from hypothesis import HealthCheck, assume, given, settings
from test_edn_writer import VALUES

from chansock import EncodeError, edn, packers

pytestmark = pytest.mark.slow

MINUS_ZERO = ("float", struct.pack(">d", -0.0).hex())
Echo = Callable[[str], dict[str, str]]
MANY = settings(suppress_health_check=list(HealthCheck), max_examples=300, deadline=None)


@contextmanager
def echoing(what: str) -> Iterator[Echo]:
    """Yield what asks JavaScript for what it writes of what it read, or why it did not."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("expected node on PATH, got none", pytrace=False)
    command = [node, str(ROOT / "js" / "test" / "echo.mjs"), what]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, encoding="utf-8", **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(text: str) -> dict[str, str]:
            stdin.write(json.dumps(text) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask
        stdin.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echoing("edn") as echo:
        yield echo


@pytest.fixture(scope="module")
def echo_bytes() -> Iterator[Echo]:
    with echoing("msgpack") as echo:
        yield echo


def narrowed(node: Any) -> Any:
    """Return a tree with integers in place of whole floats, except -0.0 and those past 2^53.

    -0.0 as a member or a key is 0: JavaScript's Set and Map make it so.
    """
    if isinstance(node, frozenset):
        return frozenset(_hashed(narrowed(each)) for each in node)
    if not isinstance(node, tuple):
        return node
    if len(node) == 2 and node[0] == "float":
        (number,) = struct.unpack(">d", bytes.fromhex(node[1]))
        if number.is_integer() and abs(number) < 2**53 and node[1] != "8000000000000000":
            return ("int", str(int(number)))
        return node
    return tuple(map(narrowed, node))


def _hashed(node: Any) -> Any:
    if node == MINUS_ZERO:
        return ("int", "0")
    if isinstance(node, tuple) and node[0] == MINUS_ZERO:  # the key of an entry
        return (("int", "0"), *node[1:])
    return node


@MANY
@given(VALUES)
def test_what_we_write_comes_back_from_javascript(echo: Echo, value: object) -> None:
    answer = echo(edn.dumps(value).decode())
    assert "text" in answer, answer
    assert narrowed(tree(edn.loads(answer["text"]))) == narrowed(tree(value))


@MANY
@given(VALUES)
def test_what_we_pack_comes_back_from_javascript(echo_bytes: Echo, value: object) -> None:
    packer = packers.MessagePack()
    try:
        sent = packer.packet(value, "cb")
    except EncodeError:
        assume(False)  # has no form in MessagePack
    answer = echo_bytes(b64encode(sent).decode())
    assert "text" in answer, answer
    got = b64decode(answer["text"])
    assert narrowed(tree(packer.unpack(memoryview(got)))) == narrowed(
        tree(packer.unpack(memoryview(sent)))
    )
