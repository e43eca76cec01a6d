"""What a client of a World keeps so that it can come back: its position and its numbers.

The state of a client that resumes, without a transport: `ws` and `ajax` send what it says.
docs/delivery.md has the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from chansock._core import wire

if TYPE_CHECKING:
    from chansock.testing.client import PendingReply

__all__ = ["Resumption", "Was"]

Was: TypeAlias = Literal["fresh", "resumed", "gap"]

_ATTEMPTS: Final = count(1)  # of all clients, as real ones take the time


class Resumption:
    """The position of one client, and its events that are not acknowledged."""

    def __init__(self) -> None:
        self.position: str = "0"
        self.was: Was | None = None  # how its newest connection came back
        self.attempt: int = 0  # grows with each handshake
        self.acked: int = 0
        self.sent: int = 0  # the newest number that went out
        self.numbered: int = 0  # the newest number that an event has
        self.waiting: dict[int, bytes] = {}  # packets that are not acknowledged
        self.replies: dict[int, PendingReply] = {}

    @property
    def waits(self) -> int | None:
        """The number of the oldest event that was sent, and has no reply yet."""
        pending = [number for number in self.replies if number <= self.sent]
        return min(pending, default=None)

    def params(self) -> list[tuple[str, str]]:
        """Return what a handshake adds to the query."""
        self.attempt = next(_ATTEMPTS)
        found = [("pos", self.position), ("acked", str(self.acked)), ("sent", str(self.sent))]
        found.append(("try", str(self.attempt)))
        return [*found, *self.waits_param()]

    def waits_param(self) -> list[tuple[str, str]]:
        """Return what a handshake, a poll, and a POST add to the query, if a reply is pending."""
        return [] if self.waits is None else [("waits", str(self.waits))]

    def number(self, packet: bytes, reply: PendingReply | None) -> int:
        """Return the number of a new event."""
        self.numbered += 1
        self.waiting[self.numbered] = packet
        if reply is not None:
            self.replies[self.numbered] = reply
        return self.numbered

    def came_back(self, told: Mapping[Any, Any] | None) -> list[tuple[int, bytes]]:
        """Take what the handshake said; return the events to send."""
        if told is None:  # the server does not resume
            self.was = None
            return []
        values = {str(key): value for key, value in told.items()}
        self.was = values["was"]
        self.position = values["pos"]
        self.sent = max(self.sent, self.numbered)
        return [each for each in self.waiting.items() if each[0] > values["handled"]]

    def counts(self) -> list[int]:
        """Return the data of a ping or a pong."""
        return [self.sent, self.waits or self.sent + 1]

    def acknowledge(self, number: int) -> None:
        """Forget the events up to a number: they are handled."""
        self.acked = max(self.acked, number)
        for each in [each for each in self.waiting if each <= number]:
            del self.waiting[each]

    def take(self, batch: list[list[Any]]) -> list[list[Any]]:
        """Take the channel's own events out of a batch; return the others."""
        others = []
        for event in batch:
            if event[0] == wire.POSITION:
                self.position = event[1]
            elif event[0] == wire.ACK:
                self.acknowledge(event[1])
            elif event[0] == wire.REPLY:
                self.arrive(*event[1])
            else:
                others.append(event)
        return others

    def find(self, cb_id: Any) -> PendingReply | None:
        """Return the pending reply of this callback id."""
        return next((reply for reply in self.replies.values() if reply.cb_id == cb_id), None)

    def arrived(self, reply: PendingReply) -> None:
        """Note that a reply came in the ordinary way."""
        for number, pending in list(self.replies.items()):
            if pending is reply:
                del self.replies[number]

    def arrive(self, number: int, value: Any) -> None:
        """Pass on a reply, the first time that it comes."""
        reply = self.replies.pop(number, None)
        if reply is not None and not reply.is_here:
            reply.arrive(value)
