"""Our edn reader and writer against edn_format, another library: where both take a text they
must agree on what it means. Texts are made from edn's grammar; where the two are known to
differ, the grammar here leaves it out, and says so.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import edn_format
import pytest
from edn_corpus import tree
from edn_format.edn_lex import MetadataValue
from edn_format.immutable_list import ImmutableList
from hypothesis import given, settings
from hypothesis import strategies as st

from chansock import edn
from chansock.errors import EdnDecodeError
from chansock.values import Char, Keyword, List, StrDict, Symbol, Tagged

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def their_tree(value: Any) -> Any:
    """Return what edn_format read in the form that `tree` gives."""
    kind = type(value)
    if kind is MetadataValue:
        return their_tree(value.value)
    if kind is Fraction and value.denominator == 1:
        return tree(value.numerator)  # they keep 4/2 a Fraction
    if kind is Decimal and not value:
        return tree(abs(value))  # -0M: Java's decimals have no such
    if kind is edn_format.Keyword:
        return tree(Keyword(value.name))
    if kind is edn_format.Symbol:
        return tree(Symbol(value.name))
    if kind is edn_format.Char:
        return tree(Char(str(value)))
    if kind is ImmutableList:
        return ("vec", tuple(map(their_tree, value)))
    if kind is tuple:
        return ("list", tuple(map(their_tree, value)))
    if kind is frozenset:
        return ("set", frozenset(map(their_tree, value)))
    if kind is edn_format.ImmutableDict:
        return ("map", frozenset((their_tree(k), their_tree(v)) for k, v in value.items()))
    if kind is datetime:
        return ("inst", (value - EPOCH) // timedelta(milliseconds=1))
    return tree(value)


# -- texts --

# No colon, no slash twice, no digit behind a slash: names that all readers take.
PARTS = st.from_regex(r"\A[a-zé*!_?$%&=<>][a-z0-9é*!_?$%&=<>.+#-]{0,6}\Z")
NAMES = st.one_of(PARTS, st.builds("{}/{}".format, PARTS, PARTS))
SIGNS = st.sampled_from(["", "-", "+"])
WHOLE = st.one_of(st.integers(0, 99).map(str), st.integers(0, 10**30).map(str))
# 15 digits at most: they multiply a decimal in a context of 28.
POINT = st.builds("{}.{}".format, st.integers(0, 10**7), st.from_regex(r"\A[0-9]{1,8}\Z"))
EXPONENTS = st.builds("{}{}".format, st.sampled_from(["e", "E", "e-", "E+"]), st.integers(0, 300))
NUMBERS = st.one_of(
    st.builds("{}{}{}".format, SIGNS, WHOLE, st.sampled_from(["", "N"])),
    st.builds("{}{}{}".format, SIGNS, POINT, st.one_of(st.just(""), EXPONENTS)),
    st.builds("{}{}M".format, SIGNS, st.one_of(WHOLE, POINT).filter(lambda text: len(text) < 25)),
    st.builds("{}{}{}".format, SIGNS, st.integers(0, 999), EXPONENTS),
    st.builds("{}/{}".format, st.integers(-(10**20), 10**20), st.integers(1, 10**9)),
    st.builds("0x{:x}".format, st.integers(0, 2**70)),
    st.sampled_from(["##Inf", "##-Inf", "##NaN", "-0", "+0", "-0.0", "0N", "0M"]),
)
# No \formfeed or \backspace, which they do not know.
CHARACTERS = st.one_of(
    st.sampled_from([r"\newline", r"\return", r"\space", r"\tab", r"\u00e9", r"\u0020"]),
    st.characters(min_codepoint=0x21, max_codepoint=0x7E).map("\\{}".format),
    st.sampled_from("éß名я").map("\\{}".format),
)
# No escape above U+FFFF: they leave its two halves apart.
ESCAPES = st.sampled_from([r"\n", r"\t", r"\r", r"\\", r"\"", r"\b", r"\f", r"\u00e9", r"\u2028"])
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\'), max_size=8)
STRINGS = st.lists(st.one_of(PLAIN, ESCAPES), max_size=4).map(lambda parts: f'"{"".join(parts)}"')
MOMENTS = st.builds(
    lambda moment, zone: f'#inst "{moment.isoformat(timespec="milliseconds")}{zone}"',
    st.datetimes(datetime(1600, 1, 1), datetime(9998, 1, 1)),
    st.sampled_from(["Z", "-00:00", "+05:30", "-08:00"]),
)
SCALARS = st.one_of(
    st.sampled_from(["nil", "true", "false"]),
    NUMBERS,
    CHARACTERS,
    STRINGS,
    NAMES,
    NAMES.map(":{}".format),
    MOMENTS,
    st.uuids().map('#uuid "{}"'.format),
)
GAPS = st.sampled_from([" ", ",", "\n", "\t", " , ", " ;c ]\n", " #_x ", " #_ [1 #_ 2] "])


@st.composite
def joined(draw: st.DrawFn, opening: str, members: Any, closing: str) -> str:
    text = opening
    for member in draw(st.lists(members, max_size=5)):
        text += draw(GAPS) + member
    return text + draw(st.sampled_from(["", " ", "\n", ";\n"])) + closing


def collections(inner: Any) -> Any:
    # Keys of a namespaced map are keywords: symbols they do not qualify.
    pairs = st.builds("{} {}".format, inner, inner)
    keyed = st.builds(":{} {}".format, NAMES, inner)
    return st.one_of(
        joined("[", inner, "]"),
        joined("(", inner, ")"),
        joined("#{", inner, "}"),
        joined("{", pairs, "}"),
        joined("{", keyed, "}"),
        joined("#:ns{", keyed, "}"),
        st.builds("^:{} [{}]".format, NAMES, inner),
    )


FORMS = st.recursive(SCALARS, collections, max_leaves=12)


def read(text: str) -> Any:
    """Return our tree of text, or None if it is refused."""
    try:
        return tree(edn.loads(text))
    except EdnDecodeError:
        return None


def their_read(text: str) -> Any:
    try:
        return their_tree(edn_format.loads(text))
    except Exception:
        return None


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(FORMS, min_size=1, max_size=8))
def test_a_text_that_both_take_means_the_same(forms: list[str]) -> None:
    # Several at once, since their parser is built anew for each text. We refuse a key that is
    # there twice, or that Python would merge; they do not.
    forms = [form for form in forms if read(form) is not None]
    text = "[" + "\n".join(forms) + "]"
    assert read(text) == their_read(text)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(FORMS)
def test_a_text_of_the_grammar_is_refused_for_its_keys_alone(form: str) -> None:
    try:
        edn.loads(form)
    except EdnDecodeError as error:
        if "expected distinct" not in error.message:
            raise


# -- values --

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False) | st.just(float("nan")),  # of which edn has but one
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        NAMES.map(Keyword),
        NAMES.filter(lambda name: name not in ("nil", "true", "false")).map(Symbol),
        st.decimals(allow_nan=False, allow_infinity=False, places=3).filter(
            lambda number: abs(number) < 10**20
        ),
        st.fractions(),
        st.datetimes(datetime(1600, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),
        st.uuids(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(List),
        st.dictionaries(NAMES, inner, max_size=5),
        st.dictionaries(st.text('ab \n"\\é', max_size=4), inner, max_size=5).map(StrDict),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=5))
def test_what_we_write_they_read_as_it_was_meant(values: list[Any]) -> None:
    text = edn.dumps(values).decode()
    assert their_tree(edn_format.loads(text)) == _as_read(values)


def _as_read(value: Any) -> Any:
    """Return the tree of a value as a reader has it: 2/1 is 2, and -0M is 0M."""
    if isinstance(value, list):
        return ("vec", tuple(map(_as_read, value)))
    if isinstance(value, List):
        return ("list", tuple(map(_as_read, value)))
    if isinstance(value, dict):
        is_text = isinstance(value, StrDict)
        return (
            "map",
            frozenset(
                (tree(key if is_text else Keyword(key)), _as_read(member))
                for key, member in value.items()
            ),
        )
    if isinstance(value, Fraction) and value.denominator == 1:
        return tree(value.numerator)
    if isinstance(value, Decimal) and not value:
        return tree(abs(value))
    return tree(value)


def test_they_read_the_types_that_tests_above_rely_on() -> None:
    uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    text = f'[1 1.5 2M 1/2 \\a "s" :k s (1) #{{1}} {{:a 1}} #uuid "{uuid}"]'
    assert their_read(text) == read(text) is not None
    assert UUID(uuid) in edn.loads(text)
    assert their_read("#unknown 1") is None
    assert edn.loads("#unknown 1") == Tagged("unknown", 1)
