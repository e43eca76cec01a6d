"""The threads behind a synchronous client: the loop of its Client, and those of its functions.

Life runs a Client on a loop in a thread and lets other threads wait for it; Caller calls an
application's functions one after the other, where they may wait. All are daemons, and end with
the client or with the interpreter. What a channel is, `client` knows.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

from chansock._core.log_limit import LogLimit, call_later
from chansock.client.client import Client
from chansock.client.packets import Event
from chansock.clock import loop_factory
from chansock.errors import ChannelClosed

__all__ = ["Caller", "Ended", "Life"]

log = logging.getLogger("chansock.client.threads")

T = TypeVar("T")

# Events fetched before anybody asks: a burst costs a change of threads for many, not for each.
AHEAD: Final = 64
# Calls that wait for the thread; past it the client counts each further one against its limits.
BEHIND: Final = 100
# For closing in order at the interpreter's end, where nobody wants to wait for a lost server.
EXIT_TIMEOUT: Final = 1.0
# A signal that comes just before a lock is waited for breaks that wait off only when it ends, and
# on Windows none does: so a thread that waits looks up now and then.
SLICE: Final = 0.5
# Beyond close_timeout, which the client keeps by itself, to find that it was kept.
GRACE: Final = 2.0
CLOSED: Final = "the client was closed meanwhile"


class Ended(ChannelClosed):
    """No event will come any more, but after `reconnect`."""


_Job: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any] | None"]


class Caller:
    """Calls functions in a daemon thread of its own, one after the other, in the order given.

    The thread starts with the first of them.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._log_limit = LogLimit(time.monotonic, call_later)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function, and return its result; a call that has not begun can be cancelled."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put((function, args, done))
        return await done

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function, and log what it raises. Does not wait; called on the loop alone."""
        self._put((function, args, None))

    @property
    def is_behind(self) -> bool:
        """Whether more than BEHIND calls wait."""
        return self._jobs.qsize() > BEHIND

    def stop(self, seconds: float) -> None:
        """End the thread after what it was given, and wait for it, but not within itself."""
        thread, self._thread = self._thread, None
        jobs, self._jobs = self._jobs, SimpleQueue()
        jobs.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        self._log_limit.sum_up()

    def _put(self, job: _Job) -> None:
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_work, args=(self._jobs, self._log_limit), name=self._name, daemon=True
            )
            self._thread.start()


def _work(jobs: SimpleQueue[_Job | None], log_limit: LogLimit) -> None:
    while (job := jobs.get()) is not None:
        function, args, done = job
        if done is None:
            try:
                function(*args)
            except Exception:
                log_limit.exception(log, "state_handler_failed")
        elif not done.cancelled():
            _answer(done, function, args)
        del job, function, args, done  # nothing is kept while the next is waited for


def _answer(done: asyncio.Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result: Any = None
    error: Exception | None = None
    try:
        result = function(*args)
    except BaseException as raised:
        # SystemExit ends no thread but the main one, and a future takes no StopIteration.
        is_plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
        error = raised if is_plain else RuntimeError(f"{type(raised).__name__} was raised")  # type: ignore[assignment]

    def settle() -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        done.get_loop().call_soon_threadsafe(settle)


class Life:
    """A Client on a loop in a daemon thread, for other threads: from `open` to `close`.

    The thread holds no reference to the SyncClient: one that is forgotten can be closed.
    """

    def __init__(self, client: Client, callers: tuple[Caller, ...], close_timeout: float) -> None:
        self._client = client
        self._callers = callers
        self._close_timeout = close_timeout
        self._pid = 0  # of the process that opened it
        self._lock = threading.RLock()  # of what follows; `abandon` may come by the collector
        self._thread: threading.Thread | None = None
        self._is_wanted = False
        self._loop: asyncio.AbstractEventLoop | None = None  # None: takes no calls
        self._task: asyncio.Task[None] | None = None
        self._news = threading.Condition()  # of what follows: what was fetched for `take`
        self._events: deque[Event] = deque()
        self._fetching: concurrent.futures.Future[None] | None = None
        self._room: asyncio.Event | None = None  # set: go on fetching

    # -- called from any thread but the loop's

    def open(self) -> None:
        """Start the thread, and wait until the client is open. Raises what entering raises."""
        opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._check_process()
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("expected a client that is closed, got one that is open")
            self._pid = os.getpid()
            self._is_wanted = True
            self._thread = threading.Thread(
                target=self._run, args=(opened,), name="chansock-client", daemon=True
            )
            self._thread.start()
        _open.add(self)
        try:
            _result(opened)
        except BaseException:
            self.close()
            raise

    def close(self, seconds: float | None = None) -> None:
        """Leave the client, and wait for its threads."""
        if self._is_foreign():
            return  # connection and threads are the parent's
        end = time.monotonic() + (self._close_timeout + GRACE if seconds is None else seconds)
        thread = self._thread
        self.abandon()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
        for caller in self._callers:
            caller.stop(max(0.0, end - time.monotonic()))
        with self._lock:
            if self._thread is thread:
                self._thread = None

    def abandon(self) -> None:
        """Leave the client, and wait for nothing."""
        if self._is_foreign():
            return
        _open.discard(self)
        with self._lock:
            self._is_wanted = False
            loop, self._loop = self._loop, None
            if loop is not None and self._task is not None:
                loop.call_soon_threadsafe(self._task.cancel)

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop, and return its result. Raises ChannelClosed when closed."""
        future = self._begin(make)
        try:
            return _result(future)
        except concurrent.futures.CancelledError:
            raise ChannelClosed(CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def take(self, timeout: float | None) -> Event:
        """Return the next event that no handler claims. Raises TimeoutError, Ended."""
        end = None if timeout is None else time.monotonic() + timeout
        was_fetching = False
        with self._news:
            while not self._events:
                if self._fetching is None:
                    if was_fetching:
                        raise Ended("expected events to come, got disconnect() or close()")
                    self._fetching = self._begin(self._fetch)
                    self._fetching.add_done_callback(self._fetched)
                    was_fetching = True
                    continue
                was_fetching = True
                left = SLICE if end is None else end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"expected an event within {timeout:g} s, got none")
                self._news.wait(min(left, SLICE))
            event = self._events.popleft()
            if self._room is not None and len(self._events) <= AHEAD // 2:
                room, self._room = self._room, None
                self._soon(room.set)
            return event

    def _begin(self, make: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        self._check_process()
        with self._lock:
            if self._loop is None:
                raise Ended("expected a client inside its `with`, or opened, got one that is not")
            if threading.current_thread() is self._thread:
                raise RuntimeError(
                    "expected another thread than the client's own, which would wait"
                )
            # What is begun under the lock is begun before the task is cancelled, and ends with it.
            return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def _soon(self, call: Callable[[], object]) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _is_foreign(self) -> bool:
        """Return whether this process was forked off the one that opened it."""
        return self._pid not in (0, os.getpid())

    def _check_process(self) -> None:
        # Before any lock is taken: a thread that is not here any more may hold it.
        if self._is_foreign():
            raise ChannelClosed(
                "expected the process that opened the client, got one forked off it: "
                "make a client of its own there"
            )

    # -- the thread

    def _run(self, opened: concurrent.futures.Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._live(opened))
        except BaseException as error:
            if not opened.done():
                is_closed = isinstance(error, asyncio.CancelledError)  # by another thread
                opened.set_exception(ChannelClosed(CLOSED) if is_closed else error)
            elif not isinstance(error, asyncio.CancelledError):
                log.exception("client_failed")

    async def _live(self, opened: concurrent.futures.Future[None]) -> None:
        with self._lock:
            if self._is_wanted:
                self._loop = asyncio.get_running_loop()
                self._task = asyncio.current_task()
        try:
            if self._loop is None:
                raise ChannelClosed(CLOSED)
            async with self._client:
                opened.set_result(None)
                await asyncio.get_running_loop().create_future()
        finally:
            with self._lock:
                self._loop = self._task = None

    async def _fetch(self) -> None:
        """Take events for `take`, a few more than it has asked for."""
        async for event in self._client:
            with self._news:
                self._events.append(event)
                self._news.notify()
                if len(self._events) < AHEAD:
                    continue
                room = self._room = asyncio.Event()
            await room.wait()

    def _fetched(self, future: concurrent.futures.Future[None]) -> None:
        with self._news:
            self._fetching = self._room = None
            self._news.notify_all()


def _result(future: concurrent.futures.Future[T]) -> T:
    while not future.done():
        concurrent.futures.wait((future,), SLICE)
    return future.result()


_open: set[Life] = set()


@atexit.register
def _close_all() -> None:
    """Close the clients that are still open: their threads end with the interpreter."""
    end = time.monotonic() + EXIT_TIMEOUT
    lives = list(_open)
    for life in lives:
        life.abandon()
    for life in lives:
        life.close(max(0.0, end - time.monotonic()))
