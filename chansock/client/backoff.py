"""How long to wait before the next attempt: Sente's backoff, capped, or the application's.

Pure; no clock, no loop.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Final

__all__ = ["Backoff", "delay"]

log = logging.getLogger("chansock.client.backoff")

MAX_DELAY: Final = 10.0  # every client is back within 10 s of the server's return, as Sente's are
STEADY_AFTER: Final = 1.0  # an open channel that lasted less is no sign of a server in health


def delay(exponent: int, rnd: float, cap: float = MAX_DELAY) -> float:
    """Give Sente's delay: uniform in [2^(n-1), 2^n) seconds, for rnd in [0, 1).

    Past the cap it is uniform in [cap/2, cap): with a bare minimum all clients of a
    server would come back in step.
    """
    top = min(2.0 ** min(exponent, 36), cap)
    return top * 0.5 * (1.0 + rnd)


class Backoff:
    """Counts the attempts since the channel was last in health.

    The first attempt after a close is made at once, the n-th after `delay(n)`. A channel
    that opens and is closed within a second does not set the count back: a server that
    greets and hangs up would else be called in a hot loop. `given(n)` stands for `delay(n)`
    where the application has one; what it gives that is no wait is logged, and not used.
    """

    __slots__ = ("_attempts", "_cap", "_given", "_opened_at", "_random")

    def __init__(
        self,
        cap: float = MAX_DELAY,
        rnd: Callable[[], float] = random.random,
        given: Callable[[int], float] | None = None,
    ) -> None:
        self._cap = cap
        self._given = given
        self._random = rnd
        self._attempts = 0
        self._opened_at: float | None = None

    def opened(self, now: float) -> None:
        """Note a handshake."""
        self._opened_at = now

    def reset(self) -> None:
        """Forget all failures: the application asked for an attempt."""
        self._attempts = 0
        self._opened_at = None

    def next_delay(self, now: float) -> float:
        """Count a close or a failed attempt; give the seconds until the next attempt."""
        if self._opened_at is not None and now - self._opened_at >= STEADY_AFTER:
            self._attempts = 0
        self._opened_at = None
        self._attempts += 1
        if self._attempts == 1:
            return 0.0
        if self._given is not None:
            try:
                return _checked(self._given(self._attempts))
            except Exception:
                log.exception("backoff_failed attempt=%d", self._attempts)
        return delay(self._attempts, self._random(), self._cap)


def _checked(seconds: float) -> float:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"backoff: expected seconds, 0 or more, got {seconds!r:.80}")
    return seconds
