"""Cuts, delays and slow clients of a World, on both transports."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from sample_channel import channel

from chansock import ChannelSocket, Lost
from chansock.errors import HandshakeRefused, ReplyTimeout
from chansock.testing import World


@pytest.fixture(params=["ws", "ajax"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def world(transport: Any) -> Iterator[World]:
    with World(channel(), transport=transport) as world:
        yield world


# -- delays


def test_each_way_takes_its_time(world: World) -> None:
    alice = world.connect("alice")
    alice.delay(up=0.3, down=0.2)
    before = world.now
    assert alice.send("test/req", 1, timeout=5) == 1
    assert world.now - before == pytest.approx(0.5)
    reply = alice.ask("test/req", 2)
    world.advance(0.29)
    assert not reply.is_here
    world.advance(0.2)
    assert not reply.is_here
    world.advance(0.02)
    assert reply.value == 2
    with pytest.raises(ReplyTimeout):
        alice.send("test/req", 3, timeout=0.4)


def test_a_push_arrives_later_too(world: World, transport: str) -> None:
    alice = world.connect("alice")
    world.advance(1)
    alice.delay(1)
    world.chsk.send("alice", "test/note", 1)
    before = world.now
    assert alice.expect("test/note") == 1
    flush = 0.1 if transport == "ajax" else 0
    assert world.now - before == pytest.approx(1 + flush)


def test_to_connect_takes_what_the_network_takes(world: World, transport: str) -> None:
    world.delay(up=0.5, down=0.25)
    before = world.now
    alice = world.connect("alice")
    assert alice.uid == "alice"
    # Over Ajax the first poll travels too, before the client may call itself connected.
    assert world.now - before == pytest.approx(0.75 if transport == "ws" else 1.25)
    assert alice.send("test/req", 1, timeout=5) == 1
    world.delay()
    assert world.connect("bob").send("test/req", 1, timeout=0.01) == 1


def test_a_delay_of_the_world_is_for_who_is_there_and_who_comes(world: World) -> None:
    alice = world.connect("alice")
    world.delay(0.5)
    bob = world.connect("bob")
    for client in (alice, bob):
        before = world.now
        assert client.send("test/req", 1, timeout=5) == 1
        assert world.now - before == pytest.approx(1)


def test_what_is_under_way_is_not_overtaken(world: World) -> None:
    seen: list[int] = []
    world.chsk.on("test/n", lambda msg: seen.append(msg.data))
    alice = world.connect("alice")
    world.advance(1)
    alice.delay(up=1)
    for n in range(20):
        alice.send("test/n", n)
    alice.delay(0)
    alice.send("test/n", 20)
    world.advance(2)
    assert seen == list(range(21))
    alice.delay(down=1)
    for n in range(20):
        world.chsk.send("alice", "test/note", n)
        world.advance(0.11)
    alice.delay(0)
    world.chsk.send("alice", "test/note", 20)
    world.advance(60)
    assert alice.take() == [("test/note", n) for n in range(21)]


def test_hooks_that_wait_do_so_behind_a_delay(transport: Any) -> None:
    async def user_id(request: Any) -> str:
        await asyncio.sleep(0.1)
        return "alice"

    chsk = ChannelSocket(user_id=user_id)
    chsk.on("test/req", lambda msg: msg.data)
    with World(chsk, transport=transport) as world:
        world.delay(0.2)
        alice = world.connect()
        assert alice.uid == "alice"
        assert alice.send("test/req", 1, timeout=5) == 1
        world.chsk.send("alice", "test/note", 1)
        assert alice.expect("test/note") == 1


def test_a_refusal_comes_late_too(transport: Any) -> None:
    with World(ChannelSocket(authorize=lambda request: False), transport=transport) as world:
        world.delay(0.5)
        before = world.now
        with pytest.raises(HandshakeRefused):
            world.connect()
        assert world.now - before == pytest.approx(1)


def test_what_is_under_way_at_the_end_is_no_complaint(
    transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chsk = channel()

    @chsk.on("test/begin")
    async def begin(msg: Any) -> None:
        chsk.tasks = [asyncio.create_task(asyncio.sleep(1000))]

    with World(chsk, transport=transport) as world:
        alice = world.connect("alice")
        alice.send("test/begin")
        world.advance(1)
        alice.delay(5)
        chsk.send("alice", "test/note")
        alice.ask("test/slow", 1)
        world.advance(7)
    (task,) = chsk.tasks
    assert task.cancelled()
    del task, chsk.tasks
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# -- cuts


def test_what_is_under_way_is_lost_with_a_cut(world: World) -> None:
    seen: list[int] = []
    world.chsk.on("test/n", lambda msg: seen.append(msg.data))
    alice = world.connect("alice")
    world.advance(1)
    alice.delay(1)
    alice.send("test/n", 1)
    world.chsk.send("alice", "test/note", 1)
    world.advance(0.5)
    alice.cut()
    world.advance(1)
    alice.delay(0)
    alice.reconnect()
    world.advance(5)
    assert (seen, alice.take()) == ([], [])
    assert world.chsk.stats.written == 1  # for what was written nobody can know
    assert world.chsk.stats.cut == 1


def test_what_was_sent_before_a_close_arrives_before_it() -> None:
    with World(channel()) as world:
        seen: list[int] = []
        world.chsk.on("test/n", lambda msg: seen.append(msg.data))
        alice = world.connect("alice")
        alice.delay(1)
        alice.send("test/n", 1)
        alice.close(1001)
        world.advance(0.9)
        assert (seen, world.chsk.stats.closed) == ([], {})
        world.advance(0.2)
        assert (seen, world.chsk.stats.closed) == ([1], {1001: 1})


def test_one_that_vanished_is_missed_when_nothing_comes_of_it(world: World, transport: str) -> None:
    alice = world.connect("alice")
    world.turn()
    alice.vanish()
    world.chsk.send("alice", "test/note", 1)
    world.advance(5)
    assert "alice" in world.chsk.connected.any
    assert alice.take() == []
    world.advance(60)
    assert world.chsk.told == ["+alice", "-alice"]
    assert len(world.chsk.connected.any) == 0
    if transport == "ws":
        assert world.chsk.stats.closed == {1011: 1}
    reply = alice.ask("test/req", 1)
    world.advance(10)
    assert not reply.is_here
    assert alice.is_open  # nobody told it


def test_one_that_vanished_may_be_back_before_it_is_missed(world: World) -> None:
    alice = world.connect("alice")
    world.turn()
    alice.vanish()
    world.advance(3)
    alice.reconnect()
    world.chsk.send("alice", "test/note", 1)
    assert alice.expect("test/note") == 1
    world.advance(100)
    assert world.chsk.told == ["+alice"]
    assert alice.send("test/req", 1, timeout=1) == 1


# -- slow clients


def test_one_that_lags_reads_later_and_in_order(world: World) -> None:
    alice, bob = world.connect("alice"), world.connect("bob")
    alice.lag()
    for n in range(5):
        world.chsk.send("alice", "test/note", n)
        world.advance(0.5)
    assert alice.take() == []
    assert bob.send("test/req", 1, timeout=1) == 1
    alice.resume()
    for n in range(5):
        assert alice.expect("test/note") == n
    assert world.chsk.stats.lost == Lost()


def test_one_that_lags_too_long_loses_what_waits_and_is_told_by_a_break(transport: Any) -> None:
    with World(channel(max_backlog_events=10), transport=transport) as world:
        alice = world.connect("alice")
        world.advance(1)
        alice.lag()
        for n in range(12):  # one is written, and the eleventh behind it is one too many
            world.chsk.send("alice", "test/note", n)
            world.advance(0.11)
        stats = world.chsk.stats
        assert (stats.sent, stats.written, stats.lost) == (12, 1, Lost(too_slow=11))
        alice.resume()
        world.advance(0.5)
        assert alice.breaks == 1
        if transport == "ws":
            assert alice.close_code == 1013
        alice.take()
        alice.reconnect()
        world.chsk.send("alice", "test/note", "new")
        assert alice.expect("test/note") == "new"


def test_a_reply_waits_while_its_client_lags(world: World) -> None:
    alice = world.connect("alice")
    alice.lag()
    reply = alice.ask("test/req", 1)
    world.advance(1)
    assert not reply.is_here
    with pytest.raises(ReplyTimeout):
        reply.wait(1)
    alice.resume()
    assert reply.wait(1) == 1


def test_latest_keeps_the_newest_for_one_that_lags(world: World, transport: str) -> None:
    alice = world.connect("alice")
    world.advance(1)
    alice.lag()
    for price in range(100):
        world.chsk.send("alice", "price/is", price, latest="price")
        world.advance(0.01)
    alice.resume()
    world.advance(1)
    taken = [data for _, data in alice.take()]
    assert taken[-1] == 99
    assert len(taken) < 20
    assert world.chsk.stats.replaced > 80


def test_a_closed_socket_can_lag_and_vanish_without_harm(world: World) -> None:
    alice = world.connect("alice")
    alice.cut()
    for call in (alice.lag, alice.resume, alice.vanish, alice.cut, alice.close):
        call()
    alice.reconnect()
    assert alice.send("test/req", 1, timeout=1) == 1


def test_the_servers_close_comes_behind_what_was_written(world: World, transport: str) -> None:
    alice = world.connect("alice")
    world.advance(1)
    alice.delay(1)
    world.chsk.send("alice", "test/note", 1)
    world.chsk.disconnect("alice")
    world.advance(0.9)
    assert alice.breaks == 0
    world.advance(1.2)  # over Ajax the push, as an answer of its own, and a poll to tell
    assert alice.take() == [("test/note", 1)]
    world.advance(2)
    assert alice.breaks == (1 if transport == "ws" else 0)


def test_an_ajax_client_that_vanished_hears_nothing_more_of_its_old_poll():
    chsk = ChannelSocket()
    with World(chsk) as world:
        client = world.ajax("alice")
        old = client.polls[-1]
        client.vanish()
        client.cut()
        chsk.send("alice", "t/news", 1)
        world.advance(1.0)
        assert old.value is None
        assert list(client.events) == []


def test_a_client_that_comes_back_reads_its_old_socket_no_more():
    chsk = ChannelSocket()
    with World(chsk) as world:
        client = world.ws("alice", resumes=True)
        client.delay(up=0.3, down=0.3)
        client.close()
        chsk.send("alice", "t/news", 1)
        client.reconnect()
        world.advance(2.0)
        assert [event.data for event in client.events] == [1]
