"""When a WebSocket client pings: Sente 1.22's rule, for what is received. Pure; no clock.

Every tick (10 s) at which nothing was heard since the tick before, a ping is due. What the
client itself writes is no sign of the server's life: it may lie in a buffer.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PING_INTERVAL", "PING_TIMEOUT", "KeepAlive"]

PING_INTERVAL: Final = 10.0  # Sente's window: its 20 s option, halved
PING_TIMEOUT: Final = 5.0  # Sente's


class KeepAlive:
    """Counts what is received, and says at each tick whether a ping is due.

    The first tick is never due: it has no tick before it. The pong of a ping makes the next tick
    silent, so an idle client pings every other tick.
    """

    __slots__ = ("_mark", "heard_count")

    def __init__(self) -> None:
        self.heard_count = 0
        self._mark: int | None = None

    def heard(self) -> None:
        """Note bytes that came in."""
        self.heard_count += 1

    def tick(self) -> bool:
        """Return whether to ping now."""
        due = self.heard_count == self._mark
        self._mark = self.heard_count
        return due
