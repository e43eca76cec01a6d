"""edn as `connect` and `send` show and read it: on one line, without a control character."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock import edn
from chansock.cli import spoken
from chansock.errors import EdnDecodeError, InvalidEvent
from chansock.values import NO_DATA, Char

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# what decides where a string and a character begin and end, more often than by chance
TEXTS = st.text(
    st.sampled_from('"\\u;a\x1b\x9b\n\u2028 ') | st.characters(exclude_categories=["Cs"])
)


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=4), max_leaves=6))
def test_what_is_shown_is_one_line_of_the_same_value(value: object) -> None:
    shown = spoken.write(value)
    assert CONTROL.search(shown) is None
    assert edn.loads(shown) == value


@given(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF))
def test_a_character_keeps_its_one_backslash(char: str) -> None:
    for value in (Char(char), ["\\", Char(char), '"']):
        shown = spoken.write(value)
        assert CONTROL.search(shown) is None
        assert edn.loads(shown) == value


def test_other_text_is_shown_without_control_characters() -> None:
    assert spoken.printable('a\x1b[31m "\x07') == 'a\\u001b[31m "\\u0007'


def test_what_edn_has_no_form_for_is_shown_tagged() -> None:
    assert spoken.write([b"hi", bytearray(b"\xff")]) == '[#base64 "aGk=" #base64 "/w=="]'
    assert spoken.write(1j) == '#python/repr "1j"'


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (":a/b", ("a/b", NO_DATA)),
        ("a/b ; nothing", ("a/b", NO_DATA)),
        (",:a/b , {:c 1} ; more", ("a/b", {"c": 1})),
        (":a/b nil", ("a/b", None)),
        (":a/b[1]", ("a/b", [1])),
    ],
)
def test_an_event_is_an_id_and_at_most_one_value(line: str, event: tuple[str, object]) -> None:
    assert spoken.read_event(line.encode()) == event


@pytest.mark.parametrize(
    ("line", "position"),
    [(":a/b 1 2", 7), (":a/b [1", 5), (":a/b ]", 5), ("  ", 0), (":a/b \xff", 5)],
)
def test_what_is_no_event_is_told_with_its_position(line: str, position: int) -> None:
    with pytest.raises(EdnDecodeError) as found:
        spoken.read_event(line.encode("latin-1"))
    assert found.value.position == position


def test_another_first_form_is_no_event() -> None:
    for line in (b"5 1", b'"a/b"', b"[:a/b]", b"nil"):
        with pytest.raises(InvalidEvent, match="expected an event id like :chat/say, got "):
            spoken.read_event(line)
