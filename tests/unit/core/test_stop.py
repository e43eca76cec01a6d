"""A stop: nothing more is read, what was taken is handled and answered, then all is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sample_channel import channel

import chansock
from chansock import LATER, ChannelSocket, Config, EventMsg, testing
from chansock.errors import HandshakeRefused
from chansock.testing import World

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


def connect(world: World, transport: str) -> Any:
    return getattr(world, transport)(uid="a")


@BOTH
def test_what_was_taken_is_handled_and_answered_before_the_close(transport: str) -> None:
    chsk = channel()
    with World(chsk) as world:
        client = connect(world, transport)
        replies = [client.ask("test/slow", 1) for _ in range(5)]
        world.turn()
        began = world.now
    assert [reply.value for reply in replies] == [1] * 5
    assert world.now - began == pytest.approx(5)
    assert chsk.stats.reply_lost == chsk.stats.unhandled == 0
    if transport == "ws":
        assert client.transport.closed_with == (1012, "service restart")


def test_what_a_client_sent_that_has_left_is_handled_before_the_channel_stops() -> None:
    chsk, pushed = channel(), []

    @chsk.on("t/e")
    async def handler(msg: EventMsg[Any]) -> None:
        await asyncio.sleep(4)
        msg.chsk.send("b", "t/push", msg.data)
        pushed.append(msg.data)

    with World(chsk) as world:
        client, other = world.ws(uid="a"), world.ws(uid="b")
        client.send("t/e", 1)
        client.send("t/e", 2)
        client.cut()
        world.advance(3)  # its grace is over
    assert pushed == [1, 2]
    assert [event.data for event in other.take()] == [1, 2]


def test_a_push_of_a_handler_that_ends_within_the_stop_arrives() -> None:
    chsk = channel()

    @chsk.on("t/e")
    async def handler(msg: EventMsg[Any]) -> None:
        await asyncio.sleep(1)
        msg.chsk.send("a", "t/push", msg.data)

    with World(chsk) as world:
        client = world.ws(uid="a")
        client.send("t/e", 1)
        client.send("t/e", 2)
    assert [event.data for event in client.take()] == [1, 2]


def test_during_a_stop_nothing_more_is_taken_and_nobody_is_admitted() -> None:
    chsk, seen = channel(), []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    with World(chsk) as world:
        client, page, parked = world.ws(uid="a"), world.ajax(uid="b"), world.ajax(uid="c")
        slow = client.ask("test/slow", 5)
        world.turn()
        stop = world.loop.create_task(chsk.settle(8))
        world.advance(1)
        client.send("t/e", 1)
        post = page.send("t/e", 2)
        with pytest.raises(HandshakeRefused, match="503"):
            world.ws(uid="d")
        world.advance(1)
        assert (client.unread, post.status, seen) == (1, 503, [])
        assert client.is_open
        assert parked.parked is not None
        world.advance(3)
        assert (slow.value, stop.done(), seen) == (5, True, [])
    assert client.transport.closed_with == (1012, "service restart")


def test_a_stop_takes_no_time_if_nothing_runs() -> None:
    chsk, kept = channel(), []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    with World(chsk) as world:
        client, page = world.ws(uid="a"), world.ajax(uid="b")
        client.ask("t/later")
        post = page.ask("t/later")
        world.turn()
        began = world.now
    assert world.now == began
    assert post.value == "chsk/timeout"


def test_a_stop_ends_in_stop_timeout_and_counts_what_it_drops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chsk = channel(stop_timeout=3.0)
    with World(chsk) as world:
        client, page = world.ws(uid="a"), world.ajax(uid="b")
        replies = [client.ask("test/slow", 100) for _ in range(4)]
        running, waiting = page.ask("test/slow", 100), page.ask("test/slow", 100)
        world.turn()
        began = world.now
    assert world.now - began == pytest.approx(3)
    assert not any(reply.is_here for reply in replies)
    assert (running.value, waiting.status) == ("chsk/timeout", 503)
    assert client.transport.closed_with == (1012, "service restart")
    # Of three dropped and two cancelled; the other dropped one gets 503, and may be sent again.
    assert (chsk.stats.unhandled, chsk.stats.reply_lost) == (4, 5)
    lines = [r.getMessage() for r in caplog.records if "events_unhandled" in r.getMessage()]
    assert lines == ["events_unhandled dropped=4 running=2"]


def test_a_stop_without_settle_drops_what_waits_and_ends_at_once() -> None:
    chsk = channel()
    with World(chsk) as world:
        client = world.ws(uid="a")
        client.ask("test/slow", 1)
        client.ask("test/slow", 2)
        world.turn()
        chsk.stop()
        world.turn()
        assert client.close_code == 1012
        assert (chsk.stats.unhandled, chsk.stats.reply_lost) == (1, 1)
    assert chsk.stats.reply_lost == 2


@pytest.mark.parametrize("is_presence", [False, True])
def test_a_stop_drops_what_waits_of_a_client_that_has_left(is_presence: bool) -> None:
    chsk, begun = ChannelSocket(Config(stop_timeout=3.0), user_id=testing.user_id), []

    @chsk.on("chsk/uidport-close" if is_presence else "t/e")
    async def handler(msg: EventMsg[Any]) -> None:
        begun.append(msg.data)
        await asyncio.sleep(1000)

    with World(chsk) as world:
        clients = [world.ws(uid=uid) for uid in "abc"]
        for number in range(3):
            clients[0].send("t/e", number)
        for client in clients:
            client.cut()
        world.advance(100)  # its grace is over
    assert begun == (["a"] if is_presence else [0])
    assert chsk.stats.unhandled == 2


def test_posts_of_which_nothing_was_taken_get_503_as_the_stop_begins() -> None:
    chsk = channel(max_inbox_events=1)
    with World(chsk) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        client.poll()
        taken = client.ask("test/slow", 2)
        for_room = client.ask("test/slow", 1)
        early = client.post("[[:test/slow 1] :ajax]", [("n", "77-2")])
        world.turn()
        stop = world.loop.create_task(chsk.settle(8))
        world.turn()
        assert [reply.status for reply in (taken, for_room, early)] == [None, 503, 503]
        world.advance(2)
        assert (taken.value, stop.done()) == (2, True)


def test_a_stop_waits_for_the_reply_of_who_iterates() -> None:
    chsk = channel()

    async def read() -> None:
        async for msg in chsk:
            await asyncio.sleep(1)
            msg.reply(msg.data)

    with World(chsk) as world:
        task = world.loop.create_task(read())
        world.turn()
        client = world.ws(uid="a")
        replies = [client.ask("t/unclaimed", n) for n in range(3)]
        world.turn()
    assert [reply.value for reply in replies] == [0, 1, 2]
    assert task.done()


@pytest.mark.parametrize("is_replied", [False, True])
def test_a_stop_does_not_wait_for_who_iterates_and_has_done_its_part(is_replied: bool) -> None:
    chsk, kept = channel(), []

    async def read() -> None:
        messages = aiter(chsk)
        msg = await anext(messages)
        if is_replied:
            msg.reply("now")
        kept.append(messages)  # and it never asks for the next one

    with World(chsk) as world:
        world.loop.create_task(read())
        world.turn()
        client = world.ws(uid="a")
        client.ask("t/unclaimed") if is_replied else client.send("t/unclaimed")
        world.turn()
        began = world.now
    assert world.now == began
    kept.clear()


def test_the_keep_alive_closes_no_socket_that_a_stop_does_not_read() -> None:
    chsk = channel(stop_timeout=100.0)
    with World(chsk) as world:
        client = world.ws(uid="a")
        slow = client.ask("test/slow", 90)
        world.turn()
        stop = world.loop.create_task(chsk.settle(100))
        world.turn()
        client.send("test/say", 1)  # from here on it is not read
        world.advance(89)
        assert client.is_open
        world.advance(2)
        assert (slow.value, stop.done()) == (90, True)


# -- with a server


def served() -> tuple[ChannelSocket, asyncio.Event, list[Any]]:
    chsk = ChannelSocket(Config(stop_timeout=240.0), user_id=lambda request: "a")
    gate, begun = asyncio.Event(), []

    @chsk.on("t/e")
    async def handler(msg: EventMsg[Any]) -> Any:
        begun.append(msg)
        await gate.wait()
        return msg.data

    return chsk, gate, begun


def opens(chsk: ChannelSocket, is_ours: bool, gate: asyncio.Event) -> None:
    """Run the handlers for some turns after the stop has begun."""
    loop = asyncio.get_running_loop()
    if is_ours and not chsk._endpoint.is_stopping:
        loop.call_soon(opens, chsk, is_ours, gate)
    else:
        loop.call_later(0.02, gate.set)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("ws", [True, False])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_server_answers_what_it_took_before_it_closes(is_ours: bool, ws: bool, run: Run) -> None:
    async def main() -> None:
        chsk, gate, begun = served()
        async with AsyncExitStack() as stack:
            if not is_ours:
                await stack.enter_async_context(chsk)
            async with chansock.serve(chsk, port=0) as listener:
                client = await stack.enter_async_context(
                    chansock.connect(listener.url, transport="ws" if ws else "ajax")
                )
                asked = [asyncio.create_task(client.send("t/e", n, timeout=120)) for n in range(3)]
                await until(lambda: begun and begun[0]._connection.inbox.events == 3)
                asyncio.get_running_loop().call_soon(opens, chsk, is_ours, gate)
            assert [await each for each in asked] == [0, 1, 2]
            assert chsk.stats.reply_lost == 0

    run(main())


def test_a_second_cancellation_ends_a_stop_that_waits_for_handlers(run: Run) -> None:
    async def main() -> None:
        chsk, _, begun = served()

        async def serve(started: asyncio.Future[str]) -> None:
            async with chansock.serve(chsk, port=0) as listener:
                started.set_result(listener.url)
                await asyncio.Event().wait()

        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(started))
        async with chansock.connect(await started) as client:
            await client.send("t/e", 1)
            await until(lambda: begun)
            task.cancel()
            await until(lambda: chsk._endpoint.is_stopping)
            assert chsk.is_started
            task.cancel()
            async with asyncio.timeout(120):  # stop_timeout is twice that
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert chsk.stats.closed.keys() <= {1012, 1006}

    run(main())
