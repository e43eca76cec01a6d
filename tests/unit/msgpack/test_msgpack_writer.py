"""Values written as Sente's MessagePack: literal bytes, widths, the key cache, what is refused."""

from __future__ import annotations

import enum
import math
import re
from array import array
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from chansock.errors import ConfigError, EncodeError
from chansock.packers import MessagePack
from chansock.values import (
    Char,
    FrozenDict,
    FrozenStrDict,
    Keyword,
    List,
    StrDict,
    Symbol,
    Tagged,
)

PACKER = MessagePack()


def written(value: Any, **options: Any) -> str:
    """Write a value as the first of a packet, with references."""
    data = MessagePack(**options).packet(value, None)
    assert data[:1] == b"\x92"
    assert data[-1:] == b"\xc0"
    return data[1:-1].hex()


def pushed(value: Any, **options: Any) -> str:
    """Write a value as the data of an event, without references."""
    data = MessagePack(**options).fragment(("a", value))
    assert data[:4] == b"\x92\xd4\x00a"
    return data[4:].hex()


def refusal(value: Any, **options: Any) -> EncodeError:
    packer = MessagePack(**options)
    with pytest.raises(EncodeError) as caught:
        packer.packet(value, None)
    with pytest.raises(EncodeError, match=re.escape(caught.value.message)):
        packer.fragment(("a", value))
    return caught.value


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Text(str):
    __slots__ = ()


class Count(int):
    pass


class Ratio(float):
    pass


@dataclass(frozen=True)
class User:
    user_id: int
    name: str


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "hexed"),
    [
        (None, "c0"),
        (True, "c3"),
        (False, "c2"),
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (255, "ccff"),
        (256, "cd0100"),
        (65535, "cdffff"),
        (65536, "ce00010000"),
        (2**32 - 1, "ceffffffff"),
        (2**32, "d30000000100000000"),  # int64 as Sente, not uint64
        (2**63 - 1, "d37fffffffffffffff"),
        (2**63, "cf8000000000000000"),
        (2**64 - 1, "cfffffffffffffffff"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0df"),
        (-128, "d080"),
        (-129, "d1ff7f"),
        (-(2**15), "d18000"),
        (-(2**15) - 1, "d2ffff7fff"),
        (-(2**31), "d280000000"),
        (-(2**31) - 1, "d3ffffffff7fffffff"),
        (-(2**63), "d38000000000000000"),
        (1.5, "cb3ff8000000000000"),
        (1.0, "cb3ff0000000000000"),
        (float("-inf"), "cbfff0000000000000"),
        ("", "a0"),
        ("é", "a2c3a9"),
        ("x" * 31, "bf" + "78" * 31),
        ("x" * 32, "d920" + "78" * 32),
        ("x" * 255, "d9ff" + "78" * 255),
        ("x" * 256, "da0100" + "78" * 256),
        ("x" * 65536, "db00010000" + "78" * 65536),
        ("é" * 16, "d920" + "c3a9" * 16),
        ("a😀", "a561f09f9880"),
        (b"", "c400"),
        (b"\xff" * 256, "c50100" + "ff" * 256),
        (b"\0" * 65536, "c600010000" + "00" * 65536),
        (bytearray(b"ab"), "c4026162"),
        (memoryview(b"abcd")[::2], "c4026163"),
        ([], "90"),
        ((1, [2]), "920191" + "02"),
        (List((1, 2)), "920102"),
        ([0] * 15, "9f" + "00" * 15),
        ([0] * 16, "dc0010" + "00" * 16),
        ([0] * 65536, "dd00010000" + "00" * 65536),
        ({}, "80"),
        ({"a": 1}, "81d4006101"),
        ({Keyword("a"): 1}, "81d4006101"),
        (StrDict({"a": 1, Keyword("b"): 2}), "82a16101d4006202"),
        (FrozenStrDict({"a": 1}), "81a16101"),
        (dict.fromkeys(range(16)), "de0010" + "".join(f"{n:02x}c0" for n in range(16))),
        ({(1, 2): 3, None: 4}, "8292010203c004"),
        ({FrozenDict({"a": 1}): 2}, "8181d400610102"),
        (Keyword("a"), "d40061"),
        (Keyword("ab"), "d5006162"),
        (Keyword("abc"), "c70300616263"),
        (Keyword("test"), "d60074657374"),
        (Keyword("test/abc"), "d700746573742f616263"),
        (Keyword("sixteen-byte/key"), "d800" + b"sixteen-byte/key".hex()),
        (Keyword("chsk/ws-ping"), "c70c00" + b"chsk/ws-ping".hex()),
        (Keyword("k" * 70), "c74600" + "6b" * 70),
        (Keyword("k" * 256), "c8010000" + "6b" * 256),
        (Keyword("é"), "d500c3a9"),
        (Keyword("any name: at all"), "d800" + b"any name: at all".hex()),
        (Keyword(""), "c70000"),
        (Symbol("ns/sym"), "c706016e732f73796d"),
        (Symbol("nil"), "c703016e696c"),
        (Char("a"), "d40261"),
        (Char("漢"), "c70302e6bca2"),
        (Fraction(1, 2), "d5030102"),
        (Fraction(-1, 3), "d503ff03"),
        (Fraction(1, 300), "d60301cd012c"),
        (Fraction(4, 2), "02"),
        (Fraction(-(2**63), 2**64 - 1), "c71203d38000000000000000cfffffffffffffffff"),
        (set(), "d40490"),
        ({5}, "d5049105"),
        (frozenset({"abcdef"}), "d70491a6616263646566"),
        ({1: {Keyword("a")}}, "8101d60491d40061"),
        (set(range(16)), "c71304dc0010" + bytes(range(16)).hex()),
        ({"x" * 300}, "c8013004" + "91" + "da012c" + "78" * 300),
        ({"x" * 65536}, "c9000100060491db00010000" + "78" * 65536),
        ({frozenset()}, "d60491d40490"),
        (UUID(int=1), "c72409" + b"00000000-0000-0000-0000-000000000001".hex()),
        (datetime(2020, 1, 2, 3, 4, 5, 678000, UTC), "c70cff28697580000000005e0d5da5"),
        (datetime(1969, 12, 31, 23, 59, 59, 1, UTC), "c70cff000003e8ffffffffffffffff"),
        (datetime(1, 1, 1, tzinfo=UTC), "c70cff00000000fffffff1886e0900"),
        (
            datetime(2020, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))),
            "c70cff00000000000000005e0d5da5",
        ),
        (array("i", [1, -1]), "d70500000001ffffffff"),
        (array("f", [1.5]), "d6063fc00000"),
        (array("d", [-1.5]), "d707bff8000000000000"),
        (array("d"), "c70007"),
        (Colour.RED, "a3726564"),
        ({Colour.RED: 1}, "81c7030072656401"),
        (Text("a\nb"), "a3610a62"),
        ({Text("a"): 1}, "81d4006101"),
        (StrDict({Text("a"): 1}), "81a16101"),
        (Count(300), "cd012c"),
        (Count(2**63), "cf8000000000000000"),
        (Ratio(0.5), "cb3fe0000000000000"),
        (Point(1, 2), "920102"),
        (OrderedDict(b=1, a=2), "82d4006201d4006102"),
        ([User(7, "Ada")], "9182" + "c70700757365725f6964" + "07" + "d6006e616d65" + "a3416461"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_sente_does(value: Any, hexed: str) -> None:
    assert written(value) == hexed
    assert pushed(value) == hexed if value is not None else True


def test_widths_are_the_same_wherever_the_value_stands() -> None:
    for bits in range(65):
        for number in {2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1}:
            if -(2**63) <= number < 2**64:
                assert pushed([number])[2:] == pushed({1: number})[4:] == pushed(number)


# -- what is built larger than the writer's first memory --


def test_values_of_every_size_around_the_ends_of_memory_are_whole() -> None:
    for size in [*range(3900, 4200), *range(16_300, 16_450, 7)]:
        value = ["x" * size, {"a": [1, 2.5, {"b": None}]}, {"cd", frozenset({"é" * 40})}, b"z" * 40]
        assert PACKER.unpack(PACKER.packet(value, None)) == (value, None)
        value = [0] * size + [{"key": {1, 2}, "other": Keyword("a/b")}]
        assert PACKER.unpack(PACKER.packet(value, None)) == (value, None)


# -- references to keys --


def test_a_reply_refers_to_keys_that_came_and_a_push_never() -> None:
    rows = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"name": "z", "id": 3}]
    first = "82d500696401d6006e616d65a178"
    assert written(rows) == "93" + first + "82d4080002d40801a179" + "82d40801a17ad4080003"
    assert pushed(rows) == (
        "93" + first + "82d500696402d6006e616d65a179" + "82d6006e616d65a17ad500696403"
    )
    assert PACKER.unpack(bytes.fromhex("92" + written(rows) + "c0"))[0] == rows


def test_a_string_and_a_keyword_of_one_name_are_two_keys() -> None:
    value = [{"a": 1}, StrDict({"a": 2}), {Keyword("a"): 3}, StrDict({"a": 4, Keyword("b"): 5})]
    assert written(value) == "94" + "81d4006101" + "81a16102" + "81d4080003" + "82d4080104d4006205"
    assert PACKER.unpack(PACKER.packet(value, None))[0] == value


def test_keys_are_known_by_their_text_not_their_object() -> None:
    one, two = "".join(["ke", "y"]), "".join(["k", "ey"])
    assert one is not two
    assert written([{one: 1}, {two: 2}, {"é" + one: 3}, {"é" + two: 4}]).endswith("81d4080104")


def test_key_number_256_is_the_last_that_is_referred_to() -> None:
    names = [f"k{n:03}" for n in range(300)]
    value = [dict.fromkeys(names, 0), {"k255": 1}, {"k256": 2}, {"k000": 3}]
    assert written(value).endswith(
        "81d408ff01" + "81" + "d600" + b"k256".hex() + "02" + "81d4080003"
    )
    assert PACKER.unpack(PACKER.packet(value, None))[0] == value


def test_keys_inside_members_and_keys_are_in_full_and_numbered_as_readers_do() -> None:
    value = [{FrozenDict({"a": 1})}, {"b": 1}, {FrozenDict({"a": 2}): 3}, {"c": 4}, {"c": 5}]
    data = written(value)
    # a is 0, b 1, a again 2, c 3
    assert data.endswith("8181d400610203" + "81d4006304" + "81d4080305")
    assert PACKER.unpack(PACKER.packet(value, None))[0] == value
    value = [{Text("a"): 1}, {"a": 2}, {Colour.RED: 1, "b": 2}, {"b": 3, "red": 4}]
    assert PACKER.unpack(PACKER.packet(value, None))[0] == [
        {"a": 1}, {"a": 2}, {"red": 1, "b": 2}, {"b": 3, "red": 4},
    ]  # fmt: skip


def test_references_begin_anew_with_each_packet() -> None:
    for _ in range(3):
        assert PACKER.packet([{"a": 1}, {"a": 2}], None).hex() == "929281d400610181d4080002c0"


def test_a_write_inside_a_write_has_references_of_its_own() -> None:
    inner: list[bytes] = []

    def default(value: object) -> object:
        inner.append(packer.packet([{"x": 1}, {"x": 2}], None))
        return {"a": 5}

    packer = MessagePack(default=default)
    data = packer.packet([{"a": 1}, object(), {"a": 2}], None)
    assert data.hex() == "9293" + "81d4006101" + "81d4080005" + "81d4080002" + "c0"
    assert inner == [bytes.fromhex("929281d400780181d4080002c0")]


# -- refused --


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1j, "expected a value that MessagePack has a form for (or default=), got 1j"),
        (Decimal("1.5"), "expected a value that MessagePack has a form for (or default=), got"),
        (Decimal("NaN"), "expected a value that MessagePack has a form for (or default=), got"),
        (Tagged("a/b", 1), "expected a value that MessagePack has a form for (or default=), got"),
        (2**64, "expected an integer of at most 64 bits (or default=), got 18446744073709551616"),
        (-(2**63) - 1, "expected an integer of at most 64 bits (or default=), got"),
        (Count(2**64), "expected an integer of at most 64 bits (or default=), got"),
        (2**2000, "expected an integer of at most 64 bits (or default=), got an int of"),
        (Fraction(2**64, 3), "expected a ratio of integers of at most 64 bits (or default=), got"),
        (datetime(2024, 5, 6), "expected a datetime with a time zone (or default=), got"),
        (
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            "expected a time in the years 1 to 9999 of UTC, got",
        ),
        (array("h", [1]), "expected an array of typecode 'i', 'f' or 'd' (or default=), got"),
        ("a\ud800b", r"expected text without lone surrogates, got '\ud800' in it"),
        (Keyword("\udfff"), r"expected text without lone surrogates, got '\udfff' in it"),
        (Symbol("\udfff"), r"expected text without lone surrogates, got '\udfff' in it"),
        (Char("\ud800"), r"expected text without lone surrogates, got '\ud800' in it"),
        (Char("ab"), "expected a Char of one UTF-16 unit, got Char('ab')"),
        (Char("😀"), "expected a Char of one UTF-16 unit, got Char('😀')"),
        (
            {"bob smith": 4, 5: 4},
            "expected a keyword's name as map key (StrDict writes strings), got 'bob smith': "
            "it has a ' ' at [\"bob smith\"]",
        ),
        ({"": 4, 5: 4}, "expected a keyword's name as map key (StrDict writes strings), got ''"),
        (StrDict({"\ud800": 1}), r"expected text without lone surrogates, got '\ud800' in it"),
        (
            [0, {"user": {"name": 1j}}],
            "expected a value that MessagePack has a form for (or default=), got 1j "
            'at [1]["user"]["name"]',
        ),
        ({frozenset({1j})}, "expected a value that MessagePack has a form for (or default=), got"),
        (
            {Colour.RED: 1, "red": 2},
            "expected distinct keys or members, got b'\\xc7\\x03\\x00red' again",
        ),
        ({Colour.RED, "red"}, "expected distinct keys or members, got b'\\xa3red' again"),
        ({Colour.TWO: 1, 2: 2}, "expected distinct keys or members, got b'\\x02' again"),
        ({(Colour.TWO,): 1, (2,): 2}, "expected distinct keys or members, got b'\\x91\\x02' again"),
        (
            [{"red": 0}, {Colour.RED: 1, "red": 2}],
            "expected distinct keys or members, got b'\\xc7\\x03\\x00red' again",
        ),
    ],
)
def test_what_has_no_form_is_refused_with_its_path(value: Any, message: str) -> None:
    assert str(refusal(value)).startswith(message)


def nested(depth: int, shell: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = shell(value)
    return value


SHELLS: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"a": value},
    lambda value: frozenset((value,)),
    lambda value: FrozenDict({"a": value}),
]


@pytest.mark.parametrize("shell", SHELLS)
def test_values_may_stand_500_deep_those_of_the_packet_counted(
    shell: Callable[[Any], Any],
) -> None:
    value = nested(497, shell)
    batch = PACKER.batch([PACKER.fragment(("a/b", value))])
    assert PACKER.unpack(batch)[0][0][1] == PACKER.unpack(PACKER.packet(value, None))[0]
    with pytest.raises(EncodeError, match="expected at most 500 forms around a form, got more"):
        PACKER.fragment(("a/b", shell(value)))
    PACKER.unpack(PACKER.packet(nested(499, shell), None))
    assert "expected at most 500 forms around a form, got more" in str(refusal(nested(500, shell)))


def test_two_nan_are_one_key() -> None:
    nans = {math.nan: 1, float("nan"): 2}
    for value in (nans, set(nans), {(key, 1): 1 for key in nans}):
        assert "expected distinct keys or members" in str(refusal(value))
    PACKER.packet([{math.nan: 1}, {math.nan: 2}, [math.nan, math.nan]], None)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert "expected at most 500 forms" in str(refusal(ring))


def test_a_refused_write_leaves_nothing_behind() -> None:
    for value in ([{"a": 1}, 1j], ["x" * 5000, {"a": object()}], [{"a": 1, "b c": 2, 5: 6}]):
        refusal(value)
        assert PACKER.packet([{"a": 1}, {"a": 2}], None).hex() == "929281d400610181d4080002c0"


# -- options --


def test_default_gives_other_types_a_form() -> None:
    packer = MessagePack(default=str)
    assert packer.packet([2**64, Decimal("1.5"), {1j: 2}], "cb").hex() == (
        "9293" + "b4" + b"18446744073709551616".hex() + "a3312e35" + "81d500316a02" + "a26362"
    )
    assert packer.default is str
    with pytest.raises(EncodeError, match="expected default= to end at a writable value"):
        MessagePack(default=lambda value: value).packet(1j, None)


def test_a_collection_that_changes_while_it_is_written_is_an_error() -> None:
    for change in ("append", "dict", "set"):
        if change == "append":
            held: Any = [1j, 2]
            packer = MessagePack(default=lambda value, held=held: held.append(1))
        elif change == "dict":
            held = {"a": 1j, "b": 2}
            packer = MessagePack(default=lambda value, held=held: held.update(c=1))
        else:
            held = {1j, 2j}
            packer = MessagePack(default=lambda value, held=held: held.add(value + 1))
        with pytest.raises(RuntimeError):
            packer.packet(held, None)


def test_keys_option_writes_plain_str_keys_as_strings() -> None:
    assert written({"a b": 1, Keyword("c"): 2}, keys="string") == "82a361206201d4006302"
    with pytest.raises(ConfigError, match="keys: expected 'keyword' or 'string', got 'both'"):
        MessagePack(keys="both")
