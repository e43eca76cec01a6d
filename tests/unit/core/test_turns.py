"""What a node sends in a turn of the loop: envelopes for the engine, in order, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from manual_clock import ManualClock

from chansock import ALL, ClientTarget, Config, EncodeError
from chansock._core.cluster import MAX_UNSTORED, RETRY, Cluster
from chansock._core.delivery import Close
from chansock._core.engine import Item
from chansock._core.envelope import Envelope, new_turn
from chansock._fast.events.fanout import Fragment
from chansock._fast.io.timers import TimerQueue
from chansock.errors import BackplaneFull, InvalidEvent

KEYS = st.none() | st.integers() | st.text(max_size=5) | st.tuples(st.text(max_size=3))
SENDS = st.tuples(
    st.sampled_from(["*", "sada", "iémile"]),
    st.sampled_from(["", "c-7", "ü\ud800" * 100]),
    st.builds(Fragment, st.binary(max_size=300), KEYS, st.booleans()),
    st.booleans(),
)
Send = tuple[str, str, Fragment, bool]


def expected(sends: list[Send]) -> list[tuple[str, int, bool, bytes]]:
    """Return the items of these sends, with the bytes of `Envelope.encode`."""
    items = []
    for (key, only, is_kept), group in groupby(
        sends, lambda send: (send[0], send[1], bool(send[2].is_kept))
    ):
        some = list(group)
        events = tuple(fragment for _, _, fragment, _ in some)
        flush = any(send[3] for send in some)
        envelope = Envelope("edn", "", events, only, is_kept=is_kept, flush=flush)
        items.append((key, len(events), is_kept, envelope.encode()))
    return items


def shown(items: list[Item]) -> list[tuple[str, int, bool, bytes]]:
    return [(item.key, item.count, item.is_kept, item.envelope) for item in items]


@given(st.lists(st.lists(SENDS, max_size=12), max_size=3))
@example([[("*", "", Fragment(b"x" * 70_000), False), ("*", "", Fragment(b""), True)], []])
@example([[("*", "", Fragment(b"e"), False)] * 200])
def test_a_turn_has_the_envelopes_of_its_events(turns: list[list[Send]]) -> None:
    turn = new_turn("edn")
    for sends in turns:
        assert not turn and turn.nbytes == 0
        for key, only, fragment, flush in sends:
            turn.add(key, only, (fragment,), flush)
        assert bool(turn) == bool(sends)
        assert turn.nbytes == sum(fragment.nbytes for _, _, fragment, _ in sends)
        assert shown(turn.take()) == expected(sends)


class Engine:
    """An engine that stores nothing, and refuses while it is `full`."""

    def __init__(self) -> None:
        self.unstored_bytes = 0
        self.full: BackplaneFull | None = None
        self.batches: list[list[tuple[str, int, bool, bytes]]] = []

    def append(self, items: Sequence[Item]) -> int:
        if self.full is not None:
            raise self.full
        self.batches.append(shown(list(items)))
        return len(self.batches)


class Ground:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = Engine()
        engine: Any = self.engine
        timers = TimerQueue(self.clock)
        self.cluster = Cluster(engine, Config(), "edn", self.clock, timers)

    def send(self, to: Any, data: bytes, key: Any = None) -> None:
        self.cluster.append(to, (Fragment(data, key),))


def sent(key: str, *events: bytes) -> tuple[str, int, bool, bytes]:
    envelope = Envelope("edn", "", tuple(map(Fragment, events)))
    return key, len(events), True, envelope.encode()


def test_the_events_of_a_turn_are_one_batch_and_a_close_is_an_item_of_its_own() -> None:
    ground = Ground()
    ground.send("ada", b"1")
    ground.send("ada", b"2")
    ground.cluster.append("ada", (), close=Close(4401, "out"))
    ground.send("ada", b"3")
    ground.send(ALL, b"4")
    assert len(ground.clock.soons) == 1
    ground.clock.turn()
    close = Envelope("edn", "", is_kept=False, close=(4401, "out")).encode()
    assert ground.engine.batches == [
        [sent("sada", b"1", b"2"), ("sada", 1, False, close), sent("sada", b"3"), sent("*", b"4")]
    ]


def test_an_event_whose_key_cannot_be_written_is_refused_alone() -> None:
    ground = Ground()
    ground.send("ada", b"1")
    with pytest.raises(EncodeError):
        ground.send("ada", b"2", object())
    with pytest.raises(EncodeError):
        ground.send("bob", b"3", object())
    ground.send("ada", b"4")
    ground.clock.turn()
    assert ground.engine.batches == [[sent("sada", b"1", b"4")]]
    assert "sbob" not in ground.cluster.unreturned


def test_a_user_id_that_cannot_be_sent_is_refused_alone() -> None:
    ground = Ground()
    ground.send("ada", b"1")
    for to in ("\ud800", ClientTarget("\ud800", "c")):
        with pytest.raises(InvalidEvent, match="user id in UTF-8"):
            ground.send(to, b"2")
        with pytest.raises(InvalidEvent, match="user id in UTF-8"):
            ground.cluster.append(to, (), close=Close(4401, "out"))
    ground.clock.turn()
    assert ground.engine.batches == [[sent("sada", b"1")]]


def test_a_turn_that_the_engine_has_no_room_for_is_appended_later_and_first() -> None:
    ground = Ground()
    ground.send("ada", b"1")
    ground.engine.full = BackplaneFull(2, 1)
    ground.clock.turn()
    with pytest.raises(BackplaneFull):
        ground.send("ada", b"2")
    ground.cluster.returned(0)
    # Whoever is to come back after that event waits for it still.
    assert ground.cluster.holds(ClientTarget("ada", "c"), 1, lambda: None)
    ground.clock.advance(RETRY)
    assert ground.engine.batches == []
    ground.engine.full = None
    ground.clock.advance(RETRY)
    ground.send("ada", b"3")
    ground.clock.turn()
    assert ground.engine.batches == [[sent("sada", b"1")], [sent("sada", b"3")]]


def test_what_waits_in_a_turn_counts_for_the_limit() -> None:
    ground = Ground()
    ground.engine.unstored_bytes = MAX_UNSTORED - 1000
    ground.send("ada", b"x" * 1000)
    with pytest.raises(BackplaneFull):
        ground.send("ada", b"")
    ground.clock.turn()
    ground.send("ada", b"")
