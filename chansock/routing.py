"""Handlers in several modules: Router, and what it has in common with ChannelSocket.

A Router is a list of registrations, which `include` hands on; it runs nothing and knows
no channel. How handlers are run and what stands around them is of `_core/handlers`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import FrameType
from typing import Any, TypeVar, overload

from chansock._core.annotation import check_parameters, converter_for, name_of
from chansock._core.event import check_handled_id
from chansock._core.handlers import (
    Handled,
    Handler,
    Middleware,
    check_registered_id,
    duplicate_handler,
)
from chansock._fast.events.dispatch import EventMsg
from chansock.errors import ConfigError, InvalidEvent

__all__ = ["Registry", "Router"]

H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=Middleware)
R = TypeVar("R")


class Registry(ABC):
    """The words for registering that a ChannelSocket and a Router share."""

    @overload
    def on(
        self,
        event_id: str,
        handler: None = None,
        /,
        *,
        parallel: bool = False,
        thread: bool = False,
    ) -> Callable[[H], H]: ...
    @overload
    def on(
        self,
        event_id: str,
        handler: Callable[[EventMsg[Any]], R],  # no H: it would leave a lambda's msg unknown
        /,
        *,
        parallel: bool = False,
        thread: bool = False,
    ) -> Callable[[EventMsg[Any]], R]: ...
    def on(
        self,
        event_id: str,
        handler: Any = None,
        /,
        *,
        parallel: bool = False,
        thread: bool = False,
    ) -> Any:
        """Handle an event: as a decorator, or with the handler given.

        `handler(msg)` is plain (called at once, on the loop) or async; what it returns is
        the reply, if the client asked for one; chansock.LATER: it will call `msg.reply`.
        A client's events are handled one at a time; `parallel` lets this handler overlap
        with what follows, `thread` runs a blocking one on a pool of max_threads.
        For `msg: EventMsg[T]` data that is no T is refused, and `msg.data` is made one.
        The server's own `chsk/uidport-open` and `chsk/uidport-close` can be handled too:
        `msg.data` came or went.

        Raises InvalidEvent for an id that cannot be, or that has a handler already; TypeError
        for a handler that cannot be called with one argument, for an annotation that is no
        EventMsg, for a T that data cannot be converted to, or that cannot be found, and for
        `@on` without an id.
        """
        if callable(event_id):
            raise TypeError(
                f'expected `@on("chat/say")`, with the id of an event, got `@on` alone on '
                f"{name_of(event_id)}"
            )
        if handler is None:
            return lambda function: self._on(event_id, function, parallel, thread, sys._getframe(1))
        return self._on(event_id, handler, parallel, thread, sys._getframe(1))

    def _on(
        self, event_id: str, handler: H, is_parallel: bool, is_threaded: bool, frame: FrameType
    ) -> H:
        if not callable(handler):
            raise TypeError(
                f"expected a handler for {event_id!r}, like `def handler(msg)`, got {handler!r:.80}"
            )
        check_parameters(handler)
        # The channel's own events bring what they bring; a client's may be anything.
        is_own = str(event_id).startswith("chsk/")
        convert = None if is_own else converter_for(handler, frame)
        self._add([Handled(event_id, handler, is_parallel, is_threaded, convert)])
        return handler

    def include(self, router: Router, /, *, prefix: str = "") -> None:
        """Take all handlers of a router, with their ids under `prefix` as by Router.

        All of them or, if it raises, none. From then on the router takes no more; it
        may be included again, under another prefix or in another channel.

        Raises InvalidEvent for an id that cannot be, or that has a handler already.
        """
        if not isinstance(router, Router):
            raise TypeError(f"expected a Router, got {router!r:.80}")
        self._add(router._handed_on(check_prefix(prefix)))
        router._is_included = True

    def middleware(self, function: M, /) -> M:
        """Put `function(msg, call_next)` around every handler of this, as a decorator.

        It is called instead of the handler, and what it returns is the reply:
        `call_next(msg)` gives what the handler returns. A plain one is just called; where
        the handler is async or in a thread, its call_next gives an awaitable, to be handed
        on. An async one may `await call_next(msg)` around whatever handler. The first that
        is registered is the outermost; a channel's are outside of its routers'.
        """
        self._add_middleware(check_middleware(function))
        return function

    @abstractmethod
    def _add(self, handled: list[Handled]) -> None: ...

    @abstractmethod
    def _add_middleware(self, middleware: Middleware) -> None: ...


class Router(Registry):
    """Handlers that a channel, or another router, will include.

    `Router("chat")` puts its ids into a namespace, the `prefix`: there `on("say")` handles
    `chat/say`, and `on("room/join")` handles `chat.room/join`. Prefixes of routers that
    include each other join in the same way: under "app" it is `app.chat/say`. Ids in
    `chsk/` are the channel's own and stay as they are. `middleware` is around these
    handlers alone, the first outermost.
    """

    def __init__(self, prefix: str = "", *, middleware: Iterable[Middleware] = ()) -> None:
        self.prefix: str = check_prefix(prefix)
        self._middleware = [check_middleware(one) for one in middleware]
        self._handled: dict[str, Handled] = {}
        self._is_included = False

    def __repr__(self) -> str:
        return f"<Router prefix={self.prefix!r} {len(self._handled)} handlers>"

    def _add(self, handled: list[Handled]) -> None:
        self._check_open(f"handler of {handled[0].event_id!r:.80}" if handled else "router")
        found = self._handled.copy()
        for one in handled:
            event_id = joined(self.prefix, one.event_id)
            if event_id in found:
                raise duplicate_handler(event_id, found[event_id].handler, one.handler)
            found[event_id] = replace(one, event_id=event_id)
        self._handled = found

    def _add_middleware(self, middleware: Middleware) -> None:
        self._check_open("middleware")
        self._middleware.append(middleware)

    def _check_open(self, what: str) -> None:
        if self._is_included:
            raise ConfigError(
                f"expected every handler, middleware and router of {self!r} before it is "
                f"included, got a {what} after"
            )

    def _handed_on(self, prefix: str) -> list[Handled]:
        around = tuple(self._middleware)
        return [
            replace(one, event_id=joined(prefix, event_id), middleware=around + one.middleware)
            for event_id, one in self._handled.items()
        ]


def joined(prefix: str, event_id: str) -> str:
    """Put an id under a prefix: chat + say is chat/say, chat + room/join chat.room/join.

    Raises InvalidEvent for what can be no id, or part of one.
    """
    if isinstance(event_id, str) and "/" not in event_id:
        if not is_part(event_id, "x/{}"):
            raise InvalidEvent(f'expected an event id like "say", got {event_id!r:.80}')
        return f"{prefix}/{event_id}" if prefix else event_id
    if check_registered_id(event_id).startswith("chsk/") or not prefix:
        return event_id
    return f"{prefix}.{event_id}"


def check_prefix(prefix: str) -> str:
    """Return a prefix. Raises InvalidEvent unless it is a namespace, or empty."""
    is_well = isinstance(prefix, str) and "/" not in prefix and "" not in prefix.split(".")
    if prefix == "" or (is_well and prefix != "chsk" and is_part(prefix, "{}/x")):
        return prefix
    raise InvalidEvent(
        f'prefix: expected a namespace like "chat" or "app.chat", not "chsk", got {prefix!r:.80}'
    )


def is_part(text: str, whole: str) -> bool:
    """Return whether text can stand at its place in an id."""
    try:
        check_handled_id(whole.format(text))
    except InvalidEvent:
        return False
    return not text.startswith(":")


def check_middleware(function: M) -> M:
    """Return a middleware. Raises TypeError unless it can be called."""
    if not callable(function):
        raise TypeError(f"expected a middleware(msg, call_next), got {function!r:.80}")
    return function
