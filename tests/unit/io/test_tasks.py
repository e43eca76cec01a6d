"""Coroutines begun at once: in whose name, with what left behind, and how they end.

What asyncio itself does with a task of its own is the oracle: a coroutine must not be able
to tell the difference, whether it was begun from a callback or from within a task.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from raw import Run

from chansock._fast.io.tasks import NOT_BEGUN, WAITS, Workers
from chansock.clock import LoopClock

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
ODD: contextvars.ContextVar[Any] = contextvars.ContextVar("odd")


class Begin:
    """Workers, and what became of what was begun with them."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.workers = Workers(asyncio.get_running_loop())
        self.outcomes: list[Any] = []

    async def __call__(self, coro: Any) -> Any:
        """Begin it, and give what `begin` gave, or the exception that it raised."""
        if self.how == "from a task":
            return self.begin(coro)
        given = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: given.set_result(self.begin(coro)))
        return await given

    def begin(self, coro: Any) -> Any:
        try:
            outcome = self.workers.begin(coro, self.go_on, "arg")
        except BaseException as error:
            return error
        if outcome is NOT_BEGUN:
            coro.close()
        return outcome

    async def go_on(self, arg: str, rest: Any) -> None:
        assert arg == "arg"
        try:
            self.outcomes.append(await rest)
        except BaseException as error:
            self.outcomes.append(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


Prepared = Callable[[], Any]


@pytest.fixture(params=["from a callback", "from a task"])
def prepared(request: pytest.FixtureRequest) -> Prepared:
    async def prepare() -> Begin:
        begin = Begin(request.param)
        await begin.settle()
        return begin

    return prepare


async def name() -> str:
    task = asyncio.current_task()
    assert task is not None
    return task.get_name()


def test_a_coroutine_that_never_waits_gives_its_result_at_once(
    prepared: Prepared, run: Run
) -> None:
    async def main() -> None:
        begin = await prepared()
        outer = asyncio.current_task()
        names = {await begin(name()) for _ in range(5)}
        assert len(names) == 1, "the task is used again"
        assert names != {outer and outer.get_name()}
        assert asyncio.current_task() is outer
        assert begin.outcomes == []

    run(main())


def test_a_coroutine_that_waits_goes_on_in_the_task_of_its_first_step(
    prepared: Prepared, run: Run
) -> None:
    async def main() -> None:
        begin = await prepared()
        event = asyncio.Event()

        async def waits() -> list[str]:
            names = [await name()]
            await asyncio.sleep(0)
            names.append(await name())
            await event.wait()
            names += await asyncio.gather(name()), await name()
            return [str(n) for n in names]

        assert await begin(waits()) is WAITS
        assert len(begin.workers.tasks) == 1
        await begin.settle()
        assert begin.outcomes == []
        event.set()
        await begin.settle()
        [[first, second, gathered, last]] = begin.outcomes
        assert first == second == last
        assert gathered != first
        assert begin.workers.tasks == set()
        assert await begin(name()) == first, "the task is used again"

    run(main())


def test_many_that_wait_at_once_end_each_with_its_own(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()

        async def waits(future: asyncio.Future[int]) -> int:
            return await future

        for _ in range(2):  # the second time there are enough idle tasks
            futures = [asyncio.get_running_loop().create_future() for _ in range(20)]
            for future in futures:
                while await begin(waits(future)) is NOT_BEGUN:
                    await asyncio.sleep(0)
            assert len(begin.workers.tasks) == 20
            for i, future in enumerate(futures):
                future.set_result(i)
            await begin.settle()
            assert begin.outcomes == list(range(20))
            begin.outcomes.clear()
            assert begin.workers.tasks == set()
        futures = [asyncio.get_running_loop().create_future() for _ in range(20)]
        assert [begin.begin(waits(future)) for future in futures] == [WAITS] * 20

    run(main())


def test_what_a_step_raises_comes_out_of_it(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()

        async def fails(before: int) -> None:
            for _ in range(before):
                await asyncio.sleep(0)
            raise KeyError(before)

        error = await begin(fails(0))
        assert isinstance(error, KeyError)
        del error
        assert await begin(name()) is not NOT_BEGUN
        assert await begin(fails(2)) is WAITS
        await begin.settle()
        assert [repr(error) for error in begin.outcomes] == ["KeyError(2)"]

    run(main())


def test_timeouts_and_task_groups_work(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()

        async def hurried() -> str:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0))
                return "in time"
            return "late"

        assert await begin(hurried()) is WAITS
        while not begin.outcomes:
            await asyncio.sleep(0.001)
        assert begin.outcomes == ["in time"]

    run(main())


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancelled_by_itself_it_hears_of_it_where_it_next_waits(
    prepared: Prepared, run: Run, steps: int
) -> None:
    async def main() -> None:
        begin = await prepared()
        seen = []

        async def suicidal() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None and task.cancel()
            seen.append("not yet")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("now")
                raise

        assert await begin(suicidal()) is WAITS
        await begin.settle()
        assert seen == ["not yet", "now"]
        assert [type(error) for error in begin.outcomes] == [asyncio.CancelledError]
        await begin.settle()
        assert begin.workers.tasks == set()

    run(main())


def test_cancelled_in_its_only_step_it_leaves_the_next_one_alone(
    prepared: Prepared, run: Run
) -> None:
    async def main() -> None:
        begin = await prepared()

        async def cancels() -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return task.get_name()

        first = await begin(cancels())
        assert isinstance(first, str)
        begin.begin(name())
        await begin.settle()
        assert await begin(name()) != first

        async def waits() -> str:
            await asyncio.sleep(0)
            return "not cancelled"

        assert await begin(waits()) is WAITS
        await begin.settle()
        assert begin.outcomes == ["not cancelled"]

    run(main())


def test_cancelled_by_another_while_it_waits(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()
        tasks = []

        async def waits() -> None:
            tasks.append(asyncio.current_task())
            await asyncio.Event().wait()

        assert await begin(waits()) is WAITS
        await asyncio.sleep(0)
        [task] = tasks
        assert task is not None and task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [type(error) for error in begin.outcomes] == [asyncio.CancelledError]

    run(main())


LEAVE: dict[str, Callable[[Any], Any]] = {
    "a reference": lambda task: task,
    "a callback": lambda task: task.add_done_callback(lambda _: None),
    "an attribute": lambda task: setattr(task, "mine", 1),
    "a name": lambda task: task.set_name("mine"),
    "a weak reference": weakref.ref,
    "a weak key": lambda task: weakref.WeakKeyDictionary({task: 1}),
    "a context variable": lambda task: VAR.set("mine"),
}


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("what", LEAVE)
def test_a_task_of_which_something_is_left_is_not_used_again(
    prepared: Prepared, run: Run, what: str, waits: bool
) -> None:
    async def main() -> None:
        begin = await prepared()
        left = []

        async def leaves() -> str:
            left.append(LEAVE[what](asyncio.current_task()))
            if waits:
                await asyncio.sleep(0)
            return await name()

        async def looks() -> tuple[str, str, bool]:
            return await name(), VAR.get(), hasattr(asyncio.current_task(), "mine")

        first = await begin(leaves())
        await begin.settle()
        if waits:
            assert first is WAITS
            [first] = begin.outcomes
        while (seen := await begin(looks())) is NOT_BEGUN:
            await asyncio.sleep(0)
        assert seen[0] != first
        assert seen[1:] == ("unset", False)

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_callback_is_called_when_the_coroutine_is_done(
    prepared: Prepared, run: Run, waits: bool
) -> None:
    async def main() -> None:
        begin = await prepared()
        called = []

        async def watched() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(lambda task: called.append(task.cancelled()))
            if waits:
                await asyncio.sleep(0)

        await begin(watched())
        await begin.settle()
        assert called == [False]

    run(main())


def test_the_context_is_that_of_where_the_workers_were_made(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        VAR.set("outside")
        begin = await prepared()
        VAR.set("later")

        async def looks() -> str:
            before = VAR.get()
            VAR.set("inside")
            await asyncio.sleep(0)
            return f"{before} {VAR.get()}"

        assert await begin(looks()) is WAITS
        await begin.settle()
        assert begin.outcomes == ["outside inside"]
        assert VAR.get() == "later"

    run(main())


def test_what_is_no_coroutine_is_not_begun(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()
        future = asyncio.get_running_loop().create_future()
        assert begin.workers.begin(future, begin.go_on, "arg") is NOT_BEGUN

    run(main())


def test_nothing_is_begun_while_the_loop_does_not_run(loop_kind: str) -> None:
    import uvloop

    loop = asyncio.new_event_loop() if loop_kind == "asyncio" else uvloop.new_event_loop()
    workers = Workers(loop)
    coro = name()
    try:
        assert workers.begin(coro, None, None) is NOT_BEGUN
    finally:
        coro.close()
        workers.stop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_stopped_workers_begin_nothing_and_leave_no_task(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()
        event = asyncio.Event()

        async def waits() -> str:
            await event.wait()
            return "to its end"

        assert await begin(waits()) is WAITS
        while await begin(name()) is NOT_BEGUN:
            await asyncio.sleep(0)
        begin.workers.stop()
        assert await begin(name()) is NOT_BEGUN
        event.set()
        await begin.settle()
        assert begin.outcomes == ["to its end"]
        assert begin.workers.tasks == set()
        assert asyncio.all_tasks() == {asyncio.current_task()} | outer

    async def with_outer() -> None:
        outer.update(asyncio.all_tasks())
        await main()

    outer: set[Any] = set()
    run(with_outer())


def test_a_loop_that_ends_takes_idle_tasks_along(
    run: Run, prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> weakref.ref[Any]:
        begin = await prepared()
        await begin(name())
        return weakref.ref(begin)

    begin = run(main())
    gc.collect()
    assert begin() is None
    assert caplog.records == []


def test_a_worker_cancelled_before_its_first_step_is_no_worker(run: Run) -> None:
    async def main() -> None:
        outer = asyncio.all_tasks()
        clock = LoopClock(asyncio.get_running_loop())
        for task in asyncio.all_tasks() - outer:
            task.cancel()
        await asyncio.sleep(0)

        async def begun() -> Any:
            coro = name()
            outcome = clock.begin(coro, None, None)
            coro.close()
            await asyncio.sleep(0)
            return outcome

        assert await begun() is NOT_BEGUN
        assert await begun() is not NOT_BEGUN, "another one was hired"
        for task in asyncio.all_tasks() - outer:
            task.cancel()
        await clock.stop(1.0)
        assert asyncio.all_tasks() == outer

    run(main())


def test_a_stop_does_not_wait_for_a_worker_that_was_cancelled(run: Run) -> None:
    async def main() -> None:
        outer = asyncio.all_tasks()
        clock = LoopClock(asyncio.get_running_loop())
        for task in asyncio.all_tasks() - outer:
            task.cancel()
        await asyncio.sleep(0)
        await clock.stop(1.0)

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_contexts_are_compared_by_identity_and_without_eq(
    prepared: Prepared, run: Run, waits: bool
) -> None:
    class Account:
        """Equal to every other, as two records of equal fields are."""

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return True

        __hash__ = None  # type: ignore[assignment]

    compared: list[Account] = []

    async def main() -> None:
        outside = Account()
        ODD.set(outside)
        begin = await prepared()

        async def sets() -> str:
            ODD.set(Account())
            if waits:
                await asyncio.sleep(0)
            return "done"

        async def looks() -> bool:
            return ODD.get() is outside

        await begin(sets())
        await begin.settle()
        while (seen := await begin(looks())) is NOT_BEGUN:
            await asyncio.sleep(0)
        assert seen is True

    run(main())
    assert compared == []


def test_a_context_whose_variables_are_reset_is_used_again(prepared: Prepared, run: Run) -> None:
    async def main() -> None:
        begin = await prepared()

        async def resets() -> str:
            token = ODD.set(1)
            VAR.reset(VAR.set("mine"))
            ODD.reset(token)
            return await name()

        first = await begin(resets())
        assert await begin(resets()) == first

    run(main())
