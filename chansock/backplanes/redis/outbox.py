"""What a node appended, as calls of the turn script, until it is stored and some time after.

Items are numbered without gaps for the life of the sender, so that the script drops repeats and
refuses holes. What was stored is kept for some seconds: an engine that lost its end gets it again.
No connection is known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chansock._core.backplane import Position
from chansock._core.engine import Item

__all__ = ["MAX_CALL_BYTES", "Call", "Outbox"]

MAX_CALL_BYTES: Final = 1 << 20  # what one call holds up the engine for is bounded
AROUND_ITEM: Final = 64  # bytes, beside key and envelope
MAX_RENEWED: Final = 10_000  # keys of which a node knows when their logs were renewed
KEPT_SECONDS: Final = 10.0  # the end that a failover may lose

Word = str | bytes | int


@dataclass(slots=True)
class Call:
    """Items `first` to `last` of one call of the script; `args` holds three words for each."""

    first: int
    last: int
    number: int  # what `append` returned for the newest batch that ends in it
    origin: str
    args: list[Word]
    size: int
    at: float  # when it was appended, and later, when it was stored
    epoch: int = 0  # in which it was first sent; 0: never
    newest: int = 0  # in which it was last sent
    since: int = 0  # it stood after this number there
    upto: int = 0  # and not after this one; 0: unknown

    def drop_presence(self) -> None:
        """Leave out changes of presence: the whole roster says the same."""
        for at in range(0, len(self.args), 3):
            if self.args[at] in ("+", "-"):
                self.args[at] = "x"


class Outbox:
    """Calls in order: `waiting` for a first or another send, then `sent`, then `stored`."""

    def __init__(self, max_kept_bytes: int, keep_seconds: float) -> None:
        self.number = 0  # of the last batch
        self.stored_number = 0
        self.unstored_bytes = 0
        self.waiting: deque[Call] = deque()
        self.sent: deque[Call] = deque()
        self.stored: deque[Call] = deque()
        self._max_kept_bytes = max_kept_bytes
        # A log lasts for `keep_seconds` and two of these steps after each time that it is renewed.
        self._step = keep_seconds / 16
        self._renewed: dict[str, float] = {}  # when this node had the log of a key renewed
        self._kept_bytes = 0
        self._last = 0
        self.gathered: list[Word] = []  # for the next call
        self._size = 0
        self._changes: list[Word] = []  # of presence, in the same form
        self._changes_size = 0

    @property
    def oldest(self) -> float | None:
        """When the oldest call was appended that is not known to be stored."""
        for calls in (self.sent, self.waiting):
            if calls:
                return calls[0].at
        return None

    def append(self, items: Sequence[Item], origin: str, now: float) -> int:
        """Add a batch; return its number."""
        args, size = self.gathered, self._size
        for item in items:
            one = len(item.key) + len(item.envelope) + AROUND_ITEM
            if args and size + one > MAX_CALL_BYTES:
                self._size = size
                self.close(origin, now)
                args, size = self.gathered, 0
            args += (self._count(item, now), item.key, item.envelope)
            size += one
            self.unstored_bytes += one
        self._size = size
        self.number += 1
        return self.number

    def _count(self, item: Item, now: float) -> Word:
        if not item.is_kept:
            return -item.count
        renewed = self._renewed
        if now - renewed.get(item.key, -1e9) < self._step:
            return item.count
        if len(renewed) >= MAX_RENEWED:
            renewed.clear()
        renewed[item.key] = now
        return f"+{item.count}"

    def is_late(self, call: Call, now: float) -> bool:
        """Whether the logs of all items are to be renewed, since a call waited for long."""
        return now - call.at >= self._step or call.epoch != 0

    def change(self, sign: str, member: str) -> int:
        """Add a change of presence, which waits for a call; return the bytes of all that wait."""
        size = len(member) + AROUND_ITEM
        self._changes += (sign, member, b"")
        self._changes_size += size
        self.unstored_bytes += size
        self.number += 1
        return self._changes_size

    def drop_changes(self) -> None:
        """Leave out the changes that wait: the whole roster says the same."""
        self.unstored_bytes -= self._changes_size
        self._changes, self._changes_size = [], 0

    def close(self, origin: str, now: float, *, with_changes: bool = False) -> None:
        """Make a call of what was added since the last; of changes alone only `with_changes`."""
        if self.gathered or (with_changes and self._changes):
            self.gathered += self._changes
            self._size += self._changes_size
            self._changes, self._changes_size = [], 0
        if not self.gathered:
            if self._changes:
                return  # the newest number is theirs
            newest = self.waiting or self.sent
            if newest:
                newest[-1].number = self.number
            else:
                self.stored_number = self.number
            return
        first, self._last = self._last + 1, self._last + len(self.gathered) // 3
        self.waiting.append(
            Call(first, self._last, self.number, origin, self.gathered, self._size, now)
        )
        self.gathered, self._size = [], 0

    def acknowledge(self, now: float) -> None:
        """Note that the oldest call that was sent is stored."""
        self._keep(self.sent.popleft(), now)

    def resume(self, last: int, now: float, lost: Position | None) -> int:
        """Begin anew with an engine that has all up to item `last`; return how many are repeated.

        Everything after that waits again, in order. `lost`: the engine began a new epoch, and has
        of the one before it what stood up to there.
        """
        again = self.sent + self.waiting
        self.sent.clear()
        while again and again[0].last <= last:
            self._keep(again.popleft(), now)
        if lost is not None:
            self._renewed.clear()  # that may be lost, too
            while self.stored and self.stored[-1].last > last:
                call = self.stored.pop()
                self._kept_bytes -= call.size
                self.unstored_bytes += call.size
                call.at = now
                again.appendleft(call)
            for call in again:
                call.drop_presence()
                if call.epoch == lost.epoch:
                    call.since = max(call.since, lost.seq)
        self.waiting = again
        return sum(1 for call in again if call.epoch)

    def take_back(self) -> None:
        """Move what was sent back to what waits: the engine refused it."""
        self.waiting.extendleft(reversed(self.sent))
        self.sent.clear()

    def prune(self, now: float) -> None:
        """Forget what was stored some time ago."""
        while self.stored and (
            now - self.stored[0].at > KEPT_SECONDS or self._kept_bytes > self._max_kept_bytes
        ):
            self._kept_bytes -= self.stored.popleft().size

    def _keep(self, call: Call, now: float) -> None:
        self.unstored_bytes -= call.size
        self.stored_number = max(self.stored_number, call.number)
        self._kept_bytes += call.size
        call.at = now
        self.stored.append(call)
        if self._kept_bytes > self._max_kept_bytes:
            self.prune(now)
