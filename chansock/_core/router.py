"""Which handler an event goes to, and what happens when one fails.

Holds the two tables that the dispatch reads (event id to Route). Events are run there,
not here; this is asked once per registration and once per failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from chansock._core import wire
from chansock._core.event import check_handled_id
from chansock._fast.dispatch import EventMsg, Route
from chansock.errors import ChannelClosed, InvalidEvent

__all__ = ["ErrorHandler", "Handler", "Router"]

log = logging.getLogger("chansock.router")

Handler: TypeAlias = Callable[[EventMsg[Any]], Any]
ErrorHandler: TypeAlias = Callable[[EventMsg[Any], BaseException], object]

# What the channel itself tells the application of; no other id in `chsk` ever comes.
OWN_IDS: Final = (wire.UIDPORT_OPEN, wire.UIDPORT_CLOSE, wire.WS_PING, wire.WS_PONG)
MAX_WARNED_IDS: Final = 100  # peers choose the ids, so not one line for each


class Router:
    """The handlers of one channel."""

    def __init__(self, max_threads: int) -> None:
        self.routes: dict[str, Route] = {}
        self.own_routes: dict[str, Route] = {}
        self._error_handlers: list[ErrorHandler] = []
        self._warned: set[str] = set()
        self._max_threads = max_threads
        self._pool: ThreadPoolExecutor | None = None
        self._is_stopped = False

    def add(self, event_id: str, handler: Handler, *, parallel: bool, thread: bool) -> None:
        """Register the one handler of an id. Raises InvalidEvent if it has one."""
        keyword = check_handled_id(event_id)
        if keyword.startswith("chsk/") and keyword not in OWN_IDS:
            raise InvalidEvent(f"expected one of {', '.join(OWN_IDS)}, got {event_id!r:.80}")
        routes = self.own_routes if keyword.startswith("chsk/") else self.routes
        if keyword in routes:
            raise InvalidEvent(f"expected one handler for {event_id!r}, got a second")
        if not callable(handler):
            raise TypeError(f"expected a handler for {event_id!r}, got {handler!r:.80}")
        routes[keyword] = Route(self._threaded(handler) if thread else handler, parallel)

    def add_error_handler(self, handler: ErrorHandler) -> None:
        """Call handler(msg, exception) for each handler that raised, after it was logged."""
        self._error_handlers.append(handler)

    def failed(self, msg: EventMsg[Any], error: BaseException) -> None:
        """Log a handler's failure and tell the error handlers."""
        if isinstance(error, asyncio.CancelledError):
            log.warning("handler_cancelled id=%r uid=%r", msg.id, msg.uid)
        else:
            log.error("handler_error id=%r uid=%r", msg.id, msg.uid, exc_info=error)
        for handler in self._error_handlers:
            try:
                handler(msg, error)
            except Exception:
                log.exception("error_handler_error id=%r uid=%r", msg.id, msg.uid)

    def warn_unclaimed(self, event_id: str) -> None:
        """Warn once for each of the first ids that no handler claims."""
        if event_id not in self._warned and len(self._warned) < MAX_WARNED_IDS:
            self._warned.add(event_id)
            log.warning("unclaimed_event id=%r", event_id[:80])

    def start(self) -> None:
        """Let blocking handlers begin, and warn anew."""
        self._is_stopped = False
        self._warned.clear()

    def stop(self) -> None:
        """Let no further blocking handler begin."""
        self._is_stopped = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _threaded(self, handler: Handler) -> Callable[[EventMsg[Any]], Awaitable[Any]]:
        def in_thread(msg: EventMsg[Any]) -> Awaitable[Any]:
            if self._is_stopped:
                raise ChannelClosed("the channel is stopped")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._max_threads, "chansock")
            return asyncio.wrap_future(self._pool.submit(handler, msg))

        return in_thread
