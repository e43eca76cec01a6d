"""What a socket was asked to send while its write buffer is full: packets, in the order of `send`.

Whether there is room is told from outside; nothing is written here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Backlog"]


class Backlog:
    """Packets that wait for room, each with a future that is done once it is written."""

    __slots__ = ("_has_room", "_packets", "_write")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._has_room = True
        self._packets: deque[tuple[bytes, asyncio.Future[None]]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether a packet sent now is written at once."""
        return self._has_room and not self._packets

    def send(self, packet: bytes) -> asyncio.Future[None] | None:
        """Write now and give None, or wait behind the others.

        One whose future is cancelled is never written.
        """
        if self.has_room:
            self._write(packet)
            return None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._packets.append((packet, written))
        return written

    def set_room(self, on: bool) -> None:
        """Hold back what comes from now on, or write what waits."""
        self._has_room = on
        while self._has_room and self._packets:
            packet, written = self._packets.popleft()
            if not written.done():
                self._write(packet)
                written.set_result(None)

    def fail(self, exc: Exception) -> None:
        """End every wait with exc."""
        for _packet, written in self._packets:
            if not written.done():
                written.set_exception(exc)
        self._packets.clear()
