"""The public face of the codec: loads, dumps, read_one."""

from __future__ import annotations

import inspect
import pickle
import re
from array import array
from typing import Any

import pytest

from chansock import edn
from chansock.edn import Keyword, StrDict, Tagged


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{:text "hi", :kind :join}', {"text": "hi", "kind": Keyword("join")}),
        ('{"alice" 3, "bob smith" 4}', StrDict({"alice": 3, "bob smith": 4})),
        ('{"a" 1, :b 2}', StrDict({"a": 1, Keyword("b"): 2})),
        ("#{:admin}", {Keyword("admin")}),
        ('["x" :y]', ["x", Keyword("y")]),
    ],
)
def test_a_message_survives_reading_and_writing(text: str, value: Any) -> None:
    assert edn.loads(text) == value
    assert type(edn.loads(text)) is type(value)
    assert edn.dumps(value) == text.encode()
    assert edn.dumps(edn.loads(text)) == text.encode()


def test_loads_takes_exactly_one_form() -> None:
    assert edn.loads(" [1] ;c\n #_ gone ") == [1]
    with pytest.raises(edn.EdnDecodeError, match="got text after it") as caught:
        edn.loads("[1] [2]")
    assert caught.value.position == 4
    for text in ("", " ", ";c", "#_1"):
        with pytest.raises(edn.EdnDecodeError, match="got nothing but whitespace"):
            edn.loads(text)


def test_loads_looks_at_trailing_text_without_calling_readers() -> None:
    calls: list[object] = []
    with pytest.raises(edn.EdnDecodeError, match="text after it"):
        edn.loads("1 #t 2", readers={"t": calls.append})
    assert calls == []


def test_options_reach_the_reader_and_the_writer() -> None:
    assert edn.loads("{:a 1}", keys="string") == {Keyword("a"): 1}
    assert edn.dumps({"a": 1}, keys="string") == b'{"a" 1}'
    assert edn.loads("#t 1", readers={"t": str}) == "1"
    assert edn.loads("#t 1") == Tagged("t", 1)
    assert edn.dumps([b""], default=lambda value: None) == b"[nil]"
    with pytest.raises(edn.EdnDecodeError):
        edn.loads("[[1]]", max_depth=1)
    with pytest.raises(ValueError, match="expected 'keyword' or 'string', got 'x'"):
        edn.loads("1", keys="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 'keyword' or 'string', got 'x'"):
        edn.dumps(1, keys="x")  # type: ignore[arg-type]


def test_read_one_walks_a_buffer() -> None:
    buffer = memoryview(b"1 [2] #_ 3 :x garbage)")
    found, pos = [], 0
    for _ in range(3):
        value, pos = edn.read_one(buffer, pos)
        found.append(value)
    assert found == [1, [2], "x"]
    assert bytes(buffer[pos:]) == b" garbage)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{:a 1 :b}", "  {:a 1 :b}\n          ^"),
        ("[1\n :é/1 2]\n", "   :é/1 2]\n   ^"),
        ("[\"漢字\" @]", "  [\"漢字\" @]\n    \u3000\u3000  ^"),
        ("[\t@\r\n]", "  [ @ \n    ^"),
        ("(" + "1 " * 60 + "@" + " 2" * 60, "  ..." + "1 " * 20 + "@" + " 2" * 19 + " ...\n"
         + " " * 45 + "^"),
        ("[", "  [\n  ^"),
    ],
)  # fmt: skip
def test_an_error_shows_its_line_with_a_caret_below(text: str, shown: str) -> None:
    with pytest.raises(edn.EdnDecodeError) as caught:
        edn.loads(text)
    error = caught.value
    assert str(error) == (
        f"{error.message} at byte {error.position} "
        f"(line {error.line}, column {error.column})\n{shown}"
    )
    assert text.encode()[error.position :].decode()[:1] == error.text[error.caret :][:1]


def test_an_error_without_text_is_one_line() -> None:
    with pytest.raises(edn.EdnTruncated) as caught:
        edn.loads("")
    assert str(caught.value).endswith("at byte 0 (line 1, column 1)")


def test_errors_can_be_pickled() -> None:
    with pytest.raises(edn.EdnTruncated) as caught:
        edn.loads("[1 :a")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is edn.EdnTruncated
    assert str(copy) == str(caught.value)


def test_bytes_come_from_any_buffer_of_contiguous_bytes() -> None:
    data = b"[1 :a]"
    for text in (
        data, bytearray(data), memoryview(data), memoryview(b"x" + data)[1:], str(data, "ascii"),
        array("B", data), memoryview(data).cast("c"), memoryview(data).cast("b"),
    ):  # fmt: skip
        assert edn.loads(text) == [1, "a"]
    assert edn.read_one(memoryview(data), 1) == (1, 2)
    assert type(edn.loads(b"1" * 3)) is int


@pytest.mark.parametrize(
    ("buffer", "what"),
    [
        (memoryview(b"[ 1 ]")[::2], "memoryview of bytes with gaps between them"),
        (memoryview(b"]1[")[::-1], "memoryview of bytes with gaps between them"),
        (array("i", [1, 2]), "array of items of format 'i'"),
        (memoryview(array("d", [1.0])), "memoryview of items of format 'd'"),
        (memoryview(b"\0\1").cast("?"), "memoryview of items of format '?'"),
    ],
)
def test_other_buffers_are_refused_by_name(buffer: Any, what: str) -> None:
    for read in (edn.loads, edn.read_one):
        with pytest.raises(TypeError, match=re.escape(f"expected contiguous bytes, got {what}")):
            read(buffer)


@pytest.mark.parametrize("text", [None, 1, ["[1]"]])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(TypeError):
        edn.loads(text)


def test_signatures_are_seen_by_inspect() -> None:
    assert (
        str(inspect.signature(edn.loads))
        == "(text, *, keys='keyword', readers=None, max_depth=500)"
    )
    assert str(inspect.signature(edn.read_one)) == (
        "(buffer, pos=0, *, keys='keyword', readers=None, max_depth=500)"
    )
    assert str(inspect.signature(edn.dumps)) == "(value, *, keys='keyword', default=None)"


def test_everything_exported_is_there() -> None:
    for name in edn.__all__:
        assert hasattr(edn, name)
