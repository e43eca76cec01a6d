"""What every backplane does, whichever its engine: the contract of `_core/backplane`.

A new engine gets a row in ENGINES. What is asserted here is all that the core relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock

from chansock import ALL, ANONYMOUS, Config
from chansock._core.backplane import Backplane, Position
from chansock._fast.events.dispatch import Inbox
from chansock._fast.events.fanout import Fragment
from chansock.backplanes import Memory
from chansock.target import ClientTarget, Target

ENGINES: Final[dict[str, Callable[[], Backplane]]] = {"memory": Memory}
ANNA, BEN = ClientTarget("anna", "a1"), ClientTarget("ben", "b1")
ANNAS_OTHER, NOBODY = ClientTarget("anna", "a2"), ClientTarget(None, "n1")


class Opened:
    """An engine that is open, with a clock turned by hand, and the sessions that there are."""

    def __init__(self, make: Callable[[], Backplane], **limits: Any) -> None:
        self.clock = ManualClock()
        self.sessions: set[ClientTarget] = set()
        self.engine = make()
        self.engine.open(self.clock, Config(**limits), self.has_session)  # type: ignore[arg-type]

    def has_session(self, to: Target) -> bool:
        if isinstance(to, ClientTarget):
            return to in self.sessions
        uid = None if to is ANONYMOUS else to
        return any(client.uid == uid for client in self.sessions)

    def enter(self, client: ClientTarget) -> Inbox | None:
        found = self.engine.claim(client)
        if found is None:
            self.engine.hold(client)
        self.sessions.add(client)
        return found

    def leave(self, client: ClientTarget) -> Inbox:
        inbox = Inbox()
        inbox.numbers = self.engine.numbers(0, 0)
        self.sessions.discard(client)
        self.engine.keep(client, inbox)
        return inbox

    def send(self, to: Target, *texts: str, **options: Any) -> None:
        fragments = tuple(Fragment(text.encode(), **options) for text in texts)
        self.engine.append(to, fragments)

    def read(self, client: ClientTarget, since: int, before: int = 0) -> list[str] | None:
        found = self.engine.read(client, since, before)
        return None if found is None else [fragment.data.decode() for fragment in found]

    @property
    def seq(self) -> int:
        return self.engine.newest


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest) -> Callable[..., Opened]:
    return lambda **limits: Opened(ENGINES[request.param], **limits)


Make = Callable[..., Opened]


def test_events_of_all_targets_have_one_order(make: Make) -> None:
    opened = make()
    for client in (ANNA, BEN, NOBODY):
        opened.enter(client)
    since = opened.seq
    opened.send("anna", "1")
    opened.send(ALL, "2")
    opened.send("ben", "3")
    opened.send(ANNA, "4")
    opened.send(ANNAS_OTHER, "5")
    opened.send(ANONYMOUS, "6")
    opened.send("anna", "7", "8")
    assert opened.read(ANNA, since) == ["1", "2", "4", "7", "8"]
    assert opened.read(BEN, since) == ["2", "3"]
    assert opened.read(NOBODY, since) == ["2", "6"]
    assert opened.seq == since + 8


def test_a_position_only_grows_and_counts_what_is_not_kept(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    since = opened.seq
    opened.send("anna", "1", is_kept=False)
    opened.send("nobody", "2")
    assert opened.seq == since + 2
    assert opened.read(ANNA, since) == []


def test_a_mark_makes_older_positions_of_all_before(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    since = opened.seq
    opened.engine.mark()
    assert opened.seq == since + 1
    assert opened.read(ANNA, since) == []


def test_since_and_before_are_not_included(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    since = opened.seq
    opened.send("anna", *"12345")
    assert opened.read(ANNA, since + 1, since + 4) == ["2", "3"]
    assert opened.read(ANNA, since + 5) == []
    assert opened.read(ANNA, since + 4, since + 5) == []


def test_a_position_from_the_future_is_not_whole(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    assert opened.read(ANNA, opened.seq + 1) is None


@pytest.mark.parametrize("target", ["anna", ALL, ANNA])
def test_past_keep_events_the_oldest_are_missing(make: Make, target: Target) -> None:
    opened = make(keep_events=3)
    opened.enter(ANNA)
    since = opened.seq
    opened.send(target, *"123")
    assert opened.read(ANNA, since) == ["1", "2", "3"]
    opened.send(target, "4")
    assert opened.read(ANNA, since) is None
    assert opened.read(ANNA, since + 1) == ["2", "3", "4"]
    assert opened.read(ANNA, since, since + 1) == []  # nothing can be missing in between


def test_past_keep_seconds_events_are_missing(make: Make) -> None:
    opened = make(keep_seconds=50.0)
    opened.enter(ANNA)
    since = opened.seq
    opened.send("anna", "1")
    opened.clock.advance(30)
    opened.send("anna", *(str(number) for number in range(2, 20)))
    assert opened.read(ANNA, since) is not None
    opened.clock.advance(25)
    assert opened.read(ANNA, since) is None
    assert opened.read(ANNA, since + 1) is not None
    opened.clock.advance(30)
    assert opened.read(ANNA, since + 18) is None
    assert opened.read(ANNA, since + 19) == []  # an old position, and nothing was sent since


def test_past_keep_bytes_those_that_wait_longest_are_missing(make: Make) -> None:
    opened = make(keep_bytes=100_000)
    for client in (ANNA, BEN):
        opened.enter(client)
    since = opened.seq
    opened.send("anna", "x" * 1000)
    for _ in range(200):
        opened.send("ben", "x" * 1000)
    assert opened.read(ANNA, since) is None
    newest = opened.read(BEN, opened.seq - 20)
    assert newest == ["x" * 1000] * 20


def test_a_log_holds_no_more_than_a_client_may_have_waiting(make: Make) -> None:
    opened = make(max_backlog_bytes=100_000, max_message_bytes=10_000)
    opened.enter(ANNA)
    since = opened.seq
    for _ in range(90):
        opened.send("anna", "x" * 2000)
    assert opened.read(ANNA, since) is None
    assert opened.read(ANNA, opened.seq - 30) == ["x" * 2000] * 30
    since = opened.seq
    for _ in range(30):
        opened.send("anna", "x" * 2000)
        opened.send(ALL, "x" * 2000)
    assert opened.read(ANNA, since) is None  # together they are more than that


def test_of_a_key_the_newest_is_read(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    since = opened.seq
    for text, key in (("1", "k"), ("2", None), ("3", "k"), ("4", "other")):
        opened.send("anna", text, key=key)
    assert opened.read(ANNA, since) == ["2", "3", "4"]
    assert opened.read(ANNA, since, since + 3) == ["1", "2"]


def test_a_record_is_found_once_within_keep_seconds(make: Make) -> None:
    opened = make(keep_seconds=50.0)
    assert opened.enter(ANNA) is None
    inbox = opened.leave(ANNA)
    since = opened.seq
    opened.clock.advance(40)
    opened.send("anna", "1")
    opened.send(ANNA, "2")
    assert opened.engine.find(ANNA) is inbox
    assert opened.enter(ANNA) is inbox
    assert opened.engine.find(ANNA) is None
    assert opened.read(ANNA, since) == ["1", "2"]
    assert opened.enter(ANNA) is None
    opened.leave(ANNA)
    opened.clock.advance(51)
    assert opened.enter(ANNA) is None


def test_what_is_kept_for_a_client_goes_with_its_record(make: Make) -> None:
    opened = make(keep_seconds=50.0)
    opened.enter(ANNA)
    opened.enter(ANNAS_OTHER)
    opened.send("anna", "1")
    opened.leave(ANNA)
    opened.leave(ANNAS_OTHER)
    opened.clock.advance(51)
    opened.enter(BEN)
    since = opened.seq
    opened.send("anna", "2")  # nobody may ask for it
    opened.enter(ANNA)
    assert opened.read(ANNA, since) == []


def test_a_client_that_does_not_resume_any_more_leaves_nothing(make: Make) -> None:
    opened = make()
    opened.enter(ANNA)
    since = opened.seq
    opened.send("anna", "1")
    opened.sessions.discard(ANNA)
    opened.engine.drop(ANNA)
    opened.send("anna", "2")
    opened.enter(ANNA)
    assert opened.read(ANNA, since) == []


@pytest.mark.parametrize("text", ["1-2", "0-0", "999999999999999-999999999999999"])
def test_a_position_is_read_as_it_was_written(text: str) -> None:
    assert str(Position.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "-", "1", "1-", "-1", "1-2-3", "1- 2", "+1-2", "1-٣", "1-" + "1" * 16]
)
def test_any_other_text_is_no_position(text: str) -> None:
    assert Position.parse(text) is None


SENDS = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben", ALL, ANNA, ANONYMOUS]),
        st.integers(1, 3),
        st.booleans(),
        st.sampled_from([None, "k", "l"]),
    ),
    max_size=60,
)


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None)
@given(
    sends=SENDS, keep_events=st.integers(1, 20), since=st.integers(0, 60), span=st.integers(0, 40)
)
def test_what_is_read_is_what_was_sent_or_nothing(
    engine: str, sends: list[Any], keep_events: int, since: int, span: int
) -> None:
    opened = Opened(ENGINES[engine], keep_events=keep_events)
    opened.enter(ANNA)
    base = opened.seq
    sent: list[tuple[int, Target, str, Any]] = []  # what is kept: number, target, text, key
    number = 0
    for to, count, is_kept, key in sends:
        for _ in range(count):
            number += 1
            opened.send(to, str(number), is_kept=is_kept, key=key)
            if is_kept:
                sent.append((number, to, str(number), key))
    before = since + span if span and since + span <= number else 0
    found = opened.read(ANNA, base + since, base + before if before else 0)
    if since > number:
        assert found is None
        return
    wanted, is_whole = [], True
    for target in ("anna", ALL, ANNA):
        log = [each for each in sent if each[1] == target]
        is_whole = is_whole and all(each[0] <= since for each in log[:-keep_events])
        newest: dict[Any, int] = {}
        span_of = [e for e in log if since < e[0] and (not before or e[0] < before)]
        newest = {each[3]: each[0] for each in span_of}
        wanted += [e for e in span_of if e[3] is None or newest[e[3]] == e[0]]
    if before == since + 1:
        assert found == []
    elif is_whole:
        assert found == [each[2] for each in sorted(wanted)]
    else:
        assert found is None
