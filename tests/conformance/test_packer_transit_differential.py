"""The transit packer against transit-python, where that is installed (ci/lib.sh does it)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import packed_values as pv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from same import tree

from chansock.packers import Transit
from chansock.values import Keyword, StrDict, Symbol

pytest.importorskip("transit", reason="transit-python2 is not installed")

from transit import transit_types as theirs
from transit.reader import Reader
from transit.writer import Writer


def has_units(text: str) -> bool:
    """Return whether transit-python and the JVM agree on a text's length: it counts characters."""
    return max(text, default="") < "\U00010000"


COMMON_SCALARS = (
    pv.PLAIN
    | pv.NAMES.map(Keyword)
    | pv.NAMES.map(Symbol)
    | st.uuids()
    | pv.DECIMALS
    | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda at: at.replace(microsecond=0)
    )
)
COMMON = st.recursive(
    COMMON_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.sets(st.integers() | pv.NAMES.map(Keyword), max_size=4)
        | st.dictionaries(pv.NAMES, inner, max_size=4)
        | st.dictionaries(pv.TEXTS.filter(has_units), inner, max_size=4).map(StrDict)
        | st.dictionaries(st.tuples(st.integers()), inner, min_size=1, max_size=3)
    ),
    max_leaves=20,
)


def to_theirs(value: Any, is_text: bool = False) -> Any:
    kind = type(value)
    if kind is Keyword or (kind is str and is_text):
        return theirs.Keyword(str(value))
    if kind is Symbol:
        return theirs.Symbol(str(value))
    if kind is list or kind is tuple:
        return kind(map(to_theirs, value))
    if kind is set:
        return frozenset(map(to_theirs, value))
    if isinstance(value, dict):
        are_names = kind is dict
        return {to_theirs(key, are_names): to_theirs(item) for key, item in value.items()}
    return value


def from_theirs(value: Any) -> Any:
    if isinstance(value, theirs.Boolean):
        return bool(value)
    if isinstance(value, theirs.Keyword):
        return Keyword(value.str)
    if isinstance(value, theirs.Symbol):
        return Symbol(value.str)
    if isinstance(value, tuple):
        return tuple(map(from_theirs, value))
    if isinstance(value, frozenset):
        return frozenset(map(from_theirs, value))
    if isinstance(value, theirs.frozendict):
        return StrDict({from_theirs(key): from_theirs(item) for key, item in value.items()})
    return value


@pytest.mark.slow
@pytest.mark.parametrize("packer", [Transit(), Transit(verbose=True)], ids=["json", "verbose"])
@given(value=COMMON)
def test_transit_python_reads_what_is_written(packer: Transit, value: Any) -> None:
    text = packer.packet([value], "cb").decode()
    found = from_theirs(Reader("json").read(StringIO(text)))
    assert tree(found) == tree([[value], "cb"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "json_verbose"])
@given(value=COMMON)
def test_what_transit_python_writes_is_read(form: str, value: Any) -> None:
    out = StringIO()
    Writer(out, form).write(to_theirs([[value], "cb"]))
    found = Transit().unpack(memoryview(out.getvalue().encode()))
    assert tree(list(found)) == tree([[value], "cb"])
    if form == "json" and "~#set" not in out.getvalue():  # the order in a set is arbitrary
        # the integers of 64 bits that are furthest from 0 are big ones to transit-python
        theirs_, ours = out.getvalue(), Transit().packet([value], "cb").decode()
        assert in_arrays(json.loads(theirs_.replace("~n", "~i"))) == json.loads(
            ours.replace("~n", "~i")
        )


def in_arrays(tree: Any) -> Any:
    """Turn a tag around a value into an array, where transit-python makes an object of it."""
    if isinstance(tree, dict):
        ((tag, rep),) = tree.items()
        return [tag, in_arrays(rep)]
    return [in_arrays(node) for node in tree] if isinstance(tree, list) else tree
