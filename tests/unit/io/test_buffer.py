"""WriteBuffer and Span: bytes put, taken and lent."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chansock._fast.io.buffer import Span, WriteBuffer


def test_a_buffer_owns_nothing_until_something_is_put() -> None:
    out = WriteBuffer()
    assert (len(out), out.size, out.capacity, out.take()) == (0, 0, 0, b"")


def test_what_was_put_is_taken_once() -> None:
    out = WriteBuffer()
    out.write(b"one ")
    out.write(bytearray(b"two"))
    out.write(b"")
    assert len(out) == 7
    assert out.take() == b"one two"
    assert out.take() == b""


def test_capacity_doubles_and_is_kept_by_take_but_not_by_clear() -> None:
    out = WriteBuffer()
    sizes = set()
    for _ in range(2000):
        out.write(b"x" * 7)
        sizes.add(out.capacity)
    assert sizes == {256 << n for n in range(7)}
    assert out.take() == b"x" * 14000
    assert out.capacity == 16384
    out.write(b"y")
    out.clear()
    assert (out.size, out.capacity) == (0, 0)
    out.write(b"z")
    assert out.take() == b"z"


@given(st.lists(st.binary(max_size=600)))
def test_puts_are_joined(pieces: list[bytes]) -> None:
    out = WriteBuffer()
    for piece in pieces:
        out.write(piece)
    assert out.take() == b"".join(pieces)


WORDS = (
    st.binary(max_size=600)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
    | st.integers(-(2**63), 2**63 - 1)
)


@given(st.lists(st.lists(WORDS, max_size=30).map(tuple), max_size=3))
@example([(-(2**63), 2**63 - 1, 0, "", b""), ()])
def test_commands_are_those_of_hiredis(commands: list[tuple[str | bytes | int, ...]]) -> None:
    out = WriteBuffer()
    for words in commands:
        out.put_command(words)
    assert out.take() == b"".join(map(hiredis.pack_command, commands))


@pytest.mark.parametrize(
    ("word", "error"),
    [(1.5, TypeError), (None, TypeError), (2**63, OverflowError), ("\ud800", UnicodeEncodeError)],
)
def test_a_word_that_cannot_be_sent_leaves_nothing_of_its_command(
    word: Any, error: type[Exception]
) -> None:
    out = WriteBuffer()
    out.put_command(("PING",))
    with pytest.raises(error):
        out.put_command(("ECHO", word))
    assert out.take() == b"*1\r\n$4\r\nPING\r\n"


def test_a_span_that_was_never_aimed_or_is_released_lends_nothing() -> None:
    span = Span()
    for _ in range(2):
        assert len(span) == 0
        with pytest.raises(BufferError, match="got a released one"):
            memoryview(span)  # type: ignore[arg-type]
        span.aim_at(b"abc")
        assert len(span) == 3
        span.release()


def test_a_span_shows_and_writes_the_memory_it_is_aimed_at() -> None:
    span, first, second = Span(), bytearray(b"abc"), bytearray(b"defg")
    span.aim_at(first)
    with memoryview(span) as view:  # type: ignore[arg-type]
        view[0] = ord("A")
    span.aim_at(second)
    with memoryview(span) as view:  # type: ignore[arg-type]
        assert bytes(view) == b"defg"
    assert first == b"Abc"


def test_a_span_counts_its_open_views() -> None:
    span = Span()
    span.aim_at(bytearray(4))
    views = [memoryview(span) for _ in range(3)]  # type: ignore[arg-type]
    assert span.exports == 3
    part = views[0][1:]
    for view in views:
        view.release()
    assert span.exports == 1
    part.release()
    assert span.exports == 0


def test_a_span_keeps_python_memory_in_place_until_released() -> None:
    span, memory = Span(), bytearray(4)
    span.aim_at(memory)
    with pytest.raises(BufferError):
        memory.extend(b"more")
    span.release()
    memory.extend(b"more")


def test_a_span_on_bytes_is_read_only_and_may_be_empty() -> None:
    span = Span()
    span.aim_at(b"abc")
    assert memoryview(span).readonly  # type: ignore[arg-type]
    span.aim_at(b"")
    assert bytes(memoryview(span)) == b""  # type: ignore[arg-type]
