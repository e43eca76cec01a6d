"""Middleware: who is called when, what it may do to a reply, and what a plain one costs."""

import asyncio
import contextvars
import threading

import pytest

from chansock import LATER, ChannelSocket, Router
from chansock.testing import World, user_id

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])
HANDLERS = pytest.mark.parametrize("handler", ["plain", "async", "waits", "thread", "parallel"])


@pytest.fixture
def chsk():
    return ChannelSocket(user_id=user_id)


@pytest.fixture
def world(chsk):
    with World(chsk, raise_handler_errors=False) as world:
        yield world


def ask(world, event_id="t/e", data=None, transport="ws"):
    reply = getattr(world, transport)(uid="a").ask(event_id, data)
    world.turn()
    world.until(lambda: reply.is_here)
    return reply.value


def register(on, how, calls):
    """Register a handler of `t/e` that doubles."""

    def double(msg):
        calls.append("handler")
        return msg.data * 2

    async def later(msg):
        if how == "waits":
            await asyncio.sleep(0)
        return double(msg)

    handler = later if how in ("async", "waits", "parallel") else double
    on("t/e", handler, thread=how == "thread", parallel=how == "parallel")


def plain(name, calls):
    def layer(msg, call_next):
        calls.append(name)
        return call_next(msg)

    return layer


def waiting(name, calls):
    async def layer(msg, call_next):
        calls.append(name)
        result = await call_next(msg)
        calls.append(f"{name} after")
        return result

    return layer


@BOTH
@HANDLERS
@pytest.mark.parametrize("before", [True, False])
def test_plain_and_async_stand_around_every_handler_outermost_first(
    chsk, world, transport, handler, before
):
    calls = []
    inner = Router(prefix="t", middleware=[plain("5", calls), waiting("6", calls)])
    register(
        lambda event_id, *a, **k: inner.on(event_id.removeprefix("t/"), *a, **k), handler, calls
    )
    outer = Router(middleware=[waiting("3", calls), plain("4", calls)])
    outer.include(inner)
    if before:
        chsk.include(outer)
    chsk.middleware(plain("1", calls))
    chsk.middleware(waiting("2", calls))
    if not before:
        chsk.include(outer)
    assert ask(world, data=21, transport=transport) == 42
    assert calls == ["1", "2", "3", "4", "5", "6", "handler", "6 after", "3 after", "2 after"]


@HANDLERS
def test_an_async_one_may_change_the_answer_of_any_handler(chsk, world, handler):
    register(chsk.on, handler, [])

    @chsk.middleware
    async def shown(msg, call_next):
        return {"answer": await call_next(msg)}

    assert ask(world, data=3) == {"answer": 6}


def test_a_plain_one_may_change_the_answer_of_a_plain_handler(chsk, world):
    chsk.on("t/e", lambda msg: msg.data)

    @chsk.middleware
    def shown(msg, call_next):
        return [call_next(msg)]

    assert ask(world, data=3) == [3]


@BOTH
@HANDLERS
@pytest.mark.parametrize("make", [plain, waiting])
def test_one_may_answer_itself_and_the_handler_never_hears(chsk, world, transport, handler, make):
    calls = []
    register(chsk.on, handler, calls)
    chsk.middleware(make("outer", calls))

    @chsk.middleware
    def check(msg, call_next):
        return "not you"

    assert ask(world, data=1, transport=transport) == "not you"
    assert "handler" not in calls


@BOTH
@pytest.mark.parametrize("make", [plain, waiting])
def test_one_that_raises_is_the_handlers_failure(chsk, world, transport, make, caplog):
    failures, calls = [], []
    chsk.on_error(lambda msg, error: failures.append(str(error)))
    chsk.middleware(make("outer", calls))

    @chsk.middleware
    def check(msg, call_next):
        raise PermissionError("no")

    chsk.on("t/e", lambda msg: calls.append("handler"))
    assert ask(world, transport=transport) == "chsk/error"
    assert failures == ["no"]
    assert calls == ["outer"]
    assert "handler_error id=Keyword('t/e') uid='a'" in caplog.text


@HANDLERS
def test_an_async_one_may_catch_what_a_handler_raises(chsk, world, handler):
    register(chsk.on, handler, [])

    @chsk.middleware
    async def caught(msg, call_next):
        try:
            return await call_next(msg)
        except TypeError as error:
            return {"error": type(error).__name__}

    assert ask(world, data=None) == {"error": "TypeError"}  # None * 2


@BOTH
@pytest.mark.parametrize("make", [plain, waiting])
def test_later_goes_through_and_is_answered_once(chsk, world, transport, make):
    kept = []
    chsk.middleware(make("outer", []))

    @chsk.on("t/e")
    def handler(msg):
        kept.append(msg)
        return LATER

    reply = getattr(world, transport)(uid="a").ask("t/e")
    world.advance(1)
    assert not reply.is_here
    assert kept[0].reply("now")
    assert not kept[0].reply("again")
    world.turn()
    assert reply.value == "now"


@pytest.mark.parametrize("make", [plain, waiting])
def test_later_may_be_said_by_one_itself(chsk, world, make):
    chsk.middleware(make("outer", []))

    @chsk.middleware
    def wait(msg, call_next):
        world.loop.call_later(3, msg.reply, "in time")
        return LATER

    chsk.on("t/e", lambda msg: "at once")
    reply = world.ws(uid="a").ask("t/e")
    world.advance(2.9)
    assert not reply.is_here
    world.advance(0.2)
    assert reply.value == "in time"


def test_a_routers_own_are_around_its_handlers_alone(chsk, world):
    calls = []
    router = Router(prefix="r", middleware=[plain("router", calls)])
    router.on("e", lambda msg: 1)
    router.middleware(plain("second", calls))
    chsk.include(router)
    chsk.on("t/e", lambda msg: 2)
    assert ask(world, "t/e") == 2
    assert calls == []
    assert ask(world, "r/e") == 1
    assert calls == ["router", "second"]


def test_handlers_of_the_channels_own_events_have_it_too(chsk, world):
    calls = []

    @chsk.middleware
    def seen(msg, call_next):
        calls.append((msg.id, msg.data))
        return call_next(msg)

    chsk.on("chsk/uidport-open", lambda msg: None)
    world.ws(uid="a")
    world.turn()
    assert calls == [("chsk/uidport-open", "a")]


def test_one_that_is_added_later_is_around_handlers_that_are_there(chsk, world):
    calls = []
    chsk.on("t/e", lambda msg: 1)
    alice = world.ws(uid="a")
    alice.ask("t/e")
    chsk.middleware(plain("late", calls))
    alice.ask("t/e")
    world.turn()
    assert calls == ["late"]


@pytest.mark.parametrize("first", [True, False])
def test_order_of_a_clients_events_holds_around_handlers_that_wait(chsk, world, first):
    order = []

    @chsk.middleware
    async def slowly(msg, call_next):
        order.append(("in", msg.data))
        await asyncio.sleep(1 if msg.data == 0 else 0)
        await call_next(msg)
        order.append(("out", msg.data))

    chsk.on("t/e", lambda msg: order.append(("handler", msg.data)), parallel=not first)
    alice = world.ws(uid="a")
    for number in range(2):
        alice.send("t/e", number)
    world.advance(3)
    one_by_one = [(what, number) for number in (0, 1) for what in ("in", "handler", "out")]
    assert sorted(order) == sorted(one_by_one)
    assert (order == one_by_one) is first  # parallel ones overlap


def test_a_plain_chain_makes_no_coroutine_and_no_task(chsk, world):
    tasks = []
    chsk.middleware(plain("1", []))
    router = Router(prefix="t", middleware=[plain("2", [])])
    router.on("e", lambda msg: tasks.append((asyncio.current_task(), threading.get_ident())))
    chsk.include(router)
    alice = world.ws(uid="a")
    before = asyncio.all_tasks(world.loop)
    alice.send("t/e")  # no turn of the loop
    assert tasks == [(None, threading.get_ident())]
    assert asyncio.all_tasks(world.loop) == before


def test_without_any_the_handler_itself_stands_in_the_table(chsk):
    def handler(msg):
        return None

    chsk.on("t/e", handler)
    assert chsk._handlers.routes["t/e"].handler is handler


@HANDLERS
def test_context_variables_that_one_sets_are_seen_by_the_handler(chsk, world, handler):
    who = contextvars.ContextVar("who", default="nobody")
    seen = []

    @chsk.middleware
    async def known(msg, call_next):
        who.set(msg.uid)
        return await call_next(msg)

    def look(msg):
        seen.append((who.get(), threading.current_thread() is threading.main_thread()))

    async def look_and_wait(msg):
        look(msg)

    is_async = handler in ("async", "waits", "parallel")
    chsk.on(
        "t/e",
        look_and_wait if is_async else look,
        thread=handler == "thread",
        parallel=handler == "parallel",
    )
    ask(world)
    assert seen == [("a", handler != "thread")]


def test_objects_can_be_middleware(chsk, world):
    class Counted:
        count = 0

        async def __call__(self, msg, call_next):
            self.count += 1
            return await call_next(msg)

    counted = Counted()
    assert chsk.middleware(counted) is counted
    chsk.on("t/e", lambda msg: 7)
    assert ask(world) == 7
    assert counted.count == 1


@pytest.mark.parametrize("given", [None, "timing", 5])
def test_what_cannot_be_called_is_refused(chsk, given):
    with pytest.raises(TypeError, match=r"expected a middleware\(msg, call_next\), got"):
        chsk.middleware(given)
    with pytest.raises(TypeError, match=r"expected a middleware\(msg, call_next\), got"):
        Router(middleware=[given])
