"""What one client got, held against what the server says that it sent. No socket here.

A snapshot, which each handshake carries, is
    (n, m, l, meant, cut, grace, replaced, waiting, heard, is_open)
the newest numbers when it was made, what became of all that was meant for this client since
the start, and whether a connection of it took pushes just then. So what was written is known,
and with it what did not arrive: that may only lie at the end of a connection that broke.

A connection that displaces another one goes on where that one ended, as if both were one: the
server writes each event to one of them. Not so if the first was over by then, or broke; and if
polls displaced it and are gone for their grace, it is the newest again, and gets what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Event = tuple[str, int, int | None]  # kind, number, of a "u" the broadcast that it was sent after


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The server's ledger of one client."""

    user: int
    broadcast: int
    latest: int
    meant: int
    cut: int
    grace: int
    replaced: int
    waiting: int
    heard: int
    is_open: int

    @property
    def written(self) -> int:
        return self.meant - self.cut - self.grace - self.replaced - self.waiting

    def newest(self, kind: str) -> int:
        return {"u": self.user, "b": self.broadcast, "l": self.latest}[kind]


class Account:
    """The rules for one client; `fault(text)` is told of each that is broken."""

    def __init__(self, name: str, fault: Callable[[str], None]) -> None:
        self.name = name
        self.after = "nothing"  # how the last connections ended, for the text of a fault
        self._fault = fault
        self.received = 0
        self.gone = 0  # written, and not received
        self.late = 0  # of these: not even in the kernel when the connection was reset
        self.moments = 0  # connections of which that is so, though they never lagged
        self.breaks = 0  # connections whose end did not arrive
        self.is_clean = True  # the connection was read to its end
        self.has_lagged = False  # the kernel may have been full
        self.last = {"u": 0, "b": 0, "l": 0}  # the highest number seen
        self.here: dict[str, int] = {}  # the same, of this connection
        self.unread = 0  # in the kernel when this connection was reset
        self.missing = 0  # between the end of one that broke and the one that displaced it
        self.is_broken = False  # the one that this connection displaced
        self.snapshot: Snapshot | None = None
        self.old = 0  # that came on this connection, and were sent before its handshake
        self.wants_old: int | None = 0
        self.held: list[Event] | None = None  # what comes, while its place is not known

    def fault(self, text: str) -> None:
        self._fault(f"{self.name} after {self.after}: {text}")

    def handshake(self, numbers: Sequence[int]) -> None:
        """Begin a connection: settle what the last one left."""
        snapshot = Snapshot(*numbers)
        self.settle(snapshot)
        self.snapshot = snapshot
        self.here, self.is_broken = {}, False
        self.old, self.wants_old = 0, snapshot.waiting

    def hold(self) -> None:
        """Keep what comes until `release`."""
        self.held = []

    def release(self) -> list[Event]:
        """Return what came since `hold`."""
        held, self.held = self.held or [], None
        return held

    def displaced(
        self, numbers: Sequence[int], theirs: Sequence[Event] = (), ours: Sequence[Event] = ()
    ) -> bool:
        """Go on, on a connection that displaced one which was read to its end since.

        `numbers` is the newest snapshot of before. `theirs` came on the old one and `ours` on
        the new one, meanwhile. Tells whether the old one had something that was sent later than
        ours; that is taken last.
        """
        snapshot = Snapshot(*numbers)
        at = next((k for k, event in enumerate(theirs) if _is_behind(event, ours)), len(theirs))
        for event in theirs[:at]:
            self.take(*event, is_unread=False)
        if not snapshot.is_open:
            self.handshake(numbers)  # the old one was over, whether we knew or not
        elif not self.is_clean and at == len(theirs):
            self.here, self.is_broken, self.wants_old = {}, True, None
        for event in (*ours, *theirs[at:]):
            self.take(*event, is_unread=False)
        return at < len(theirs)

    def settle(self, snapshot: Snapshot) -> None:
        """Hold what came against the ledger."""
        gone = snapshot.written - self.received
        fresh = gone - self.gone
        if fresh < 0:
            self.fault(f"{-fresh} events more than were written")
        elif self.is_clean and fresh:
            self.fault(f"{fresh} events written before the last clean end did not arrive")
        elif fresh < self.unread:
            self.fault(f"{self.unread} events were unread at a reset, but {fresh} are missing")
        elif fresh < self.missing:
            self.fault(f"{self.missing} did not come, but {fresh} of those written are missing")
        self.late += max(0, fresh - self.unread)
        self.moments += fresh > self.unread and not self.has_lagged
        self.breaks += fresh > 0
        self.gone = gone
        self.unread = self.missing = 0
        self.is_clean, self.has_lagged = True, False

    def take(self, kind: str, number: int, broadcast: int | None, *, is_unread: bool) -> None:
        """Note one event; `is_unread`: it was in the kernel when the connection was reset."""
        if self.held is not None:
            self.held.append((kind, number, broadcast))
            return
        assert self.snapshot is not None
        last, here = self.last[kind], self.here.get(kind)
        if number <= last:
            self.fault(f"{kind}{number} after {kind}{last}")
        elif here is not None and kind != "l" and number != here + 1:
            self.fault(f"{kind}{number} after {kind}{here} within a connection")
        if kind == "u" and self.here.get("b", broadcast) != broadcast:
            self.fault(f"u{number} was sent after b{broadcast}, came after b{self.here['b']}")
        if self.is_broken and here is None and kind != "l":
            before = self.snapshot.newest(kind)
            self.missing += max(0, number - max(last, before) - 1)
        self.last[kind] = self.here[kind] = number
        if is_unread:
            self.unread += 1
        else:
            self.received += 1
        self._place(kind, number, here)

    def _place(self, kind: str, number: int, here: int | None) -> None:
        """See that what waited comes first, and all of it, and then what is newer."""
        assert self.snapshot is not None
        newest = self.snapshot.newest(kind)
        if number <= newest:
            self.old += 1
            return
        if self.is_broken:
            return
        if kind != "l" and here is None and number != newest + 1:
            self.fault(f"{kind}{number} first, expected {kind}{newest + 1}")
        # One of them may have been replaced by a later one (`latest`) since; settling tells.
        if self.wants_old is not None and self.wants_old - self.old not in (0, 1):
            self.fault(f"{self.old} events of the {self.wants_old} that waited came first")
        self.wants_old = None


def _is_behind(event: Event, others: Sequence[Event]) -> bool:
    """Return whether an event was sent after one of the others, as far as the numbers say."""
    kind, number, broadcast = event
    for other, its_number, its_broadcast in others:
        if other == kind:
            is_behind = number > its_number
        elif kind == "b" and its_broadcast is not None:
            is_behind = number > its_broadcast
        else:
            is_behind = other == "b" and broadcast is not None and broadcast >= its_number
        if is_behind:
            return True
    return False
