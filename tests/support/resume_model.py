"""What a channel owes clients that resume, in plain lists: the model of test_resume_model.py.

It knows what was sent, to whom, in what order, and when; what each client was told; and what
handlers did. Each `note` of the test comes just before the channel does it. Each `Tab` looks at
what arrives, and complains at once. Nothing of chansock is in it but its targets, and the
client whose state it looks at.

The counter of an engine numbers the events of `send`, so event k of the model is seq k of a
position, as long as nothing else sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chansock import ALL, ANONYMOUS, Config
from chansock.target import ClientTarget
from chansock.testing import PendingReply
from chansock.testing.resume import Resumption

AROUND = 160  # bytes that count besides an event's own, at most
RECORD = 1024  # bytes of a record
SLACK = 0.5  # seconds


@dataclass(slots=True, eq=False)
class Event:
    """One event of the server. Its number is its place in Model.events, from 1."""

    number: int
    to: Any
    size: int
    is_kept: bool
    key: str | None
    at: float


@dataclass(slots=True, eq=False)
class Ask:
    """One event of a client, and what became of it."""

    number: int
    kind: str
    argument: int
    at: float
    reply: PendingReply | None = None
    begun: int = 0
    marked: int = 0  # of these, as redelivered
    is_finished: bool = False
    answer: list[Any] = field(default_factory=list)  # what the handler replied, if it did
    pushed: int = 0  # the event that its handler sent to the client


@dataclass(slots=True)
class Visit:
    """One handshake, as the server saw it."""

    position: str
    events: int  # that were sent before
    may_gap: str  # why a gap may be told; "": it may not


class Tab(Resumption):
    """One client, and what it is owed."""

    def __init__(self, model: Model, index: int, uid: Any, client_id: str) -> None:
        super().__init__()
        self.model, self.index, self.uid, self.client_id = model, index, uid, client_id
        self.kind = "ws"
        self.client: Any = None  # the present one
        self.owed: list[Event] = []  # what was sent to it
        self.base = 0  # events up to here are not owed any more
        self.checked = 0  # events up to here have been received, or are not owed
        self.received: list[int] = []
        self.visit: Visit | None = None  # of the handshake that is read now
        self.asks: list[Ask] = []
        self.began = 0  # the newest event that a handler began
        self.may_repeat: set[int] = set()  # its record was lost: these may be handled again
        self.was_forgotten = False  # its record was lost, and with it the replies
        self.has_double = False  # another client has had its client-id
        self.needs_name = False  # and it knows
        self.is_mute = False  # sends no events: that would be those of another client
        self.may_have_gap = ""  # why a gap may have been told, in an answer that was not read

    def __repr__(self) -> str:
        return f"Tab({self.index} {self.uid}/{self.client_id} {self.kind} pos={self.position})"

    @property
    def seq(self) -> int:
        return int(self.position.partition("-")[2] or 0)

    # -- what arrives

    def came_back(self, told: Mapping[Any, Any] | None) -> list[tuple[int, bytes]]:
        visit = self.visit
        assert told is not None and visit is not None, "expected the server to resume"
        values = {str(key): value for key, value in told.items()}
        was, handled = values["was"], values["handled"]
        seq = int(values["pos"].partition("-")[2])
        same("fresh", was == "fresh", visit.position == "0")
        assert seq <= self.model.count
        if was == "gap":
            assert visit.may_gap, f"expected no gap of {self!r} at {visit}"
        self.may_have_gap = ""
        if was == "resumed":
            same(f"position of {self!r}", values["pos"], visit.position)
        else:
            assert seq >= (self.received[-1] if self.received else 0), (
                f"{self!r} goes back to {seq}"
            )
            self.base = max(self.base, seq)
            self.checked = max(self.checked, seq)
        if handled > self.sent:
            assert self.has_double, f"expected at most {self.sent} of {self!r}, got {handled}"
            self.needs_name = True
        assert handled >= self.acked or self.has_double
        return super().came_back(told)

    def take(self, batch: list[list[Any]]) -> list[list[Any]]:
        if self.needs_name:
            return []  # a client ends such a connection at its handshake, and reads no further
        newest = 0
        for event in batch:
            if event[0] == "chsk/pos":
                self.has_all(int(event[1].partition("-")[2]))
            elif event[0] == "t/e":
                newest = event[1][0]
                self.receive(newest)
        others = super().take(batch)
        assert self.seq >= newest, f"expected a position of {newest} or more, got {self!r}"
        return others

    def receive(self, number: int) -> None:
        newest = self.received[-1] if self.received else 0
        event = self.model.events[number - 1]
        assert event in self.owed, f"{self!r} got {event}"
        assert number > newest, f"{self!r} got {number} after {newest}"
        self.has_all(number - 1)
        self.received.append(number)
        self.checked = max(self.checked, number)

    def has_all(self, number: int) -> None:
        """All events up to this one have come, or none of them is owed."""
        assert number <= self.model.count, f"{self!r} is told of event {number}"
        missing = [
            event
            for event in self.owed
            if self.checked < event.number <= number and event.is_kept and not self.is_late(event)
        ]
        assert not missing, f"{self!r} misses {missing}"
        self.checked = max(self.checked, number)

    def is_late(self, event: Event) -> bool:
        """Return whether a newer event of the same key was sent to it."""
        return event.key is not None and any(
            each.key == event.key and each.number > event.number for each in self.owed
        )

    def acknowledge(self, number: int) -> None:
        for ask in self.asks[: 0 if self.has_double else number]:
            assert ask.is_finished, f"{self!r}: {number} acknowledged, got {ask}"
        assert number <= self.sent, f"{self!r}: {number} acknowledged of {self.sent}"
        super().acknowledge(number)

    def arrived(self, reply: PendingReply) -> None:
        for number, pending in self.replies.items():
            if pending is reply and self.kind == "ws":
                self.keeps_place(number)
        super().arrived(reply)

    def arrive(self, number: int, value: Any) -> None:
        if number in self.replies:
            self.keeps_place(number)
        super().arrive(number, value)

    def keeps_place(self, number: int) -> None:
        """A reply does not overtake what its handler has sent."""
        pushed = self.asks[number - 1].pushed
        if pushed:
            self.has_all(pushed)

    # -- what it may hope for

    def ask(self, kind: str, argument: int) -> Ask:
        ask = Ask(self.numbered + 1, kind, argument, self.model.now())
        self.asks.append(ask)
        return ask

    @property
    def has_arrived(self) -> bool:
        """Whether everything that it is owed is here."""
        self.has_all(self.model.count)
        return True


class Model:
    """All that was sent, and all tabs."""

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self.config, self.now = config, now
        self.events: list[Event] = []
        self.tabs: list[Tab] = []
        self.known: dict[tuple[Any, str], float] = {}  # client -> when it was here last

    @property
    def count(self) -> int:
        return len(self.events)

    def tab(self, uid: Any, client_id: str) -> Tab:
        tab = Tab(self, len(self.tabs), uid, client_id)
        self.tabs.append(tab)
        return tab

    def send(self, to: Any, size: int, is_kept: bool, key: str | None) -> int:
        """Note an event; return its number."""
        event = Event(self.count + 1, to, size, is_kept, key, self.now())
        self.events.append(event)
        for tab in self.tabs:
            if any(to is each or to == each for each in self.targets(tab.uid, tab.client_id)):
                tab.owed.append(event)
        return event.number

    @staticmethod
    def targets(uid: Any, client_id: str) -> tuple[Any, ...]:
        return ALL, ANONYMOUS if uid is None else uid, ClientTarget(uid, client_id)

    def is_here(self, tab: Tab) -> None:
        self.known[tab.uid, tab.client_id] = self.now()

    def visited(self, tab: Tab, position: str) -> Visit:
        """A handshake is about to be answered."""
        client = tab.uid, tab.client_id
        since = int(position.partition("-")[2] or 0)
        visit = Visit(position, self.count, tab.may_have_gap or self.may_gap(tab, since))
        if self.may_forget(client):
            for each in self.same_client(tab):
                each.was_forgotten = each.was_forgotten or each.sent > 0
                each.may_repeat |= set(range(each.acked + 1, each.sent + 1))
        self.known[client] = self.now()
        tab.may_have_gap = visit.may_gap
        return visit

    def same_client(self, tab: Tab) -> list[Tab]:
        client = tab.uid, tab.client_id
        return [each for each in self.tabs if (each.uid, each.client_id) == client]

    def begin(self, tab: Tab, number: int, is_redelivered: bool, is_parallel: bool) -> Ask:
        """A handler begins an event of a client."""
        ask = tab.asks[number - 1]
        ask.begun += 1
        ask.marked += is_redelivered
        if is_redelivered:
            is_right = number in tab.may_repeat or tab.has_double
            assert is_right, f"{tab!r}: {ask} is marked as redelivered"
        elif ask.begun - ask.marked > 1:
            assert tab.has_double and tab.was_forgotten, f"{tab!r}: {ask} is handled again"
        if not (is_parallel or tab.may_repeat or tab.has_double):
            assert number > tab.began, f"{tab!r}: {ask} is handled after {tab.began}"
            tab.began = number
        return ask

    def may_forget(self, client: tuple[Any, str]) -> str:
        """Return why the server may have no record of a client."""
        if client not in self.known:
            return "no record"
        if self.now() - self.known[client] > self.config.keep_seconds - SLACK:
            return "record too old"
        if len(self.known) * RECORD > self.config.keep_bytes:
            return "too many records"
        return ""

    def may_gap(self, tab: Tab, since: int) -> str:
        """Return why the server may not know whether a client has missed something."""
        config, client = self.config, (tab.uid, tab.client_id)
        if why := self.may_forget(client):
            return why
        if tab.has_double:
            return "two clients"
        kept = [event for event in self.events if event.is_kept]
        total = 0
        for target in {event.to for event in kept}:
            total += sum(event.size + AROUND for event in kept if event.to == target)
        if total > config.keep_bytes:
            return "too many bytes"
        for target in self.targets(*client):
            log = [event for event in kept if event.to is target or event.to == target]
            if any(event.number > since for event in log[: -config.keep_events]):
                return "too many events"
            if any(
                event.number > since and self.now() - event.at > config.keep_seconds - SLACK
                for event in log
            ):
                return "too old"
            if sum(event.size + AROUND for event in log) > config.max_backlog_bytes / 4:
                return "too many bytes at once"
        return ""


def same(what: str, got: object, expected: object) -> None:
    assert got == expected, f"{what}: expected {expected}, got {got}"
