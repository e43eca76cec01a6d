"""The public face of the codec: loads, dumps, read_one."""

from __future__ import annotations

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


def test_everything_exported_is_there() -> None:
    for name in edn.__all__:
        assert hasattr(edn, name)
