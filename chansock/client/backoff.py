"""How long to wait before the next attempt: Sente's backoff, capped, or the application's.

Pure; no clock, no loop.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Final

__all__ = ["Backoff", "delay", "restart_delay"]

log = logging.getLogger("chansock.client.backoff")

MAX_DELAY: Final = 10.0  # every client is back within 10 s of the server's return, as Sente's are
RESTARTS: Final = 2  # short waits in a row; a restart that takes longer waits for the backoff
MAX_RETRY_AFTER: Final = 3600.0  # a typing error of a proxy's must not silence a client for good
STEADY_AFTER: Final = 1.0  # an open channel that lasted less is no sign of a server in health


def delay(exponent: int, rnd: float, cap: float = MAX_DELAY) -> float:
    """Return Sente's delay: uniform in [2^(n-1), 2^n) seconds, for rnd in [0, 1).

    Past the cap it is uniform in [cap/2, cap): with a bare minimum all clients of a
    server would come back in step.
    """
    top = min(2.0 ** min(exponent, 36), cap)
    return top * 0.5 * (1.0 + rnd)


class Backoff:
    """Counts the attempts since the channel was last in health.

    The first attempt after a close is made at once, the n-th after `delay(n)`. If the server seems
    to restart (`is_restart`), up to RESTARTS attempts are made after 0.3 to 1 s each instead, and
    then the backoff begins. A server that names a time (`retry_after`) is not asked before.

    A channel that opens and is closed within a second does not set the count back: a server that
    greets and hangs up would else be called in a hot loop. `given(n)` stands for `delay(n)` and the
    waits for a restart where the application has one; what it returns that is no wait is logged,
    and not used.
    """

    __slots__ = ("_attempts", "_cap", "_given", "_opened_at", "_random", "_restarts", "_waits")

    def __init__(
        self,
        cap: float = MAX_DELAY,
        rnd: Callable[[], float] = random.random,
        given: Callable[[int], float] | None = None,
    ) -> None:
        self._cap = cap
        self._given = given
        self._random = rnd
        self._opened_at: float | None = None
        self.reset()

    def opened(self, now: float) -> None:
        """Note a handshake."""
        self._opened_at = now

    def reset(self) -> None:
        """Forget all failures: the application asked for an attempt."""
        self._attempts = 0
        self._restarts = 0
        self._waits = 0  # those that `delay` decided
        self._opened_at = None

    def next_delay(
        self, now: float, *, is_restart: bool = False, retry_after: float | None = None
    ) -> float:
        """Count a close or a failed attempt; return the seconds until the next attempt."""
        if self._opened_at is not None and now - self._opened_at >= STEADY_AFTER:
            self.reset()
        self._opened_at = None
        self._attempts += 1
        if retry_after:
            wish = min(retry_after, MAX_RETRY_AFTER)
            return wish + self._random() * max(1.0, wish / 4)
        if is_restart and self._given is None and self._restarts < RESTARTS:
            self._restarts += 1
            return restart_delay(self._random())
        if self._attempts == 1:
            return 0.0
        if self._given is not None:
            try:
                return _checked(self._given(self._attempts))
            except Exception:
                log.exception("backoff_failed attempt=%d", self._attempts)
        self._waits += 1
        return delay(self._waits + 1, self._random(), self._cap)


def restart_delay(rnd: float) -> float:
    """Return the wait for a server that restarts: uniform in [0.3, 1) seconds."""
    return 0.3 + 0.7 * rnd


def _checked(seconds: float) -> float:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"backoff: expected seconds, 0 or more, got {seconds!r:.80}")
    return seconds
