"""One connection to Redis or Valkey in RESP3: commands, replies, and pushes in one stream.

The engine writes in the order in which it was called, once per turn of the loop. Replies come in
that order, and pushes between them: what was published before a command ran comes before its
reply. What commands and pushes mean is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from chansock._fast.io.buffer import WriteBuffer

__all__ = ["Handler", "Link", "LinkLost", "ServerError"]

Handler: TypeAlias = Callable[[Any, Any], object]
MAX_SPARE: Final = 1 << 18  # bytes of memory that stay with a link for what it writes next
_SUBSCRIPTIONS: Final = frozenset((b"subscribe", b"unsubscribe"))


class LinkLost(Exception):
    """The connection ended before a reply came."""


class ServerError(Exception):
    """The server answered with an error; `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class Link(asyncio.Protocol):
    """The protocol of one connection. It calls `messages(push)` for each message that is pushed.

    `subscribed(channel)` is called when a subscription begins, and `lost(reason)` once, when the
    connection has ended or something on it was wrong.
    """

    def __init__(
        self,
        messages: Callable[[list[Any]], object],
        subscribed: Callable[[bytes], object],
        lost: Callable[[str], object],
    ) -> None:
        import hiredis

        self._reader = hiredis.Reader()
        self._push: Any = hiredis.PushNotification
        self._error = hiredis.ReplyError
        self._messages = messages
        self._subscribed = subscribed
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._out = WriteBuffer()
        self._is_due = False  # a flush comes in this turn
        self._handlers: deque[tuple[Handler, Any]] = deque()
        self._before_flush: Callable[[], object] | None = None
        self.is_closed = False

    # -- writing

    def send(self, handler: Handler, arg: Any, *command: str | bytes | int) -> None:
        """Write a command; `handler(reply, arg)` is called with its reply, or an error of it."""
        self._out.put_command(command)
        self._handlers.append((handler, arg))
        if not self._is_due:
            self.wake()

    def subscribe(self, command: str, channels: list[bytes]) -> None:
        """Write SUBSCRIBE or UNSUBSCRIBE. Each channel is confirmed by a push."""
        self._out.put_command((command, *channels))
        self._handlers.append((self._confirmed, [len(channels)]))
        if not self._is_due:
            self.wake()

    def ask(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Write a command, and return its reply as a future. Raises ServerError or LinkLost."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.send(self._answer, future, *command)
        return future

    def on_flush(self, call: Callable[[], object]) -> None:
        """Call this before what was gathered in a turn is written."""
        self._before_flush = call

    def wake(self) -> None:
        """Write at the end of this turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._before_flush is not None and not self.is_closed:
            self._is_due = True  # what is added now goes with the rest
            self._before_flush()
        self._is_due = False
        out = self._out
        if out.size and self._transport is not None and not self.is_closed:
            self._transport.write(out.take())
        if out.size or out.capacity > MAX_SPARE:
            out.clear()

    # -- reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.is_closed:
            return
        try:
            self._reader.feed(data)
            gets, push = self._reader.gets, self._push
            messages, handlers = self._messages, self._handlers
            while (reply := gets()) is not False:
                if type(reply) is push:
                    if reply[0] == b"message":
                        messages(reply)
                    else:
                        self._other_push(reply)
                else:
                    handler, arg = handlers.popleft()
                    handler(reply, arg)
                if self._is_over():
                    return
        except Exception as error:  # whatever the other side is, it does not speak as Redis does
            self.fail(f"expected replies of Redis, got {type(error).__name__}: {error!s:.200}")

    def _is_over(self) -> bool:
        return self.is_closed  # which any handler may have changed

    def _other_push(self, reply: list[Any]) -> None:
        if reply[0] not in _SUBSCRIPTIONS:
            return
        if reply[0] == b"subscribe":
            self._subscribed(reply[1])
        handler, left = self._handlers[0]
        if handler != self._confirmed:
            raise ValueError("a subscription that nobody asked for")
        left[0] -= 1
        if not left[0]:
            self._handlers.popleft()

    def _confirmed(self, reply: Any, left: list[int]) -> None:
        """Take what is no push: the subscription was refused."""
        self.fail(str(reply))

    def _answer(self, reply: Any, future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        if isinstance(reply, self._error):
            future.set_exception(ServerError(str(reply)))
        elif isinstance(reply, LinkLost):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    # -- the end

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"connection closed: {exc}" if exc else "connection closed by the server")

    def fail(self, reason: str) -> None:
        """End the connection. What waits for a reply gets LinkLost instead."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        handlers, self._handlers = self._handlers, deque()
        self._lost(reason)
        error = LinkLost(reason)
        for handler, arg in handlers:
            if handler != self._confirmed:
                handler(error, arg)
