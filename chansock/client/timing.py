"""When the client tries again, polls again, and pings: backoff, pace, and keep-alive.

`Backoff`, `Pace`, and `KeepAlive` are pure: callers pass the time. `Pinger` alone uses a loop.
Nothing is sent here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from typing import Final

from chansock.client.packets import Pending
from chansock.errors import ReplyTimeout

__all__ = [
    "PING_INTERVAL",
    "PING_TIMEOUT",
    "SLICE",
    "Backoff",
    "KeepAlive",
    "Pace",
    "Pinger",
    "delay",
    "restart_delay",
]

log = logging.getLogger("chansock.client.timing")

SLICE: Final = 0.01  # seconds of work in one turn of the loop

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
    greets and hangs up would else be called in a hot loop. `given(n)`, a function of the
    application's, replaces `delay(n)` and the waits for a restart; a result that is no wait is
    logged, and not used.
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


# -- polls: at once after events, later and later without any

FIRST_PAUSE: Final = 1.0  # then 2, 4 ... s; chansock.js pauses 0.25, 0.5, and from then on 1 s
# A poll that the server kept for so long is a long poll, whatever it brought; as chansock.js.
HELD: Final = 1.0


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


# -- pings: Sente 1.22's rule, for what is received
#
# Every tick (10 s) at which nothing was heard since the tick before, a ping is due. What the
# client itself writes is no sign of the server's life: it may lie in a buffer.

PING_INTERVAL: Final = 10.0  # Sente's window: its 20 s option, halved
PING_TIMEOUT: Final = 5.0  # Sente's


class KeepAlive:
    """Counts what is received, and says at each tick whether a ping is due.

    The first tick is never due: it has no tick before it. The pong of a ping makes the next tick
    silent, so an idle client pings every other tick.
    """

    __slots__ = ("_mark", "heard_count")

    def __init__(self) -> None:
        self.heard_count: int = 0
        self._mark: int | None = None

    def heard(self) -> None:
        """Note bytes that came in."""
        self.heard_count += 1

    def tick(self) -> bool:
        """Return whether to ping now."""
        due = self.heard_count == self._mark
        self._mark = self.heard_count
        return due


class Pinger:
    """Calls `ping(cb_id)` when a ping is due, and `failed(text)` if no pong comes in time.

    A reply is a pong if `is_pong(value)`.

    While nothing is read (`is_reading`) no pong can be seen: it pings at each tick then, so that
    the server hears the client, and asks for no pong (`cb_id` None). Bytes that come after a ping
    count as its pong: a large message may keep the pong back.
    """

    __slots__ = (
        "_failed",
        "_heard_at_ping",
        "_interval",
        "_is_pong",
        "_keep_alive",
        "_pending",
        "_ping",
        "_timeout",
        "_timer",
        "heard",
        "is_reading",
    )

    def __init__(
        self,
        interval: float | None,
        timeout: float,
        pending: Pending,
        ping: Callable[[str | None], None],
        is_pong: Callable[[object], bool],
        failed: Callable[[str], None],
    ) -> None:
        self.is_reading: bool = True
        self._interval = interval  # None: never ping
        self._timeout = timeout
        self._pending = pending
        self._ping = ping
        self._is_pong = is_pong
        self._failed = failed
        self._keep_alive = KeepAlive()
        self._heard_at_ping = 0
        self._timer: asyncio.TimerHandle | None = None
        self.heard: Callable[[], None] = self._keep_alive.heard

    def start(self) -> None:
        """Begin to tick."""
        if self._interval is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval, self._tick)

    def stop(self) -> None:
        """Tick no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.start()
        if not self.is_reading:
            self._ping(None)
        elif self._keep_alive.tick():
            cb_id, pong = self._pending.new(self._timeout)
            pong.add_done_callback(self._ponged)
            self._heard_at_ping = self._keep_alive.heard_count
            self._ping(cb_id)

    def _ponged(self, pong: asyncio.Future[object]) -> None:
        if pong.cancelled():
            return
        error = pong.exception()
        if not self.is_reading:
            return
        if error is None and self._is_pong(pong.result()):
            return
        was_heard = self._keep_alive.heard_count != self._heard_at_ping
        if isinstance(error, ReplyTimeout) and was_heard:
            return
        self._failed(str(error) if error is not None else "expected pong, got another reply")
