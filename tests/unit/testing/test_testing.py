"""A World: the channel's life in virtual time, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sample_channel import channel

import chansock
from chansock import ANONYMOUS, ChannelSocket, ConfigError, testing
from chansock.errors import HandshakeRefused
from chansock.testing import World
from chansock.values import Keyword

DUMMY = Keyword("chsk/dummy-cb-200")


@pytest.fixture
def world() -> Iterator[World]:
    with World(channel()) as world:
        yield world


# -- what a World is


def test_the_example_of_its_docstring(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.send("test/say", {"text": "hi"})
    world.turn()
    assert alice.take() == [("test/said", {"text": "hi"})]
    world.advance(25)
    assert alice.pings == 1


def test_handshake_names_the_user_or_nil_uid(world: World) -> None:
    assert world.ws(uid="alice").handshake == ("alice", None)
    assert world.ajax(uid=7).handshake == (7, None)
    assert world.ws().handshake == (Keyword("sente/nil-uid"), None)


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_without_anonymous_a_client_without_a_user_is_401(transport: testing.Transport) -> None:
    users = {"s3cr3t": "ada"}
    chsk = ChannelSocket(
        user_id=lambda request: users.get(request.cookies.get("login", "")), anonymous=False
    )
    with World(chsk, transport=transport) as world:
        for cookies in ({}, {"login": "other"}):
            with pytest.raises(HandshakeRefused) as caught:
                world.connect(cookies=cookies)
            assert (caught.value.status, caught.value.reason) == (401, "Unauthorized request")
        assert world.connect(cookies={"login": "s3cr3t"}).uid == "ada"
        assert chsk.stats.refused == {"anonymous": 2}


@pytest.mark.parametrize(
    "settings", [{"anonymous": False}, {"anonymous": 0, "user_id": testing.user_id}]
)
def test_anonymous_is_a_bool_and_needs_a_user_id(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="anonymous"):
        ChannelSocket(**settings)


def test_refused_client_raises_with_status_and_reason() -> None:
    chsk = ChannelSocket(authorize=lambda request: request.params.get("key") == "right")
    with World(chsk) as world:
        with pytest.raises(HandshakeRefused) as caught:
            world.ws()
        assert (caught.value.status, caught.value.reason) == (401, "Unauthorized request")
        with pytest.raises(HandshakeRefused):
            world.ajax()
        assert world.ws(params=[("key", "right")]).is_open


def test_hooks_that_wait_get_their_time() -> None:
    async def user_id(request: chansock.Request) -> str:
        await asyncio.sleep(3)
        return "alice"

    with World(ChannelSocket(user_id=user_id)) as world:
        before = world.now
        assert world.ws().handshake == ("alice", None)
        assert world.now - before == pytest.approx(3)


def test_handler_that_sleeps_an_hour_is_awaited_by_virtual_time(world: World) -> None:
    alice = world.ws(uid="alice")
    reply = alice.ask("test/slow", 3600)
    world.advance(3599)
    assert not reply.is_here
    world.advance(2)
    assert reply.value == 3600


def test_handler_in_a_thread_answers() -> None:
    chsk = channel()
    chsk.on("test/thread", lambda msg: msg.data + 1, thread=True)
    with World(chsk) as world:
        reply = world.ws(uid="alice").ask("test/thread", 1)
        world.until(lambda: reply.is_here)
        assert reply.value == 2


def test_reply_that_is_not_there_raises(world: World) -> None:
    reply = world.ws(uid="alice").ask("test/slow", 1)
    with pytest.raises(LookupError, match="expected a reply, got none yet"):
        _ = reply.value


# -- the table's rows in virtual time, on both transports


def connect(world: World, kind: str, **options: Any) -> Any:
    return world.ws(**options) if kind == "ws" else world.ajax(**options)


KINDS = pytest.mark.parametrize("kind", ["ws", "ajax"])


@KINDS
def test_event_reply_and_push(world: World, kind: str) -> None:
    alice = connect(world, kind, uid="alice")
    assert alice.ask("test/req", {"x": [1, 2, 3]}).value == {"x": [1, 2, 3]}
    alice.send("test/say", 1)
    world.chsk.send("alice", "test/note", 2)
    world.advance(0.11)
    assert alice.take() == [("test/said", 1), ("test/note", 2)]


@KINDS
def test_pushes_of_one_turn_are_one_packet(world: World, kind: str) -> None:
    alice = connect(world, kind, uid="alice")
    world.advance(1)
    for i in range(10):
        world.chsk.send("alice", "test/note", i)
    packets = _packets(alice)
    world.advance(0.11)
    assert _packets(alice) == packets + 1
    assert alice.take() == [("test/note", i) for i in range(10)]


def _packets(client: Any) -> int:
    if isinstance(client, testing.WsClient):
        return len(client.transport.written)
    return sum(len(poll.transport.written) for poll in client.polls)


@KINDS
def test_push_goes_to_all_clients_of_its_user_and_to_nobody_else(world: World, kind: str) -> None:
    one, two = (connect(world, kind, uid="alice") for _ in range(2))
    bob, nobody = connect(world, kind, uid="bob"), connect(world, kind)
    world.chsk.send("alice", "test/note", 1)
    world.chsk.send(ANONYMOUS, "test/note", 2)
    world.advance(0.11)
    assert one.take() == two.take() == [("test/note", 1)]
    assert bob.take() == []
    assert nobody.take() == [("test/note", 2)]


@KINDS
def test_user_is_present_until_the_grace_of_its_last_client_is_over(
    world: World, kind: str
) -> None:
    chsk, grace = world.chsk, 2.5 if kind == "ws" else 5.0
    live = getattr(chsk.connected, kind)
    one = connect(world, kind, uid="alice")
    world.turn()
    assert chsk.told == ["+alice"]
    two = connect(world, kind, uid="alice")
    _leave(one)
    world.advance(60)
    assert "alice" in live
    _leave(two)
    world.advance(grace - 0.01)
    assert "alice" in live
    assert "alice" in chsk.connected.any
    world.advance(0.02)
    assert len(live) == len(chsk.connected.any) == 0
    assert chsk.told == ["+alice", "-alice"]


def _leave(client: Any) -> None:
    if isinstance(client, testing.WsClient):
        client.close()
    else:
        client.drop()


@KINDS
def test_reconnect_within_grace_tells_nobody_and_brings_what_was_missed(
    world: World, kind: str
) -> None:
    chsk = world.chsk
    alice = connect(world, kind, uid="alice", client_id="a1")
    world.turn()
    _leave(alice)
    world.advance(1)
    chsk.send("alice", "test/note", 1)
    chsk.send("alice", "test/note", 2)
    world.advance(1)
    again = connect(world, kind, uid="alice", client_id="a1")
    world.advance(60)
    assert again.take() == [("test/note", 1), ("test/note", 2)]
    assert chsk.told == ["+alice"]
    assert chsk.stats.lost == chansock.Lost()


@KINDS
def test_push_into_a_gap_longer_than_grace_is_counted_lost(world: World, kind: str) -> None:
    chsk = world.chsk
    alice = connect(world, kind, uid="alice")
    world.turn()
    _leave(alice)
    chsk.send("alice", "test/note", 1)
    world.advance(5.01)
    assert chsk.stats.lost.grace == 1
    chsk.send("alice", "test/note", 2)
    assert (chsk.stats.nobody, chsk.stats.sent) == (1, 1)


def test_socket_and_poll_of_one_client_are_one_user(world: World) -> None:
    chsk = world.chsk
    socket = world.ws(uid="alice", client_id="a1")
    poll = world.ajax(uid="alice", client_id="a1")
    world.turn()
    socket.cut()
    world.advance(2.51)
    assert "alice" not in chsk.connected.ws
    assert "alice" in chsk.connected.ajax
    poll.drop()
    world.advance(5.01)
    assert chsk.told == ["+alice", "-alice"]


# -- what handlers raise


def say_all(world: World, *texts: Any) -> list[Any]:
    """Say each text, and receive nothing."""
    client = world.connect("ada")
    for text in texts:
        client.send("chat/say", text)
    return client.take()


def test_a_handler_that_raised_fails_the_test() -> None:
    chsk = ChannelSocket()

    @chsk.on("chat/say")
    def say(msg: chansock.EventMsg[Any]) -> None:
        raise KeyError(msg.data)

    with pytest.raises(KeyError, match="hi") as caught, World(chsk) as world:
        world.connect("ada").send("chat/say", "hi")
    assert "takes it out of `world.errors`" in caught.value.__notes__[0]
    with pytest.raises(ExceptionGroup, match="2 handlers or hooks raised"), World(chsk) as world:
        say_all(world, "a", "b")


def test_a_handlers_error_that_the_test_knows_of_fails_nothing() -> None:
    chsk = ChannelSocket()

    @chsk.on("chat/say")
    def say(msg: chansock.EventMsg[Any]) -> None:
        raise KeyError(msg.data)

    with World(chsk) as world:  # taken out
        world.connect("ada").send("chat/say")
        assert isinstance(world.errors.pop(), KeyError)
    with World(chsk) as world:  # the cause of what the test got
        with pytest.raises(chansock.ReplyError):
            world.connect("ada").send("chat/say", timeout=5)
        assert len(world.errors) == 1
    with World(chsk, raise_handler_errors=False) as world:
        world.connect("ada").send("chat/say")
    with pytest.raises(ZeroDivisionError), World(chsk) as world:
        say_all(world, 1 / len(say_all(world, "a")))  # which no other error may hide


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_expect_where_picks_an_event_by_its_data(transport: testing.Transport) -> None:
    chsk = ChannelSocket()
    with World(chsk, transport=transport) as world:
        ada = world.connect("ada")
        for number in range(3):
            chsk.send("ada", "count/is", number)
        assert ada.expect("count/is", where=lambda number: number > 0) == 1
        assert ada.expect("count/is") == 0
        with pytest.raises(AssertionError, match=r"expected count/is that where\(\) is true for, "):
            ada.expect("count/is", where=lambda number: number == 7, within=1)
        assert ada.take() == [("count/is", 2)]


def test_ws_and_ajax_and_connect_have_the_user_first(world: World) -> None:
    for connect in (world.connect, world.ws, world.ajax):
        assert connect("ada").uid == "ada"
        assert connect(ANONYMOUS).uid is None
        with pytest.raises(ConfigError, match="uid: expected a user id"):
            connect(True)
