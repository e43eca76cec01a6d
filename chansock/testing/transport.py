"""A transport that takes packets and keeps them: what an edge is to the core, without a socket.

It can be slow (what is written waits, as in a kernel whose peer does not read) and
closed. What a client makes of the packets is in `client`; no HTTP, no frames here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from chansock._fast.events.packet import Packet
from chansock._fast.io.transport import Transport
from chansock.request import Response

__all__ = ["RecordingTransport"]


class RecordingTransport(Transport):
    """Keep the bytes of every packet, in the order written; one item of `writes` for each
    send, with the number of its packets.

    `is_slow`: what is written from now on is a backlog until `drain`, and its packets are
    not in `arrived`. A closed one refuses to write. An "ajax" one is one request: it ends
    with its first write (`status` 200), with `refuse`, or with `close` (503).
    """

    def __init__(self, kind: Literal["ws", "ajax"]) -> None:
        self.streams = self.receives = kind == "ws"
        self.written: list[bytes] = []
        self.arrived: list[bytes] = []
        self.writes: list[int] = []
        self.is_open: bool = True
        self.is_slow = False
        self.is_reading: bool = True
        self.closed_with: tuple[int, str] | None = None  # by the server
        self.response: Response | None = None  # what was answered instead of a packet
        self.on_arrival: Callable[[], object] = _nothing
        self.on_close: Callable[[], object] = _nothing
        self.on_reading: Callable[[], object] = _nothing

    @property
    def status(self) -> int | None:
        """HTTP status of an "ajax" one that has ended by an answer."""
        if self.response is not None:
            return self.response.status
        return 200 if self.written else None

    def write(self, packets: list[Packet]) -> bool:
        """Keep these packets, for the server. False: it is closed, and nothing was taken."""
        if not self.is_open:
            return False
        self.written += [packet.body() for packet in packets]
        self.writes.append(len(packets))
        if not self.streams:
            self.is_open = False
        if not self.is_slow:
            self.drain()
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, by the server."""
        if not self.is_open:
            return
        self.is_open = False
        self.closed_with = (code, reason)
        if not self.streams:
            self.response = Response(503, reason or "closed")
        self.on_close()

    def refuse(self, response: Response) -> None:
        """Answer a request with something else than a packet."""
        if self.is_open:
            self.is_open = False
            self.response = response
            self.on_close()

    def backlog(self) -> int:
        """Bytes that were written and have not arrived."""
        return sum(map(len, self.written[len(self.arrived) :]))

    def set_reading(self, on: bool) -> None:
        """Start or stop reading the peer."""
        if on != self.is_reading:
            self.is_reading = on
            self.on_reading()

    def drain(self) -> None:
        """Deliver what was written, as when the peer reads again."""
        if len(self.arrived) < len(self.written):
            self.arrived += self.written[len(self.arrived) :]
            self.on_arrival()


def _nothing() -> None:
    pass
