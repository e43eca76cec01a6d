"""What time does, in virtual time: keep-alive, polls, slow and displaced clients."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sample_channel import channel

from chansock import ALL, LATER
from chansock.testing import World
from chansock.values import Keyword

DUMMY = Keyword("chsk/dummy-cb-200")


@pytest.fixture
def world() -> Iterator[World]:
    with World(channel()) as world:
        yield world


# -- keep-alive


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
    alice.shake_hands(udt)
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
    assert world.chsk.told == ["+alice"]


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
