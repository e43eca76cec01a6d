"""What came and was not handled yet: events to handlers, and the rest to the iterator, in order.

Bounded by asking the transport to stop, never by dropping. No transport and no protocol here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock.client.packets import Event

__all__ = ["Handler", "Inbox"]

Handler: TypeAlias = Callable[[Event], Awaitable[object] | object]

MAX_EVENTS: Final = 1000  # Sente keeps 512 and then drops the oldest; we stop reading

log = logging.getLogger("chansock.client.inbox")


class Inbox:
    """Events of one client, handled one at a time in the order of arrival.

    A plain handler is called at once; a coroutine runs to its end before the next event is
    looked at. Both kinds of waiting count: events behind a coroutine, and events that the
    iterator has not taken. At `limit` of them `set_reading(False)` is called, and
    `set_reading(True)` when half of them are gone.
    """

    def __init__(
        self, limit: int, set_reading: Callable[[bool], None], log_limit: LogLimit
    ) -> None:
        self.handlers: dict[str, Handler] = {}
        self.is_full = False
        self._limit = limit
        self._set_reading = set_reading
        self._log_limit = log_limit
        self._arrived: deque[Event] = deque()
        self._unclaimed: deque[Event] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        self._was_read = False

    def put(self, events: Iterable[Event]) -> None:
        """Take events as they came; never refuses, so look at `is_full` before reading on."""
        self._arrived.extend(events)
        if self._task is None:
            self._handle_plain()
        self._weigh()

    def would_fill(self, count: int) -> bool:
        """Tell whether `count` more events reach the limit."""
        return len(self._arrived) + len(self._unclaimed) + count >= self._limit

    async def get(self) -> Event:
        """Take the next unclaimed event. Raises StopAsyncIteration after `end`, when empty."""
        self._was_read = True
        while not self._unclaimed:
            if self._has_ended and self._task is None:
                raise StopAsyncIteration
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            finally:
                if reader in self._readers:
                    self._readers.remove(reader)
        event = self._unclaimed.popleft()
        if self._unclaimed:
            self._wake(1)  # a reader woken for this one may have been cancelled
        self._weigh()
        return event

    def begin(self) -> None:
        """Let readers wait again after an `end`."""
        self._has_ended = False

    def end(self) -> None:
        """End the iterator once what came before is taken."""
        self._has_ended = True
        self._wake(len(self._readers))

    async def stop(self) -> None:
        """Cancel the handler that runs; forget what waits for it."""
        self._arrived.clear()
        if self._task is not None:
            task = self._task
            task.cancel()
            if task is not asyncio.current_task():  # a handler may close its own client
                await asyncio.wait({task})
        self.end()

    def _handle_plain(self) -> None:
        """Handle what came, up to the first coroutine, which goes on in a task of its own."""
        while self._arrived:
            event = self._arrived.popleft()
            waits = self._handle(event)
            if waits is not None:
                self._task = asyncio.get_running_loop().create_task(self._go_on(event, waits))
                return

    def _handle(self, event: Event) -> Awaitable[Any] | None:
        handler = self.handlers.get(event.id)
        if handler is None:
            self._unclaimed.append(event)
            self._wake(1)
            return None
        try:
            result = handler(event)
        except Exception:
            self._handler_failed(event)
            return None
        return result if inspect.isawaitable(result) else None

    async def _go_on(self, event: Event, waits: Awaitable[Any]) -> None:
        """Run coroutine handlers, one after the other, until nothing waits."""
        try:
            while True:
                try:
                    await waits
                except Exception:
                    self._handler_failed(event)
                self._weigh()
                while True:
                    if not self._arrived:
                        return
                    event = self._arrived.popleft()
                    following = self._handle(event)
                    if following is not None:
                        waits = following
                        break
        finally:
            self._task = None
            self._weigh()
            if self._has_ended:
                self._wake(len(self._readers))

    def _handler_failed(self, event: Event) -> None:
        # The id is that of a handler, so a server cannot invent kinds.
        name = str(event.id)
        self._log_limit.exception(
            log, "handler_failed event=%r", name, kind=f"handler_failed event={name!r}"
        )

    def _wake(self, count: int) -> None:
        for reader in self._readers:
            if count == 0:
                return
            if not reader.done():
                reader.set_result(None)
                count -= 1

    def _weigh(self) -> None:
        size = len(self._arrived) + len(self._unclaimed)
        if not self.is_full and size >= self._limit:
            self.is_full = True
            if self._unclaimed and not self._was_read:
                self._log_limit.warning(
                    log,
                    "inbox_full events=%d unclaimed=%r: reading stops until `async for` takes them",
                    size,
                    str(self._unclaimed[0].id),
                )
            self._set_reading(False)
        elif self.is_full and size <= self._limit // 2:
            self.is_full = False
            self._set_reading(True)
