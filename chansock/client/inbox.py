"""What came and was not handled yet, and what handles it: handlers, the iterator, tasks beside.

`Handlers` has the handlers of each id; `Inbox` calls them in order, and keeps the rest for the
iterator; `Beside` runs coroutines that nothing waits for. Bounded by asking the transport to stop,
never by dropping. Long work is done in slices: the loop runs others in between. No transport and
no protocol here.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock._fast.events.dispatch import weigh
from chansock.client.packets import Event, read_event
from chansock.client.timing import SLICE
from chansock.values import short_repr

__all__ = ["ANY", "Beside", "Handler", "Handlers", "Inbox", "check_handler", "close_unstarted"]

Handler: TypeAlias = Callable[[Event], Awaitable[object] | object]

# No event can have this id, for it has no namespace.
ANY: Final = "*"


class Handlers:
    """Handlers by event id, in the order of registration; those of ANY come last.

    ANY means all events of the server, without the channel's own (`chsk/...`).
    """

    __slots__ = ("_entries", "_steady")

    def __init__(self) -> None:
        self._entries: dict[str, list[tuple[Handler, bool]]] = {}  # and whether for one event
        self._steady: dict[str, tuple[Handler, ...]] = {}  # of ids without any for one event

    def add(self, event_id: str, handler: Handler, *, is_once: bool = False) -> None:
        """Add a handler; with `is_once` it is removed at its first event."""
        self._put(event_id, [*self._entries.get(event_id, ()), (handler, is_once)])

    def has(self, event_id: str) -> bool:
        """Return whether this very id has a handler."""
        return event_id in self._entries

    def of(self, event: Event) -> Sequence[Handler]:
        """Return the handlers of an event that is handled now."""
        found = self._take(event.id)
        if ANY in self._entries and not event.id.startswith("chsk/"):
            return [*found, *self._take(ANY)]
        return found

    def _take(self, event_id: str) -> Sequence[Handler]:
        steady = self._steady.get(event_id)
        if steady is not None or event_id not in self._entries:
            return steady or ()
        entries = self._entries[event_id]
        self._put(event_id, [entry for entry in entries if not entry[1]])
        return [handler for handler, _ in entries]

    def _put(self, event_id: str, entries: list[tuple[Handler, bool]]) -> None:
        self._steady.pop(event_id, None)
        self._entries[event_id] = entries
        if not entries:
            del self._entries[event_id]
        elif not any(is_once for _, is_once in entries):
            self._steady[event_id] = tuple(handler for handler, _ in entries)


def close_unstarted(awaitable: object) -> None:
    """Close a coroutine that will not be awaited: Python warns about one that was forgotten."""
    if not inspect.iscoroutine(awaitable):
        return
    if inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        awaitable.close()


def check_handler(name: str, handler: object, argument: str = "event") -> None:
    """Raise TypeError unless the handler can be called with one argument."""
    form = f"def handler({argument}): ..."
    if not callable(handler):
        raise TypeError(f"expected a handler for {name!r}, like {form}, got {handler!r:.80}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # of a builtin that says nothing about itself
        return
    try:
        signature.bind(object())
    except TypeError:
        shown = getattr(handler, "__name__", type(handler).__name__)
        raise TypeError(
            f"expected a handler of one argument for {name!r}, like {form}, got {shown}{signature}"
        ) from None


# -- events in the order of arrival

log = logging.getLogger("chansock.client.inbox")

_LAST: Final = object()  # what stands behind a batch
_Waits: TypeAlias = Awaitable[Any]


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
        max_bytes: int,
    ) -> None:
        self.handlers: Handlers = Handlers()
        self.is_full: bool = False
        self._limit = limit
        self._max_bytes = max_bytes
        self._held = 0  # bytes, by all that waits
        self._set_reading = set_reading
        self._log_limit = log_limit
        self._batches: deque[Iterator[object]] = deque()  # not looked at yet
        # Each with the bytes that it holds.
        self._arrived: deque[tuple[Event, int]] = deque()
        self._unclaimed: deque[tuple[Event, int]] = deque()
        self._readers: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # in turn
        self._task: asyncio.Task[None] | None = None  # of the coroutine handler that runs
        self._begun: _Waits | None = None  # what that task runs first
        self._due: asyncio.Handle | None = None  # the next slice
        self._has_ended = False
        self._was_read = False

    def put(self, items: Iterable[object]) -> None:
        """Take Events, or the items of a batch; never refuses, so look at `is_full` after it."""
        self._batches.append(iter(items))
        if self._due is None:
            self._work()

    def would_fill(self, count: int) -> bool:
        """Return whether the inbox is full, or `count` more events reach its limit."""
        return self.is_full or len(self._arrived) + len(self._unclaimed) + count >= self._limit

    async def get(self) -> Event:
        """Take the next unclaimed event. Raises StopAsyncIteration after `end`, when empty."""
        self._was_read = True
        while not self._unclaimed:
            if self._has_ended and self._task is None and self._due is None:
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
        """Allow readers to wait again after an `end`."""
        self._has_ended = False

    def end(self) -> None:
        """End the iterator once what came before is taken."""
        self._has_ended = True
        self._wake(len(self._readers))

    def stop(self) -> asyncio.Task[None] | None:
        """Cancel the handler that runs, and forget what waits for it; return its task.

        A handler that calls this itself runs to its end: None is returned.
        """
        self._batches.clear()
        while self._arrived:
            self._held -= self._arrived.popleft()[1]
        if self._due is not None:
            self._due.cancel()
            self._due = None
        task = self._task if self._task is not asyncio.current_task() else None
        if task is not None:
            task.cancel()
            close_unstarted(self._begun)
        self.end()
        self._weigh()
        return task

    # working off what came

    def _work(self) -> None:
        """Handle what came for SLICE seconds at most, up to the first coroutine."""
        self._due = None
        end = time.perf_counter() + SLICE
        arrived, batches = self._arrived, self._batches
        while True:
            event: Event | None
            if arrived and self._task is None:
                event, size = arrived.popleft()
            elif batches and self._has_room():
                item = next(batches[0], _LAST)
                if item is _LAST:
                    batches.popleft()
                    continue
                event = item if isinstance(item, Event) else read_event(item)
                if event is None:
                    self._log_limit.warning(log, "bad_event got=%s", _Shown(item))
                else:
                    size = weigh(event.data, self._max_bytes)
                    self._held += size
                    if self._task is not None:
                        arrived.append((event, size))
                        event = None
            else:
                break
            rest = None if event is None else self._begin(event, size)
            if event is not None and rest is not None:
                waits = self._call(event, rest)
                if waits is not None:
                    self._begun = waits
                    loop = asyncio.get_running_loop()
                    self._task = loop.create_task(self._go_on(event, rest, waits))
            if time.perf_counter() > end:
                self._schedule()
                break
        self._weigh()
        if self._has_ended and self._due is None and self._task is None:
            self._wake(len(self._readers))

    def _schedule(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._work)

    def _has_room(self) -> bool:
        size = len(self._arrived) + len(self._unclaimed)
        return size < self._limit and self._held < self._max_bytes

    def _begin(self, event: Event, size: int) -> Iterator[Handler] | None:
        """Return the handlers of an event; None if it has none, and waits for the iterator."""
        handlers: Sequence[Handler] = self.handlers.of(event)
        if not handlers:
            self._unclaimed.append((event, size))
            self._wake(1)
            return None
        self._held -= size
        return iter(handlers)

    def _call(self, event: Event, rest: Iterator[Handler]) -> _Waits | None:
        """Call an event's handlers up to the first coroutine, and return that."""
        for handler in rest:
            try:
                result = handler(event)
            except Exception:
                self._handler_failed(event)
                continue
            if result is not None and inspect.isawaitable(result):
                return result
        return None

    async def _go_on(self, event: Event, rest: Iterator[Handler], waits: _Waits) -> None:
        """Run coroutine handlers, one after the other, until nothing waits."""
        end = time.perf_counter() + SLICE
        self._begun = None
        try:
            while True:
                try:
                    await waits
                except Exception:
                    self._handler_failed(event)
                self._weigh()
                while (following := self._call(event, rest)) is None:
                    if time.perf_counter() > end:
                        await asyncio.sleep(0)
                        end = time.perf_counter() + SLICE
                    if not self._arrived:
                        return
                    event, size = self._arrived.popleft()
                    rest = self._begin(event, size) or iter(())
                waits = following
        finally:
            self._task = None
            if self._batches or self._arrived:
                self._schedule()
            self._weigh()
            if self._has_ended and self._due is None:
                self._wake(len(self._readers))

    def _handler_failed(self, event: Event) -> None:
        # The id is that of a handler, unless it is a catch-all: then a server could invent kinds.
        name = str(event.id) if self.handlers.has(event.id) else "*"
        self._log_limit.exception(
            log, "handler_failed event=%r", str(event.id), kind=f"handler_failed event={name!r}"
        )

    def _wake(self, count: int) -> None:
        while count and self._readers:
            reader, _ = self._readers.popitem(last=False)
            if not reader.done():  # not cancelled
                reader.set_result(None)
                count -= 1

    def _weigh(self) -> None:
        size = len(self._arrived) + len(self._unclaimed)
        is_low = size <= self._limit // 2 and self._held <= self._max_bytes // 2
        if self._batches and is_low and self._due is None:
            self._schedule()
        if not self.is_full and (self._batches or not self._has_room()):
            self.is_full = True
            if self._unclaimed and not self._was_read and not self._has_room():
                self._log_limit.warning(
                    log,
                    "inbox_full events=%d unclaimed=%r: reading stops until `async for` takes them",
                    size,
                    str(self._unclaimed[0][0].id),
                )
            self._set_reading(False)
        elif self.is_full and is_low and not self._batches:
            self.is_full = False
            self._set_reading(True)


class _Shown:
    """A value in a log line, shown only if the line is written."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return short_repr(self._value)


# -- what runs beside the attempts: last goodbyes, and state handlers that are coroutines


class Beside:
    """Tasks that are kept until they are done; what one raises is logged.

    `changed()` is called when `limit` of them run, and when fewer do again: the client stops
    reading, for each state that the server causes may begin another one.
    """

    __slots__ = ("_changed", "_limit", "_log_limit", "_tasks")

    def __init__(self, limit: int, changed: Callable[[], None], log_limit: LogLimit) -> None:
        self._limit = limit
        self._changed = changed
        self._log_limit = log_limit
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_full(self) -> bool:
        """Whether no more should be begun."""
        return len(self._tasks) >= self._limit

    def keep(self, awaitable: Awaitable[Any], /) -> None:
        """Run something to its end beside the rest."""
        task = asyncio.get_running_loop().create_task(self._run_logged(awaitable))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._forget, awaitable))
        if len(self._tasks) == self._limit:
            self._changed()

    async def end(self, timeout: float) -> None:
        """Wait `timeout` seconds for all, but not for the one that calls this."""
        if tasks := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=timeout)

    def cancel(self) -> None:
        """Cancel those that still run, but not the one that calls this."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _forget(self, awaitable: Awaitable[Any], task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        close_unstarted(awaitable)
        if len(self._tasks) == self._limit - 1:
            self._changed()

    async def _run_logged(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception:
            self._log_limit.exception(log, "task_failed")
