"""A transport that takes packets and keeps them: what an edge is to the core, without a socket.

It can be told to be slow (nothing is taken by "the kernel" until `drain`) and closed; what
a client makes of the packets is in `clients`. No bytes of HTTP or WebSocket here.
"""

from __future__ import annotations

from collections.abc import Callable

from chansock._fast.fanout import Transport
from chansock._fast.packet import Packet

__all__ = ["RecordingTransport"]


class RecordingTransport(Transport):
    """Keep every packet's bytes, in the order written; `writes` has the sizes of the sends.

    `is_slow`: what is written from now on is a backlog, until `drain`. A closed one
    refuses to write. An `ajax` one is closed by its first write, as a poll is.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.packets: list[bytes] = []
        self.writes: list[int] = []
        self.is_open = True
        self.is_slow = False
        self.is_reading = True
        self.closed_with: tuple[int, str] | None = None
        self.on_write: Callable[[], object] = _nothing
        self.on_close: Callable[[], object] = _nothing
        self.on_reading: Callable[[], object] = _nothing
        self._backlog = 0

    def write(self, packets: list[Packet]) -> bool:
        if not self.is_open:
            return False
        bodies = [packet.body() for packet in packets]
        self.packets += bodies
        self.writes.append(len(bodies))
        if self.is_slow:
            self._backlog += sum(map(len, bodies))
        if self.kind == "ajax":
            self.is_open = False
        self.on_write()
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.is_open:
            self.is_open = False
            self.closed_with = (code, reason)
            self.on_close()

    def backlog(self) -> int:
        return self._backlog

    def set_reading(self, on: bool) -> None:
        if on != self.is_reading:
            self.is_reading = on
            self.on_reading()

    def drain(self) -> None:
        """Take the backlog, as a kernel does whose peer reads again."""
        self._backlog = 0


def _nothing() -> None:
    pass
