"""Pings on one WebSocket: a tick every `ws_ping_interval`, and what a missing pong means.

`keepalive` decides whether a tick pings. The link writes the packet, and ends if `failed` is
called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chansock._core import wire
from chansock.client.keepalive import KeepAlive
from chansock.client.pending import Pending
from chansock.errors import ReplyTimeout

__all__ = ["Pinger"]


class Pinger:
    """Calls `ping(cb_id)` when a ping is due, and `failed(text)` if no pong comes in time.

    While nothing is read (`is_reading`) no pong can be seen: it pings at each tick then, so that
    the server hears the client, and asks for no pong (`cb_id` None). Bytes that come after a ping
    count as its pong: a large message may keep the pong back.
    """

    __slots__ = (
        "_failed",
        "_heard_at_ping",
        "_interval",
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
        failed: Callable[[str], None],
    ) -> None:
        self.is_reading = True
        self._interval = interval  # None: never ping
        self._timeout = timeout
        self._pending = pending
        self._ping = ping
        self._failed = failed
        self._keep_alive = KeepAlive()
        self._heard_at_ping = 0
        self._timer: asyncio.TimerHandle | None = None
        self.heard = self._keep_alive.heard

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
        if error is None and type(pong.result()) is str and pong.result() == wire.PONG:
            return  # a keyword :pong would be equal
        was_heard = self._keep_alive.heard_count != self._heard_at_ping
        if isinstance(error, ReplyTimeout) and was_heard:
            return
        self._failed(str(error) if error is not None else "expected pong, got another reply")
