"""Envelopes: what was put in comes out, and any other bytes are an EnvelopeError."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chansock._core.envelope import Envelope, EnvelopeError
from chansock._fast.events.fanout import Fragment

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PLAIN = st.integers(-(2**60), 2**60) | TEXTS.filter(bool) | st.booleans()
KEYS = st.none() | PLAIN | st.lists(PLAIN, max_size=3).map(tuple)
ENVELOPES = st.builds(
    Envelope,
    packer=st.just("edn"),
    origin=TEXTS,
    events=st.lists(st.builds(Fragment, st.binary(max_size=300), KEYS), max_size=5).map(tuple),
    only=TEXTS,
    skip=TEXTS,
    is_kept=st.booleans(),
    flush=st.booleans(),
    close=st.none() | st.tuples(st.integers(1000, 4999), TEXTS),
)
SAMPLE = Envelope("edn", "n1", (Fragment(b"[:t/e 1]", "k"), Fragment(b"[:t/e 2]")), skip="c-7")


def parts(envelope: Envelope) -> tuple[object, ...]:
    events = [(event.data, event.key, type(event.key)) for event in envelope.events]
    names = [field.name for field in fields(envelope) if field.name != "events"]
    return *(getattr(envelope, name) for name in names), events


@given(ENVELOPES)
def test_what_was_put_in_comes_out(envelope: Envelope) -> None:
    found = Envelope.decode(envelope.encode(), "edn")
    assert parts(found) == parts(envelope)
    assert all(event.is_kept == found.is_kept for event in found.events)


def test_an_event_takes_few_bytes_more_than_its_own() -> None:
    assert SAMPLE.encode() == (
        b"\x01\x01\x03edn\x02n1\x00\x03c-7\x02" + b'\x03"k"\x08[:t/e 1]' + b"\x00\x08[:t/e 2]"
    )


def test_a_part_of_an_envelope_is_none() -> None:
    whole = SAMPLE.encode()
    for size in range(len(whole)):
        with pytest.raises(EnvelopeError):
            Envelope.decode(whole[:size], "edn")
    with pytest.raises(EnvelopeError, match="1 bytes more"):
        Envelope.decode(whole + b"x", "edn")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x02\x01", "version 1, got 2"),
        (b"\x01\x08", "version"),
        (b"\x01\x01" + b"\xff" * 9 + b"\x01", "below"),
        (SAMPLE.encode().replace(b"\x03edn", b"\x04json"), "packer edn, got json"),
        (b"\x01\x01\xff\xff\xff\xff\xff\xff", "more bytes"),
        (b"\x01\x01\xff\xff\xff\xff\x7f", "got 0"),
        (b"\x01\x01\x03edn\x00\x00\x00\xff\xff\x7f", "at most"),
        (b"\x01\x01\x03edn\x01\xff\x00\x00\x00", "UTF-8"),
        (b"\x01\x01\x03edn\x00\x00\x00\x01\x02[1\x00", "key in edn"),
        (b"\x01\x01\x03edn\x00\x00\x00\x01\x02{}\x00", "key in edn"),
    ],
)
def test_other_bytes_are_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(EnvelopeError, match=why):
        Envelope.decode(data, "edn")


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda data: b"\x01\x01\x03edn" + data))
@example(b"")
def test_any_bytes_are_an_envelope_or_an_error(data: bytes) -> None:
    with suppress(EnvelopeError):
        envelope: Any = Envelope.decode(data, "edn")
        assert parts(Envelope.decode(envelope.encode(), "edn")) == parts(envelope)
