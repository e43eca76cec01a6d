"""MessagePack against another library, msgpack, on the values that both have."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chansock.packers import EDN, MessagePack
from chansock.values import Keyword, StrDict

pytestmark = pytest.mark.slow

PACKER = MessagePack(keys="string")
# how long Hypothesis takes to draw is the machine's affair
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(TEXT, inner, max_size=8),
    max_leaves=25,
)


def theirs(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False, timestamp=3)


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)


@CALM
@given(VALUES)
def test_they_read_what_we_write(value: Any) -> None:
    assert same(theirs(PACKER.fragment(("a", [value]))[4:]), [value])


@CALM
@given(VALUES, st.booleans())
def test_we_read_what_they_write(value: Any, is_single: bool) -> None:
    found, cb_id = PACKER.unpack(msgpack.packb([value, "id"], use_single_float=False))
    assert cb_id == "id"
    assert same(found, value)
    if is_single and isinstance(value, float) and math.isfinite(value) and abs(value) < 1e38:
        single = msgpack.packb([value], use_single_float=True)
        assert PACKER.unpack(single)[0] == theirs(single)[0]


@CALM
@given(VALUES)
def test_without_references_both_write_the_same_bytes_but_for_wide_integers(value: Any) -> None:
    # they write 2^32 to 2^63 - 1 as uint64, Sente as int64
    def narrow(part: Any) -> Any:
        if isinstance(part, list):
            return [narrow(item) for item in part]
        if isinstance(part, dict):
            return {key: narrow(item) for key, item in part.items()}
        is_wide = isinstance(part, int) and 2**32 <= part < 2**63
        return part % 2**32 if is_wide else part

    value = [narrow(value)]
    assert PACKER.fragment(("a", value))[4:] == msgpack.packb(value)


@CALM
@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_are_theirs(moment: datetime) -> None:
    assert theirs(PACKER.packet(moment, None)) == [moment, None]
    assert PACKER.unpack(msgpack.packb([moment], datetime=True)) == (moment, None)


@CALM
@given(VALUES)
def test_references_change_nothing_that_is_read(value: Any) -> None:
    value = [value, value]
    assert same(PACKER.unpack(PACKER.packet(value, None))[0], value)
    keyed = MessagePack()
    texts = StrDict({"k": value}) if isinstance(value, dict) else [value]
    found = keyed.unpack(keyed.packet(strings(texts), None))[0]
    assert same(found, strings(texts))


def strings(value: Any) -> Any:
    """The same with maps whose plain str keys are strings."""
    if isinstance(value, dict):
        kept = {key: strings(item) for key, item in value.items()}
        return StrDict(kept) if kept else kept
    return [strings(item) for item in value] if isinstance(value, list) else value


NAMES = st.from_regex(r"[a-z]{1,20}(/[a-z]{1,20})?", fullmatch=True)
EDN_VALUES = st.recursive(
    SCALARS.filter(lambda value: not isinstance(value, bytes | float)) | st.builds(Keyword, NAMES),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@CALM
@given(EDN_VALUES)
def test_both_packers_carry_the_same_values(value: Any) -> None:
    packer, other = MessagePack(), EDN()
    found = packer.unpack(packer.packet(value, None))
    assert same(found, other.unpack(other.packet(value, None)))
    assert same(found[0], value)


@CALM
@given(VALUES, st.data())
def test_where_a_packet_lies_in_memory_is_all_one(value: Any, data: st.DataObject) -> None:
    packet = PACKER.packet(value, None)
    before = data.draw(st.binary(max_size=8))
    whole = memoryview(before + packet + bytes(data.draw(st.integers(0, 40))))[len(before) :]
    assert same(PACKER.unpack(whole), PACKER.unpack(packet))
