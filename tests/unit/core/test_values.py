"""The value types: strings, tuples and dicts that remember what they are in edn."""

from __future__ import annotations

import copy
import json
import pickle
from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from chansock.values import (
    Char,
    FrozenDict,
    FrozenStrDict,
    Keyword,
    List,
    StrDict,
    Symbol,
    Tagged,
    short_repr,
)

EACH = [
    Keyword("chat/say"),
    Symbol("a"),
    Char("x"),
    List((1, [2])),
    StrDict({"a b": 1, Keyword("k"): 2}),
    FrozenDict({"a": (1,)}),
    FrozenStrDict({"a b": 1}),
    Tagged("my/tag", [1]),
]


@pytest.mark.parametrize("value", EACH, ids=repr)
def test_pickle_and_copy_keep_value_and_type(value: Any) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert (again, type(again)) == (value, type(value))
    for again in (copy.copy(value), copy.deepcopy(value)):
        assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize("value", EACH, ids=repr)
def test_repr_reads_back_as_the_value(value: Any) -> None:
    again = eval(repr(value))
    assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize("kind", [Keyword, Symbol, Char])
def test_a_name_equals_its_text_and_hashes_as_it(kind: type[str]) -> None:
    value = kind("x")
    assert value == "x"
    assert hash(value) == hash("x")
    assert {value: 1}["x"] == 1
    assert str(value) == "x"
    assert type(str(value)) is str
    assert f"{value}" == "x"
    assert json.dumps(value) == '"x"'
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    ("text", "namespace", "name"),
    [
        ("a", None, "a"),
        ("a/b", "a", "b"),
        ("a.b/c.d", "a.b", "c.d"),
        ("/", None, "/"),
        ("a//", "a", "/"),
        ("", None, ""),
    ],
)
def test_namespace_ends_at_the_first_slash(text: str, namespace: str | None, name: str) -> None:
    for value in (Keyword(text), Symbol(text)):
        assert (value.namespace, value.name) == (namespace, name)


def test_list_is_a_tuple() -> None:
    value = List((1, 2))
    assert value == (1, 2)
    assert hash(value) == hash((1, 2))
    assert repr(value) == "List((1, 2))"


def test_str_dict_stays_one_through_copies_and_unions() -> None:
    value = StrDict({"a": 1})
    for again in (value.copy(), value | {"b": 2}, {"b": 2} | value, StrDict(value)):
        assert type(again) is StrDict
    assert value | {"a": 2} == {"a": 2}
    assert {"a": 2} | value == {"a": 1}
    value |= {"c": 3}
    assert (value, type(value)) == ({"a": 1, "c": 3}, StrDict)
    with pytest.raises(TypeError):
        value | [("a", 1)]  # type: ignore[operator]


def test_frozen_dict_hashes_without_regard_to_order() -> None:
    one, two = FrozenDict({"a": 1, "b": (2,)}), FrozenDict({"b": (2,), "a": 1})
    assert one == two
    assert hash(one) == hash(two)
    assert {one: 1}[two] == 1
    assert FrozenDict({"a": 1}) != FrozenDict({"a": 2})


def test_frozen_dict_needs_what_can_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        FrozenDict({"a": []})


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.clear(),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.setdefault("b", 1),
        lambda d: d.update(b=1),
        lambda d: d.__ior__({"b": 1}),
        lambda d: d.__init__({"b": 1}),
    ],
)
@pytest.mark.parametrize("kind", [FrozenDict, FrozenStrDict])
def test_frozen_dict_refuses_to_change(kind: type[FrozenDict[str, int]], change: Any) -> None:
    value = kind({"a": 1})
    with pytest.raises(TypeError, match="cannot be changed"):
        change(value)
    assert value == {"a": 1}
    assert hash(value) == hash(kind({"a": 1}))


def test_frozen_dict_unions_are_new_frozen_dicts() -> None:
    value = FrozenDict({"a": 1})
    assert value.copy() is value
    for again in (value | {"b": 2}, {"b": 2} | value):
        assert (again, type(again)) == ({"a": 1, "b": 2}, FrozenDict)
    assert isinstance(FrozenStrDict({"a": 1}) | {"b": 2}, StrDict)


def test_deep_frozen_dicts_are_hashed_without_recursion() -> None:
    value: FrozenDict[str, Any] = FrozenDict()
    for _ in range(20_000):
        value = FrozenDict({"a": value})
    assert isinstance(hash(value), int)


def test_tagged_is_frozen_and_compares_by_value() -> None:
    assert Tagged("a", 1) == Tagged("a", 1) != Tagged("b", 1)
    assert len({Tagged("a", (1,)), Tagged("a", (1,))}) == 1
    with pytest.raises(AttributeError):
        Tagged("a", 1).tag = "b"  # type: ignore[misc]


# -- for logs and errors


@pytest.mark.parametrize(
    "value",
    [
        *EACH, None, True, -12, 1.5, "it's", b"ab", [], (), {}, set(), frozenset(), (1,), (1, 2),
        [1, "a", {"b": [None]}], {1}, frozenset([1]), List(), List((1,)), FrozenDict(),
        {Keyword("a"): {"b": (1, 2)}, "c": Tagged("t", {1})}, "x" * 200, b"x" * 200, [[[]]] * 50,
        Keyword("a" * 200), list(range(200)), Fraction(1, 3), Decimal("1.5"), array("i", [1, 2]),
        10**90, ValueError("no"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_short_repr_is_the_beginning_of_the_repr(value: Any) -> None:
    assert short_repr(value) == repr(value)[:80]
    assert short_repr(value, 10) == repr(value)[:10]


def test_a_short_repr_never_raises_and_reads_no_more_than_it_shows() -> None:
    class Counted(list[Any]):
        shown = 0

        def __repr__(self) -> str:
            Counted.shown += 1
            raise RecursionError

    assert short_repr([1 << 60_000, -(1 << 60_000)]) == "[<int of 60001 bits>, <int of 60001 bits>]"
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert short_repr(deep) == "[" * 80
    for _ in range(100_000):  # freed level by level, not on the stack
        deep = deep[0]
    ring: dict[str, Any] = {}
    ring["a"] = ring
    assert short_repr(ring).startswith("{'a': {'a': ")
    assert short_repr([Counted() for _ in range(1000)]) == ("[" + "<Counted>, " * 8)[:80]
    assert Counted.shown == 8


def test_a_short_repr_close_to_the_recursion_limit_is_a_part_of_it() -> None:
    def descend(value: Any) -> str:
        try:
            return descend(value)
        except RecursionError:
            return short_repr(value)

    assert "[[[[[1]]]]]".startswith(descend([[[[[1]]]]]).removesuffix("..."))
