"""The client for code that waits: scripts, tests, notebooks. The names are those of Client.

A SyncClient calls a Client that lives on a loop in a thread of its own (`threads`), and waits
for its results. `client` decides what the channel does, and nothing here does.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeAlias, TypeVar, overload

from chansock.client.arguments import ClientConfig
from chansock.client.client import Client
from chansock.client.inbox import check_handler
from chansock.client.packets import Event
from chansock.client.state import State
from chansock.client.threads import Caller, Ended, Life
from chansock.errors import InvalidEvent
from chansock.values import NO_DATA

__all__ = ["SyncClient", "SyncHandler", "SyncStateHandler", "in_sync"]

SyncHandler: TypeAlias = Callable[[Event], object]
SyncStateHandler: TypeAlias = Callable[[State], object]

# Of connect's parameters, those that may be functions, called anew for each attempt.
SOURCES: Final = ("url", "headers", "params", "csrf_token")

P = ParamSpec("P")
H = TypeVar("H", bound=SyncHandler)
S = TypeVar("S", bound=SyncStateHandler)
T = TypeVar("T")


class SyncClient:
    """A channel to one server, which comes back after every close. `connect_sync` makes it.

    `with` (or `open`) waits until it is open. Events go to the handler of their id, the rest to
    `for` and `recv`, in the order in which the server sent them. Every method may be called from
    any thread, and from a thread whose own loop runs, as in a notebook. A wait that
    KeyboardInterrupt breaks off costs nothing: no event is lost, and the client goes on.

    Not for a process that was forked off after `open`: there each call raises ChannelClosed,
    while the parent goes on with it. Make another one in the child.
    """

    def __init__(self, client: Client, sources: Caller, close_timeout: float) -> None:
        self._client = client
        self._handlers = Caller("chansock-handlers")
        self._life = Life(client, (self._handlers, sources), close_timeout)
        # One that is forgotten is closed, but nobody waits for it then.
        weakref.finalize(self, self._life.abandon).atexit = False

    @property
    def client_id(self) -> str:
        """What this client is to the server, across reconnects."""
        return self._client.client_id

    @property
    def state(self) -> State:
        """What is known of the channel now."""
        return self._client.state

    def open(self) -> Self:
        """Connect, and wait until the channel is open; what `with` does. Close it by `close`.

        Raises HandshakeRefused if the first attempt got an HTTP status other than the one
        asked for, ConnectionError if it did not get as far; later ones are repeated instead.
        """
        self._life.open()
        return self

    def close(self) -> None:
        """Close, and wait until the connection is gone (close_timeout at most).

        A handler that runs has as long to end. May be called twice, and by a handler.
        """
        self._life.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def send(self, event_id: str, data: object = ..., *, timeout: None = None) -> None: ...
    @overload
    def send(self, event_id: str, data: object = ..., *, timeout: float) -> Any: ...
    def send(self, event_id: str, data: object = NO_DATA, *, timeout: float | None = None) -> Any:
        """Send the event `[event_id data]`; with a timeout, ask for a reply and return it.

        Without `data` the event is `[event_id]`; None is data, and written as nil. Without a
        timeout it returns None once the socket or its write buffer has the event; over
        Ajax, once its POST was answered. Events of one thread arrive in the order of its calls.

        Without a connection the event is kept for the next one, if the server resumes.

        Raises what `Client.send` raises: InvalidEvent or EncodeError for what cannot be
        sent; ChannelClosed if the client is closed, or the channel is and nothing is kept;
        ReplyTimeout, ReplyError.
        """
        return self._life.run(lambda: self._client.send(event_id, data, timeout=timeout))

    def recv(self, timeout: float | None = None) -> Event:
        """Take the next event that no handler claims; wait for it, at most `timeout` seconds.

        0: do not wait. Of several threads that wait each gets another event.

        Raises TimeoutError if none came in time, ChannelClosed after `disconnect` and `close`,
        once what came before is taken.
        """
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and timeout >= 0):
            raise InvalidEvent(f"timeout: expected a number of seconds from 0, got {timeout!r:.80}")
        return self._life.take(timeout)

    def __iter__(self) -> Self:
        """Iterate over the events that no handler claims; ends after `disconnect` and `close`."""
        return self

    def __next__(self) -> Event:
        try:
            return self._life.take(None)
        except Ended:
            raise StopIteration from None

    @overload
    def on(self, event_id: str, handler: None = None, /) -> Callable[[H], H]: ...
    @overload
    def on(self, event_id: str, handler: H, /) -> H: ...
    def on(self, event_id: str, handler: H | None = None, /) -> H | Callable[[H], H]:
        """Call `handler(event)` for each event of this id: a decorator, or a call.

        Handlers are plain functions. All of one client's are called in one thread, which is
        theirs alone, one event after the other: they may wait, and call `send`. Ids and errors
        are those of `Client.on`.
        """
        return self._adopt(event_id, handler, self._client.on(event_id))

    @overload
    def once(self, event_id: str, handler: None = None, /) -> Callable[[H], H]: ...
    @overload
    def once(self, event_id: str, handler: H, /) -> H: ...
    def once(self, event_id: str, handler: H | None = None, /) -> H | Callable[[H], H]:
        """Call `handler(event)` for the next event of this id, and no more; see `on`."""
        return self._adopt(event_id, handler, self._client.once(event_id))

    def _adopt(
        self, event_id: str, handler: H | None, add: Callable[[Any], object]
    ) -> H | Callable[[H], H]:
        call = self._handlers.call

        def adopt(handler: H) -> H:
            _check_plain(event_id, handler)
            add(lambda event: call(handler, event))
            return handler

        return adopt if handler is None else adopt(handler)

    def on_state(self, handler: S, /) -> S:
        """Have `handler(state)` called at each change of state; a decorator, or a call.

        In the thread of the handlers, in the order of the changes; `state` itself is further,
        maybe.
        """
        _check_plain("state", handler, "state")
        handlers = self._handlers

        def post(state: State) -> Awaitable[object] | None:
            handlers.post(handler, state)
            # Far behind, the client counts what waits, and stops reading past its limit.
            return handlers.call(_nothing) if handlers.is_behind else None

        self._client.on_state(post)
        return handler

    def reconnect(self) -> None:
        """Connect anew, at once: with other credentials, or after `disconnect`.

        Does not wait for it. With transport="auto" the WebSocket is tried first again.
        """
        self._life.run(lambda: _called(self._client.reconnect))

    def disconnect(self) -> None:
        """Close, and stay closed until `reconnect`. Waiting replies raise ChannelClosed."""
        self._life.run(lambda: _called(self._client.disconnect))

    def break_connection(self, code: int = 3000, *, is_noticed: bool = True) -> None:
        """Break what is below, as a network might, for tests: see `Client.break_connection`."""
        self._life.run(
            lambda: _called(lambda: self._client.break_connection(code, is_noticed=is_noticed))
        )


async def _called(function: Callable[[], T]) -> T:
    return function()


def _nothing() -> None:
    """Mark a place in the queue of a thread."""


def _check_plain(name: str, handler: object, argument: str = "event") -> None:
    check_handler(name, handler, argument)
    if inspect.iscoroutinefunction(handler):
        raise TypeError(
            f"expected a plain function for {name!r}, got a coroutine function: "
            "those are for `connect`"
        )


def in_sync(connect: Callable[P, Client]) -> Callable[P, SyncClient]:
    """Make connect_sync of connect: the same parameters, and a SyncClient around its Client."""
    signature = inspect.signature(connect)

    def connect_sync(*args: P.args, **kwargs: P.kwargs) -> SyncClient:
        """Make a client of the channel at `url`, for code that waits: scripts, notebooks.

            with chansock.connect_sync("ws://localhost:8000/chsk") as client:
                print(client.send("math/double", 21, timeout=5))

        The parameters are those of `connect`. Functions among them, plain or async, may wait:
        plain ones are called in a thread of their own (`backoff` alone in that of the client).

        Raises ConfigError for a setting that cannot be; connects only at `with` or `open`.
        """
        given = signature.bind(*args, **kwargs)
        sources = Caller("chansock-sources")
        for name in SOURCES:
            source = given.arguments.get(name)
            if callable(source):
                given.arguments[name] = _elsewhere(sources, source)
        client = connect(*given.args, **given.kwargs)
        given.apply_defaults()
        config = given.arguments["config"] or ClientConfig()
        return SyncClient(client, sources, config.close_timeout)

    connect_sync.__signature__ = signature.replace(return_annotation="SyncClient")  # type: ignore[attr-defined]
    return connect_sync


def _elsewhere(caller: Caller, source: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """Return a function that calls a source in another thread: it may wait for a token server."""

    async def call() -> Any:
        found = await caller.call(source)
        return await found if inspect.isawaitable(found) else found

    return call
