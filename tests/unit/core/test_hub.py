"""Sessions, presence, grace and polls: the hub, driven through its endpoint in virtual time."""

import asyncio
import sys

import pytest

from chansock import ALL, ANONYMOUS, LATER, ChannelSocket, Config, HandshakeRefused
from chansock.testing import RecordingTransport, World, user_id

W, T = 12.5, 10.0  # ws_ping_interval, ws_ping_timeout


@pytest.fixture
def chsk():
    return ChannelSocket(user_id=user_id)


@pytest.fixture
def presence(chsk):
    """What the application hears of users coming and going, in order."""
    heard = []
    chsk.on("chsk/uidport-open", lambda msg: heard.append(("open", msg.data)))
    chsk.on("chsk/uidport-close", lambda msg: heard.append(("close", msg.data)))
    return heard


@pytest.fixture
def world(chsk, presence):
    with World(chsk) as world:
        yield world


def data(client):
    return [event.data for event in client.take()]


# -- users with many clients


def test_a_push_reaches_every_client_of_the_user_and_nobody_else(chsk, world):
    one, two, poll = world.ws(uid="a"), world.ws(uid="a"), world.ajax(uid="a")
    other = world.ws(uid="b")
    chsk.send("a", "t/e", 1)
    world.advance(0.1)
    assert [data(client) for client in (one, two, poll, other)] == [[1], [1], [1], []]
    assert chsk.stats.sent == chsk.stats.written == 3


def test_targets_all_anonymous_and_one_client(chsk, world):
    a, nobody = world.ws(uid="a"), world.ws()
    targets = []
    chsk.on("t/who", lambda msg: targets.append(msg.client))
    nobody.send("t/who")
    for number, to in enumerate((ALL, ANONYMOUS, targets[0])):
        chsk.send(to, "t/e", number)
    world.turn()
    assert data(a) == [0]
    assert data(nobody) == [0, 1, 2]


def test_1_and_the_string_1_are_two_users(chsk, world):
    number, text = world.ws(uid=1), world.ws(uid="1")
    chsk.send(1, "t/e", "int")
    chsk.send("1", "t/e", "str")
    world.turn()
    assert data(number) == ["int"]
    assert data(text) == ["str"]


def test_a_send_to_nobody_is_counted(chsk, world):
    chsk.send("ghost", "t/e")
    chsk.send(ALL, "t/e")
    assert chsk.stats.nobody == 2


# -- presence and grace


def test_presence_opens_with_the_first_client_and_closes_grace_after_the_last(
    chsk, world, presence
):
    one, two = world.ws(uid="a"), world.ws(uid="a")
    assert presence == [("open", "a")]
    one.close()
    world.advance(10)
    assert presence == [("open", "a")]
    two.close()
    world.advance(2.4)
    assert "a" in chsk.connected.any
    world.advance(0.2)
    assert "a" not in chsk.connected.any
    assert presence == [("open", "a"), ("close", "a")]


def test_a_reconnect_within_grace_is_no_event_and_loses_nothing(chsk, world, presence):
    client = world.ws(uid="a")
    client.cut()
    chsk.send("a", "t/e", 1)
    world.advance(2)
    client.connect()
    chsk.send("a", "t/e", 2)
    world.turn()
    assert data(client) == [1, 2]
    assert client.transport.writes[0] == 2  # the handshake and what waited, in one send
    assert chsk.stats.cut == 1
    world.advance(60)
    assert "a" in chsk.connected.ws
    assert presence == [("open", "a")]


def test_what_waits_when_grace_ends_is_counted_lost(chsk, world):
    client = world.ws(uid="a")
    client.close()
    for number in range(3):
        chsk.send("a", "t/e", number)
    world.advance(3)
    assert chsk.stats.lost.grace == 3
    assert chsk.stats.waiting_bytes == 0
    chsk.send("a", "t/e")
    assert chsk.stats.nobody == 1


def test_anonymous_clients_stand_as_one_member(chsk, world, presence):
    one, two = world.ws(), world.ws()
    assert list(chsk.connected.any) == [ANONYMOUS]
    one.close()
    two.close()
    world.advance(3)
    assert presence == [("open", ANONYMOUS), ("close", ANONYMOUS)]


def test_ajax_presence_comes_with_the_second_get_and_goes_with_grace(chsk, world, presence):
    client = world.ajax(uid="a", is_polling=False)
    assert len(chsk.connected.any) == 0
    client.poll()
    assert "a" in chsk.connected.ajax
    assert "a" not in chsk.connected.ws
    client.drop()
    world.advance(4.9)
    assert presence == [("open", "a")]
    world.advance(0.2)
    assert presence == [("open", "a"), ("close", "a")]


def test_an_event_between_handshake_and_first_poll_is_delivered(chsk, world):
    client = world.ajax(uid="a", is_polling=False)
    chsk.send("a", "t/e", 1)
    world.advance(1)
    client.poll()
    assert data(client) == [1]


def test_who_has_left_gets_nothing_that_is_sent_when_that_is_told(chsk):
    @chsk.on("chsk/uidport-close")
    def left(msg):
        chsk.send(ALL, "t/left", msg.data)
        chsk.send(msg.data, "t/e")

    with World(chsk) as world:
        other = world.ws(uid="b")
        world.ws(uid="a").close()
        world.advance(3)
        assert data(other) == ["a"]
        assert (chsk.stats.sent, chsk.stats.nobody, chsk.stats.lost.grace) == (1, 1, 0)


def test_what_waits_for_a_first_poll_is_not_lost_to_what_the_open_handler_sends():
    chsk = ChannelSocket(Config(max_backlog_events=2), user_id=user_id)
    chsk.on("chsk/uidport-open", lambda msg: chsk.send(msg.data, "t/e", "welcome"))
    with World(chsk) as world:
        client = world.ajax(uid="a", is_polling=False)
        chsk.send("a", "t/e", 1)
        chsk.send("a", "t/e", 2)
        client.poll()
        assert data(client) == [1, 2]
        client.poll()
        assert data(client) == ["welcome"]


def test_a_user_on_both_transports_closes_once(world, presence):
    ws, ajax = world.ws(uid="a"), world.ajax(uid="a")
    ws.close()
    world.advance(10)
    assert presence == [("open", "a")]
    ajax.drop()
    world.advance(6)
    assert presence == [("open", "a"), ("close", "a")]


# -- one client, many connections


def test_a_displaced_socket_stays_open_gets_no_pushes_and_its_replies(chsk, world):
    chsk.on("t/req", lambda msg: msg.data)
    old, new = world.ws("a", client_id="tab"), world.ws("a", client_id="tab")
    chsk.send("a", "t/e", 1)
    reply = old.ask("t/req", 42)
    world.turn()
    assert (data(old), data(new)) == ([], [1])
    assert reply.value == 42
    assert old.is_open
    old.close()
    world.advance(10)
    assert "a" in chsk.connected.ws


def test_a_reply_behind_a_backlog_stays_with_its_socket_when_that_is_displaced(chsk, world):
    chsk.on("t/req", lambda msg: msg.data)
    old = world.ws("a", client_id="tab")
    old.transport.is_slow = True
    chsk.send("a", "t/e", 1)
    world.turn()
    reply = old.ask("t/req", 42)
    chsk.send("a", "t/e", 2)
    new = world.ws("a", client_id="tab")
    second = old.ask("t/req", 43)
    world.turn()
    assert data(new) == [2]
    assert len(old.transport.writes) == 2  # handshake and first push; no more until it drains
    old.drain()
    world.turn()
    assert (data(old), reply.value, second.value) == ([1], 42, 43)
    assert chsk.stats.reply_lost == 0


def test_a_reply_that_waits_for_a_displaced_socket_stays_when_its_polls_are_gone(chsk, world):
    chsk.on("t/req", lambda msg: msg.data)
    socket = world.ws("a", client_id="tab")
    socket.transport.is_slow = True
    chsk.send("a", "t/e", 1)
    world.turn()
    poll = world.ajax("a", client_id="tab")
    reply = socket.ask("t/req", 42)
    poll.drop()
    chsk.send("a", "t/e", 2)
    world.advance(6)
    assert len(socket.transport.writes) == 2
    socket.drain()
    assert (data(socket), reply.value) == ([1, 2], 42)


@pytest.mark.parametrize("is_stop", [False, True])
def test_a_displaced_socket_gets_its_reply_before_it_is_closed(chsk, world, is_stop):
    asked = []
    chsk.on("t/later", lambda msg: asked.append(msg) or LATER)
    old = world.ws("a", client_id="tab")
    reply = old.ask("t/later")
    world.ws("a", client_id="tab")
    assert world.inside(lambda: asked[0].reply(7))
    chsk.stop() if is_stop else chsk.disconnect("a")
    world.turn()
    assert reply.value == 7


def test_the_end_of_a_poll_that_broke_leaves_a_newer_socket_alone():
    chsk = ChannelSocket(Config(max_backlog_events=2), user_id=user_id)
    with World(chsk) as world:
        poll = world.ajax("a", client_id="tab", is_polling=False)
        poll.poll().transport.is_open = False  # and its edge does not know yet
        for number in range(4):
            chsk.send("a", "t/e", number)
        assert chsk.stats.lost.too_slow
        socket = world.ws("a", client_id="tab")
        world.advance(20.1)
        socket.take()
        chsk.send("a", "t/e", 9)
        world.turn()
        assert data(socket) == [9]


def test_closing_the_newer_socket_does_not_reinstate_the_older(chsk, world, presence):
    world.ws("a", client_id="tab")
    new = world.ws("a", client_id="tab")
    new.close()
    world.advance(3)
    assert presence == [("open", "a"), ("close", "a")]


def test_a_displaced_socket_is_kept_alive(world):
    old, _ = world.ws("a", client_id="tab"), world.ws("a", client_id="tab")
    world.advance(W)
    assert old.pings == 1


def test_disconnect_closes_displaced_sockets_too(chsk, world):
    clients = [world.ws("a", client_id=name) for name in ("tab", "tab", "other")]
    bystander = world.ws(uid="b")
    chsk.disconnect("a", code=4401, reason="logged out")
    world.turn()
    assert [client.close_code for client in clients] == [4401] * 3
    assert clients[0].transport.closed_with == (4401, "logged out")
    assert bystander.is_open


def test_what_was_sent_before_disconnect_is_written_first(chsk, world):
    client, poll = world.ws(uid="a"), world.ajax(uid="a", is_polling=False)
    parked = poll.poll()
    chsk.send("a", "t/e", 1)
    chsk.disconnect("a")
    world.turn()
    assert data(client) == [1]
    assert client.close_code == 1000
    assert data(poll) == [1]
    assert parked.status == 200


def test_single_connections_of_a_user_are_given_and_ended(chsk, world):
    one, two, poll = world.ws(uid="a"), world.ws(uid="a"), world.ajax(uid="a")
    world.ws(uid="b")
    found = world._endpoint.connections("a")
    assert [each.client_id for each in found] == [one.client_id, two.client_id, poll.client_id]
    chsk.send("a", "t/e", 1)
    for each in found[1:]:
        world.inside(lambda each=each: world._endpoint.end(each, 4401, "over"))
        world.inside(lambda each=each: world._endpoint.end(each, 4401, "over"))
    world.turn()
    assert one.is_open
    assert two.close_code == 4401
    assert [data(client) for client in (one, two, poll)] == [[1], [1], [1]]
    assert world._endpoint.connections("nobody") == []


def test_disconnect_ends_an_empty_poll_with_503(chsk, world):
    poll = world.ajax(uid="a", is_polling=False)
    parked = poll.poll()
    chsk.disconnect("a")
    assert parked.status == 503


def test_of_two_parallel_polls_the_newer_gets_the_data_the_older_its_timeout(chsk, world):
    client = world.ajax(uid="a", is_polling=False)
    older = client.poll()
    world.advance(1)
    newer = client.poll()
    chsk.send("a", "t/e", 1)
    world.advance(1)
    assert (older.is_parked, newer.status, data(client)) == (True, 200, [1])
    world.advance(18)
    assert older.value == "chsk/timeout"


def test_a_client_that_falls_back_to_ajax_gets_its_events_there_in_order(chsk, world):
    socket = world.ws("a", client_id="tab")
    chsk.send("a", "t/e", 1)
    world.turn()
    poll = world.ajax("a", client_id="tab")
    chsk.send("a", "t/e", 2)
    world.advance(1)
    assert (data(socket), data(poll)) == ([1], [2])
    assert "a" in chsk.connected.ws
    assert "a" in chsk.connected.ajax


def test_a_socket_that_a_poll_displaced_gets_pushes_again_when_the_polls_are_gone(chsk, world):
    socket = world.ws("a", client_id="tab")
    poll = world.ajax("a", client_id="tab")
    poll.drop()
    chsk.send("a", "t/e", 1)
    world.advance(6)
    assert data(socket) == [1]
    assert chsk.stats.lost.grace == 0
    assert "a" not in chsk.connected.ajax


def test_a_socket_that_was_cut_does_not_get_pushes_again_when_the_polls_are_gone():
    chsk = ChannelSocket(Config(max_backlog_events=2), user_id=user_id)
    with World(chsk) as world:
        asked = []
        chsk.on("t/later", lambda msg: asked.append(msg) or LATER)
        socket = world.ws("a", client_id="tab")
        socket.ask("t/later")
        socket.transport.is_open = False  # it broke, and its edge does not know yet
        for number in range(3):
            chsk.send("a", "t/e", number)
        assert chsk.stats.lost.too_slow == 3
        world.ajax("a", client_id="tab", is_polling=False)
        world.advance(6)
        assert not world.inside(lambda: asked[0].reply(1))
        assert chsk.stats.reply_lost == 1


def test_a_socket_that_gets_pushes_again_is_cut_if_too_much_has_come_together():
    chsk = ChannelSocket(Config(max_backlog_events=2), user_id=user_id)
    chsk.on("t/echo", lambda msg: msg.data)
    with World(chsk) as world:
        socket = world.ws("a", client_id="tab")
        socket.transport.is_slow = True
        chsk.send("a", "t/e", 1)
        world.turn()
        world.ajax("a", client_id="tab").drop()  # displaces it, and goes
        socket.ask("t/echo", 2)
        chsk.send("a", "t/e", 3)
        chsk.send("a", "t/e", 4)
        world.advance(6)
        assert socket.close_code == 1013  # one reply and two events
        assert (chsk.stats.lost.too_slow, chsk.stats.reply_lost) == (2, 1)


def test_a_displaced_socket_that_is_cut_is_told_of_and_does_not_get_pushes_again(caplog):
    chsk = ChannelSocket(Config(max_total_backlog_bytes=300), user_id=user_id)
    with World(chsk) as world:
        asked = []
        chsk.on("t/later", lambda msg: asked.append(msg) or LATER)
        socket = world.ws("a", client_id="tab")
        socket.ask("t/later")
        socket.ask("t/later")
        poll = world.ajax("a", client_id="tab", is_polling=False)
        poll.poll()
        socket.transport.is_open = False  # it broke, and its edge does not know yet
        assert world.inside(lambda: asked[0].reply("x" * 300))
        world.turn()
        assert "displaced_cut reason=budget of Displaced(Session(uid='a'" in caplog.text
        assert chsk.stats.reply_lost == 1
        assert not world.inside(lambda: asked[1].reply(2))
        assert chsk.stats.reply_lost == 2
        poll.drop()
        world.advance(6)
        chsk.send("a", "t/e", 1)
        world.turn()
        assert chsk.stats.waiting_bytes  # for the session's next connection


def test_a_poll_gets_what_the_handler_of_its_coming_sends():
    chsk = ChannelSocket(Config(max_total_backlog_bytes=300), user_id=user_id)

    @chsk.on("chsk/uidport-open")
    def greet(msg):
        chsk.send(msg.data, "t/e", 1)
        chsk.send(msg.data, "t/e", 2)

    with World(chsk) as world:
        client = world.ajax(uid="a")
        world.advance(0.1)
        assert data(client) == [1, 2]  # though two that wait are past the budget


def test_a_poll_is_not_parked_if_its_session_is_cut_while_it_comes():
    chsk = ChannelSocket(Config(max_total_backlog_bytes=300), user_id=user_id)
    with World(chsk) as world:
        client = world.ajax("a", client_id="tab", is_polling=False)
        socket = world.ws("a", client_id="tab")
        socket.transport.is_open = False  # nobody has noticed
        chsk.send("a", "t/e", "x" * 300)
        assert chsk.stats.lost.budget == 0
        assert client.poll().status == 503
        assert chsk.stats.lost.budget == 1
        assert "a" not in chsk.connected.ajax
        assert client.poll().status == 503
        client.shake_hands()
        chsk.send("a", "t/e", 3)
        client.poll()
        assert data(client) == [3]


def test_what_is_sent_after_an_ajax_handshake_waits_for_the_poll(chsk, world):
    socket = world.ws("a", client_id="tab")
    client = world.ajax("a", client_id="tab", is_polling=False)  # the client gave the socket up
    chsk.send("a", "t/e", 1)
    assert data(socket) == []
    client.poll()
    assert (data(socket), data(client)) == ([], [1])


def test_a_socket_gets_what_was_sent_if_no_poll_follows_the_handshake(chsk, world):
    socket = world.ws("a", client_id="tab")
    world.ajax("a", client_id="tab", is_polling=False)
    chsk.send("a", "t/e", 1)
    world.advance(6)
    assert data(socket) == [1]


@pytest.mark.parametrize("are_told", [False, True])
def test_a_socket_whose_polls_lost_events_is_closed_when_they_are_gone(are_told):
    chsk = ChannelSocket(Config(max_backlog_events=2), user_id=user_id)
    with World(chsk) as world:
        socket, poll = world.ws("a", client_id="tab"), world.ajax("a", client_id="tab")
        poll.drop()
        for number in range(3):
            chsk.send("a", "t/e", number)
        assert chsk.stats.lost.too_slow == 3
        if are_told:  # by a handshake of theirs: the socket is none the wiser
            world.ajax("a", client_id="tab", is_polling=False)
        chsk.send("a", "t/e", 3)
        world.advance(6)  # it is the newest again; what it would get lies behind a gap
        assert data(socket) == []
        assert socket.transport.closed_with == (1013, "too far behind")
        assert data(world.ws("a", client_id="tab")) == [3]


def test_a_poll_that_a_socket_displaced_leaves_presence_after_its_grace(chsk, world, presence):
    poll = world.ajax("a", client_id="tab", is_polling=False)
    poll.poll()
    socket = world.ws("a", client_id="tab")
    world.advance(6)
    assert ("a" in chsk.connected.ajax, "a" in chsk.connected.ws) == (False, True)
    poll.drop()
    socket.close()
    world.advance(60)
    assert len(chsk.connected.any) == 0
    assert presence == [("open", "a"), ("close", "a")]


def test_disconnect_finds_a_displaced_socket_whose_newer_one_is_long_gone(chsk, world):
    old, new = world.ws("a", client_id="tab"), world.ws("a", client_id="tab")
    new.close()
    world.advance(10)
    assert "a" not in chsk.connected.any
    chsk.disconnect("a", code=4401)
    world.turn()
    assert old.close_code == 4401
    chsk.send("a", "t/e")
    assert chsk.stats.nobody == 1


def test_a_client_whose_displaced_socket_is_left_can_come_back(chsk, world, presence):
    old, new = world.ws("a", client_id="tab"), world.ws("a", client_id="tab")
    new.close()
    world.advance(10)
    chsk.send("a", "t/e", 1)
    chsk.send(ALL, "t/e", 2)
    assert chsk.stats.nobody == 2
    new.connect()
    chsk.send(ALL, "t/e", 3)
    world.turn()
    assert (data(old), data(new)) == ([], [3])
    assert presence == [("open", "a"), ("close", "a"), ("open", "a")]
    new.close()
    old.close()
    world.advance(10)
    chsk.send("a", "t/e")
    assert chsk.stats.nobody == 3


def test_a_reply_that_finds_only_a_closing_socket_does_not_go_into_a_poll(chsk, world):
    @chsk.on("t/leave")
    async def leave(msg):
        chsk.disconnect(msg.client)
        return 7

    socket = world.ws("a", client_id="tab")
    socket.ask("t/leave")
    world.turn()
    poll = world.ajax("a", client_id="tab")
    for number in range(3):
        chsk.send("a", "t/e", number)
        world.advance(1)
    assert data(poll) == [0, 1, 2]
    assert chsk.stats.reply_lost == 1


def test_a_second_handshake_beside_a_parked_poll_changes_no_presence(chsk, world, presence):
    client = world.ajax("a", client_id="tab", is_polling=False)
    poll = client.poll()
    world.ajax("a", client_id="tab", is_polling=False)
    world.advance(6)
    assert poll.is_parked
    assert "a" in chsk.connected.ajax
    assert presence == [("open", "a")]


def test_past_eight_displaced_sockets_the_oldest_is_closed_1008(chsk, world, presence):
    sockets = [world.ws("a", client_id="tab") for _ in range(9)]
    world.turn()
    assert all(socket.is_open for socket in sockets)
    sockets += [world.ws("a", client_id="tab") for _ in range(3)]
    world.turn()
    assert [socket.close_code for socket in sockets] == [1008] * 3 + [None] * 9
    assert sockets[0].transport.closed_with == (1008, "too many connections of one client")
    chsk.send("a", "t/e", 1)
    world.turn()
    assert [data(socket) for socket in sockets] == [[]] * 11 + [[1]]
    assert presence == [("open", "a")]


def test_an_anonymous_client_has_no_more_displaced_sockets():
    chsk = ChannelSocket()
    with World(chsk) as world:
        for _ in range(50):
            world.ws(client_id="tab")
            world.turn()
        assert len(world._endpoint._hub.connections) == 9


def test_displaced_sockets_that_do_not_answer_a_close_are_as_many_at_most(chsk, world):
    def refuse_to_end() -> None:
        pass

    sockets = []
    for _ in range(17):
        sockets.append(world.ws("a", client_id="tab"))
        sockets[-1].transport.on_close = refuse_to_end
    with pytest.raises(HandshakeRefused) as refused:
        world.ws("a", client_id="tab")
    assert refused.value.status == 503
    assert chsk.stats.refused == {"full": 1}
    world.ws("a", client_id="other")
    world.inside(lambda: world._endpoint.closed(sockets[0].connection, 1006))
    world.ws("a", client_id="tab")
    assert len(world._endpoint.connections("a")) == 18


def test_past_eight_displaced_polls_the_oldest_ends_with_503(chsk, world):
    client = world.ajax("a", client_id="tab", is_polling=False)
    polls = [client.poll() for _ in range(11)]
    assert [poll.status for poll in polls] == [503] * 2 + [None] * 9
    chsk.send("a", "t/e", 1)
    world.advance(1)
    assert (polls[-1].status, data(client)) == (200, [1])
    world.advance(20)
    assert {poll.value for poll in polls[2:-1]} == {"chsk/timeout"}


def test_a_socket_can_be_the_oldest_that_polls_displaced(chsk, world, presence):
    socket = world.ws("a", client_id="tab")
    client = world.ajax("a", client_id="tab", is_polling=False)
    polls = [client.poll() for _ in range(9)]
    world.turn()
    assert socket.close_code == 1008
    world.advance(10)
    chsk.send("a", "t/e", 1)
    world.advance(1)
    assert (polls[-1].status, data(client)) == (200, [1])
    client.drop()
    world.advance(60)
    assert presence == [("open", "a"), ("close", "a")]
    assert len(world._endpoint._hub.connections) == world._endpoint._hub.table.away == 0


# -- polls


def test_a_poll_without_events_ends_with_timeout_after_20_s(world):
    client = world.ajax(uid="a", is_polling=False)
    poll = client.poll()
    world.advance(19.9)
    assert poll.is_parked
    world.advance(0.2)
    assert poll.value == "chsk/timeout"


def test_a_poll_of_an_unknown_session_is_answered_with_a_handshake(world):
    client = world.ajax(uid="a", is_polling=False)
    world.advance(6)
    assert client.poll().value[0] == "chsk/handshake"


def test_events_between_two_polls_wait_for_the_next(chsk, world):
    client = world.ajax(uid="a", is_polling=False)
    client.poll()
    chsk.send("a", "t/e", 1)
    world.advance(0.2)
    chsk.send("a", "t/e", 2)
    world.advance(1)
    chsk.send("a", "t/e", 3)
    client.poll()
    assert data(client) == [1, 2, 3]


def test_an_answered_poll_followed_by_a_handshake_or_by_nothing_counts_as_cut(chsk, world):
    client = world.ajax(uid="a", is_polling=False)
    for _ in range(2):
        client.poll()
        chsk.send("a", "t/e")
        world.advance(0.2)
        client.shake_hands()
    assert chsk.stats.cut == 2
    client.poll()
    chsk.send("a", "t/e")
    world.advance(10)
    assert chsk.stats.cut == 3


def test_an_answered_poll_followed_by_the_next_does_not_count_as_cut(chsk, world):
    client = world.ajax(uid="a")
    chsk.send("a", "t/e")
    world.advance(1)
    client.drop()
    world.advance(10)
    assert chsk.stats.cut == 0


# -- keep-alive


def test_a_silent_client_is_pinged_then_closed_1011(chsk, world):
    client = world.ws(uid="a")
    client.answers_pings = False
    world.advance(W - 0.1)
    assert client.pings == 0
    world.advance(0.2)
    assert client.pings == 1
    world.advance(T)
    assert client.close_code == 1011
    assert chsk.stats.closed == {1011: 1}


def test_a_client_whose_ping_timed_out_is_away_before_its_closing_handshake(chsk, presence, world):
    client = world.ws(uid="a")
    client.answers_pings = False
    connection = client.connection
    client.transport.on_close = lambda: None  # the edge waits for the close frame that it owes
    world.advance(W + T + 0.1)
    assert client.transport.closed_with == (1011, "ping timeout")
    assert chsk.stats.closed == {1011: 1}
    world.advance(2.6)  # grace_ws
    assert presence == [("open", "a"), ("close", "a")]
    world.inside(lambda: world._endpoint.closed(connection, 1006))
    assert chsk.stats.closed == {1011: 1}


def test_a_client_that_answers_is_kept(world):
    client = world.ws(uid="a")
    world.advance(200)
    assert client.is_open
    assert client.pings > 5


def test_pushes_to_a_dead_client_are_no_life(chsk, world):
    client = world.ws(uid="a")
    client.answers_pings = False
    for _ in range(30):
        chsk.send("a", "t/e")
        world.advance(1)
    assert client.close_code == 1011


def test_a_ping_that_no_longer_went_out_is_no_lost_reply(chsk, world):
    client = world.ws(uid="a")
    client.transport.is_slow = True
    chsk.send("a", "t/e", 1)
    world.turn()
    chsk.on("t/req", lambda msg: msg.data)
    client.ask("t/req", 1)
    world.advance(2 * W + 0.1)
    client.cut()
    assert chsk.stats.reply_lost == 1


def test_a_client_that_sends_is_not_pinged(chsk, world):
    chsk.on("t/e", lambda msg: None)
    client = world.ws(uid="a")
    for _ in range(30):
        client.send("t/e")
        world.advance(2)
    assert client.pings == 0


def test_a_client_that_we_do_not_read_is_not_held_to_be_dead():
    chsk = ChannelSocket(Config(max_inbox_events=1), user_id=user_id)
    seen = []

    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(60)
        seen.append(msg.data)

    with World(chsk) as world:
        client = world.ws(uid="a")
        for number in range(3):
            client.send("t/slow", number)
        world.advance(200)
        assert seen == [0, 1, 2]
        assert client.is_open


def test_without_ping_timeout_a_silent_client_is_pinged_for_ever():
    chsk = ChannelSocket(Config(ws_ping_timeout=None))
    with World(chsk) as world:
        client = world.ws()
        client.answers_pings = False
        world.advance(W * 4 + 0.1)
        assert client.pings == 4
        assert client.is_open


# -- limits


def test_a_slow_socket_is_cut_1013_and_its_session_keeps_its_grace(presence):
    chsk = ChannelSocket(Config(max_backlog_events=10), user_id=user_id)
    with World(chsk) as world:
        client = world.ws(uid="a")
        client.transport.is_slow = True
        for number in range(30):
            chsk.send("a", "t/e", number)
            world.turn()
        assert client.close_code == 1013
        assert "a" in chsk.connected.ws
        stats = chsk.stats
        waits = stats.sent - stats.written - stats.lost.too_slow
        assert (stats.written, waits) == (1, 30 - 1 - stats.lost.too_slow)
        client.connect()
        world.turn()
        assert data(client)[-1] == 29


def test_a_client_that_was_cut_between_two_polls_is_told_by_503():
    chsk = ChannelSocket(Config(max_backlog_events=10), user_id=user_id)
    with World(chsk) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.poll()
        chsk.send("a", "t/e", 0)
        world.advance(0.2)
        for number in range(1, 15):
            chsk.send("a", "t/e", number)
        assert chsk.stats.lost.too_slow == 11
        assert [client.poll().status, client.poll().status] == [503, 503]
        client.shake_hands()
        assert client.poll().status == 200
        assert data(client) == [0, 12, 13, 14]
        assert client.poll().is_parked


def test_what_goes_from_poll_to_poll_at_once_counts_for_no_limit():
    chsk = ChannelSocket(Config(max_total_backlog_bytes=10), user_id=user_id)
    with World(chsk) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.poll()
        chsk.send("a", "t/e", 1)
        chsk.send("a", "t/e", 2)
        client.poll()
        assert data(client) == [1, 2]
        assert chsk.stats.lost.budget == 0


def test_replies_that_wait_for_displaced_sockets_count_for_the_total_and_cost_nobody_else():
    chsk = ChannelSocket(Config(max_total_backlog_bytes=2000), user_id=user_id)
    chsk.on("t/req", lambda msg: "x" * 300)
    with World(chsk) as world:
        away = world.ws(uid="b")
        away.close()
        chsk.send("b", "t/e", 1)
        sockets = []
        for _ in range(9):
            sockets.append(world.ws("a", client_id="tab"))
            sockets[-1].transport.is_slow = True
            chsk.send("a", "t/e")
            world.turn()
            sockets[-1].ask("t/req")
            assert chsk.stats.waiting_bytes <= 2000
        world.turn()
        assert [socket.close_code for socket in sockets].count(1013) == 6
        assert chsk.stats.lost.budget == 0


def test_past_max_clients_per_user_a_handshake_gets_503():
    chsk = ChannelSocket(Config(max_clients_per_user=2), user_id=user_id)
    with World(chsk) as world:
        tabs = [world.ws(uid="a"), world.ws(uid="a")]
        with pytest.raises(HandshakeRefused) as refused:
            world.ws(uid="a")
        assert refused.value.status == 503
        assert chsk.stats.refused == {"full": 1}
        world.ws(uid="b")
        tabs[0].cut()
        tabs[0].connect()  # in grace it still has its place
        tabs[0].close()
        world.advance(3)
        world.ws(uid="a")


def test_past_max_connections_a_handshake_gets_503():
    chsk = ChannelSocket(Config(max_connections=2), user_id=user_id)
    with World(chsk) as world:
        first = world.ws(uid="a")
        world.ws(uid="b")
        with pytest.raises(HandshakeRefused):
            world.ws(uid="c")
        first.close()
        with pytest.raises(HandshakeRefused):
            world.ws(uid="c")
        world.advance(3)
        world.ws(uid="c")


def test_at_max_connections_an_ajax_client_keeps_its_place_from_poll_to_poll():
    chsk = ChannelSocket(Config(max_connections=1), user_id=user_id)
    with World(chsk) as world:
        client = world.ajax(uid="a")
        for number in range(3):
            chsk.send("a", "t/e", number)
            world.advance(1)
        assert data(client) == [0, 1, 2]
        with pytest.raises(HandshakeRefused):
            world.ws(uid="b")
        assert chsk.stats.refused == {"full": 1}


def test_at_max_connections_a_client_comes_back_to_its_place_in_grace():
    chsk = ChannelSocket(Config(max_connections=1), user_id=user_id)
    with World(chsk) as world:
        client = world.ws(uid="a")
        client.cut()
        client.connect()
        with pytest.raises(HandshakeRefused):
            world.ws("a", client_id=client.client_id)  # a second socket is one more


def test_at_max_connections_a_client_whose_grace_is_over_has_no_place_to_come_back_to():
    chsk = ChannelSocket(Config(max_connections=2), user_id=user_id)
    with World(chsk) as world:
        world.ws("a", client_id="tab")  # displaced by the next one, and stays open
        new = world.ws("a", client_id="tab")
        new.close()
        world.advance(10)
        world.ws(uid="b")
        with pytest.raises(HandshakeRefused):
            new.connect()


def test_an_admission_looks_at_no_other_request_that_waits():
    chsk = ChannelSocket(Config(max_connections=1000), user_id=user_id)
    asked = []
    chsk.on("t/later", lambda msg: asked.append(msg) or LATER)
    with World(chsk) as world:

        def calls() -> int:
            """Count the calls, and steps of loops, that an admission takes."""
            count = 0

            def note(*_: object) -> None:
                nonlocal count
                count += 1

            request = world.request("tab")
            sys.setprofile(note)
            try:
                chsk._endpoint.admit(request, is_upgrade=True)
            finally:
                sys.setprofile(None)
            return count

        calls()
        few = calls()
        clients = [world.ajax(is_polling=False) for _ in range(20)]
        world.advance(6)  # their sessions are gone, so that their POSTs count by themselves
        for client in clients:
            for _ in range(10):
                client.ask("t/later")
        assert len(asked) == 200
        assert calls() == few
        world.inside(lambda: [msg.reply(1) for msg in asked])
        assert world._endpoint._hub.strays() == 0


def test_limits_hold_for_handshakes_whose_hooks_wait_together():
    async def uid(request):
        await asyncio.sleep(1)
        return "a"

    chsk = ChannelSocket(Config(max_clients_per_user=2), user_id=uid)
    with World(chsk) as world:
        requests = [world.request(f"tab-{n}") for n in range(5)]
        results = [chsk._endpoint.admit(request, is_upgrade=True) for request in requests]

        async def open_all():
            kinds = []
            for result in results:
                admitted = await result
                kinds.append(getattr(admitted, "kind", None))
                if kinds[-1] == "ws":
                    chsk._endpoint.open(admitted, RecordingTransport("ws"))
            return kinds

        assert world.run(open_all()) == ["ws", "ws", None, None, None]


def test_a_hook_that_waits_across_the_stop_lets_nobody_in():
    async def uid(request):
        await asyncio.sleep(1)
        return "a"

    chsk = ChannelSocket(user_id=uid)
    with World(chsk) as world:
        pending = chsk._endpoint.admit(world.request("tab"), is_upgrade=True)
        chsk.stop()

        async def wait():
            return await pending

        assert world.run(wait()).status == 503


# -- stop


def test_stop_flushes_closes_1012_and_ends_polls_503(chsk):
    with World(chsk) as world:
        client, poll = world.ws(uid="a"), world.ajax(uid="b", is_polling=False)
        parked = poll.poll()
        gone = world.ws(uid="c")
        gone.close()
        chsk.send("a", "t/e", 1)
        chsk.send("c", "t/e", 1)
    assert data(client) == [1]
    assert client.transport.closed_with == (1012, "service restart")
    assert parked.status == 503
    assert chsk.stats.lost.stopped == 1


def test_a_stop_waits_for_those_who_overlap_behind_a_handler_that_ends_after_it(chsk):
    done = []

    async def handler(msg):
        await asyncio.sleep(1)
        done.append(msg.data)

    chsk.on("t/wait", handler)
    chsk.on("t/overlap", handler, parallel=True)
    with World(chsk) as world:
        client = world.ws(uid="a")
        client.send("t/wait", 1)
        client.send("t/overlap", 2)
    assert done == [1, 2]


def test_after_a_stop_nobody_leaves_while_handlers_end(chsk, presence):
    @chsk.on("t/long")
    async def long(msg):
        await asyncio.sleep(9)

    with World(chsk) as world:
        world.ws(uid="a").send("t/long")
    assert presence == [("open", "a")]
    assert "a" in chsk.connected.any


def test_handshake_data_is_in_the_handshake():
    chsk = ChannelSocket(user_id=user_id, handshake_data=lambda request: {"motd": "hi"})
    with World(chsk) as world:
        client = world.ajax(uid="a", is_polling=False)
        assert client.handshake.data == {"motd": "hi"}
