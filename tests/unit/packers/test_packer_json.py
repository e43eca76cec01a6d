"""The JSON packer: what it carries, what is a keyword again, and what is refused."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import packed_values as pv
import pytest
from growth import growth
from hypothesis import given
from hypothesis import strategies as st
from same import tree
from test_docs_edn import Point

from chansock import ChannelSocket, testing
from chansock.errors import EncodeError, PacketError
from chansock.packers import JSON
from chansock.values import Char, FrozenDict, Keyword, List, StrDict, Symbol, Tagged

K = Keyword
PACKER = JSON()


def unpack(packet: str | bytes) -> tuple[Any, Any]:
    packet = packet if isinstance(packet, bytes) else packet.encode()
    return PACKER.unpack(memoryview(packet))


def kinds(value: Any) -> Any:
    """Return the types of a value's strings, in place."""
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return type(value).__name__


class Colour(enum.Enum):
    RED = "red"


# -- written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([True, False], "[true,false]"),
        (2**53 - 1, "9007199254740991"),
        (1.0, "1.0"),
        (1e100, "1e+100"),
        ("é漢😀\n", '"é漢😀\\n"'),
        (K("join"), '"join"'),
        ((1, (2,)), "[1,[2]]"),
        ({"text": "hi", K("kind"): K("join")}, '{"text":"hi","kind":"join"}'),
        ({"bob smith": 4, "": 5}, '{"bob smith":4,"":5}'),
        (StrDict({"a": 1}), '{"a":1}'),
        (FrozenDict({"a": 1}), '{"a":1}'),
        (Colour.RED, '"red"'),
        ({Colour.RED: 1}, '{"red":1}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        ([Point(1, {})], '[{"x":1,"y":{}}]'),
    ],
)
def test_a_value_has_its_form(value: Any, text: str) -> None:
    assert PACKER.packet(value, "cb") == f'[{text},"cb"]'.encode()
    assert PACKER.fragment(("a/b", [value])) == f'["a/b",[{text}]]'.encode()
    found, cb_id = unpack(PACKER.packet(value, "cb"))
    assert (json.dumps(found), cb_id) == (json.dumps(json.loads(text)), "cb")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), 2**53, -(2**53), Symbol("a"), Char("a"), List([1]), {1},
        frozenset(), Fraction(1, 2), b"a", bytearray(), 1j, Tagged("r", "http://a"), object(),
    ],
)  # fmt: skip
def test_what_json_would_change_is_refused_or_for_default(value: Any) -> None:
    with pytest.raises(EncodeError, match=r"JSON has a form for \(or default=\)") as caught:
        PACKER.packet({"a": [0, value]}, None)
    assert caught.value.path == '["a"][1]'
    packer = JSON(default=lambda given: [type(given).__name__])
    assert (
        packer.packet({"a": value}, None) == f'[{{"a":["{type(value).__name__}"]}},null]'.encode()
    )


@pytest.mark.parametrize("key", [1, None, 1.5, True, (1,), Symbol("a"), Char("a")])
def test_keys_that_are_no_text_are_refused(key: Any) -> None:
    with pytest.raises(EncodeError, match="expected a str as key of an object"):
        PACKER.packet([{key: 1}], None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC), "2024-05-06T07:08:09.123000+00:00"),
        (datetime(2024, 5, 6), "2024-05-06T00:00:00"),
        (date(2024, 5, 6), "2024-05-06"),
        (time(7, 8, 9), "07:08:09"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=500_000), "P1DT2H3M4.5S"),
        (timedelta(days=-1, hours=22), "-PT2H"),
        (timedelta(0), "PT0S"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_times_ids_and_decimals_are_text_as_others_write_them(value: Any, text: str) -> None:
    orjson, pydantic = pytest.importorskip("orjson"), pytest.importorskip("pydantic")
    assert PACKER.packet({"a": value}, None) == f'[{{"a":"{text}"}},null]'.encode()
    assert PACKER.packet({value: 1}, None) == f'[{{"{text}":1}},null]'.encode()
    assert json.loads(PACKER.packet({"a": Due(value)}, None)) == [{"a": {"at": text}}, None]
    theirs = json.loads(pydantic.TypeAdapter(type(value)).dump_json(value))
    if isinstance(value, timedelta):
        read = pydantic.TypeAdapter(timedelta).validate_python
        assert read(theirs) == read(text) == value
    elif isinstance(value, Decimal):
        assert theirs == text
    else:
        assert orjson.dumps(value).decode() == f'"{text}"'


@dataclass
class Due:
    at: Any


def test_text_and_keys_are_checked() -> None:
    for value in ("a\ud800", K("\ud800"), {"\udfff": 1}):
        with pytest.raises(EncodeError, match="without lone surrogates"):
            PACKER.packet([value], None)
    with pytest.raises(EncodeError, match="expected distinct keys, got 'red' again"):
        PACKER.packet([{Colour.RED: 1, "red": 2}], None)


def test_default_that_ends_nowhere_is_refused() -> None:
    with pytest.raises(EncodeError, match="expected default= to end at a writable value"):
        JSON(default=lambda value: value).packet([1j], None)


# -- what the channel goes by


def test_ids_are_keywords_again() -> None:
    event = [K("chat/say"), {"kind": "a/b"}]
    assert unpack(PACKER.packet(event, "ab")) == (event, "ab")
    assert kinds(unpack(PACKER.packet(event, "ab"))[0]) == ["Keyword", "dict"]
    assert kinds(unpack('[["chat/say"]]')[0]) == ["Keyword"]
    fragments = [PACKER.fragment(("a/b", ["c/d"])), PACKER.fragment(("e/f",))]
    batch = PACKER.batch(fragments)
    assert batch == b'[[["a/b",["c/d"]],["e/f"]],null]'
    assert kinds(unpack(batch)[0]) == [["Keyword", ["str"]], ["Keyword"]]


def test_what_is_no_id_stays_text() -> None:
    for text in ('["text","cb"]', '["a/b","cb"]', '[["text",1]]', '[["/b"]]', '[["a/"]]', "[[1]]"):
        value, _ = unpack(text)
        assert type(value[0] if type(value) is list else value) is not Keyword
    assert kinds(unpack('[[["a/b",1]],"cb"]')[0]) == [["str", "int"]]  # a reply, not a batch
    assert kinds(unpack('[[["a/b",1,2],[]],null]')[0]) == [["str", "int", "int"], []]


def test_words_of_the_channel_are_keywords_and_cannot_be_forged() -> None:
    for word in ("chsk/ws-ping", "chsk/timeout", "chsk/error"):
        value, _ = unpack(PACKER.packet(K(word), None))
        assert (type(value), value) == (Keyword, word)
        for forged in (word, [word, 1]):
            with pytest.raises(EncodeError, match="outside the namespace chsk"):
                PACKER.packet(forged, "cb")
        assert unpack(PACKER.packet([[word]], "cb")) == ([[word]], "cb")


def test_a_handshake_tells_nobody_from_a_user() -> None:
    value, _ = unpack(PACKER.packet([K("chsk/handshake"), [K("sente/nil-uid"), None, 1]], None))
    assert kinds(value) == ["Keyword", ["Keyword", "NoneType", "int"]]
    value, _ = unpack(PACKER.packet([K("chsk/handshake"), ["ada", None, "x"]], None))
    assert kinds(value) == ["Keyword", ["str", "NoneType", "str"]]
    with pytest.raises(EncodeError, match="which stands for none"):
        PACKER.packet([K("chsk/handshake"), ["sente/nil-uid", None, None]], None)


@pytest.mark.parametrize("uid", [UUID(int=7), 2**60, -7, "ada"])
def test_a_uid_that_json_cannot_carry_arrives_as_text(uid: Any) -> None:
    chsk = ChannelSocket(user_id=testing.user_id, packer=JSON())
    with testing.World(chsk, packer=JSON()) as world:
        client = world.ws(uid=uid)
        assert client.handshake.uid == (uid if uid in (-7, "ada") else str(uid))
        chsk.send(uid, "test/note", 1)
        world.advance(1)
        assert client.take() == [("test/note", 1)]


# -- read


def test_a_packet_is_taken_apart_as_sente_does() -> None:
    assert unpack("[]") == (None, None)
    assert unpack("null") == (None, None)
    assert unpack(" [1,2,3] ") == (1, 2)
    for text in ('"text"', "{}", "1", "true"):
        with pytest.raises(PacketError, match=r"expected a packet `\[value cb-id\]`"):
            unpack(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "[1", "{}}", '["', "[1,]", "[nul]", "[NaN]", "[Infinity]", "[1e400]", "[01]",
        '["\x01"]', b'["\xff"]', b'["\xed\xa0\x80"]', r'["\ud800"]', r'["\ud800\n"]', "[1] [2]",
        '[{"a":1,"a":2}]', '[{"a":{"b":1,"b":1}}]', "[" + "9" * 4301 + "]", "[" * 501 + "]" * 501,
        "[" * 100_000, '[{"a":' * 251 + "1" + "}]" * 251, "\ufeff[]",
    ],
)  # fmt: skip
def test_what_is_no_json_or_would_merge_is_refused(text: str | bytes) -> None:
    with pytest.raises(PacketError, match="expected"):
        unpack(text)


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 1000 + '"\\' + "]}" * 1000
    assert unpack(json.dumps([text, 1])) == (text, 1)
    assert unpack(json.dumps([{text: [[text]]}, 1])) == ({text: [[text]]}, 1)
    for text in ('"', "\\", '\\"', '"]'):
        deep = json.dumps(text) + "]" * 500
        assert unpack("[" * 500 + deep)[1] is None
        with pytest.raises(PacketError, match="at most 500 arrays"):
            unpack("[" * 501 + deep + "]")


def test_a_repeated_key_is_found_in_linear_work() -> None:
    def packet(keys: int) -> bytes:
        pairs = [f'"{n}":1' for n in range(keys)]
        return f"[{{{','.join([*pairs, pairs[-1]])}}}]".encode()

    def refused(packet: bytes) -> None:
        with pytest.raises(PacketError, match="expected distinct keys"):
            unpack(packet)

    assert growth(refused, packet(1000), packet(4000)) < 9  # 4, or 16 if it were quadratic


def test_each_truncation_is_refused() -> None:
    packet = PACKER.packet([K("a/b"), {"text": "hé😀", "k": [1.5, None, {}]}], "cb")
    for size in range(len(packet)):
        with pytest.raises(PacketError, match="expected a packet in JSON"):
            unpack(packet[:size])


def test_500_arrays_pass_and_501_are_refused_in_both_directions() -> None:
    for wrap in (lambda value: [value], lambda value: {"a": value}):
        value: Any = None
        for _ in range(499):
            value = wrap(value)
        packet = PACKER.packet(value, None)
        assert unpack(packet) == (value, None)
        with pytest.raises(EncodeError, match="at most 500 arrays"):
            PACKER.packet(wrap(value), None)
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(EncodeError, match="at most 500 arrays"):
        PACKER.fragment(("a/b", ring))


# -- any value

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | pv.TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(pv.TEXTS | pv.NAMES, inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(value=VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    event = [K("a/b"), value]
    found, cb_id = unpack(PACKER.packet(event, "cb"))
    assert (tree(found), cb_id) == (tree(event), "cb")
    assert json.loads(PACKER.packet(event, "cb")) == json.loads(json.dumps([["a/b", value], "cb"]))
    fragment = PACKER.fragment(("a/b", value))
    assert tree(unpack(PACKER.batch([fragment, fragment]))[0]) == tree([event, event])
