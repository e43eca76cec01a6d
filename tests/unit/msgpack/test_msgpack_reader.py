"""Sente's MessagePack read: recorded packets, the extensions, what is refused and where."""

from __future__ import annotations

import json
import struct
import sys
from array import array
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chansock.errors import PacketError
from chansock.packers import EDN, MessagePack
from chansock.values import (
    Char,
    FrozenDict,
    FrozenStrDict,
    Keyword,
    StrDict,
    Symbol,
)

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "msgpack" / "recorded.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
PACKER = MessagePack()


def packed(hexed: str) -> bytes:
    return bytes.fromhex(hexed)


def read(hexed: str, **options: Any) -> Any:
    """Read one value: the first element of a packet."""
    value, cb_id = MessagePack(**options).unpack(b"\x92" + packed(hexed) + b"\xc0")
    assert cb_id is None
    return value


def refusal(data: bytes) -> str:
    with pytest.raises(PacketError, match=r"\A.* at byte \d+\Z") as caught:
        PACKER.unpack(data)
    return str(caught.value)


def types(value: Any) -> Any:
    """The types in a value, in depth; 1 == 1.0 == True, and a Keyword equals its name."""
    if isinstance(value, dict):
        return type(value), [(types(key), types(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types(item) for item in value]
    return type(value)


# -- what Sente wrote --


@pytest.mark.parametrize("case", RECORDED, ids=[str(n) for n in range(len(RECORDED))])
def test_a_recorded_packet_is_what_edn_has_for_it(case: dict[str, Any]) -> None:
    data = packed(case["hex"])
    expected = EDN().unpack(case["edn"].encode())
    for body in (data, data + bytes(case.get("zeros", 7)), bytearray(data), memoryview(data)):
        found = PACKER.unpack(body)
        assert found == expected
        assert types(found) == types(expected)


def test_the_recordings_have_every_kind_of_value_that_clojurescript_writes() -> None:
    everything = b"".join(packed(case["hex"]) for case in RECORDED)
    for mark in (b"\xd4\x08\x01", b"\xc7\x24\x09", b"\xc7\x0c\xff", b"\xd6\x04\x93", b"\xca"):
        assert mark in everything
    assert sum("zeros" in case for case in RECORDED) == 6
    assert sum("gzip" in case for case in RECORDED) == 1


@pytest.mark.slow
def test_every_beginning_of_a_recorded_packet_is_refused_and_says_where() -> None:
    checked = 0
    for case in RECORDED:
        data = packed(case["hex"])
        for end in range(min(len(data), 300)):
            message = refusal(data[:end])
            assert message.startswith("expected ")
            assert int(message.rsplit(" ", 1)[1]) <= end
            checked += 1
    assert checked > 5000


# -- one form after the other --


@pytest.mark.parametrize(
    ("hexed", "value"),
    [
        ("c0", None),
        ("c2", False),
        ("c3", True),
        ("00", 0),
        ("7f", 127),
        ("ff", -1),
        ("e0", -32),
        ("cc80", 128),
        ("cdffff", 65535),
        ("ceffffffff", 2**32 - 1),
        ("cfffffffffffffffff", 2**64 - 1),
        ("d080", -128),
        ("d18000", -(2**15)),
        ("d280000000", -(2**31)),
        ("d38000000000000000", -(2**63)),
        ("d37fffffffffffffff", 2**63 - 1),
        ("cc01", 1),  # wider than needed
        ("d300000000000000ff", 255),
        ("ca3fc00000", 1.5),
        ("ca3dcccccd", 0.10000000149011612),
        ("cb3ff8000000000000", 1.5),
        ("cb8000000000000000", -0.0),
        ("cb7ff0000000000000", float("inf")),
        ("a0", ""),
        ("a161", "a"),
        ("a2c3a9", "é"),
        ("d901" + "61", "a"),
        ("da0003" + "e6bca2", "漢"),
        ("db00000004" + "f09f9880", "😀"),
        ("bf" + "78" * 31, "x" * 31),
        ("c400", b""),
        ("c403" + "00ff80", b"\x00\xff\x80"),
        ("c50001" + "61", b"a"),
        ("c600000001" + "61", b"a"),
        ("90", []),
        ("9301c090", [1, None, []]),
        ("dc0001" + "05", [5]),
        ("dd00000001" + "05", [5]),
        ("80", {}),
        ("81d4006101", {"a": 1}),
        ("de0001" + "d4006101", {"a": 1}),
        ("df00000001" + "d4006101", {"a": 1}),
        ("81a16101", StrDict({"a": 1})),
        ("82a16101d4006202", StrDict({"a": 1, Keyword("b"): 2})),
        ("82d4006202a16101", StrDict({Keyword("b"): 2, "a": 1})),
        ("82d400610102c0", {"a": 1, 2: None}),
        ("81920102d40063", {(1, 2): Keyword("c")}),
        ("8181d40061029103", {FrozenDict({"a": 2}): [3]}),
        ("8181a1610203", {FrozenStrDict({"a": 2}): 3}),
        ("81c40161d40062", {b"a": Keyword("b")}),
    ],
)
def test_a_form_is_read_as_its_value(hexed: str, value: Any) -> None:
    found = read(hexed)
    assert found == value
    assert types(found) == types(value)
    assert str(found) == str(value)  # -0.0


@pytest.mark.parametrize(
    ("hexed", "value"),
    [
        ("d40061", Keyword("a")),
        ("c70c00" + b"chsk/ws-ping".hex(), Keyword("chsk/ws-ping")),
        ("c80003" + "00" + "c3a962", Keyword("éb")),
        ("c900000001" + "00" + "61", Keyword("a")),
        ("d500" + "c3a9", Keyword("é")),
        ("d800" + b"sixteen-byte-key".hex(), Keyword("sixteen-byte-key")),
        ("c74100" + "61" * 65, Keyword("a" * 65)),
        ("c70700" + b"a b c/d".hex(), Keyword("a b c/d")),  # as (keyword "a b c/d") makes
        ("c70000", Keyword("")),
        ("c70301" + b"sym".hex(), Symbol("sym")),
        ("c70601" + b"ns/sym".hex(), Symbol("ns/sym")),
        ("d40261", Char("a")),
        ("d502c3a9", Char("é")),
        ("d5030102", Fraction(1, 2)),
        ("c70a03" + "ff" + "cfffffffffffffffff", Fraction(-1, 2**64 - 1)),
        ("d5030402", 2),
        ("d40490", set()),
        ("c70504930102a161", {1, 2, "a"}),
        ("c70c04" + "dc0008" + "0001020304050607" + "08", None),
        ("c70b04" + "dc0008" + "0001020304050607", set(range(8))),
        ("d704" + "dd00000002" + "01d080", {1, -128}),
        ("d604" + "91" + "d40490", {frozenset()}),
        ("d6050000000a", array("i", [10])),
        ("d70500000001ffffffff", array("i", [1, -1])),
        ("c70005", array("i")),
        ("d6063fc00000", array("f", [1.5])),
        ("d707bff8000000000000", array("d", [-1.5])),
        ("d807" + struct.pack(">dd", 0.1, -2).hex(), array("d", [0.1, -2.0])),
        ("c70cff" + "28697580" + "000000005e0d5da5", datetime(2020, 1, 2, 3, 4, 5, 678000, UTC)),
        ("c70cff" + "000003e7" + "0000000000000000", datetime(1970, 1, 1, tzinfo=UTC)),  # 999 ns
        ("c70cff3b9ac9ff" + "ff" * 8, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        ("d6ff5e0d5da5", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("d7ff" + "a1a5d600" + "5e0d5da5", datetime(2020, 1, 2, 3, 4, 5, 678000, UTC)),
        (
            "c72409" + b"f81d4fae-7dec-11d0-a765-00a0c91e6bf6".hex(),
            UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ),
    ],
)  # fmt: skip
def test_an_extension_is_read_as_its_value(hexed: str, value: Any) -> None:
    if value is None:  # one byte too many
        assert "expected the end of an extension, got 1 bytes more" in refusal(
            b"\x92" + packed(hexed) + b"\xc0"
        )
        return
    found = read(hexed)
    assert found == value
    assert types(found) == types(value)
    if isinstance(value, array):
        assert found.typecode == value.typecode


def test_a_name_that_edn_cannot_spell_stays_a_keyword_as_map_key() -> None:
    found = read("82" + "c70300" + b"a b".hex() + "01" + "d40061" + "02")
    assert found == {"a b": 1, "a": 2}
    assert [type(key) for key in found] == [Keyword, str]
    assert PACKER.unpack(PACKER.packet(found, None)) == (found, None)


def test_keys_option_turns_around_which_keys_are_plain() -> None:
    found = read("82a16101d4006202", keys="string")
    assert type(found) is dict
    assert [type(key) for key in found] == [str, Keyword]


# -- the key cache --


def test_a_reference_stands_for_the_key_that_first_came() -> None:
    # depth first: a key is numbered before its value is read, a string as well
    a, b, c = "d40061", "a162", "d40063"
    assert read(f"9281{a}81{b}0182d4080002d4080103") == [
        {"a": StrDict({"b": 1})},
        StrDict({Keyword("a"): 2, "b": 3}),
    ]
    assert read(f"9382{a}01{b}0281{c}0383d4080204d4080105d4080006")[2] == StrDict(
        {Keyword("c"): 4, "b": 5, Keyword("a"): 6}
    )


def test_keys_inside_sets_and_keys_are_numbered_too() -> None:
    hexed = "94" + "c706049181d4006101" + "81d4080002" + "8181d4006201c0" + "81d4080103"
    assert read(hexed) == [
        {FrozenDict({"a": 1})},
        {"a": 2},
        {FrozenDict({"b": 1}): None},
        {"b": 3},
    ]


def test_a_value_and_a_key_that_is_no_name_are_not_numbered() -> None:
    assert read("93" + "d40061" + "820501d4006202" + "81d4080003") == [
        Keyword("a"),
        {5: 1, "b": 2},
        {"b": 3},
    ]


def test_a_key_that_comes_again_in_full_is_numbered_again_as_sentes_readers_do() -> None:
    assert read("94" + "81d4006101" + "81d4006102" + "81d4006203" + "81d4080204")[3] == {"b": 4}


def test_256_keys_are_numbered_and_no_more() -> None:
    many = b"".join(b"\xd6\x00k%03d\x00" % n for n in range(300))
    body = b"\xdc\x00\x03\xde\x01\x2c" + many
    last = b"\x81\xd4\x08\xff\x05"
    found, _ = PACKER.unpack(b"\x92" + body + last + b"\xc0" + b"\xc0")
    assert len(found[0]) == 300
    assert found[1] == {"k255": 5}
    # the 257th of them has no number, and a new one none either
    later = b"\x82\xd4\x00a\x01\xd4\x08\xff\x02"
    found, _ = PACKER.unpack(b"\x92" + body + later + b"\xc0" + b"\xc0")
    assert found[1] == {"a": 1, "k255": 2}


@pytest.mark.parametrize(
    ("hexed", "place"),
    [("81d4080001", 2), ("9281d400610181d4080101", 8), ("82d4006101d4080102", 6)],
)
def test_a_number_that_no_key_has_is_refused(hexed: str, place: int) -> None:
    message = refusal(b"\x92" + packed(hexed) + b"\xc0")
    assert message.startswith("expected one of ")
    assert message.endswith(f" at byte {place}")


def test_a_reference_that_is_no_map_key_is_refused() -> None:
    for hexed in ("9281d4006101d40800", "82d400610191d4080002"):
        message = refusal(b"\x92" + packed(hexed) + b"\xc0")
        assert "expected a value, got a cached key" in message


# -- what is refused --


@pytest.mark.parametrize(
    ("hexed", "message"),
    [
        ("c1", "expected a value, got the byte 0xc1, which MessagePack never uses at byte 1"),
        ("a2c328", "expected UTF-8, got 0xc3 at byte 2"),
        ("a3eda080", "expected UTF-8, got 0xed at byte 2"),
        ("d400ff", "expected UTF-8, got 0xff at byte 3"),
        ("81a1ff01", "expected UTF-8, got 0xff at byte 3"),
        ("81d400ff01", "expected UTF-8, got 0xff at byte 4"),
        ("82d4006101d4006102", "expected distinct keys in a map, got 'a' again at byte 6"),
        ("82d4006101a16102", "expected distinct keys in a map, got 'a' again at byte 6"),
        ("82a16101d4006102", "expected distinct keys in a map, got Keyword('a') again at byte 5"),
        ("820101c302", "expected distinct keys in a map, got True again at byte 4"),
        ("82d4006101d4080002", "expected distinct keys in a map, got 'a' again at byte 6"),
        ("c70404930102c3", "expected distinct members in a set, got True again at byte 7"),
        ("d504a0c0", "expected an array in a set, got the byte 0xa0 at byte 1"),
        ("c70004", "expected an array in a set, got nothing at byte 1"),
        ("d5030100", "expected a ratio over a positive integer, got 1/0 at byte 1"),
        ("d50301ff", "expected a ratio over a positive integer, got 1/-1 at byte 1"),
        ("d50301c0", "expected two integers in a ratio, got the byte 0xc0 at byte 4"),
        ("d40301", "expected a value, got the end at byte 4"),
        ("d5026162", "expected one UTF-16 unit in a character, got 'ab' at byte 1"),
        ("d602f09f9880", "expected one UTF-16 unit in a character, got '😀' at byte 1"),
        ("d40900", "expected a UUID, got '\\x00' at byte 1"),
        ("d50500ff", "expected 4 bytes for each number of int[], got 2 at byte 1"),
        ("d60700000000", "expected 8 bytes for each number of double[], got 4 at byte 1"),
        ("d4ff00", "expected 4, 8 or 12 bytes in a timestamp, got 1 at byte 1"),
        ("c70cff" + "3b9aca00" + "00" * 8, "expected at most 999999999 nanoseconds, got"),
        ("c70cff" + "00" * 4 + "7f" * 8, "expected a time in the years 1 to 9999, got"),
        ("d40a00", "expected an extension of Sente's (-1 to 9), got 10 at byte 1"),
        ("d4fe00", "expected an extension of Sente's (-1 to 9), got -2 at byte 1"),
        ("81d6050000000001", "expected a key or member that can be hashed, got int[] at byte 2"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(hexed: str, message: str) -> None:
    assert refusal(b"\x92" + packed(hexed) + b"\xc0").startswith(message)


@pytest.mark.parametrize(
    ("hexed", "message"),
    [
        ("dcffff", "expected 65535 elements, got 1 bytes: the end at byte 1"),
        ("ddffffffff", "expected 4294967295 elements, got 1 bytes: the end at byte 1"),
        ("dfffffffff", "expected 4294967295 entries, got 1 bytes: the end at byte 1"),
        ("81", "expected 1 entries, got 1 bytes: the end at byte 1"),
        ("dbffffffff", "expected 4294967295 bytes, got 1: the end at byte 1"),
        ("c6ffffffff", "expected 4294967295 bytes, got 1: the end at byte 1"),
        ("c9ffffffff00", "expected 4294967295 bytes, got 1: the end at byte 1"),
        ("c704" + "04" + "ddffffff", "expected 4 bytes, got"),
        ("d704" + "ddffffffff000000", "expected 4294967295 elements, got 3 bytes: the end"),
    ],
)
def test_a_length_is_believed_only_where_the_bytes_are(hexed: str, message: str) -> None:
    assert refusal(b"\x92" + packed(hexed) + b"\xc0").startswith(message)


def test_an_extension_cannot_reach_behind_its_end() -> None:
    # the set has room for its array's head alone; what follows is the packet's
    assert refusal(packed("92" + "d40491" + "01")).startswith("expected 1 elements, got 0 bytes")


def test_values_may_stand_500_deep_those_of_the_packet_counted() -> None:
    inner = b"\x91" * 497 + b"\x90"
    event = b"\x92\xc7\x03\x00a/b" + inner
    found, _ = PACKER.unpack(b"\x92\x91" + event + b"\xc0")
    assert found[0][0] == "a/b"
    too_deep = b"\x92\x91" + event.replace(inner, b"\x91" + inner) + b"\xc0"
    assert refusal(too_deep).startswith("expected at most 500 values around a value, got more")
    for form in (b"\x91", b"\x81\xc0", b"\x81\xd4\x00a"):
        PACKER.unpack(b"\x92" + form * 499 + b"\xc0\xc0")
        deep = b"\x92" + form * 500 + b"\xc0\xc0"
        assert refusal(deep).startswith("expected at most 500 values around a value, got more")
    sets = b"\xc0"
    for _ in range(600):
        sets = b"\xc9" + struct.pack(">IB", len(sets) + 1, 4) + b"\x91" + sets
    assert "expected at most 500 values" in refusal(b"\x92" + sets + b"\xc0")
    ratios = b"\x01"
    for _ in range(5000):
        ratios = b"\xc9" + struct.pack(">IB", len(ratios), 3) + ratios
    assert "expected two integers in a ratio" in refusal(b"\x92" + ratios + b"\xc0")


def test_keys_of_one_hash_are_counted() -> None:
    # hash(Fraction(n, d)) is n / d modulo 2^61 - 1, so a peer finds ratios of one hash
    prime = 2**61 - 1
    keys = []
    for denominator in range(3, 80):
        numerator = (7 * denominator) % prime + prime
        if Fraction(numerator, denominator).denominator == denominator:
            assert hash(Fraction(numerator, denominator)) == 7
            body = b"\xd3" + struct.pack(">q", numerator) + bytes([denominator])
            keys.append(b"\xc7" + bytes([len(body)]) + b"\x03" + body)
    assert len(keys) > 33
    few = b"\x92\xde" + struct.pack(">H", 32) + b"".join(key + b"\xc0" for key in keys[:32])
    assert len(PACKER.unpack(few + b"\xc0")[0]) == 32
    many = b"\x92\xde" + struct.pack(">H", 33) + b"".join(key + b"\xc0" for key in keys[:33])
    assert "expected at most 32 keys of one hash, got more" in refusal(many + b"\xc0")
    members = b"\xdc" + struct.pack(">H", 33) + b"".join(keys[:33])
    whole = b"\xc8" + struct.pack(">HB", len(members), 4) + members
    assert "expected at most 32 keys of one hash, got more" in refusal(b"\x92" + whole + b"\xc0")


def test_ratios_in_keys_and_members_are_bounded_by_the_packet() -> None:
    def members(many: int) -> bytes:
        ratios = [b"\xc7\x04\x03\xcd" + struct.pack(">H", 2 * n + 1) + b"\x02" for n in range(many)]
        array = b"\xdc" + struct.pack(">H", many) + b"".join(ratios)
        return b"\x92\xc8" + struct.pack(">HB", len(array), 4) + array + b"\xc0"

    assert len(PACKER.unpack(members(2000))[0]) == 2000
    assert "ratios in keys and members, got more" in refusal(members(2500))


def test_a_hashed_map_is_made_without_a_call_of_its_class() -> None:
    calls: list[str] = []
    packet = b"\x92\xdc\x00\x64" + b"\x81\x81\xa1a\x01\x02" * 100 + b"\xc0"

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "__init__":
            calls.append(event)

    sys.setprofile(note)
    try:
        value, _ = PACKER.unpack(packet)
    finally:
        sys.setprofile(None)
    assert calls == []
    assert value == [{FrozenDict({"a": 1}): 2}] * 100
    assert hash(next(iter(value[0]))) == hash(FrozenDict({"a": 1}))
