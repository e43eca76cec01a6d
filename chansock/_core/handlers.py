"""Which handler an event goes to, what stands around it, and what happens when one fails.

Holds the two tables that the dispatch reads (event id to Route). Events are run there,
not here; this is asked once per registration and once per failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias

from chansock._core import wire
from chansock._core.annotation import name_of
from chansock._core.conversion import Converter
from chansock._core.event import check_handled_id
from chansock._core.log_limit import LogLimit
from chansock._fast.events.dispatch import EventMsg, Route, is_awaitable
from chansock.errors import BadData, ChannelClosed, InvalidEvent
from chansock.values import Keyword

__all__ = [
    "CallNext",
    "ErrorHandler",
    "Handled",
    "Handler",
    "Handlers",
    "Middleware",
    "check_registered_id",
    "duplicate_handler",
]

log = logging.getLogger("chansock.handlers")

Handler: TypeAlias = Callable[[EventMsg[Any]], Any]
ErrorHandler: TypeAlias = Callable[[EventMsg[Any], BaseException], object]
CallNext: TypeAlias = Callable[[EventMsg[Any]], Any]
Middleware: TypeAlias = Callable[[EventMsg[Any], CallNext], Any]

# What the channel itself tells the application of; no other id in `chsk` ever comes.
OWN_IDS: Final = (wire.UIDPORT_OPEN, wire.UIDPORT_CLOSE, wire.WS_PING, wire.WS_PONG, wire.RESUME)
MAX_WARNED_IDS: Final = 100  # peers choose the ids, so not one line for each
MAX_REASON: Final = 400  # characters


@dataclass(frozen=True, slots=True)
class Handled:
    """One registration: a handler, the id it is for, and what stands around it."""

    event_id: str  # of a Router's perhaps without its namespace as yet
    handler: Handler
    is_parallel: bool
    is_threaded: bool
    convert: Converter | None = None  # makes its data what the handler asks for
    middleware: tuple[Middleware, ...] = ()  # its routers', outermost first


class Handlers:
    """The handlers of one channel."""

    def __init__(self, max_threads: int) -> None:
        self.routes: dict[str, Route] = {}
        self.own_routes: dict[str, Route] = {}
        self._handled: dict[Keyword, Handled] = {}
        self._middleware: list[Middleware] = []
        self._error_handlers: list[ErrorHandler] = []
        self._warned: set[str] = set()
        self.bad_data = 0
        self._max_threads = max_threads
        self._pool: ThreadPoolExecutor | None = None
        self._is_stopped = False

    def add(self, handled: Iterable[Handled]) -> None:
        """Register all of these, or none. Raises InvalidEvent for an id that cannot be,
        or that has a handler already."""
        found = self._handled.copy()
        added = []
        for one in handled:
            keyword = check_registered_id(one.event_id)
            if keyword in found:
                raise duplicate_handler(one.event_id, found[keyword].handler, one.handler)
            found[keyword] = one
            added.append(keyword)
        self._handled = found
        self._route(added)

    def add_middleware(self, middleware: Middleware) -> None:
        """Put it around every handler, inside of those that were there before."""
        self._middleware.append(middleware)
        self._route(self._handled)

    def add_error_handler(self, handler: ErrorHandler) -> None:
        """Call handler(msg, exception) for each handler that raised, after it was logged."""
        self._error_handlers.append(handler)

    def failed(self, msg: EventMsg[Any], error: BaseException) -> object:
        """Log a handler's failure and tell the error handlers; give what to answer, or None.

        Data that does not fit is the client's failure: it is counted and logged, and the answer
        is `[:chsk/error "why"]` if the client can read that.
        """
        if isinstance(error, BadData):
            return self._refuse_data(msg, error)
        if isinstance(error, asyncio.CancelledError):
            self.log_limit.warning(log, "handler_cancelled id=%r uid=%r", msg.id, msg.uid)
        else:
            # The id is that of a handler, so a client cannot invent kinds.
            kind = f"handler_error id={msg.id!r}"
            text = "handler_error id=%r uid=%r"
            self.log_limit.error(log, text, msg.id, msg.uid, kind=kind, error=error)
        for handler in self._error_handlers:
            try:
                handler(msg, error)
            except Exception:
                text = "error_handler_error id=%r uid=%r"
                self.log_limit.exception(log, text, msg.id, msg.uid)
        return None

    def _refuse_data(self, msg: EventMsg[Any], error: BadData) -> object:
        self.bad_data += 1
        # One line, and characters that every packer can write.
        why = " ".join(str(error).split())[:MAX_REASON].encode("utf-8", "replace").decode()
        self.log_limit.warning(
            log,
            "bad_data id=%r uid=%r client=%r: %s",
            msg.id,
            msg.uid,
            msg.client_id[:8],
            why,
            kind=f"bad_data id={msg.id!r}",
        )
        return [wire.ERROR, why] if msg.request.params.get(wire.WHY) == "1" else None

    def warn_unclaimed(self, event_id: str) -> None:
        """Warn once for each of the first ids that no handler claims."""
        if event_id not in self._warned and len(self._warned) < MAX_WARNED_IDS:
            self._warned.add(event_id)
            log.warning("unclaimed_event id=%r", event_id[:80])

    def start(self, log_limit: LogLimit) -> None:
        """Allow blocking handlers to start, and warn anew."""
        self._is_stopped = False
        self._warned.clear()
        self.bad_data = 0
        self.log_limit = log_limit  # of this life of the channel

    def stop(self) -> None:
        """Start no further blocking handler."""
        self._is_stopped = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _route(self, keywords: Iterable[Keyword]) -> None:
        for keyword in keywords:
            one = self._handled[keyword]
            call, is_async = one.handler, one.is_threaded or is_coroutine(one.handler)
            if one.convert is not None:
                call = _fitted(call, one.convert)
            if one.is_threaded:
                call = self._threaded(call)
            for layer in reversed((*self._middleware, *one.middleware)):
                call = _around(layer, call, is_async)
                is_async = is_coroutine(layer)
            routes = self.own_routes if keyword.startswith("chsk/") else self.routes
            routes[keyword] = Route(call, one.is_parallel)

    def _threaded(self, handler: Handler) -> Callable[[EventMsg[Any]], Awaitable[Any]]:
        def in_thread(msg: EventMsg[Any]) -> Awaitable[Any]:
            if self._is_stopped:
                raise ChannelClosed("the channel is stopped")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._max_threads, "chansock")
            # With the context variables that a middleware may have set.
            run = copy_context().run
            return asyncio.get_running_loop().run_in_executor(self._pool, run, handler, msg)

        return in_thread


def _fitted(handler: Handler, convert: Converter) -> Handler:
    """Return the function that calls a handler with data of its type. It raises BadData."""

    def call(msg: EventMsg[Any]) -> Any:
        try:
            msg.data = convert(msg.data)
        except RecursionError:
            raise BadData("expected data less deep") from None
        return handler(msg)

    return call


def _around(layer: Middleware, inner: Handler, is_inner_async: bool) -> Handler:
    """Return the function that calls a middleware with what it stands around."""
    call_next = inner
    if is_coroutine(layer) and not is_inner_async:

        async def call_next(msg: EventMsg[Any]) -> Any:
            result = inner(msg)
            return await result if is_awaitable(result) else result

    def call(msg: EventMsg[Any]) -> Any:
        return layer(msg, call_next)

    return call


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Return whether what a call of it gives is a coroutine, for sure."""
    return iscoroutinefunction(function) or iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object of a class with one
    )


def check_registered_id(event_id: str) -> Keyword:
    """Return the id of an event to handle. Raises InvalidEvent for one that never comes."""
    keyword = check_handled_id(event_id)
    if keyword.startswith("chsk/") and keyword not in OWN_IDS:
        raise InvalidEvent(f"expected one of {', '.join(OWN_IDS)}, got {event_id!r:.80}")
    return keyword


def duplicate_handler(event_id: str, first: Handler, other: Handler) -> InvalidEvent:
    """Make the error for an id that is handled twice."""
    return InvalidEvent(
        f"expected one handler for {event_id!r}, got a second: {name_of(first)} has it, "
        f"and so would {name_of(other)}"
    )
