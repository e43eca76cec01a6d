"""Pings on one WebSocket: a tick every `ws_ping_interval`, and what a missing pong means.

Whether a tick pings is decided by `keepalive`; how a packet is written, and what is to be done
about a peer that does not answer, by the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chansock._core import wire
from chansock.client.keepalive import KeepAlive
from chansock.client.pending import Pending

__all__ = ["Pinger"]


class Pinger:
    """Calls `ping(cb_id)` when a ping is due, and `failed(text)` if no pong comes in time.

    While nothing is read (`is_reading`) no pong could be: it pings at each tick then, to be heard,
    and asks nothing (`cb_id` None).
    """

    __slots__ = (
        "_failed",
        "_interval",
        "_keep_alive",
        "_pending",
        "_ping",
        "_timeout",
        "_timer",
        "is_reading",
        "moved",
    )

    def __init__(
        self,
        interval: float | None,
        timeout: float,
        pending: Pending,
        ping: Callable[[str | None], None],
        failed: Callable[[str], None],
    ) -> None:
        self.is_reading = True
        self._interval = interval  # None: never ping
        self._timeout = timeout
        self._pending = pending
        self._ping = ping
        self._failed = failed
        self._keep_alive = KeepAlive()
        self._timer: asyncio.TimerHandle | None = None
        self.moved = self._keep_alive.moved

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
            self._ping(cb_id)
            self._keep_alive.pinged()

    def _ponged(self, pong: asyncio.Future[object]) -> None:
        if pong.cancelled():
            return
        error = pong.exception()
        if not self.is_reading:
            return
        if error is None and type(pong.result()) is str and pong.result() == wire.PONG:
            return  # a keyword :pong would be equal
        self._failed(str(error) if error is not None else "expected pong, got another reply")
