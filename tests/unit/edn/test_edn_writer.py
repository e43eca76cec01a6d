"""The edn writer against recorded texts, against our own reader, and against another library."""

from __future__ import annotations

import copy
import enum
import gc
import re
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from edn_corpus import cases, recorded, text_of, tree, value_of
from hypothesis import given
from hypothesis import strategies as st

from chansock import edn
from chansock._fast.edn.reader import Reader
from chansock._fast.edn.writer import Writer
from chansock.errors import ConfigError, EdnDecodeError, EncodeError
from chansock.packers import EDN
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

WRITES = cases("python_writes.jsonl")
CORPUS = [case for case in cases("corpus.jsonl") if case["valid"] and "clj_value" in case]


def written(value: object, **options: Any) -> str:
    return Writer(**options).encode(value).decode()


def refusal(value: object, **options: Any) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        Writer(**options).encode(value)
    return caught.value


# -- against what Clojure printed and read back --


@pytest.mark.parametrize("case", WRITES, ids=[case["id"] for case in WRITES])
def test_writes_the_recorded_text(case: dict[str, Any]) -> None:
    value, options = value_of(case["python"]), {"keys": case["keys"]}
    if case["edn"] is None:
        assert str(refusal(value, **options)).startswith("expected ")
        return
    text = written(value, **options)
    assert text == case["edn"]
    gregorian = not isinstance(value, datetime) or value.year > 1582  # the JVM's calendar
    if case["clj_value"] is not None and case["keys"] == "keyword" and gregorian:
        assert tree(Reader().decode(text)) == recorded(case["clj_value"])


def scalars(node: list[Any]) -> bool:
    """Return whether Clojure prints the value in one way only, and we in the same."""
    kind = node[0]
    if kind in ("list", "vec"):
        return all(map(scalars, node[1]))
    if kind == "map":  # past 8 entries in hash order
        return len(node[1]) <= 8 and all(scalars(k) and scalars(v) for k, v in node[1])
    if kind == "tag":
        return scalars(node[2])
    return kind not in ("set", "bigint", "meta")  # 1N is an int


def test_prints_what_it_has_read_as_clojure_prints_it() -> None:
    compared = 0
    for case in CORPUS:
        printed = case.get("clj_print")
        if printed is None or case["clj_value"] is None or not scalars(case["clj_value"]):
            continue
        try:
            value, _ = Reader().decode_one(text_of(case))
            text = Writer().encode(value)
        except (EdnDecodeError, EncodeError):
            continue  # judged by the reader's table; names that not every reader takes
        if tree(value) != recorded(case["clj_value"]) or case["group"] == "inst":
            continue
        if any(0xD800 <= ord(char) <= 0xDFFF for char in printed):
            continue  # has no UTF-8: ours is an escape
        compared += 1
        assert text.decode() == printed, case["id"]
    assert compared > 600


# -- what becomes of Python's types --


class Colour(enum.Enum):
    RED = "red"
    DEEP = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Count(int):
    def __str__(self) -> str:
        return "no number"


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")
MOVED = OrderedDict(a=1, b=2)
MOVED.move_to_end("a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": {"b": [1, None]}}, "{:a {:b [1 nil]}}"),
        ((1, (2,)), "[1 [2]]"),
        (List((1, [2])), "(1 [2])"),
        (StrDict({"a b": 1, Keyword("k"): 2}), '{"a b" 1, :k 2}'),
        ({FrozenDict({"a": 1}): 1}, "{{:a 1} 1}"),
        ({FrozenStrDict({"a": 1}): 1}, '{{"a" 1} 1}'),
        (Point(1, 2), "[1 2]"),
        (MOVED, "{:b 2, :a 1}"),
        ({Text("key"): Text("value")}, '{:key "value"}'),
        ([Text(""), Text("a\nb"), Text("x" * 17)], f'["" "a\\nb" "{"x" * 17}"]'),
        (Count(7), "7"),
        (True, "true"),
        ([Colour.RED, Colour.DEEP, Level.HIGH], '["red" [1 2] 3]'),
        ({Colour.RED: 1}, "{:red 1}"),
        ({1, Fraction(1, 2)} - {1}, "#{1/2}"),
        (Fraction(10**20, 1), "100000000000000000000N"),
        (Symbol("a/b"), "a/b"),
        (Tagged(Symbol("my/tag"), Tagged("b", Char("x"))), r"#my/tag #b \x"),
        (datetime(2024, 5, 6, 7, tzinfo=timezone(timedelta(hours=2), "CEST")),
         '#inst "2024-05-06T05:00:00.000-00:00"'),
        ("tab\tquote\"back\\slash\x00é\ud800", 'tab'),
    ],
)  # fmt: skip
def test_types(value: object, text: str) -> None:
    if text == "tab":
        text = '"tab\\tquote\\"back\\\\slash\x00é\\ud800"'
    assert written(value) == text


def test_keys_option_turns_str_keys_around() -> None:
    assert written({"a b": {"c": Keyword("d")}}, keys="string") == '{"a b" {"c" :d}}'
    assert written({Keyword("a"): 1}, keys="string") == "{:a 1}"
    assert written({Colour.RED: 1}, keys="string") == '{"red" 1}'


# -- maps whose keys are strings --


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"ada@example.com": 1}, '{"ada@example.com" 1}'),
        ({"bob": 1, "Ada Lovelace": 2}, '{"bob" 1, "Ada Lovelace" 2}'),
        ({"": 1}, '{"" 1}'),
        ({"a 1 :admin true": 1}, '{"a 1 :admin true" 1}'),
        ({"users": {"a@b.c": {"name": "Ada"}}}, '{:users {"a@b.c" {:name "Ada"}}}'),
        ({"a b": {"bob": {"c d": 1}}, "e": []}, '{"a b" {:bob {"c d" 1}}, "e" []}'),
        (OrderedDict({"bob": 1, "a b": 2}), '{"bob" 1, "a b" 2}'),
        ([{"a": 1}, {"a b": 1}, {"b": 1}], '[{:a 1} {"a b" 1} {:b 1}]'),
    ],
)  # fmt: skip
def test_a_map_has_string_keys_if_one_plain_str_is_no_keyword(value: Any, text: str) -> None:
    assert written(value) == text
    read = edn.loads(text)
    assert read == value
    assert written(read) == text  # as read, too
    packer = EDN()
    for packet in (packer.packet(value, None), packer.fragment(("a/b", value))):
        assert text.encode() in packet


def test_maps_with_string_keys_are_written_in_linear_time() -> None:
    def calls_for(depth: int) -> int:
        calls = 0

        def default(value: object) -> str:
            nonlocal calls
            calls += 1
            return "x"

        value: dict[str, object] = {"leaf": b""}
        for _ in range(depth):
            value = {"known": value, "a b": 1}
        edn.dumps(value, default=default)
        return calls

    assert calls_for(300) == calls_for(3) == 2  # all is written twice, and no more often


# -- refusals --


def test_paths_lead_to_the_value() -> None:
    assert refusal([0, 1, 2, {"user": object()}]).path == '[3]["user"]'
    assert refusal({"a": [{"b c": 1, 2: 3}]}).path == '["a"][0]["b c"]'
    assert refusal({1: {Keyword("k"): b""}}).path == "[1][Keyword('k')]"
    assert refusal(Tagged("t", [object()])).path == "[0]"
    assert refusal({"a": {(1, Symbol("nil")): 1}}).path.startswith('["a"][a tuple of 2][1]')
    error = refusal([{"k": 1j}])
    assert str(error) == (
        "expected a value that edn has a form for (or default=, as in packers.EDN(default=...)), "
        'got 1j at [0]["k"]'
    )
    assert error.args == (error.message, error.path)


@pytest.mark.parametrize("value", [date(2024, 5, 6), time(7), timedelta(1)])
def test_dates_and_times_name_what_writes_them(value: object) -> None:
    with pytest.raises(
        EncodeError, match=r"as in packers\.EDN\(default=edn\.iso\)\), got datetime"
    ):
        edn.dumps({"due": value})
    assert edn.dumps(value, default=edn.iso)


def test_long_and_deep_values_are_cut_in_messages() -> None:
    class Endless:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert "a Endless" in str(refusal(Endless()))
    assert len(str(refusal({"x y" * 1000: 1, 2: 3}))) < 400
    assert len(str(refusal(b"x" * 100_000))) < 200


def test_depth_is_limited_as_in_the_reader() -> None:
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    assert written(deep) == "[" * 500 + "1" + "]" * 500
    assert "at most 500" in refusal([deep]).message
    cyclic: list[object] = []
    cyclic.append(cyclic)
    assert "at most 500" in refusal(cyclic).message


@pytest.mark.parametrize(
    "value", [Tagged("t", 1), datetime(2024, 5, 6, tzinfo=UTC), UUID(int=1), float("nan"), []]
)
def test_what_is_written_is_not_too_deep_for_the_reader(value: object) -> None:
    for _ in range(499):
        value = [value]
    text = Writer().encode(value)
    assert Writer().encode(Reader().decode(text)) == text
    try:
        text = Writer().encode([value])
    except EncodeError:
        return
    Reader().decode(text)


@pytest.mark.parametrize("size", range(0, 1000, 25))
def test_deep_sets_close_where_memory_grows(size: int) -> None:
    deep = frozenset[object]()
    for _ in range(450):
        deep = frozenset([deep])
    text = "[" + "1 " * (1100 + size) + "#{" * 451 + "}" * 451 + "]"
    assert written([1] * (1100 + size) + [deep]) == text


def test_long_integers_are_refused_as_in_the_reader() -> None:
    assert written(10**4299) == "1" + "0" * 4299 + "N"
    assert written(1 - 10**4300) == "-" + "9" * 4300 + "N"
    assert refusal(10**4300).message == (
        "expected an integer of at most 4300 digits, got an int of 14285 bits"
    )
    refusal(-(10**4300))
    refusal(Fraction(10**4300, 3))
    refusal(Fraction(1, 10**4300))


def test_the_digits_of_a_huge_integer_are_not_even_looked_for() -> None:
    huge = 1 << 33_219_281  # of ten million digits, which take hours
    assert "of 33219282 bits" in str(refusal([huge]))
    assert "of 33219282 bits" in str(refusal({huge: 1j}))


def test_a_lower_limit_of_python_is_an_error_too() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert "expected an integer of at most 640 digits" in str(refusal(10**700))
    finally:
        sys.set_int_max_str_digits(before)


def test_years_that_utc_does_not_have_are_refused() -> None:
    refusal(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    refusal(datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))))


def test_members_that_edn_cannot_tell_apart_are_refused() -> None:
    nan = float("nan")
    refusal({nan, float("nan")})
    refusal({nan: 1, float("nan"): 2})
    refusal({Colour.RED: 1, "red": 2})
    refusal({Colour.DEEP, (1, 2)})
    refusal({(Colour.RED,), ("red",)})
    assert written({nan}) == "#{##NaN}"
    assert written({Colour.RED: 1, "blue": 2}) == "{:red 1, :blue 2}"


@pytest.mark.parametrize(
    "members",
    [
        {(float("nan"),), (float("nan"),)},
        {  # unequal by PEP 495, and one instant
            datetime(2021, 11, 7, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=1),
            datetime(2021, 11, 7, 6, 30, tzinfo=UTC),
        },
    ],
)
def test_what_is_one_in_edn_is_not_written_twice(members: set[Any]) -> None:
    assert len(members) == 2
    assert "expected distinct" in refusal(members).message
    assert "expected distinct" in refusal(dict.fromkeys(members)).message


def test_keys_in_keys_are_compared_once() -> None:
    deep: object = float("nan")
    for level in range(100):
        deep = frozenset([level, deep])
    assert written({deep: 1, "a": 2}).count("#{") == 100
    refusal({frozenset([frozenset([Colour.RED, "red"]), 1]), 2})
    refusal({(Colour.RED, FrozenDict({(Colour.DEEP,): 1, ((1, 2),): 2})): 3, "a": 4})


@pytest.mark.parametrize("shell", [frozenset, lambda keys: FrozenDict(dict.fromkeys(keys))])
def test_a_member_in_many_sets_is_written_once(shell: Callable[[Any], Any]) -> None:
    asked: list[object] = []

    def default(value: object) -> object:
        asked.append(value)
        return "twin"

    deep: object = 1j
    for level in range(200):
        deep = shell([(deep,), f"k{level}"])
    assert written(deep, default=default).count('["twin"]') == 1
    assert asked == [1j]
    assert refusal({"twin", 1j}, default=default).message.endswith('got "twin" again')


# -- default= --


def test_default_gives_other_types_a_form() -> None:
    def default(value: object) -> object:
        if isinstance(value, bytes):
            return Tagged("bin", value.hex())
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC)
        if isinstance(value, Decimal):
            return None
        raise TypeError(f"no form: {value!r}")

    value = [b"\x01", datetime(2024, 5, 6), Decimal("NaN")]
    assert written(value, default=default) == (
        '[#bin "01" #inst "2024-05-06T00:00:00.000-00:00" nil]'
    )
    with pytest.raises(TypeError, match="no form"):
        Writer(default=default).encode(1j)


def test_default_applies_to_keys_as_to_plain_keys() -> None:
    assert written({1j: 1}, default=lambda value: "i") == "{:i 1}"
    assert written(StrDict({1j: 1}), default=lambda value: "i") == '{"i" 1}'


def test_default_that_runs_in_a_circle_is_refused() -> None:
    assert "default=" in refusal(1j, default=lambda value: value).message
    refusal(1j, default=lambda value: [value])


def test_default_may_write_with_the_same_writer() -> None:
    writer: Writer
    writer = Writer(default=lambda value: writer.encode([value.real]).decode())
    assert writer.encode([1j, 2j]) == b'["[0.0]" "[0.0]"]'


# -- values that change while they are written --


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ({"a": 1j, "b": 2}, lambda value: value.update((str(n), n) for n in range(1000))),
        ({"a": 1j, "b": 2}, lambda value: value.clear()),
        ({"a": 1, "b": 1j, "c": 2}, lambda value: (value.pop("a"), value.update(z=0))),
        ({1j: 1, "b": 2}, lambda value: value.clear()),
        ([1, 1j, 2], lambda value: value.clear()),
        ([1, 1j, 2], lambda value: value.append(1j)),
        ({1j, 2, 3}, lambda value: value.clear()),
    ],
    ids=[
        "map grows",
        "map cleared",
        "map swaps a key",
        "map of a written key cleared",
        "list cleared",
        "list grows",
        "set cleared",
    ],
)
def test_a_collection_that_changes_under_the_writer_is_an_error(
    value: Any, change: Callable[[Any], object]
) -> None:
    def default(_: object) -> object:
        change(value)
        gc.collect()
        return ["fresh", "memory"] * 10

    for around in (value, [value], {"around": value}, List((value,))):
        copied = copy.copy(value)
        with pytest.raises(RuntimeError, match=r"stay as it is|changed size"):
            Writer(default=default).encode(around)
        value.clear()
        value.extend(copied) if isinstance(value, list) else value.update(copied)


def test_a_dict_that_changes_and_keeps_its_size_is_no_crash() -> None:
    value: dict[str, Any] = {f"key{n}": 1j for n in range(50)}

    def default(_: object) -> object:
        value.clear()
        gc.collect()
        value.update((f"new{n}", ["fresh"] * n) for n in range(50))
        return "gone"

    found = Reader().decode(Writer(default=default).encode(value))
    assert found["key0"] == "gone"
    assert len(found) == 50


def test_what_is_being_written_outlives_its_container() -> None:
    class Last:
        def __init__(self) -> None:
            self.text = "x" * 100

    outer: dict[str, Any] = {"inner": {"deep": [Last()]}, "other": 1}

    def default(value: object) -> object:
        outer.clear()
        gc.collect()
        raise EncodeError("expected this")

    error = refusal(outer, default=default)
    assert error.path == '["inner"]["deep"][0]'


def test_a_list_may_change_before_the_writer_comes_to_it() -> None:
    later: list[object] = [1, 2]

    def default(value: object) -> object:
        later.append(3)
        return 0

    assert written([1j, later], default=default) == "[0 [1 2 3]]"


# -- size --


def test_long_texts_are_whole() -> None:
    assert Writer().encode("a" * 10_000_000) == b'"' + b"a" * 10_000_000 + b'"'
    assert Writer().encode('\n"' * 1_000_000) == b'"' + b'\\n\\"' * 1_000_000 + b'"'
    assert Writer().encode("漢" * 1_000_000).decode() == '"' + "漢" * 1_000_000 + '"'
    assert Writer().encode("\ud800" * 100_000).decode() == '"' + "\\ud800" * 100_000 + '"'


@pytest.mark.parametrize("size", [*range(3900, 4200, 7), 16383, 16384, 65536])
def test_texts_of_any_length_are_whole_where_memory_grows(size: int) -> None:
    filler = "f" * size
    value = {"k" * 40: filler, "l": [1] * (size % 90), "m": 0.5, "n": [[[[None]]]], "o": "é" * 20}
    assert Reader().decode(Writer().encode(value)) == value
    brackets = [filler, [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]
    for _ in range(400):
        brackets = [brackets]
    assert Reader().decode(Writer().encode(brackets)) == brackets
    assert Writer().encode(List((filler, *range(size)))) == (
        f'("{filler}" {" ".join(map(str, range(size)))})'.encode()
    )


@pytest.mark.parametrize("options", [{"keys": "both"}, {"max_depth": 0}, {"max_depth": 10**6}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expected .*, got"):
        Writer(**options)


# -- round trip --

NAMES = st.from_regex(r"\A[a-z*+!?<>=é][a-z0-9.*+!?<>=é-]{0,8}(/[a-z][a-z0-9-]{0,5})?\Z")
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    STRINGS,
    NAMES.map(Keyword),
    NAMES.filter(lambda name: not re.match(r"[+-]\d|(nil|true|false)\Z", name)).map(Symbol),
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]).map(Char),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: d if d else abs(d)),
    st.fractions().filter(lambda f: f.denominator != 1),
    st.datetimes(timezones=st.just(UTC)),
    st.uuids(),
)


def is_faithful(members: list[Any]) -> bool:
    """Return whether Python keeps the members apart."""
    return len(set(members)) == len(members)


HASHED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(List),
        st.lists(inner, max_size=4).filter(is_faithful).map(frozenset),
        st.dictionaries(NAMES, inner, max_size=4).map(FrozenDict),
        st.builds(Tagged, st.just("my/tag"), inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple).map(List),
        st.lists(HASHED, max_size=5).filter(is_faithful).map(set),
        st.dictionaries(NAMES, inner, max_size=5),
        st.dictionaries(STRINGS, inner, min_size=1, max_size=5).map(StrDict),
        st.dictionaries(HASHED.filter(lambda key: type(key) is not str), inner, max_size=3).filter(
            lambda value: not any(isinstance(key, Keyword) for key in value)
        ),
        st.builds(Tagged, st.just("my/tag"), inner),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(VALUES)
def test_round_trip_keeps_values_and_types(value: Any) -> None:
    again = Reader().decode(Writer().encode(value))
    assert tree(again) == tree(value)
    assert again == value
