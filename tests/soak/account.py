"""What one client got, held against what the server says that it sent. No socket here.

A snapshot, which each handshake carries, is
    (n, m, l, meant, cut, grace, replaced, waiting, heard)
the newest numbers when it was made, and what became of all that was meant for this client
since the start. So what was written is known, and with it what did not arrive: that may only
lie at the end of a connection that broke.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


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

    @property
    def written(self) -> int:
        return self.meant - self.cut - self.grace - self.replaced - self.waiting


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
        self.snapshot: Snapshot | None = None
        self.old = 0  # that came on this connection, and were sent before its handshake
        self.wants_old: int | None = 0
        self.is_displacing = False  # behind a connection that another one displaced

    def fault(self, text: str) -> None:
        self._fault(f"{self.name} after {self.after}: {text}")

    def handshake(self, numbers: Sequence[int]) -> None:
        """Begin a connection: settle what the last one left."""
        snapshot = Snapshot(*numbers)
        self.settle(snapshot)
        self.snapshot = snapshot
        self.here = {}
        self.old, self.wants_old = 0, snapshot.waiting

    def displaced(self, numbers: Sequence[int]) -> None:
        """Go on, on a connection that displaced one which was read to its end since."""
        self.snapshot = Snapshot(*numbers)
        self.wants_old = None
        self.is_displacing = True

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
        self.late += max(0, fresh - self.unread)
        self.moments += fresh > self.unread and not self.has_lagged
        self.breaks += fresh > 0
        self.gone = gone
        self.unread = 0
        self.is_clean, self.has_lagged, self.is_displacing = True, False, False

    def take(self, kind: str, number: int, broadcast: int | None, *, is_unread: bool) -> None:
        """Note one event; `is_unread`: it was in the kernel when the connection was reset."""
        last, here = self.last[kind], self.here.get(kind)
        if number <= last:
            self.fault(f"{kind}{number} after {kind}{last}")
        elif here is not None and kind != "l" and number != here + 1:
            self.fault(f"{kind}{number} after {kind}{here} within a connection")
        if kind == "u" and self.here.get("b", broadcast) != broadcast:
            self.fault(f"u{number} was sent after b{broadcast}, came after b{self.here['b']}")
        self.last[kind] = self.here[kind] = number
        if is_unread:
            self.unread += 1
        else:
            self.received += 1
        self._place(kind, number, here)

    def _place(self, kind: str, number: int, here: int | None) -> None:
        """See that what waited comes first, and all of it, and then what is newer."""
        assert self.snapshot is not None
        newest = {
            "u": self.snapshot.user,
            "b": self.snapshot.broadcast,
            "l": self.snapshot.latest,
        }[kind]
        if number <= newest:
            self.old += 1
            return
        if kind != "l" and here is None and number != newest + 1:
            self.fault(f"{kind}{number} first, expected {kind}{newest + 1}")
        # One of them may have been replaced by a later one (`latest`) since; settling tells.
        if self.wants_old is not None and self.wants_old - self.old not in (0, 1):
            self.fault(f"{self.old} events of the {self.wants_old} that waited came first")
        self.wants_old = None
