"""Time and turns, as everything above the sockets sees them.

`Clock` is the interface; `LoopClock` is the one of a running asyncio (or uvloop)
loop. Tests turn one by hand (chansock.testing). No room but an edge touches a loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from chansock._fast.io.tasks import Workers

__all__ = ["Clock", "LoopClock", "loop_factory"]


T = TypeVar("T")


class Clock(Protocol):
    """What tells the time and runs things later. Every method but `from_thread`
    is called on the loop's own thread."""

    def now(self) -> float:
        """Return the time in seconds, monotonic, from any origin."""

    def soon(self, call: Callable[[], object], /) -> object:
        """Call at the end of this turn of the loop, in the order asked."""

    def wake(self, when: float, call: Callable[[], object], /) -> None:
        """Call once at `when`; replaces the wake asked for before. One user: the timer queue."""

    def start(self, coro: Coroutine[Any, Any, Any], /) -> None:
        """Run a coroutine as a task of its own, kept until it is done."""

    def begin(
        self,
        coro: Coroutine[Any, Any, Any],
        go_on: Callable[[T, Any], Coroutine[Any, Any, Any]],
        arg: T,
        /,
    ) -> Any:
        """Take the first step of a coroutine now, and give its result if that was the last.

        If it waits, go_on(arg, rest) gives the coroutine that goes on with it, as a task,
        and WAITS is returned; NOT_BEGUN if no step was taken, and `start` has to do.
        """

    def from_thread(self, call: Callable[[], object], /) -> None:
        """Call soon on the loop's thread; may be called from any thread, order kept."""


class LoopClock:
    """The Clock of an asyncio loop."""

    __slots__ = ("_loop", "_tasks", "_timer", "_workers", "begin", "now", "soon")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.now: Callable[[], float] = loop.time
        self.soon: Callable[[Callable[[], object]], object] = loop.call_soon
        self._workers = Workers(loop)
        self.begin = self._workers.begin

    def wake(self, when: float, call: Callable[[], object], /) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, call)

    def start(self, coro: Coroutine[Any, Any, Any], /) -> None:
        task = self._loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def from_thread(self, call: Callable[[], object], /) -> None:
        self._loop.call_soon_threadsafe(call)

    async def stop(self, timeout: float) -> None:
        """Cancel the timer; give the tasks `timeout` seconds to end, then cancel them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._workers.stop()
        end = self._loop.time() + timeout
        late: set[asyncio.Task[Any]] = set()
        while not late and (tasks := self._running()):  # one that ends may have begun others
            _, late = await asyncio.wait(tasks, timeout=max(0.0, end - self._loop.time()))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    def _running(self) -> set[asyncio.Task[Any]]:
        # One that was cancelled before its first step could not take itself out.
        tasks = {*self._tasks, *self._workers.tasks} - {asyncio.current_task()}
        return {task for task in tasks if not task.done()}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a loop: uvloop's where there is one, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
