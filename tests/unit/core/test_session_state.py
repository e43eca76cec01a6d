"""The tables of a session's life: whole, reachable, and drawn in docs/sessions.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chansock._core.session_state import (
    POLLS,
    SESSION,
    SOCKET,
    Action,
    Do,
    ImpossibleTrigger,
    Life,
    On,
    Polls,
    Socket,
    State,
    Table,
    Trigger,
    following,
)

DOCS = Path(__file__).parents[3] / "docs" / "sessions.md"

TABLES = {"SOCKET": SOCKET, "POLLS": POLLS, "SESSION": SESSION}
STARTS = {"SOCKET": Socket.NONE, "POLLS": Polls.NONE, "SESSION": Life.AWAY}

OPEN = {Socket.CURRENT, Socket.DISPLACED, Socket.BEHIND, Socket.CUT}
OWN_OUTBOX = {Socket.DISPLACED, Socket.BEHIND}
HELD = {Polls.PARKED, Polls.CUT}  # a poll is parked
GRACE = {Polls.HANDSHAKEN, Polls.GRACE, Polls.ANSWERED}
KNOWN = {Life.CONNECTED, Life.AWAY, Life.GONE}

# Where a trigger is possible; it is impossible in all other states, for the reason given.
POSSIBLE: dict[str, dict[Trigger, set[State]]] = {
    "SOCKET": {
        On.OPENED: set(SOCKET) - {Socket.CURRENT},  # the hub displaces that one first
        On.DISPLACED: {Socket.CURRENT},  # only the newest connection makes way
        On.CLOSED: OPEN,
        On.GRACE_OVER: {Socket.GRACE},
        On.POLLS_OVER: set(SOCKET),
        On.OUTBOX_CUT: set(SOCKET),
        On.REPLIES_CUT: OWN_OUTBOX,
    },
    "POLLS": {
        On.HANDSHAKE: set(POLLS),
        On.CONFIRMED: {Polls.ANSWERED},
        On.PARKED: {Polls.HANDSHAKEN, Polls.GRACE, Polls.CUT},  # after CONFIRMED and DISPLACED
        On.DISPLACED: {Polls.PARKED},
        On.ANSWERED: {Polls.PARKED},
        On.CLOSED: HELD,
        On.GRACE_OVER: GRACE,
        On.OUTBOX_CUT: set(POLLS),
    },
    "SESSION": {
        On.RETURNED: {Life.GONE},
        On.CAME: {Life.CONNECTED, Life.AWAY},  # after RETURNED
        On.LEFT: {Life.CONNECTED},
        On.OVER: {Life.AWAY},
        On.ENDED: {Life.AWAY},
        On.EMPTIED: KNOWN,
    },
}


@pytest.mark.parametrize("name", TABLES)
def test_each_trigger_of_each_state_is_in_the_table_or_declared_impossible(name: str) -> None:
    got = {trigger: set() for trigger in POSSIBLE[name]}
    for state, row in TABLES[name].items():
        for trigger in row:
            got[trigger].add(state)
    assert got == POSSIBLE[name]


def test_each_trigger_and_each_action_is_in_a_table() -> None:
    steps = [item for table in TABLES.values() for row in table.values() for item in row.items()]
    triggers = {value for value in vars(On).values() if isinstance(value, Trigger)}
    actions = {value for value in vars(Do).values() if isinstance(value, Action)}
    assert {trigger for trigger, _ in steps} == triggers
    assert {action for _, (_, found) in steps for action in found} == actions


@pytest.mark.parametrize("name", TABLES)
def test_every_state_is_reached(name: str) -> None:
    seen, found = set[State](), [STARTS[name]]
    while found:
        state = found.pop()
        if state not in seen:
            seen.add(state)
            found += [then for then, _ in TABLES[name][state].values()]
    assert seen == set(TABLES[name])


def test_an_impossible_trigger_names_the_state_and_what_is_possible() -> None:
    with pytest.raises(ImpossibleTrigger) as raised:
        following(SOCKET, Socket.GRACE, On.CLOSED)
    assert (raised.value.state, raised.value.trigger) == (Socket.GRACE, On.CLOSED)
    assert str(raised.value) == (
        "expected one of [OPENED, OUTBOX_CUT, POLLS_OVER, GRACE_OVER] in state GRACE, got CLOSED"
    )


# -- the three tables together


@dataclass(frozen=True)
class All:
    """The states of one session, as the hub moves them."""

    socket: State = Socket.NONE
    polls: State = Polls.NONE
    life: State = Life.AWAY
    has_gap: bool = False
    has_displaced: bool = False

    def on_socket(self, trigger: Trigger) -> All:
        return replace(self, socket=following(SOCKET, self.socket, trigger))

    def on_polls(self, trigger: Trigger) -> All:
        return replace(self, polls=following(POLLS, self.polls, trigger))

    def on_session(self, trigger: Trigger) -> All:
        return replace(self, life=following(SESSION, self.life, trigger))

    def returned(self) -> All:
        return self.on_session(On.RETURNED) if self.life is Life.GONE else self

    def displaced(self) -> All:
        if self.socket is Socket.CURRENT:
            return replace(self.on_socket(On.DISPLACED), has_displaced=True)
        if self.polls is Polls.PARKED:
            return replace(self.on_polls(On.DISPLACED), has_displaced=True)
        return self

    def left(self) -> All:
        is_open = self.socket in OPEN or self.polls in HELD
        return self if is_open else self.on_session(On.LEFT)

    def ended(self) -> All:
        if self.socket is not Socket.NONE or self.polls is not Polls.NONE:
            return self
        return self.on_session(On.OVER if self.has_displaced else On.ENDED)

    def cut(self) -> All:
        return replace(self.on_socket(On.OUTBOX_CUT).on_polls(On.OUTBOX_CUT), has_gap=True)


def moves(now: All) -> Iterator[All]:
    """Each thing that can happen next, as the hub makes triggers of it."""
    if now.life is Life.FORGOTTEN:
        return
    came = now.returned().on_session(On.CAME)
    yield came.displaced().on_socket(On.OPENED)
    yield replace(now.returned().on_polls(On.HANDSHAKE), has_gap=False)
    if now.polls is not Polls.NONE and not now.has_gap:
        is_answered = now.polls is Polls.ANSWERED
        polled = (came.on_polls(On.CONFIRMED) if is_answered else came).displaced()
        yield polled.on_polls(On.PARKED)
        if now.socket is Socket.CURRENT:
            yield polled.cut()  # by what the displaced socket did not take: no poll is parked
    if now.socket in OPEN:
        yield now.on_socket(On.CLOSED).left()
    if now.polls in HELD:
        yield now.on_polls(On.CLOSED).left()
    if now.polls is Polls.PARKED:
        yield now.on_polls(On.ANSWERED).left()
    if now.socket is Socket.GRACE:
        yield now.on_socket(On.GRACE_OVER).ended()
    if now.polls in GRACE:
        yield now.on_polls(On.GRACE_OVER).ended().on_socket(On.POLLS_OVER)
    if now.life is not Life.GONE:
        yield now.cut()
    if now.socket in OWN_OUTBOX:
        yield now.on_socket(On.REPLIES_CUT)
    if now.has_displaced:
        yield replace(now, has_displaced=False).on_session(On.EMPTIED)


def reached() -> set[All]:
    """All states of sessions that have had a connection or a handshake."""
    seen, found = set[All](), list(moves(All()))[:2]  # a socket, or a handshake
    while found:
        now = found.pop()
        if now not in seen:
            seen.add(now)
            found += moves(now)
    return seen


def test_no_trigger_is_impossible_where_the_hub_pulls_it() -> None:
    assert len({(now.socket, now.polls) for now in reached()}) == 32


INVARIANTS: dict[str, Callable[[All], bool]] = {
    "pushes have one way at most": lambda now: (
        not (now.socket is Socket.CURRENT and now.polls is Polls.PARKED)
    ),
    "a session is connected while a socket is open or a poll is parked": lambda now: (
        (now.life is Life.CONNECTED) == (now.socket in OPEN or now.polls in HELD)
    ),
    "a session is gone when nobody may return": lambda now: (
        (now.life in {Life.GONE, Life.FORGOTTEN})
        == (now.socket is Socket.NONE and now.polls is Polls.NONE)
    ),
    "no poll is parked behind a gap": lambda now: not (now.polls is Polls.PARKED and now.has_gap),
    "a session without displaced connections is not kept": lambda now: (
        now.life is not Life.GONE or now.has_displaced
    ),
}


@pytest.mark.parametrize("what", INVARIANTS)
def test_of_all_states_that_a_session_reaches(what: str) -> None:
    assert [now for now in reached() if not INVARIANTS[what](now)] == []


# -- the picture


def drawn(table: Table) -> set[str]:
    """The lines of a diagram: every step but those that change nothing and do nothing."""
    return {
        f"{state} --> {then}: {trigger}"
        + (" / " + ", ".join(map(repr, actions)) if actions else "")
        for state, row in table.items()
        for trigger, (then, actions) in row.items()
        if then is not state or actions
    }


def test_the_diagrams_show_the_tables() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        diagram = re.search(
            rf"## {name}\b.*?```mermaid\nstateDiagram-v2\n(.*?)```", text, re.DOTALL
        )
        assert diagram is not None
        lines = [line.strip() for line in diagram[1].splitlines() if "-->" in line]
        assert [line for line in lines if line.startswith("[*]")] == [f"[*] --> {STARTS[name]}"]
        assert {line for line in lines if not line.startswith("[*]")} == drawn(table)
