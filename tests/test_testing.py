"""A World: the channel's life in turned time, without sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import chansock
from chansock import ALL, ANONYMOUS, LATER, ChannelSocket, Config, EventMsg, testing
from chansock.errors import HandshakeRefused
from chansock.testing import World
from chansock.values import Keyword

DUMMY = Keyword("chsk/dummy-cb-200")


def channel(**settings: Any) -> ChannelSocket:
    chsk = ChannelSocket(Config(**settings), user_id=testing.user_id)
    told: list[str] = []
    chsk.on("chsk/uidport-open", lambda msg: told.append(f"+{msg.data}"))
    chsk.on("chsk/uidport-close", lambda msg: told.append(f"-{msg.data}"))
    chsk.told = told  # type: ignore[attr-defined]

    @chsk.on("test/req")
    def req(msg: EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("test/slow")
    async def slow(msg: EventMsg[Any]) -> Any:
        await asyncio.sleep(msg.data)
        return msg.data

    @chsk.on("test/say")
    def say(msg: EventMsg[Any]) -> None:
        chsk.send(ALL, "test/said", msg.data)

    return chsk


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


def test_handler_that_sleeps_an_hour_is_awaited_by_turned_time(world: World) -> None:
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


# -- the table's rows in turned time, on both transports


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
    assert chsk.told == ["+alice"]  # type: ignore[attr-defined]
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
    assert chsk.told == ["+alice", "-alice"]  # type: ignore[attr-defined]


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
    assert chsk.told == ["+alice"]  # type: ignore[attr-defined]
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
    assert chsk.told == ["+alice", "-alice"]  # type: ignore[attr-defined]


# -- keep-alive


def test_silent_socket_is_pinged_after_12_5_s_and_closed_1011_10_s_later(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.answers_pings = False
    world.advance(12.49)
    assert alice.pings == 0
    world.advance(0.02)
    assert alice.pings == 1
    world.advance(9.98)
    assert alice.is_open
    world.advance(0.02)
    assert (alice.is_open, alice.close_code) == (False, 1011)


def test_client_that_answers_pings_stays_for_a_day(world: World) -> None:
    alice = world.ws(uid="alice")
    world.advance(24 * 3600)
    assert alice.is_open
    assert (
        alice.pings == 24 * 3600 / 22.5
    )  # the answer is looked for after 10 s, then 12.5 s of peace


def test_events_are_life_and_no_ping_is_sent(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.send("test/req")
    for _ in range(20):
        world.advance(10)
        alice.send("test/req")
    assert alice.pings == 0


def test_pushes_to_a_silent_client_are_no_life(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.answers_pings = False
    for _ in range(40):
        world.chsk.send("alice", "test/note")
        world.advance(1)
    assert alice.close_code == 1011


def test_client_ping_is_answered_pong(world: World) -> None:
    alice = world.ws(uid="alice")
    reply = alice.ping()
    world.turn()
    assert reply.value == "pong"


# -- polls


def test_poll_is_answered_timeout_after_20_s_and_polled_anew(world: World) -> None:
    alice = world.ajax(uid="alice")
    first = alice.parked
    assert first is not None
    world.advance(19.9)
    assert first.is_parked
    world.advance(0.2)
    assert (first.status, first.value) == (200, "chsk/timeout")
    assert alice.parked is not None
    assert alice.parked is not first
    world.advance(3600)
    assert "alice" in world.chsk.connected.ajax


def test_handshake_get_alone_connects_nobody_but_keeps_what_comes(world: World) -> None:
    alice = world.ajax(uid="alice", is_polling=False)
    assert len(world.chsk.connected.any) == 0
    world.chsk.send("alice", "test/note", 1)
    world.advance(4.9)
    poll = alice.poll()
    assert (poll.status, alice.take()) == (200, [("test/note", 1)])
    assert "alice" in world.chsk.connected.ajax


def test_client_that_comes_back_after_grace_is_answered_by_a_handshake(world: World) -> None:
    alice = world.ajax(uid="alice", is_polling=False)
    world.advance(5.1)
    alice.handshake = None
    poll = alice.poll()
    assert poll.status == 200
    assert alice.handshake == ("alice", None)


def test_unanswered_post_gets_timeout_after_20_s() -> None:
    chsk = channel()
    chsk.on("test/later", lambda msg: LATER)
    with World(chsk) as world:
        reply = world.ajax(uid="alice").ask("test/later")
        world.advance(19.9)
        assert not reply.is_here
        world.advance(0.2)
        assert (reply.status, reply.value) == (200, "chsk/timeout")


def test_post_without_callback_is_answered_at_once(world: World) -> None:
    reply = world.ajax(uid="alice").send("test/req", 1)
    assert (reply.status, reply.value) == (200, DUMMY)


def test_disconnect_ends_polls_with_503_and_sockets_with_1000(world: World) -> None:
    poller, socket = world.ajax(uid="alice"), world.ws(uid="alice")
    parked = poller.parked
    assert parked is not None
    world.chsk.disconnect("alice")
    assert parked.status == 503
    world.turn()
    assert socket.close_code == 1000
    # the poller came back by itself, with a handshake and a new poll
    assert poller.parked is not None
    assert [poll.status for poll in poller.polls] == [200, 503, 200, None]


def test_numbered_post_that_misses_its_predecessor_waits_a_second(world: World) -> None:
    alice = world.ajax(uid="alice", is_polling=False)
    udt = "5"
    alice._get([("udt", udt), ("handshake?", "1")])
    third = alice.post("[[:test/say 3] nil]", [("n", f"{udt}-3")])
    second = alice.post("[[:test/say 2] nil]", [("n", f"{udt}-2")])
    world.advance(0.9)
    assert third.status is second.status is None
    world.advance(0.2)
    assert third.status == second.status == 200
    world.advance(0.2)
    alice.poll()
    assert alice.take() == [("test/said", 2), ("test/said", 3)]


# -- slow clients and full inboxes


def test_slow_socket_gets_the_newest_state_once_it_reads_again(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.transport.is_slow = True
    for i in range(5):
        world.chsk.send("alice", "test/state", i, latest="state")
        world.turn()
    assert alice.take() == []
    alice.drain()
    assert alice.take() == [("test/state", 0), ("test/state", 4)]
    assert world.chsk.stats.replaced == 3


def test_socket_too_far_behind_is_closed_1013_and_its_events_are_counted() -> None:
    with World(channel(max_backlog_events=10)) as world:
        alice, bob = world.ws(uid="alice"), world.ws(uid="bob")
        alice.transport.is_slow = True
        for i in range(20):
            world.chsk.send(ALL, "test/note", i)
            world.turn()
        assert alice.close_code == 1013
        assert len(bob.take()) == 20
        stats = world.chsk.stats
        assert stats.lost.too_slow > 0
        world.advance(3)
        stats = world.chsk.stats
        lost = stats.lost
        assert stats.sent == stats.written + stats.replaced + (
            lost.too_slow + lost.budget + lost.grace + lost.stopped
        )


def test_client_whose_handlers_lag_is_not_read_and_loses_nothing() -> None:
    with World(channel(max_inbox_events=4)) as world:
        alice = world.ws(uid="alice")
        replies = [alice.ask("test/slow", 1) for _ in range(10)]
        assert alice.unread == 6
        world.advance(20)
        assert [reply.value for reply in replies] == [1] * 10
        assert alice.unread == 0


def test_events_behind_a_handler_that_waits_keep_their_order(world: World) -> None:
    alice = world.ws(uid="alice")
    alice.ask("test/slow", 1)
    quick = alice.ask("test/req", 2)
    world.advance(0.9)
    assert not quick.is_here
    world.advance(0.2)
    assert quick.value == 2


# -- displaced connections


def test_displaced_socket_gets_replies_and_keep_alive_but_no_pushes(world: World) -> None:
    old = world.ws(uid="alice", client_id="a1")
    new = world.ws(uid="alice", client_id="a1")
    world.chsk.send("alice", "test/note", 1)
    reply = old.ask("test/req", 7)
    world.turn()
    assert (reply.value, old.take(), new.take()) == (7, [], [("test/note", 1)])
    world.advance(60)
    assert old.is_open
    assert old.pings > 1


def test_late_close_of_a_displaced_socket_does_not_touch_the_newer(world: World) -> None:
    old = world.ws(uid="alice", client_id="a1")
    new = world.ws(uid="alice", client_id="a1")
    old.close()
    world.advance(60)
    world.chsk.send("alice", "test/note", 1)
    world.turn()
    assert new.take() == [("test/note", 1)]
    assert world.chsk.told == ["+alice"]  # type: ignore[attr-defined]


def test_reply_of_a_socket_that_is_gone_goes_to_the_sessions_next(world: World) -> None:
    alice = world.ws(uid="alice", client_id="a1")
    reply = alice.ask("test/slow", 1)
    alice.cut()
    alice.connect()
    world.advance(1.1)
    assert reply.value == 1
    assert world.chsk.stats.reply_lost == 0


# -- the end


def test_stop_flushes_and_closes_sockets_1012_and_polls_503() -> None:
    with World(channel()) as world:
        socket, poller = world.ws(uid="alice"), world.ajax(uid="bob")
        parked = poller.parked
        assert parked is not None
        poller.is_polling = False
        world.chsk.send(ALL, "test/last", 1)
    assert (socket.close_code, socket.take()) == (1012, [("test/last", 1)])
    assert (parked.status, poller.take()) == (200, [("test/last", 1)])
    assert (world.chsk.stats.sent, world.chsk.stats.written) == (2, 2)


def test_bad_packets_are_dropped_counted_and_logged_once_for_each_connection(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chansock"):
        alice, bob = world.ws(uid="alice"), world.ws(uid="bob")
        alice.feed("not edn )(", "#foo/bar 1", b"[[:test/req 1] nil]")
        bob.feed("{:a 1}")
        assert alice.ask("test/req", 1).value == 1
    assert world.chsk.stats.bad_packet == 3
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("bad_packet")]
    assert len(lines) == 2
