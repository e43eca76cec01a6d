"""Decoded data made values of the type that a handler asks for, and the words when it is not."""

import datetime as dt
import sys
import tracemalloc
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import annotated_types
import msgspec
import pydantic
import pytest
import typing_extensions
from growth import calls_of
from hypothesis import given
from hypothesis import strategies as st

from chansock import BadData, FrozenDict, Keyword, List, StrDict, Tagged, edn
from chansock._core.conversion import converter

T = TypeVar("T")
RoomId = NewType("RoomId", int)
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
ID = uuid.UUID(int=7)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Say:
    text: str
    room: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    said: Say
    more: list[Say] = field(default_factory=list)
    by_name: dict[str, Say] = field(default_factory=dict)
    color: Color | None = None
    made: float = field(default=0.5, init=False)


@dataclass
class Tree:
    value: int
    children: "list[Tree]" = field(default_factory=list)


@dataclass
class Checked:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("expected n of at least 0")


class Options(TypedDict):
    name: str
    size: NotRequired[int]


class Loose(TypedDict, total=False):
    name: Required[str]
    size: int


class Extended(typing_extensions.TypedDict):
    name: str
    size: typing_extensions.NotRequired[int]


Aliased = typing_extensions.TypeAliasType("Aliased", int | Say)


class Struct(msgspec.Struct):
    text: str
    room: int = 0


class Join(msgspec.Struct, tag="join"):
    room: str


class Leave(msgspec.Struct, tag="leave", rename="kebab"):
    room_id: int


class Model(pydantic.BaseModel):
    text: str
    room: int = 0


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    age: int


@pydantic.dataclasses.dataclass
class Pydantic:
    n: int


class Pairs(pydantic.BaseModel):
    a: list[tuple[int, str]]


@dataclass
class Mixed:
    struct: Struct
    models: list[Model]


Name = Annotated[str, pydantic.Field(max_length=3)]
Choice = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


@dataclass
class Limited:
    name: Name
    sizes: list[Annotated[int, msgspec.Meta(gt=0)]]


class LimitedDict(TypedDict, total=False):
    name: Name


class Frozen(msgspec.Struct, frozen=True):
    n: int = 0


class FrozenModel(pydantic.BaseModel, frozen=True):
    n: int = 0


FROZEN, FROZEN_MODEL = Frozen(), FrozenModel()


@dataclass
class WithRecord:
    a: Frozen = FROZEN
    b: Annotated[FrozenModel, FROZEN] = FROZEN_MODEL
    c: Annotated[int, FROZEN, FrozenModel] = 0


FITS = [
    (str, "a", "a"),
    (str, Keyword("a"), Keyword("a")),
    (int, 5, 5),
    (float, 5, 5.0),
    (float, 1.5, 1.5),
    (bool, True, True),
    (None, None, None),
    (bytes, b"x", b"x"),
    (Keyword, Keyword("a"), Keyword("a")),
    (Fraction, Fraction(1, 2), Fraction(1, 2)),
    (Decimal, Decimal("1.5"), Decimal("1.5")),
    (Decimal, "1.5", Decimal("1.5")),
    (Decimal, 3, Decimal(3)),
    (uuid.UUID, ID, ID),
    (uuid.UUID, str(ID), ID),
    (dt.datetime, NOW, NOW),
    (dt.datetime, "2026-01-02T00:00:00Z", NOW),
    (RoomId, 5, 5),
    (Annotated[int, []], 5, 5),
    (int | None, None, None),
    (int | None, 5, 5),
    (
        Union[int, str, None],  # noqa: UP007
        "a",
        "a",
    ),
    (float | int, 5, 5.0),
    (int | float, 5, 5),
    (list, [1, "a"], [1, "a"]),
    (list[int], [1, 2], [1, 2]),
    (list[int], List((1, 2)), [1, 2]),
    (Sequence[int], (1, 2), [1, 2]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple, [1, 2], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], {1, 2}, {1, 2}),
    (set[int], [1, 1], {1}),
    (frozenset[str], {"a"}, frozenset("a")),
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, int], StrDict(a=1), {"a": 1}),
    (Mapping[str, float], FrozenDict(a=1), {"a": 1.0}),
    (dict[int, list[int]], {1: [2]}, {1: [2]}),
    (Color, "red", Color.RED),
    (Color, Keyword("blue"), Color.BLUE),
    (Level, 1, Level.LOW),
    (Word, Keyword("a"), Word.A),
    (Rights, 3, Rights.READ | Rights.WRITE),
    (Literal["red", 1], Keyword("red"), "red"),
    (Literal["red", 1], 1, 1),
    (Literal[Color.RED], "red", Color.RED),
    (Say, {"text": "a"}, Say("a")),
    (Say, {"text": Keyword("a"), "room": 2, "other": 3}, Say("a", 2)),
    (Say, StrDict(text="a"), Say("a")),
    (Say | None, {"text": "a"}, Say("a")),
    (Say | str, "a", "a"),
    (str | Say | list[Say], [{"text": "a"}], [Say("a")]),
    (
        Deep,
        {"said": {"text": "a"}, "more": [{"text": "b"}], "by_name": {"x": {"text": "c"}}},
        Deep(said=Say("a"), more=[Say("b")], by_name={"x": Say("c")}),
    ),
    (
        Deep,
        {"said": {"text": "a"}, "color": Keyword("red"), "made": 9},
        Deep(said=Say("a"), color=Color.RED),
    ),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (Checked, {"n": 0}, Checked(0)),
    (Aliased, {"text": "a"}, Say("a")),
    (Aliased | str | None, {"text": "a"}, Say("a")),
    (NewType("Other", Aliased) | Annotated[str, 5], "a", "a"),
    (Options, {"name": "a", "other": 1}, {"name": "a"}),
    (Options, {"name": "a", "size": 1}, {"name": "a", "size": 1}),
    (Loose, {"name": "a"}, {"name": "a"}),
    (Extended, {"name": "a", "size": 2}, {"name": "a", "size": 2}),
    (Struct, {"text": "a"}, Struct("a")),
    (Join | Leave, {"type": "leave", "room-id": 3}, Leave(3)),
    (Model, {"text": "a", "room": "7"}, Model(text="a", room=7)),
    (
        Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
        {"kind": Keyword("dog"), "age": 3},
        Dog(kind="dog", age=3),
    ),
    (Pydantic, {"n": 1}, Pydantic(1)),
    (
        Mixed,
        {"struct": {"text": "a"}, "models": [{"text": "b"}]},
        Mixed(Struct("a"), [Model(text="b")]),
    ),
    (list[Model] | None, [{"text": "b"}], [Model(text="b")]),
    (Annotated[str, pydantic.Field(max_length=3), "a name"], "abc", "abc"),
    (Annotated[int | None, pydantic.Field(gt=0)], None, None),
    (Annotated[float, annotated_types.Gt(0)], 1, 1.0),
    (Annotated[str, pydantic.StringConstraints(strip_whitespace=True)], " a ", "a"),
    (Annotated[Say, pydantic.Field(description="what is said")], {"text": "a"}, Say("a")),
    (Annotated[Struct, pydantic.AfterValidator(lambda s: s)], {"text": "a"}, Struct("a")),
    (Annotated[Any, pydantic.BeforeValidator(str)], 5, "5"),
    (Annotated[str, msgspec.Meta(max_length=3)], Keyword("a"), Keyword("a")),
    (Annotated[Sequence[Name], msgspec.Meta(max_length=1)], ["a"], ["a"]),
    (Name | int, 5, 5),
    (Choice | list[int] | None, {"kind": "dog", "age": 3}, Dog(kind="dog", age=3)),
    (Choice | list[int] | None, [1], [1]),
    (Limited, {"name": "abc", "sizes": [1]}, Limited("abc", [1])),
    (LimitedDict, {}, {}),
    (WithRecord, {}, WithRecord()),
]


@pytest.mark.parametrize(("kind", "value", "expected"), FITS)
def test_what_fits_is_converted_and_twice_is_the_same(kind, value, expected):
    convert = converter(kind)
    found = convert(value)
    assert (type(found), found) == (type(expected), expected)
    assert convert(found) == expected


@pytest.mark.parametrize("kind", [Any, object, T])
def test_any_data_needs_no_converter(kind):
    assert converter(kind) is None


BAD = [
    (str, 5, "expected str, got 5"),
    (str, None, "expected str, got nil"),
    (int, True, "expected int, got True"),
    (int, 1.0, "expected int, got 1.0"),
    (int, "1", "expected int, got '1'"),
    (float, False, "expected float, got False"),
    (float, 10**400, "expected float, got int"),
    (bool, 1, "expected bool, got 1"),
    (None, 0, "expected nil, got 0"),
    (Keyword, "a", "expected Keyword, got 'a'"),
    (uuid.UUID, "x", "expected UUID, got 'x'"),
    (dt.datetime, 5, "expected datetime, got 5"),
    (Decimal, "x", "expected Decimal, got 'x'"),
    (Decimal, True, "expected Decimal, got True"),
    (int, "x" * 500, f"expected int, got '{'x' * 79}"),
    (int, {"password": "secret"}, "expected int, got dict"),
    (int | None, "a", "expected int, got 'a'"),
    (int | str, [1], "expected int or str, got list"),
    (int | str | None, 1.5, "expected int or str or nil, got 1.5"),
    (str | list[int], ["a"], "expected int, got 'a' at [0]"),
    (None | list[int] | Say, {"text": 5}, "expected str, got 5 at ['text']"),
    (list[int], {1}, "expected a list, got set"),
    (list[int], [1, "a"], "expected int, got 'a' at [1]"),
    (list[list[int]], [[], [1, None]], "expected int, got nil at [1][1]"),
    (set[int], 5, "expected a set, got 5"),
    (tuple[int, str], [1], "expected a list of 2, got list"),
    (tuple[int, str], [1, 2], "expected str, got 2 at [1]"),
    (dict[str, int], [], "expected a map, got list"),
    (dict[str, int], {"a": "b"}, "expected int, got 'b' at ['a']"),
    (dict[int, int], {"a": 1}, "expected int, got 'a' at ['a']"),
    (dict[str, int], {(1, 2): 1}, "expected str, got tuple at [tuple]"),
    (Color, "green", "expected one of 'red', 'blue', got 'green'"),
    (Color, [1], "expected one of 'red', 'blue', got list"),
    (Level, True, "expected 1, got True"),
    (Rights, "x", "expected one of 1, 2, got 'x'"),
    (Literal[1, "a"], True, "expected one of 1, 'a', got True"),
    (Say, 5, "expected a map, got 5"),
    (Say, {}, "expected a value, got none at ['text']"),
    (Say, {"text": 5}, "expected str, got 5 at ['text']"),
    (Say | None, {"text": 5}, "expected str, got 5 at ['text']"),
    (Say | str, {"text": 5}, "expected str, got 5 at ['text']"),
    (
        Deep,
        {"said": {"text": "a"}, "more": [{"text": 1}]},
        "expected str, got 1 at ['more'][0]['text']",
    ),
    (Checked, {"n": -1}, "expected n of at least 0"),
    (Options, {"size": 1}, "expected a value, got none at ['name']"),
    (Loose, {}, "expected a value, got none at ['name']"),
    (Extended, {"name": 5}, "expected str, got 5 at ['name']"),
    (Struct, {"text": 5}, "expected `str`, got `int` at .text"),
    (Struct, {"\ud800": 1}, "expected text in UTF-8, got a lone surrogate"),
    (Struct, 5, "expected `object`, got `int`"),
    (list[Struct], [{"text": "a"}, {"room": 1}], "object missing required field `text` at [1]"),
    (Join | Leave, {"type": "other"}, "invalid value 'other' at .type"),
    (Model, {"text": 5}, "input should be a valid string at ['text']"),
    (
        Model,
        {"text": 5, "room": "x"},
        "input should be a valid string (and 1 more) at ['text']",
    ),
    (Mixed, {"struct": {"text": "a"}, "models": [{}]}, "field required at ['models'][0]['text']"),
    (Model, 5, "input should be a valid dictionary"),
    (Model | Dog, 5, "input should be a valid dictionary (and 1 more)"),
    (Model | Dog, {"text": 5}, "input should be a valid string (and 2 more) at ['text']"),
    (Cat | Dog, {"kind": "dog"}, "input should be 'cat' (and 1 more) at ['kind']"),
    (list[Dog | Pydantic], [{"n": "x"}], "field required (and 2 more) at [0]['kind']"),
    (Choice, {"kind": "dog"}, "field required at ['age']"),
    (Pairs, {"a": [[1]]}, "field required at ['a'][0][1]"),
    (Say | Color | None, 5, "expected a map or one of 'red', 'blue' or nil, got 5"),
    (Name, "abcd", "string should have at most 3 characters"),
    (Name, 5, "expected str, got 5"),
    (
        Name,
        "\ud800",
        "input should be a valid string, unable to parse raw data as a unicode string",
    ),
    (Name | int, "abcd", "expected str (max_length=3) or int, got 'abcd'"),
    (
        Annotated[int, annotated_types.Interval(ge=1, lt=9), msgspec.Meta(multiple_of=2)] | bool,
        3,
        "expected int (ge=1, lt=9, multiple_of=2) or bool, got 3",
    ),
    (
        Annotated[str, pydantic.StringConstraints(pattern=r"\Aa")] | int,
        "b",
        r"expected str (pattern='\\Aa') or int, got 'b'",
    ),
    (
        Annotated[str, annotated_types.Len(0, 2)] | Annotated[int, pydantic.AfterValidator(str)],
        "abc",
        "expected str (max_length=2) or int (constrained), got 'abc'",
    ),
    (NewType("Nick", Name) | None, "abcd", "string should have at most 3 characters"),
    (list[Annotated[int, pydantic.Field(gt=0)]], [1, -1], "input should be greater than 0 at [1]"),
    (dict[Name, int], {"abcd": 1}, "string should have at most 3 characters at ['abcd']"),
    (Annotated[int | None, pydantic.Field(gt=0)], 0, "input should be greater than 0"),
    (
        Annotated[list[Name], annotated_types.MaxLen(1)] | Name,
        ["a", "b"],
        "list should have at most 1 item after validation, not 2",
    ),
    (
        Annotated[Sequence[int], msgspec.Meta(max_length=1)],
        [1, 2],
        "expected `array` of length <= 1",
    ),
    (
        Annotated[int, msgspec.Meta(lt=9), pydantic.Field(gt=0)],
        9,
        "expected `int` <= 8",
    ),
    (Choice | list[int] | None, {"kind": "dog"}, "field required at ['age']"),
    (Choice | list[int], 5, "expected a map (discriminator='kind') or list, got 5"),
    (Limited, {"name": "abcd"}, "string should have at most 3 characters at ['name']"),
    (Limited, {"name": "a", "sizes": [0]}, "expected `int` >= 1 at ['sizes'][0]"),
    (LimitedDict, {"name": "abcd"}, "string should have at most 3 characters at ['name']"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), BAD)
def test_what_does_not_fit_is_named_with_its_place(kind, value, expected):
    with pytest.raises(BadData) as caught:
        converter(kind)(value)
    assert str(caught.value) == expected


class Pair(NamedTuple):
    a: int


@dataclass
class WithDefault:
    a: str = pydantic.Field(max_length=3)


@dataclass
class WithInit:
    a: InitVar[int]


@dataclass
class Page(Generic[T]):
    items: list[T]


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (complex, "complex"),
        (Pair, "Pair"),
        (WithInit, "no InitVar"),
        (WithDefault, "Annotated[str, Field(...)], not `= Field(...)`"),
        (Annotated[str, pydantic.Field(alias="b")], "an alias only in a pydantic model"),
        (Annotated[Say, msgspec.Meta(max_length=3)], "constraints that fit the type: Can only set"),
        (Annotated[int | None, msgspec.Meta(gt=0)], "constraints that fit the type: Can only set"),
        (Annotated[str, pydantic.Field(discriminator="kind")], "constraints that fit the type"),
        (Annotated[Say | Tree, pydantic.Field(discriminator="kind")], "at most one that is a map"),
        (Page[int], "Page"),
        (dt.date, "date"),
        (list[complex], "complex"),
        (Say | Tree, "at most one that is a map"),
        (Say | dict[str, int], "at most one that is a map"),
        (Say | Struct, "at most one that is a map"),
        (Aliased | Tree, "at most one that is a map"),
        (Annotated[Say, 5] | NewType("Other", Tree) | int, "at most one that is a map"),
        (list[int] | set[int], "at most one that is a map and one a list"),
        ("Say", "'Say'"),
        (5, "got 5"),
    ],
)
def test_a_type_that_data_cannot_be_is_refused_at_registration(kind, got):
    with pytest.raises(
        TypeError, match=r"expected a dataclass, TypedDict, msgspec\.Struct"
    ) as caught:
        converter(kind)
    assert got in str(caught.value)


def test_constraints_without_what_would_check_them_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(TypeError, match="constraints that fit the type: import of pydantic"):
        converter(Annotated[str, annotated_types.MaxLen(3)])


def test_a_validator_is_called_once_for_each_value():
    more = Annotated[int, pydantic.AfterValidator(lambda n: n + 1)]
    convert = converter(Annotated[list[more], annotated_types.MaxLen(2)] | more)
    assert convert([1, 1]) == [2, 2]
    assert convert(1) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement came with Python 3.12")
def test_a_type_statement_may_hold_itself():
    names: dict[str, Any] = {}
    exec("type Json = dict[str, Json] | list[Json] | str | int | None", names)
    convert = converter(names["Json"])
    assert convert({"a": [1, {"b": None}, "c"]}) == {"a": [1, {"b": None}, "c"]}
    with pytest.raises(BadData, match=r"got 1\.5 at \['a'\]\[0\]"):
        convert({"a": [1.5]})


def test_a_tree_is_taken_to_any_depth_that_the_stack_holds():
    tree = {"value": 1}
    for _ in range(90):
        tree = {"value": 1, "children": [tree]}
    found, depth = converter(Tree)(edn.loads(edn.dumps(tree))), 0
    while found.children:
        (found,) = found.children
        depth += 1
    assert depth == 90


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.just(10**400),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(
        ["red", "text", "name", "kind", "cat", "\ud800", "NaN", "1e999999999", "9" * 5000]
    ),
    st.sampled_from(
        [Keyword("red"), ID, NOW, Decimal("NaN"), Fraction(1, 3), b"x", Tagged("a/b", 1)]
    ),
)
KEYS = st.one_of(
    st.sampled_from(["text", "name", "said", "more", "type", "kind", "value", "children", "n"]),
    LEAVES.filter(lambda value: not isinstance(value, Tagged)),
    st.tuples(st.integers()),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=12,
)
KINDS = list({repr(kind): kind for kind, *_ in FITS}.values())


@given(st.sampled_from(KINDS), VALUES)
def test_whatever_comes_is_converted_or_refused_in_few_words(kind, value):
    convert, refusal = converter(kind), ""
    try:
        found = convert(value)
    except BadData as error:
        refusal = str(error)
    if refusal:
        assert len(refusal) < 400
    else:
        again = convert(found)
        assert again == found or repr(again) == repr(found)  # NaN is not equal to itself


def test_an_integer_too_long_to_be_shown_is_refused_all_the_same():
    for kind in (str, Say, Color, dt.datetime | None):
        with pytest.raises(BadData, match=r"got int$"):
            converter(kind)(10**5000)


MODULUS = 2**61 - 1  # numbers that differ by a multiple of it have one hash


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (set[int], lambda n: [MODULUS * i for i in range(n)]),
        (frozenset[Decimal], lambda n: [str(MODULUS * i) for i in range(n)]),
        (set[uuid.UUID], lambda n: [str(uuid.UUID(int=MODULUS * i)) for i in range(n)]),
        (set[uuid.UUID], lambda n: {str(uuid.UUID(int=MODULUS * i)) for i in range(n)}),
        (set, lambda n: [MODULUS * i for i in range(n)]),
        (dict[Decimal, Any], lambda n: {str(MODULUS * i): i for i in range(n)}),
        (Annotated[set[int], annotated_types.MinLen(1)], lambda n: [MODULUS * i for i in range(n)]),
        (dict[uuid.UUID, int], lambda n: {str(uuid.UUID(int=MODULUS * i)): i for i in range(n)}),
    ],
)
def test_many_keys_or_members_of_one_hash_are_refused(kind, made):
    convert = converter(kind)
    assert len(convert(made(32))) == 32
    with pytest.raises(BadData, match="expected keys or members that differ in their hashes"):
        convert(made(33))


def test_equal_members_and_those_of_many_hashes_are_no_crowd():
    assert converter(set[int])([MODULUS] * 100 + [*range(100)]) == {*range(100), MODULUS}
    assert len(converter(set[uuid.UUID])([str(uuid.UUID(int=i)) for i in range(1000)])) == 1000


def test_a_value_too_deep_to_be_shown_is_no_member_of_an_enum():
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadData, match="expected one of 'red', 'blue', got list"):
        converter(Color)(deep)


def test_a_value_with_parts_is_not_shown_to_find_a_member():
    class Shown(list[int]):
        def __repr__(self) -> str:
            raise AssertionError("expected no repr")

    class Pair(Enum):
        SMALL = (1, 2)

    class Bits(IntFlag):
        ONE = 1
        TWO = 2

    class Hooked(Enum):
        FIRST = 1

        @classmethod
        def _missing_(cls, value: object) -> Any:
            return cls.FIRST if value == [1] else None

    for value in (Shown(), (Shown(),), {"a": Shown()}, Tagged("a", Shown())):
        with pytest.raises(BadData, match="expected one of 'red', 'blue', got "):
            converter(Color)(value)
        with pytest.raises(BadData, match="expected one of 1, 2, got "):
            converter(Bits)(value)
    assert converter(Pair)((1, 2)) is Pair.SMALL
    assert converter(Hooked)([1]) is Hooked.FIRST


class Count(pydantic.BaseModel):
    n: int
    of: list[int] = []


@pytest.mark.parametrize("exponent", [4300, 2147483647])
def test_no_decimal_makes_an_integer_without_bound(exponent):
    convert = converter(Count)
    large = Decimal(f"1E+{exponent}")
    for data in ({"n": large}, {"n": 1, "of": [large]}):
        with pytest.raises(BadData, match=r"expected a Decimal below 1E\+4300, got Decimal"):
            convert(data)
    assert convert({"n": Decimal("1E+4299")}).n == 10**4299


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        (list[Decimal], [1, 2]),
        (list[Decimal | uuid.UUID | str], ["", "a"]),
        (list[int | str | None], [1, "", None]),
        (list[Literal["a", 1]], ["a", 1]),
        (set[float], [1, 2]),
        (frozenset[Color], ["red", "blue"]),
        (list[Decimal | None], [1, None]),
        (list[Decimal | str], edn.loads('[a :a "a"]')),
        (set[Decimal], [int("-24"), int("-128"), 3]),
    ],
)
def test_leaves_that_come_again_are_converted_once(kind, items):
    convert = converter(kind)
    many = [int(str(n)) if type(n) is int else n for n in items * 1000]  # not one object
    found, calls = calls_of(lambda: convert(many))
    one_by_one = [next(iter(convert([item]))) for item in items * 1000]
    assert list(map(repr, found)) == list(map(repr, type(found)(one_by_one)))
    assert calls < 50


def test_items_of_the_type_are_not_converted_one_by_one():
    for kind, items in ((int, [1, 2]), (str, ["a", "b"]), (int | None, [1, None])):
        convert, many = converter(list[kind]), items * 1000
        assert calls_of(lambda convert=convert, many=many: convert(many)) == (many, 2)
    convert, many = converter(set[frozenset[int]]), [[n % 2] for n in range(1000)]
    found, calls = calls_of(lambda: convert(many))
    assert found == {frozenset((0,)), frozenset((1,))}
    assert calls < 1100


@pytest.mark.parametrize(
    ("kind", "items", "got"),
    [
        (list[int], [1] * 40 + [True], "True"),
        (list[Literal[1]], [1] * 40 + [True, 1], "True"),
        (list[Decimal], [1, "2"] * 20 + [[], 1, []], "list"),
        (set[Decimal], [1, "2"] * 20 + ["x", "x"], "'x'"),
        (list[bool | str], ["a", True] * 20 + [1], "1"),
        (list[list[int]], [[1]] * 40 + [None], "nil"),
    ],
)
def test_the_first_item_that_does_not_fit_is_named(kind, items, got):
    with pytest.raises(BadData, match=rf"got {got} at \[40\]"):
        converter(kind)(items)


def test_many_faults_of_a_model_cost_no_object_for_each() -> None:
    class Numbers(pydantic.BaseModel):
        items: list[int]

    convert = converter(Numbers)
    assert convert is not None
    data = {"items": [None] * 3000}
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match=r"valid integer \(and 2999 more\) at \['items'\]\[0\]"):
            convert(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "kind",
    [
        int | str,
        float | bool | None | str,
        Decimal | uuid.UUID | str,
        Literal[1] | str,
        Annotated[str, annotated_types.MaxLen(0)] | str,
        Annotated[str, msgspec.Meta(max_length=0)] | str,
    ],
)
def test_a_union_makes_no_error_for_what_one_of_it_takes(kind):
    calls = []

    def note(frame, event, _):
        if event == "call":
            calls.append(frame.f_code.co_name)

    convert = converter(list[kind])
    sys.setprofile(note)
    try:
        found = convert(["n"] * 100)
    finally:
        sys.setprofile(None)
    assert found == ["n"] * 100
    assert "shown" not in calls
    assert len(calls) < 700


@pytest.mark.parametrize("text", ["1", "-1.5e3", " 1_0 ", "+Infinity", "-nan", "sNaN12", "\u0661"])
def test_all_that_decimal_parses_is_taken(text):
    assert str(converter(Decimal | str)(text)) == str(Decimal(text))
    assert isinstance(converter(Decimal)(text), Decimal)
