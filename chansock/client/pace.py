"""How soon the next poll may go out: at once after events, later and later without any.

Pure; no clock, no loop.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

FIRST_PAUSE: Final = 1.0  # as chansock's client in JavaScript
HELD: Final = 1.0  # a poll that the server kept for so long is a long poll, whatever it brought


class Pace:
    """Counts the polls in a row that were answered soon and brought no event.

    A server that answers every poll at once would else be asked thousands of times a second. The
    n-th of such answers puts the next poll off until 1, 2, 4 ... seconds (`cap` at most) after
    the one before. An event, or a poll that the server held for a second, resets the count.
    """

    __slots__ = ("_asked_at", "_cap", "_count")

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._asked_at = 0.0
        self._count = 0

    def asked(self, now: float) -> None:
        """Note a request."""
        self._asked_at = now

    def answered(self, now: float, *, has_events: bool) -> float:
        """Note its answer; return how many seconds to wait before the next request."""
        held = now - self._asked_at
        if has_events or held >= HELD:
            self._count = 0
            return 0.0
        pause = min(FIRST_PAUSE * 2.0 ** min(self._count, 30), self._cap)
        self._count += 1
        return max(0.0, pause - held)
