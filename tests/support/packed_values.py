"""Values for the packers by Hypothesis: those that edn has, and parts of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

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

NAMES = st.sampled_from(
    ["a", "ab", "abc", "abcd", "user/id", "chat/said", "é", "名前名前", "x*!?<>="]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["~", "^", "`", "^ ", "^0", "~:a", "~#set", "~~", "abcd", "😀😀", "é\x00\n"]
)
NUMBERS = (
    st.booleans()
    | st.integers(-300, 300)
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), 2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
    | st.floats(allow_nan=False)
)
MOMENTS = st.datetimes(
    datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC)
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3)
PLAIN = st.none() | NUMBERS | TEXTS
SCALARS = (
    PLAIN
    | NAMES.map(Keyword)
    | NAMES.map(Symbol)
    | st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]).map(Char)
    | MOMENTS
    | DECIMALS
    | st.fractions().filter(lambda value: value.denominator > 1)
    | st.uuids()
)


def _has_no_zero(value: Any) -> bool:
    # -0.0 and 0.0 are one key in Python, and only the first of them is kept
    return not isinstance(value, Decimal | float) or value != 0


HASHED = st.recursive(
    SCALARS.filter(_has_no_zero),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(List)
        | st.frozensets(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3).map(FrozenDict)
        | st.dictionaries(TEXTS, inner, max_size=3).map(FrozenStrDict)
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(List)
        | st.sets(HASHED, max_size=4)
        | st.dictionaries(NAMES, inner, max_size=4)
        | st.dictionaries(TEXTS | NAMES.map(Keyword), inner, max_size=4).map(StrDict)
        | st.dictionaries(HASHED.filter(lambda key: type(key) is not str), inner, max_size=3)
        | st.dictionaries(HASHED, inner, max_size=3).map(StrDict)
    ),
    max_leaves=20,
)
TAGGED = st.builds(Tagged, st.sampled_from(["X", "my/tag", "point"]), VALUES)
