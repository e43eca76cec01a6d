"""What the client tells of itself: Sente's state map, its events, its reasons, its failed replies.

The rows are those of Sente 1.22's client: the keys of its state, the reasons of a close, the
events `chsk/state` and `chsk/handshake`, and the replies that are no success.
"""

from __future__ import annotations

import asyncio

import pytest
from sente_script import (
    CLOSE,
    entered,
    over_ajax,
    over_ws,
    scripted,
    scripted_in_virtual_time,
    turn_until,
    turns,
    until,
)

from chansock.client import ClientConfig, Reason, State, connect
from chansock.errors import ChannelClosed, ConfigError, ReplyError, ReplyTimeout


def client_of(played, transport, **options):
    return connect(played.url, transport=transport, client_id="alice/1", **options)


OVER = pytest.mark.parametrize(
    ("transport", "over"), [("ws", over_ws), ("ajax", over_ajax)], ids=["ws", "ajax"]
)


# the keys of the state


@OVER
@scripted
async def test_key_type_open_ever_opened_uid_handshake_data_csrf_token(played, transport, over):
    client = client_of(played, transport, csrf_token=lambda: "tok123")
    assert client.state == State(type=transport)
    async with over(played, client):
        assert client.state == State(
            open=True,
            type=transport,
            uid="alice",
            handshake_data={"motd": "hi"},
            ever_opened=True,
            csrf_token="tok123",
        )
        assert "tok123" not in repr(client.state)
    assert not client.state.open
    assert (client.state.uid, client.state.ever_opened) == ("alice", True)


@pytest.mark.parametrize(
    ("code", "text", "clean", "told"),
    [
        (1000, "", True, (1000, "")),
        (1012, "restart", True, (1012, "restart")),
        (None, "", True, (1005, "")),
        ("lost", "", False, (1006, "")),
    ],
)
@scripted
async def test_key_last_ws_close(played, code, text, clean, told):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        assert client.state.last_ws_close is None
        if code == "lost":
            connection.abort()
        elif code is None:
            connection.writer.write(bytes([0x80 | CLOSE, 0]))
        else:
            connection.close_frame(code, text)
        await played.accept_ws()
        await until(client, lambda state: state.open)
        close = client.state.last_ws_close
        assert ((close.code, close.reason), close.clean) == (told, clean)
        assert client.state.last_ws_error is None


@scripted
async def test_key_last_ws_close_of_a_socket_that_we_closed(played):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        client.disconnect()
        assert client.state.last_ws_close is None
        assert (await connection.frame()).close == (1000, "CLOSE_NORMAL")
        connection.close_frame(1000, "CLOSE_NORMAL")
        await until(client, lambda state: state.last_ws_close is not None)
        close = client.state.last_ws_close
        assert (close.code, close.reason, close.clean) == (1000, "CLOSE_NORMAL", True)
        assert client.state.reason == Reason("requested-disconnect")


@scripted
async def test_key_last_ws_error_of_a_socket_that_did_not_open(played):
    client = client_of(played, "auto")
    async with entered(played, client) as entering:
        refused = await played.accept()
        await refused.request()
        refused.respond(403, "no websockets here", "Connection: close")
        await played.accept_ajax()
        await entering
        assert client.state.last_ws_error.text == "refused 403: no websockets here"
        close = client.state.last_ws_close
        assert (close.code, close.reason, close.clean) == (1006, "", False)
        assert (client.state.type, client.state.last_close) == ("ajax", None)


@scripted
async def test_key_last_ws_error_of_a_peer_that_broke_the_protocol(played):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        connection.writer.write(b"\x83\x00")  # an opcode that is reserved
        await until(client, lambda state: not state.open)
        assert client.state.last_ws_error.text
        assert client.state.reason.kind == "unexpected"


@OVER
@scripted
async def test_key_last_close_stays_that_of_a_channel_that_was_open(played, transport, over):
    client = client_of(played, transport)
    states = []
    client.on_state(states.append)
    async with over(played, client) as connection:
        if transport == "ajax":
            await connection.request()
        connection.end()
        await until(client, lambda state: not state.open)
        first = client.state.last_close
        assert first.reason == client.state.reason
        assert first.reason.kind == "unexpected"
        again = await played.accept()
        await again.request()
        again.respond(500, "oops", "Connection: close")
        if transport == "ws":  # why did it not open? Ajax can tell
            probe = await played.accept()
            await probe.request()
            probe.respond(500, "oops", "Connection: close")
        await until(client, lambda state: state.retry_at is not None)
        assert client.state.reason.kind == "not-opened"
        assert client.state.last_close == first
    assert states[-1].last_close == first


@OVER
@scripted_in_virtual_time
async def test_key_udt_next_reconnect_is_retry_at(played, transport, over):
    client = client_of(played, transport, backoff=lambda _: 7.0)
    async with over(played, client) as connection:
        connection.end()
        greeted = await (played.accept_ws if transport == "ws" else played.accept_ajax)()
        await until(client, lambda state: state.open)
        greeted.end()
        await until(client, lambda state: state.retry_at is not None)
        assert not client.state.open
        asyncio.get_running_loop().turn(7.0)
        await (played.accept_ws if transport == "ws" else played.accept_ajax)()
        await until(client, lambda state: state.open)
        assert client.state.retry_at is None


# its events


@OVER
@scripted
async def test_event_state_brings_old_and_new_and_event_handshake_is_first(played, transport, over):
    client = client_of(played, transport)
    told = []
    client.on("chsk/state", lambda event: told.append((event.id, event.data)))
    client.on("chsk/handshake", lambda event: told.append((event.id, event.data)))
    async with over(played, client) as connection:
        opened = client.state
        if transport == "ajax":
            await connection.request()
        connection.end()
        await (played.accept_ws if transport == "ws" else played.accept_ajax)()
        await until(client, lambda state: not state.open)
        await until(client, lambda state: state.open)
        reopened = client.state
        ids = [name for name, _ in told]
        assert ids == ["chsk/state", "chsk/handshake", "chsk/state", "chsk/state", "chsk/handshake"]
        (_, first), (_, hello), (_, second), (_, third), (_, again) = told
        assert first == [State(type=transport), opened, True]
        assert hello == ["alice", None, {"motd": "hi"}, True]
        assert second[0] is opened
        assert second[1] is third[0]
        assert not third[0].open
        assert third[1] is reopened
        assert second[2] is third[2] is True
        assert again == ["alice", None, {"motd": "hi"}, False]


@scripted
async def test_state_handler_that_is_a_coroutine_takes_its_turn_among_the_events(played):
    client = client_of(played, "ws")
    told = []
    gate = asyncio.Event()

    @client.on("chsk/state")
    async def changed(event):
        await gate.wait()
        told.append(event.id)

    client.on("n/n", lambda event: told.append(event.id))
    async with over_ws(played, client) as connection:
        connection.send("[[[:n/n 1]] nil]")
        await turns()
        assert told == []
        gate.set()
        await turn_until(lambda: len(told) == 2)
        assert told == ["chsk/state", "n/n"]


@scripted
async def test_change_that_a_handler_causes_is_told_after_the_one_that_it_was_told(played):
    client = client_of(played, "ws")
    told = []

    @client.on_state
    def leave(state):
        if state.open:
            client.disconnect()

    client.on_state(lambda state: told.append(state.open))
    client.on("chsk/state", lambda event: told.append([state.open for state in event.data[:2]]))
    async with over_ws(played, client):
        assert told == [True, [False, True], False, [True, False]]


# the reasons of a close; `refused` and `not-opened` are told in test_client_reconnect.py


@scripted
async def test_reason_clean(played):
    assert (await _reason(played, lambda c, _: c.close_frame(1000))).kind == "clean"


@scripted
async def test_reason_unexpected(played):
    assert (await _reason(played, lambda c, _: c.abort())).kind == "unexpected"


@scripted
async def test_reason_requested_disconnect(played):
    assert (await _reason(played, lambda _, c: c.disconnect())) == Reason("requested-disconnect")


@scripted
async def test_reason_requested_reconnect(played):
    assert (await _reason(played, lambda _, c: c.reconnect())) == Reason("requested-reconnect")


async def _reason(played, act):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        closed = []
        client.on_state(lambda state: closed.append(state.last_close))
        act(connection, client)
        await until(client, lambda _: closed)
        assert closed[0].reason == client.state.reason
        return closed[0].reason


@scripted
async def test_reason_downgrading_ws_to_ajax(played):
    client = client_of(played, "auto")
    reasons = []
    client.on_state(lambda state: reasons.append(state.reason))
    async with entered(played, client) as entering:
        (await played.accept()).end()
        await played.accept_ajax()
        await entering
        assert [reason.kind for reason in reasons] == ["downgrading-ws-to-ajax"] * 2


@scripted_in_virtual_time
async def test_reason_ws_ping_timeout_of_a_break_that_is_not_noticed(played):
    loop = asyncio.get_running_loop()
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        client.break_connection(is_noticed=False)
        assert (await connection.frame()).close == (3000, "CLOSE_ABNORMAL")
        connection.close_frame(3000, "CLOSE_ABNORMAL")
        assert await connection.at_end() == b""
        for _ in range(2):
            loop.turn(10.0)
            await turns()
            assert client.state.open
        loop.turn(5.0)
        await until(client, lambda state: not state.open)
        assert client.state.reason.kind == "ws-ping-timeout"
        await played.accept_ws()
        await until(client, lambda state: state.open)


@scripted
async def test_reason_ws_error_of_a_send_after_a_break_that_is_not_noticed(played):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        client.break_connection(4001, is_noticed=False)
        assert (await connection.frame()).close == (4001, "CLOSE_ABNORMAL")
        connection.end()
        await turns()
        assert client.state.open
        assert len(played.connections) == 1
        with pytest.raises(ChannelClosed, match="ws-error"):
            await client.send("test/req", timeout=60)
        await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.state.last_close.reason.kind == "ws-error"


# breaking the connection


@scripted
async def test_broken_socket_says_3000_and_the_client_comes_back_at_once(played):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        client.break_connection()
        assert (await connection.frame()).close == (3000, "CLOSE_ABNORMAL")
        connection.close_frame(3000, "CLOSE_ABNORMAL")
        await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.state.reason == Reason("unexpected", 3000, "CLOSE_ABNORMAL")


@pytest.mark.parametrize("is_noticed", [True, False])
@scripted
async def test_broken_poll_is_dropped_and_the_client_comes_back_at_once(played, is_noticed):
    client = client_of(played, "ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        client.break_connection(is_noticed=is_noticed)
        await played.accept_ajax()
        await until(client, lambda state: state.open)
        assert client.state.reason.kind == "unexpected"


@pytest.mark.parametrize("code", [0, 999, 1001, 1005, 2999, 5000, True, "3000", None])
def test_break_refuses_a_code_that_no_browser_takes(code):
    with pytest.raises(ValueError, match="expected 1000, or 3000 to 4999"):
        connect("ws://h/chsk").break_connection(code)


def test_break_outside_of_a_connection_does_nothing():
    client = connect("ws://h/chsk")
    client.break_connection()
    assert client.state == State()


# a backoff, and a keep-alive, of one's own


@scripted
async def test_backoff_is_asked_from_the_second_attempt_on(played):
    asked = []
    client = client_of(played, "ajax", backoff=lambda n: asked.append(n) or 0.0)
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(500, "broken", "Connection: close")
        for _ in range(3):
            connection = await played.accept()
            await connection.request()
            connection.respond(500, "broken", "Connection: close")
        await played.accept_ajax()
        await until(client, lambda state: state.open)
        assert asked == [2, 3, 4]


@pytest.mark.parametrize("given", ["soon", -1.0, float("nan"), True, None])
@scripted
async def test_backoff_that_gives_no_wait_is_logged_and_sentes_is_taken(played, given, caplog):
    client = client_of(played, "ajax", backoff=lambda _: given)
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(500, "broken", "Connection: close")
        connection = await played.accept()
        await connection.request()
        connection.respond(500, "broken", "Connection: close")
        await until(client, lambda state: state.retry_at is not None)
    assert "backoff: expected seconds, 0 or more, got" in caplog.text


def test_backoff_that_is_no_function_is_refused():
    with pytest.raises(ConfigError, match="backoff: expected a function"):
        connect("ws://h/chsk", backoff=2.0)


@scripted_in_virtual_time
async def test_without_a_ping_interval_nothing_is_pinged(played):
    loop = asyncio.get_running_loop()
    client = client_of(played, "ws", config=ClientConfig(ws_ping_interval=None))
    async with over_ws(played, client) as connection:
        for _ in range(6):
            loop.turn(10.0)
            await turns()
        await client.send("test/n", 1)
        assert (await connection.frame()).text == "[[:test/n 1] nil]"


# replies that are no success

FAILED = pytest.mark.parametrize(
    ("reply", "error"),
    [
        (":chsk/error", ReplyError),
        (":chsk/timeout", ReplyTimeout),
        (":chsk/closed", ChannelClosed),
    ],
)


@FAILED
@scripted
async def test_reply_over_ws(played, reply, error):
    client = client_of(played, "ws")
    async with over_ws(played, client) as connection:
        asking = asyncio.create_task(client.send("test/req", timeout=60))
        cb_id = (await connection.frame()).text.split('"')[1]
        connection.send(f'[{reply} "{cb_id}"]')
        with pytest.raises(error, match="chsk"):
            await asking
        assert client.state.open


@FAILED
@scripted
async def test_reply_over_ajax(played, reply, error):
    client = client_of(played, "ajax")
    async with over_ajax(played, client):
        asking = asyncio.create_task(client.send("test/req", timeout=60))
        posts = await played.accept()
        await posts.request()
        posts.respond(200, f"[{reply} nil]")
        with pytest.raises(error, match="chsk"):
            await asking
        assert client.state.open


@scripted
async def test_reply_closed_is_raised_at_once_while_the_channel_is_closed(played):
    client = client_of(played, "ws")
    with pytest.raises(ChannelClosed):
        await client.send("test/req", timeout=60)
    async with over_ws(played, client):
        client.disconnect()
        with pytest.raises(ChannelClosed, match="requested-disconnect"):
            await client.send("test/req", timeout=60)
