"""What came and was not handled yet: events to handlers, and the rest to the iterator, in order.

Bounded by asking the transport to stop, never by dropping. No transport and no protocol here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock._fast.weight import weigh
from chansock.client.packets import Event

__all__ = ["Handler", "Inbox"]

Handler: TypeAlias = Callable[[Event], Awaitable[object] | object]

MAX_EVENTS: Final = 1000  # Sente keeps 512 and then drops the oldest; we stop reading
# Of what the data of these events holds: an event may be as large as a message, 16 MiB.
MAX_BYTES: Final = 64 * 1024 * 1024

log = logging.getLogger("chansock.client.inbox")


class Inbox:
    """Events of one client, handled one at a time in the order of arrival.

    A plain handler is called at once; a coroutine runs to its end before the next event is
    looked at. Both kinds of waiting count: events behind a coroutine, and events that the
    iterator has not taken. `set_reading(False)` is called when `limit` of them wait, or their
    data holds `max_bytes` in memory; `set_reading(True)` when both are down to half.
    """

    def __init__(
        self,
        limit: int,
        set_reading: Callable[[bool], None],
        log_limit: LogLimit,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.handlers: dict[str, Handler] = {}
        self.is_full = False
        self._limit = limit
        self._max_bytes = max_bytes
        self._held = 0  # bytes, by all that waits
        self._set_reading = set_reading
        self._log_limit = log_limit
        # Each with the bytes that it holds.
        self._arrived: deque[tuple[Event, int]] = deque()
        self._unclaimed: deque[tuple[Event, int]] = deque()
        self._readers: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # in turn
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        self._was_read = False

    def put(self, events: Iterable[Event]) -> None:
        """Take events as they came; never refuses, so look at `is_full` before reading on."""
        for event in events:
            size = weigh(event.data, self._max_bytes)
            self._held += size
            self._arrived.append((event, size))
        if self._task is None:
            self._handle_plain()
        self._weigh()

    def would_fill(self, count: int) -> bool:
        """Return whether the inbox is full, or `count` more events reach its limit."""
        return self.is_full or len(self._arrived) + len(self._unclaimed) + count >= self._limit

    async def get(self) -> Event:
        """Take the next unclaimed event. Raises StopAsyncIteration after `end`, when empty."""
        self._was_read = True
        while not self._unclaimed:
            if self._has_ended and self._task is None:
                raise StopAsyncIteration
            reader = asyncio.get_running_loop().create_future()
            self._readers[reader] = None
            try:
                await reader
            finally:
                self._readers.pop(reader, None)
        event, size = self._unclaimed.popleft()
        self._held -= size
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
        while self._arrived:
            self._held -= self._arrived.popleft()[1]
        if self._task is not None:
            task = self._task
            task.cancel()
            if task is not asyncio.current_task():  # a handler may close its own client
                await asyncio.wait({task})
        self.end()

    def _handle_plain(self) -> None:
        """Handle what came, up to the first coroutine, which goes on in a task of its own."""
        while self._arrived:
            event, size = self._arrived.popleft()
            waits = self._handle(event, size)
            if waits is not None:
                self._task = asyncio.get_running_loop().create_task(self._go_on(event, waits))
                return

    def _handle(self, event: Event, size: int) -> Awaitable[Any] | None:
        handler = self.handlers.get(event.id)
        if handler is None:
            self._unclaimed.append((event, size))
            self._wake(1)
            return None
        self._held -= size
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
                    event, size = self._arrived.popleft()
                    following = self._handle(event, size)
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
        while count and self._readers:
            reader, _ = self._readers.popitem(last=False)
            if not reader.done():  # not cancelled
                reader.set_result(None)
                count -= 1

    def _weigh(self) -> None:
        size = len(self._arrived) + len(self._unclaimed)
        if not self.is_full and (size >= self._limit or self._held >= self._max_bytes):
            self.is_full = True
            if self._unclaimed and not self._was_read:
                self._log_limit.warning(
                    log,
                    "inbox_full events=%d unclaimed=%r: reading stops until `async for` takes them",
                    size,
                    str(self._unclaimed[0][0].id),
                )
            self._set_reading(False)
        elif self.is_full and size <= self._limit // 2 and self._held <= self._max_bytes // 2:
            self.is_full = False
            self._set_reading(True)
