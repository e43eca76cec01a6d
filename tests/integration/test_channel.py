"""A channel's lives: it starts, ends, and may start again, on any loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from sample_channel import channel

import chansock
from chansock import ChannelSocket, Config
from chansock.errors import ChannelClosed, ConfigError
from chansock.testing import World


def test_a_channel_that_ended_starts_again_with_its_handlers() -> None:
    chsk = channel()
    for _ in range(3):
        with World(chsk) as world:
            alice = world.ws(uid="alice")
            assert alice.ask("test/req", 1).value == 1
            alice.send("test/say", 2)
            world.turn()
            assert alice.take() == [("test/said", 2)]


def test_presence_and_stats_begin_anew_and_stay_as_they_were_until_then() -> None:
    chsk = channel()
    connected = chsk.connected
    with World(chsk) as world:
        world.ws(uid="alice")
        world.ajax(uid="bob")
        chsk.send("nobody", "test/note")
        chsk.send("alice", "test/note")
    assert set(connected.any) == {"alice", "bob"}
    assert (chsk.stats.sent, chsk.stats.nobody, chsk.is_started) == (1, 1, False)
    with World(chsk) as world:
        assert chsk.connected is connected
        assert [len(users) for users in (connected.ws, connected.ajax, connected.any)] == [0, 0, 0]
        assert chsk.stats == chansock.Stats(lag=chsk.stats.lag)
        world.ws(uid="alice")
        world.turn()
        assert chsk.told[-1] == "+alice"
        assert "alice" in connected.ws


def test_a_client_of_the_former_life_is_not_known_in_the_next() -> None:
    chsk = channel()
    with World(chsk) as world:
        client = world.ws(uid="alice", client_id="a1")
        chsk.send("alice", "test/note", "too late")
        client.cut()
    with World(chsk) as world:
        again = world.ws(uid="alice", client_id="a1")
        world.advance(10)
        assert again.take() == []


def test_blocking_handlers_run_in_each_life() -> None:
    chsk = channel()
    chsk.on("test/thread", lambda msg: msg.data + 1, thread=True)
    for _ in range(2):
        with World(chsk) as world:
            reply = world.ws(uid="alice").ask("test/thread", 1)
            world.until(partial(getattr, reply, "is_here"))
            assert reply.value == 2


def test_an_iterator_ends_with_its_life_and_another_takes_the_next() -> None:
    chsk = channel()

    async def first() -> Any:
        async for msg in chsk:
            return msg.data
        return None

    for n in range(2):
        with World(chsk) as world:
            task = world.loop.create_task(first())
            world.turn()
            world.ws(uid="alice").send("test/other", n)
            world.turn()
            assert task.result() == n
            late = world.loop.create_task(first())
            world.turn()
        assert late.result() is None


def test_one_that_runs_is_not_started_a_second_time() -> None:
    chsk = channel()
    with World(chsk) as world:
        with pytest.raises(ConfigError, match="expected a ChannelSocket that does not run yet"):
            chsk._start(chsk._clock)
        assert world.ws(uid="alice").is_open


def test_one_whose_handlers_still_end_is_not_started_yet() -> None:
    chsk = channel()

    async def lives() -> None:
        await chsk.__aenter__()
        chsk.stop()
        with pytest.raises(ConfigError, match=r"does not run yet, got <ChannelSocket stopped"):
            chsk._start(chsk._clock)
        await chsk._finish(1)
        async with chsk:
            assert chsk.is_started

    asyncio.run(lives())


def test_between_two_lives_it_is_closed() -> None:
    chsk = ChannelSocket()
    with World(chsk):
        pass
    with pytest.raises(ChannelClosed, match="the channel is stopped"):
        chsk.send("alice", "test/note")


def test_a_server_can_be_started_again_on_another_loop(
    run: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    chsk = ChannelSocket(Config(close_timeout=0.1), user_id=lambda request: "alice")
    chsk.on("test/req", lambda msg: msg.data)

    async def life() -> None:
        async with chansock.serve(chsk, port=0) as listener:
            async with chansock.connect(listener.url) as client:
                assert await client.send("test/req", 1, timeout=60) == 1
            assert "alice" in chsk.connected.any

    for _ in range(2):
        run(life())
    assert chsk.stats.closed == {1000: 1}
