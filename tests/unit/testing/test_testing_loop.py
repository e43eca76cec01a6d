"""The loop with virtual time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async

from chansock.testing.loop import VirtualTimeLoop


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


def test_time_stands_still_without_advance(loop: VirtualTimeLoop) -> None:
    start = loop.time()
    loop.call_later(0.001, pytest.fail)
    loop.advance(0)
    assert loop.time() == start


def test_timers_run_in_order_each_at_its_time(loop: VirtualTimeLoop) -> None:
    start = loop.time()
    seen: list[tuple[str, float]] = []
    for name, delay in (("c", 3.0), ("a", 1.0), ("b", 2.5), ("never", 3.5)):
        loop.call_later(delay, lambda name=name: seen.append((name, loop.time() - start)))
    loop.advance(3)
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert [at for _, at in seen] == pytest.approx([1.0, 2.5, 3.0])
    assert loop.time() - start == pytest.approx(3.0)


def test_a_timer_due_at_the_end_of_many_small_steps_runs(loop: VirtualTimeLoop) -> None:
    seen: list[int] = []
    loop.call_later(1.0, seen.append, 1)
    for _ in range(10):
        loop.advance(0.1)
    assert seen == [1]


def test_turn_runs_what_is_ready_and_what_that_makes_ready(loop: VirtualTimeLoop) -> None:
    seen: list[int] = []

    def again(n: int) -> None:
        seen.append(n)
        if n < 5:
            loop.call_soon(again, n + 1)

    loop.call_soon(again, 0)
    loop.advance(0)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_an_hour_of_asyncio_sleep_takes_no_hour(loop: VirtualTimeLoop) -> None:
    async def main() -> str:
        async with asyncio.timeout(7200):
            await asyncio.sleep(3600)
        return "done"

    before = time.monotonic()
    assert loop.run(main()) == "done"
    assert time.monotonic() - before < 60


def test_asyncio_timeout_ends_by_virtual_time(loop: VirtualTimeLoop) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await loop.create_future()

    with pytest.raises(TimeoutError):
        loop.run(main())


def test_inside_has_a_running_loop_and_runs_nothing_else(loop: VirtualTimeLoop) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    assert loop.inside(asyncio.get_running_loop) is loop
    assert seen == []
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_run_waits_for_a_thread_in_real_time(loop: VirtualTimeLoop) -> None:
    gate = threading.Event()

    async def main() -> bool:
        waiting = asyncio.create_task(asyncio.to_thread(gate.wait))
        await asyncio.sleep(60)
        gate.set()
        return await waiting

    assert loop.run(main()) is True
    loop.run(loop.shutdown_default_executor())


@pytest.mark.parametrize("is_sensitive", [True, False])
def test_a_call_by_sync_to_async_is_done_at_once_on_this_thread(
    is_sensitive: bool, loop: VirtualTimeLoop
) -> None:
    def job(result: object) -> object:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        if isinstance(result, Exception):
            raise result
        return threading.current_thread(), result

    async def main() -> None:
        with ThreadPoolExecutor() as pool:
            executor = None if is_sensitive else pool
            call = sync_to_async(job, thread_sensitive=is_sensitive, executor=executor)
            assert await call(1) == (threading.main_thread(), 1)
            assert asyncio.get_running_loop() is loop
            with pytest.raises(LookupError):
                await call(LookupError())
            elsewhere = await loop.run_in_executor(pool, threading.current_thread)
            assert elsewhere is not threading.main_thread()

    start = loop.time()
    loop.run(main())
    assert loop.time() == start


def test_jobs_for_an_executor_of_several_threads_may_wait_for_each_other(
    loop: VirtualTimeLoop,
) -> None:
    meet = threading.Barrier(2, timeout=60)

    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            jobs = [loop.run_in_executor(pool, meet.wait) for _ in range(2)]
            assert sorted([await job for job in jobs]) == [0, 1]

    loop.run(main())


def test_until_lets_a_thread_work_while_time_stands(loop: VirtualTimeLoop) -> None:
    seen: list[int] = []
    start = loop.time()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(seen.append, 1))
    thread.start()
    loop.until(lambda: bool(seen))
    thread.join()
    assert loop.time() == start
