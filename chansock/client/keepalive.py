"""When a WebSocket client pings: Sente 1.22's rule. Pure; no clock.

Every tick (10 s) at which nothing was heard or said since the tick before, a ping is due.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PING_INTERVAL", "PING_TIMEOUT", "KeepAlive"]

PING_INTERVAL: Final = 10.0  # Sente's window: its 20 s option, halved
PING_TIMEOUT: Final = 5.0  # Sente's


class KeepAlive:
    """Counts traffic, and tells at each tick whether a ping is due.

    The first tick is never due: it has no tick before it. The mark is taken after the ping
    is sent, so its pong makes the next tick silent, and an idle client pings every other tick.
    """

    __slots__ = ("_mark", "_traffic")

    def __init__(self) -> None:
        self._traffic = 0
        self._mark: int | None = None

    def moved(self) -> None:
        """Note a frame, in or out."""
        self._traffic += 1

    def tick(self) -> bool:
        """Tell whether to ping now; a ping sent is to be noted by `pinged`."""
        due = self._traffic == self._mark
        self._mark = self._traffic
        return due

    def pinged(self) -> None:
        """Take the mark anew, right after the ping is sent."""
        self._mark = self._traffic
