"""The replies that are waited for over a WebSocket: callback ids and their futures.

They outlive a socket: a server may answer on the session's next one.
"""

from __future__ import annotations

import asyncio
import secrets

from chansock.client.packets import reply_error
from chansock.errors import ReplyTimeout

__all__ = ["Pending"]


class Pending:
    """Futures by callback id (6 hex characters, as Sente's)."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[str, asyncio.Future[object]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def new(self, timeout: float) -> tuple[str, asyncio.Future[object]]:
        """Return a fresh callback id and the future of its reply.

        The future raises ReplyTimeout after `timeout` seconds, and what `reply_error` tells.
        """
        loop = asyncio.get_running_loop()
        cb_id = secrets.token_hex(3)
        while cb_id in self._futures:
            cb_id = secrets.token_hex(3)
        future: asyncio.Future[object] = loop.create_future()
        self._futures[cb_id] = future
        timer = loop.call_later(timeout, self._expire, cb_id, timeout)

        def forget(_: object) -> None:
            timer.cancel()
            self._futures.pop(cb_id, None)

        future.add_done_callback(forget)
        return cb_id, future

    def answer(self, cb_id: object, value: object) -> bool:
        """Resolve the call that waits for a reply; False if none does (late, or a second reply)."""
        future = self._futures.pop(cb_id, None) if isinstance(cb_id, str) else None
        if future is None or future.done():
            return False
        if (error := reply_error(value)) is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
        return True

    def fail(self, exc: Exception) -> None:
        """End every wait with exc: no reply can come any more."""
        for future in list(self._futures.values()):
            if not future.done():
                future.set_exception(exc)
        self._futures.clear()

    def _expire(self, cb_id: str, timeout: float) -> None:
        future = self._futures.pop(cb_id, None)
        if future is not None and not future.done():
            future.set_exception(ReplyTimeout(f"expected a reply within {timeout:g} s, got none"))
