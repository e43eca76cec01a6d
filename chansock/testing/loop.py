"""An asyncio loop whose time stands still until it is advanced.

Nothing is slept for: where a loop would wait, this one moves its own clock to what it
waits for, as far as it was told it may. So `LoopClock`, `asyncio.sleep` and
`asyncio.timeout` run unchanged, and an hour passes in a millisecond. No channel here.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["VirtualTimeLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = 1000.0  # seconds; any origin will do, but code that takes 0 for "never" should not meet it
ROUNDING = 1e-6  # seconds; a timer due at the end of `advance` shall run in it
THREAD_LIMIT = 10.0  # real seconds that a job in a thread may keep the loop waiting


class _Selector(selectors.DefaultSelector):
    """Moves the loop's time where another selector would wait for it to pass."""

    loop: VirtualTimeLoop

    def wait(self, timeout: float) -> None:
        """Wait in real time for a call from another thread."""
        super().select(timeout)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.pass_time(timeout):
            return []
        ready = super().select(THREAD_LIMIT)
        self.loop.waited(is_in_vain=not ready)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Return `advance`, `run` and `inside` to drive it; see World for a channel on it.

    It may be driven from a coroutine of another loop, as of an asynchronous test: that one
    waits meanwhile.
    """

    def __init__(self) -> None:
        self._now = START
        self._horizon = START
        self._is_stuck = False  # waited for a thread in vain
        self._is_enough: Callable[[], bool] | None = None  # ends `advance_until`
        self._in_threads = 0  # jobs of executors that are under way
        self._threads = selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance by `seconds`: every timer due by then runs, in order, each at its time.

        0 runs what is ready now, and what that makes ready, to the end.
        """
        if seconds < 0:
            raise ValueError(f"seconds: expected 0 or more, got {seconds!r}")
        self._horizon = self._now + seconds
        self._drive()

    def advance_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Advance until `is_so()`, at most `seconds`; return whether it is so.

        While a job of an executor is under way no time passes: it is waited for, up to
        THREAD_LIMIT real seconds.
        """
        self._is_enough = is_so
        self._is_stuck = False
        try:
            self.advance(seconds)
        finally:
            self._is_enough = None
            self._horizon = self._now
        return is_so()

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run to its end, letting as much time pass as it waits for.

        Raises RuntimeError if it waits for something that no timer will bring.
        """
        self._horizon = math.inf
        self._is_stuck = False
        task = self.create_task(coro)
        task.add_done_callback(lambda _: self.stop())
        try:
            self._drive()
        finally:
            self._horizon = self._now
        return task.result()

    def end(self) -> None:
        """Cancel what still runs, let it end, and close, as asyncio.Runner does."""
        try:
            left = asyncio.all_tasks(self)
            for task in left:
                task.cancel()
            if left:
                self.run(_ends_of(left))
            self.run(self.shutdown_asyncgens())
            self.run(self.shutdown_default_executor())
        finally:
            self.close()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call what asgiref's `sync_to_async` brings at once: on this thread, outside of the loop.

        So Django asks its database: no time passes meanwhile, and what belongs to the test's
        thread, such as its transaction, is the job's, too. Other jobs have their threads, for
        they may wait for something.
        """
        if _is_of_asgiref(func):
            return self._done_at_once(func, *args)
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    def _done_at_once(self, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            done.set_result(func(*args))
        except StopIteration as error:  # which no future takes
            done.set_exception(RuntimeError(f"{func!r:.80} raised {error!r}"))
        except Exception as error:
            done.set_exception(error)
        finally:
            asyncio._set_running_loop(outer)
        return done

    def _left_thread(self, _: object) -> None:
        self._in_threads -= 1

    def _drive(self) -> None:
        outer = asyncio._get_running_loop()
        if outer is self:
            raise RuntimeError(
                "expected a call from outside of the loop, got one from a handler or "
                "coroutine that runs on it: await there what shall happen"
            )
        asyncio._set_running_loop(None)
        try:
            self.run_forever()
        finally:
            asyncio._set_running_loop(outer)

    def inside(self, call: Callable[[], T]) -> T:
        """Call as a callback of the loop would, with the loop running; no turn passes."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            return call()
        finally:
            asyncio._set_running_loop(outer)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for threads until `is_so()`; time stands still. Raises RuntimeError if
        nothing came of it in THREAD_LIMIT real seconds."""
        self._horizon = self._now
        limit = time.monotonic() + THREAD_LIMIT
        while True:
            self._drive()
            if is_so():
                return
            left = limit - time.monotonic()
            if left <= 0:
                raise RuntimeError(f"expected {is_so!r} to come true, got nothing")
            self._threads.wait(left)

    def pass_time(self, timeout: float | None) -> bool:
        """Move the clock by what the loop would wait, or to the horizon and stop there.

        False: only a thread can end the wait.
        """
        if self._is_enough is not None and self._is_enough():
            self.stop()
            return True
        if self._is_enough is not None and self._in_threads and not self._is_stuck:
            return False
        if timeout is not None and self._now + timeout <= self._horizon + ROUNDING:
            self._now += timeout
        elif self._horizon < math.inf:
            self._now = max(self._now, self._horizon)
            self.stop()
        elif self._is_stuck:
            raise RuntimeError("expected the coroutine to end, got one that nothing will wake")
        else:
            return False
        self._is_stuck = False
        return True

    def waited(self, *, is_in_vain: bool) -> None:
        """Note that a thread was waited for."""
        self._is_stuck = is_in_vain


async def _ends_of(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_of_asgiref(job: Any) -> bool:
    """Return whether a job is a call by `sync_to_async`, without asking for asgiref itself."""
    owner = getattr(getattr(job, "func", None), "__self__", None)
    return any(kind.__module__ == "asgiref.sync" for kind in type(owner).__mro__)
