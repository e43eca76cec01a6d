"""How the client comes back, when it does not, and which transport it takes."""

from __future__ import annotations

import asyncio
import time

import pytest
from sente_script import (
    CLOSE,
    HANDSHAKE,
    entered,
    over_ajax,
    over_ws,
    script,
    scripted,
    scripted_in_virtual_time,
    turn_until,
    turns,
    until,
)

from chansock.client import ClientConfig, Event, Reason, connect
from chansock.errors import ChannelClosed, ConfigError, ConnectionLost, HandshakeRefused

PONG_TO = '["pong" "{}"]'


def ws(played, **options):
    return connect(played.url, transport="ws", client_id="alice/1", **options)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013, 4000])
@scripted
async def test_every_other_close_is_followed_by_an_attempt_at_once(played, code):
    client = ws(played)
    async with over_ws(played, client) as connection:
        states = []
        client.on_state(states.append)
        connection.close_frame(code, "words")
        await played.accept_ws()
        await until(client, lambda state: state.open)
        kind = "clean" if code == 1000 else "unexpected"
        assert [state.open for state in states] == [False, True]
        assert states[0].reason == states[1].reason == Reason(kind, code, "words")


async def comes_back_within(played, client, lowest, highest):
    """Wait for the next attempt; it is made between lowest and highest seconds from now."""
    loop = asyncio.get_running_loop()
    await until(client, lambda state: state.retry_at is not None)
    count = len(played.connections)
    await turns()
    loop.turn(lowest - 0.05)
    await turns()
    assert len(played.connections) == count
    loop.turn(highest - lowest + 0.05)
    return await played.accept()


@pytest.mark.parametrize("how", ["1012", "503"])
@scripted_in_virtual_time
async def test_a_server_that_restarts_is_tried_within_a_second_and_again(played, how):
    client = connect(played.url, transport="ws" if how == "1012" else "ajax")
    over = over_ws if how == "1012" else over_ajax
    async with over(played, client) as connection:
        if how == "1012":
            connection.close_frame(1012, "restart")
        else:
            await connection.request()
            connection.respond(503, "restart", "Connection: close")
        for _ in range(2):
            connection = await comes_back_within(played, client, 0.3, 1.0)
            await connection.request()
            due = client.state.retry_at
            connection.respond(503, "restart", "Connection: close")
            if how == "1012":  # it asks by Ajax, too, why no WebSocket opens
                connection = await played.accept()
                await connection.request()
                connection.respond(503, "restart", "Connection: close")
            await until(client, lambda state, due=due: state.retry_at not in (due, None))
        await comes_back_within(played, client, 2.0, 4.0)


@scripted_in_virtual_time
async def test_a_port_that_refuses_is_tried_within_a_second_and_again(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        await played.stop_listening()
        loop = asyncio.get_running_loop()
        waits = []

        @client.on_state
        def changed(state):
            if state.retry_at is not None:
                assert state.reason.is_unreachable
                waits.append(state.retry_at - time.time())
                loop.call_soon(loop.turn, waits[-1])  # once the timer is set

        connection.abort()
        await turn_until(lambda: len(waits) >= 3)
        assert all(0.2 < wait < 1.0 for wait in waits[:2])
        assert waits[2] > 1.5


@scripted_in_virtual_time
async def test_retry_after_is_honored(played):
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(503, "deploying", "Retry-After: 20", "Connection: close")
        await comes_back_within(played, client, 20.0, 25.0)


@pytest.mark.parametrize("transport", ["ws", "auto"])
@scripted
async def test_a_wrong_accept_key_is_reported_as_such(played, transport):
    client = connect(played.url, transport=transport)
    async with entered(played, client) as entering:
        connection = await played.accept()
        request = await connection.request()
        request.headers["sec-websocket-key"] = "x"
        connection.upgrade(request)
        if transport == "auto":
            connection = await played.accept()
            await connection.request()
            connection.respond(404, "no such page", "Connection: close")
        with pytest.raises(ConnectionError, match="expected Sec-WebSocket-Accept: "):
            await entering


@pytest.mark.parametrize("code", [1008, 4401])
@scripted
async def test_closed_for_want_of_authority_stays_closed_until_reconnect(played, code):
    tokens = iter(["old", "new"])
    client = ws(played, params=lambda: {"token": next(tokens)})
    async with over_ws(played, client) as connection:
        connection.close_frame(code, "session over")
        await until(client, lambda state: not state.open)
        await turns()
        assert len(played.connections) == 1
        assert client.state.reason == Reason("refused", code, "session over")
        assert client.state.reason.is_final
        assert client.state.retry_at is None
        with pytest.raises(ChannelClosed, match="session over"):
            await client.send("chat/say", 1)
        client.reconnect()
        connection = await played.accept()
        request = await connection.request()
        assert request.query["token"] == "new"
        connection.upgrade(request)
        connection.send(HANDSHAKE)
        await until(client, lambda state: state.open)


@scripted
async def test_lost_connection_is_told_from_a_closed_one(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.abort()
        await played.accept_ws()
        await until(client, lambda state: state.open)
        reason = client.state.reason
        assert (reason.kind, reason.code) == ("unexpected", 1006)


@scripted_in_virtual_time
async def test_retries_follow_at_once_then_after_sentes_backoff_capped_at_ten_seconds(played):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        loop.turn(5.0)  # it was open for long enough to be in health
        connection.end()
        due = [None]  # retry_at of each wait
        for lowest, highest in ((0, 0), (2, 4), (4, 8), (5, 10), (5, 10), (5, 10)):
            if highest:
                await until(client, lambda state: state.retry_at not in due)
                due.append(client.state.retry_at)
                count = len(played.connections)
                loop.turn(lowest - 0.5)
                await turns()
                assert len(played.connections) == count  # not yet
                loop.turn(highest - lowest + 0.5)
            connection = await played.accept()
            request = await connection.request()
            assert request.query["handshake?"] == "1"
            connection.respond(500, "not yet")
        await until(client, lambda state: state.retry_at not in due)
        loop.turn(10.0)
        connection = await played.accept_ajax()
        await until(client, lambda state: state.open)
        assert client.state.retry_at is None


@scripted_in_virtual_time
async def test_server_that_greets_and_hangs_up_is_not_called_in_a_hot_loop(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.close_frame(1000)
        connection = await played.accept_ws()
        await until(client, lambda state: state.open)
        connection.close_frame(1000)
        await until(client, lambda state: state.retry_at is not None)
        assert len(played.connections) == 2
        loop.turn(4.0)
        await played.accept_ws()
        await until(client, lambda state: state.open)


@scripted
async def test_reconnect_does_not_wait_for_the_backoff(played):
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        for _ in range(2):
            connection.respond(500, "full", "Connection: close")
            if not client.state.open:
                break
            connection = await played.accept()
            await connection.request()
        await until(client, lambda state: state.retry_at is not None)
        client.reconnect()
        await played.accept_ajax()
        await until(client, lambda state: state.open)


@scripted
async def test_reconnect_while_open_closes_the_old_and_opens_a_new_one(played):
    client = ws(played)
    async with over_ws(played, client) as old:
        client.reconnect()
        assert not client.state.open
        new = await played.accept_ws()
        await until(client, lambda state: state.open)
        sent = await old.frame()
        assert (sent.opcode, sent.close) == (CLOSE, (1000, "CLOSE_NORMAL"))
        old.send("[[[:late/event 1]] nil]")  # of the old socket: not ours any more
        old.close_frame(1000)
        await old.at_end()
        new.send("[[[:chat/a 2]] nil]")
        assert await anext(client) == Event("chat/a", 2)
        assert client.state.open


@scripted
async def test_reconnect_after_disconnect_opens_again(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        client.disconnect()
        connection.end()
        assert [event async for event in client] == []
        await turns()
        assert len(played.connections) == 1
        client.reconnect()
        connection = await played.accept_ws()
        connection.send("[[[:chat/a 1]] nil]")
        assert await anext(client) == Event("chat/a", 1)


@scripted
async def test_a_break_fails_the_sends_that_wait_for_a_reply_at_once(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        asking = asyncio.create_task(client.send("test/later", timeout=60))
        await connection.frame()
        connection.abort()
        with pytest.raises(ConnectionLost, match=r"1006: .* may or may not have handled"):
            await asking
        await played.accept_ws()


@scripted
async def test_url_headers_params_and_token_are_asked_for_anew_at_each_attempt(played):
    count = 0

    async def params():
        nonlocal count
        count += 1
        return {"attempt": str(count)}

    client = connect(
        lambda: f"{played.url}?u={count}",
        transport="ws",
        params=params,
        headers=lambda: {"X-Attempt": str(count)},
        csrf_token=lambda: f"t{count}",
    )
    async with entered(played, client) as entering:
        for attempt in ("1", "2"):
            connection = await played.accept()
            request = await connection.request()
            assert request.query["attempt"] == attempt
            assert request.query["u"] == str(int(attempt) - 1)
            assert request.query["csrf-token"] in ("t" + attempt, "t" + str(count - 1))
            assert request.headers["x-attempt"] == attempt
            connection.upgrade(request)
            connection.send(HANDSHAKE)
            await entering
            await until(client, lambda state: state.open)
            connection.close_frame(1000)


@scripted
async def test_function_that_raises_fails_the_first_attempt_with_its_own_error(played):

    def params():
        raise LookupError("no session")

    with pytest.raises(LookupError, match="no session"):
        await ws(played, params=params).__aenter__()
    assert played.connections == []


@scripted
async def test_cookie_of_the_upgrade_answer_goes_with_the_next_upgrade(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection = await played.accept()
        connection.upgrade(await connection.request(), "Set-Cookie: lb=node7; Path=/")
        connection.send(HANDSHAKE)
        await entering
        connection.close_frame(1011)
        request = await (await played.accept()).request()
        assert request.headers["cookie"] == "lb=node7"


# Which transport


@pytest.mark.parametrize("how", ["403", "close", "wrong-key", "404"])
@scripted
async def test_auto_goes_on_with_ajax_where_no_websocket_opens(played, how):
    client = connect(played.url, client_id="alice/1")
    states = []
    client.on_state(states.append)
    async with entered(played, client) as entering:
        connection = await played.accept()
        request = await connection.request()
        assert request.headers["upgrade"] == "websocket"
        if how == "close":
            connection.end()
        elif how == "wrong-key":
            request.headers["sec-websocket-key"] = "x"
            connection.upgrade(request)
        else:
            connection.respond(int(how), "a middlebox", "Connection: close")
        polls = await played.accept_ajax()
        await entering
        assert client.state.type == "ajax"
        assert client.state.reason.kind == "downgrading-ws-to-ajax"
        await polls.request()
        polls.end()
        again = await played.accept_ajax()  # for good: no WebSocket is tried again
        await again.request()
        client.reconnect()  # but a request of the application's starts with one
        connection = await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.state.type == "ws"


@scripted
async def test_auto_takes_the_websocket_again_if_ajax_did_not_open_either(played):
    client = connect(played.url)
    async with entered(played, client) as entering:
        for _ in range(2):
            connection = await played.accept()
            await connection.request()
            connection.respond(500, "starting", "Connection: close")
        with pytest.raises(HandshakeRefused) as caught:
            await entering
        assert caught.value.status == 500
    async with over_ws(played, client):
        assert client.state.type == "ws"


@scripted
async def test_auto_never_falls_back_once_a_websocket_has_opened(played):
    client = connect(played.url)
    async with over_ws(played, client) as connection:
        connection.abort()
        connection = await played.accept()
        request = await connection.request()
        assert request.headers["upgrade"] == "websocket"
        connection.respond(502, "restarting", "Connection: close")
        probe = await played.accept()  # one handshake by Ajax, which can tell why
        assert (await probe.request()).query["handshake?"] == "1"
        probe.respond(200, HANDSHAKE)
        assert await probe.at_end() == b""
        await until(client, lambda state: state.retry_at is not None)
        assert client.state.reason == Reason("not-opened", 502, "restarting")
        client.reconnect()
        await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.state.type == "ws"


@pytest.mark.parametrize("transport", ["ws", "auto"])
@pytest.mark.parametrize(
    ("status", "words"), [(401, "Unauthorized request"), (403, "Bad CSRF token")]
)
@scripted
async def test_refused_websocket_learns_status_and_reason(played, transport, status, words):
    client = connect(played.url, transport=transport)
    async with entered(played, client) as entering:
        for _ in range(2):
            connection = await played.accept()
            await connection.request()
            connection.respond(status, words, "Connection: close")
        with pytest.raises(HandshakeRefused) as caught:
            await entering
        assert (caught.value.status, caught.value.reason) == (status, words)


@scripted
async def test_close_4401_before_the_handshake_is_the_servers_own_word(played):
    client = connect(played.url)
    async with entered(played, client) as entering:
        connection = await played.accept()
        connection.upgrade(await connection.request())
        connection.close_frame(4401, "log in first")
        with pytest.raises(ChannelClosed, match="refused 4401: log in first"):
            await entering
        assert len(played.connections) == 1


@scripted
async def test_disconnect_asks_the_application_for_nothing_more(played):
    asked = []
    client = ws(played, params=lambda: asked.append(1))
    async with over_ws(played, client) as connection:
        client.disconnect()
        connection.end()
        await turns()
        assert asked == [1]


@scripted
async def test_reconnect_while_the_first_attempt_is_under_way_begins_it_anew(played):
    client = ws(played)
    async with entered(played, client) as entering:
        hanging = await played.accept()
        await hanging.request()
        client.reconnect()
        assert await hanging.at_end() == b""
        await played.accept_ws()
        assert (await entering).state.open


@scripted
async def test_credentials_that_run_out_stop_the_retries(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.abort()
        for _ in range(2):
            connection = await played.accept()
            await connection.request()
            connection.respond(401, "log in first", "Connection: close")
        await until(client, lambda state: state.reason.kind == "refused")
        assert client.state.reason == Reason("refused", 401, "log in first")
        await turns()
        assert len(played.connections) == 3
        assert client.state.retry_at is None


@scripted
async def test_redirect_is_not_followed(played):
    async with script() as elsewhere:
        client = ws(played)
        async with entered(played, client) as entering:
            for _ in range(2):
                connection = await played.accept()
                await connection.request()
                connection.respond(302, "", f"Location: {elsewhere.url}", "Connection: close")
            with pytest.raises(HandshakeRefused) as caught:
                await entering
            assert caught.value.status == 302
            assert elsewhere.connections == []


# Time-outs and keep-alive


@pytest.mark.parametrize("stage", ["no answer", "no handshake"])
@scripted_in_virtual_time
async def test_websocket_that_hangs_is_given_up_after_ten_seconds(played, stage):
    loop = asyncio.get_running_loop()
    client = connect(played.url)
    async with entered(played, client) as entering:
        connection = await played.accept()
        request = await connection.request()
        if stage == "no handshake":
            connection.upgrade(request)
        await turns()
        loop.turn(10.0)
        await played.accept_ajax()
        await entering
        assert client.state.type == "ajax"
        if stage == "no handshake":
            assert (await connection.frame()).opcode == CLOSE
            connection.end()
        else:
            assert await connection.at_end() == b""


@scripted_in_virtual_time
async def test_idle_client_pings_every_other_tick_and_the_first_tick_never(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client) as connection:
        loop.turn(10.0)  # the first tick: no ping
        await turns()
        loop.turn(10.0)  # nothing since: ping
        for _ in range(2):
            text = (await connection.frame()).text
            assert text.startswith('[[:chsk/ws-ping] "')
            connection.send(PONG_TO.format(text.split('"')[1]))
            await turns()
            loop.turn(10.0)  # the pong has come since
            await turns()
            loop.turn(10.0)
        assert client.state.open


@pytest.mark.parametrize("answer", [None, '[:pong "{}"]', '["nope" "{}"]'])
@scripted_in_virtual_time
async def test_ping_that_gets_no_pong_within_five_seconds_reconnects(played, answer):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client) as connection:
        for _ in range(2):
            loop.turn(10.0)
            await turns()
        ping = (await connection.frame()).text
        if answer is None:
            loop.turn(5.0)
        else:
            connection.send(answer.format(ping.split('"')[1]))
        await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.state.reason.kind == "ws-ping-timeout"
        assert (await connection.frame()).opcode == CLOSE


@scripted_in_virtual_time
async def test_client_that_does_not_read_is_heard_and_asks_for_no_pong(played):
    loop = asyncio.get_running_loop()
    client = ws(played, config=ClientConfig(max_inbox_events=2))
    async with over_ws(played, client) as connection:
        connection.send("[[[:chat/a 1] [:chat/a 2]] nil]")
        await turns()
        for _ in range(3):
            loop.turn(10.0)
            assert (await connection.frame()).text == "[[:chsk/ws-ping] nil]"
            await turns()
        loop.turn(30.0)
        await turns()
        assert client.state.open
        assert await anext(client) == Event("chat/a", 1)


@scripted_in_virtual_time
async def test_server_that_never_answers_the_close_frame_is_left_after_close_timeout(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client) as connection:
        leaving = asyncio.create_task(client.__aexit__(None, None, None))
        assert (await connection.frame()).opcode == CLOSE
        await turns()
        assert not leaving.done()
        loop.turn(5.0)
        await leaving
        assert await connection.at_end() == b""


# Settings


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://h/chsk"},
        {"url": "ws:///chsk"},
        {"url": "ws://user:pass@h/chsk"},
        {"url": "ws://h/chsk#x"},
        {"url": "ws://h:99999/chsk"},
        {"transport": "sse"},
        {"client_id": ""},
        {"client_id": "x" * 257},
        {"headers": {"X-A": "1\r\nX-B: 2"}},
        {"headers": {"X A": "1"}},
        {"headers": {"Connection": "close"}},
        {"headers": {"Sec-WebSocket-Protocol": "x"}},
        {"params": {"a": 1}},
        {"csrf_token": "a\nb"},
        {"config": {"connect_timeout": 1}},
    ],
)
def test_setting_that_cannot_be_raises_config_error(options):
    with pytest.raises(ConfigError, match="expected"):
        connect(**{"url": "ws://h/chsk", **options})


def test_no_secret_stands_in_a_config_error():
    for options in (
        {"headers": {"Authorization": "Bearer s3cret\n"}},
        {"csrf_token": "s3cret\n"},
        {"client_id": "s3cret" * 100},
    ):
        with pytest.raises(ConfigError) as caught:
            connect("ws://h/chsk?token=s3cret", **options)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        connect("ws://me:s3cret@h/chsk?token=s3cret")
    assert "s3cret" not in str(caught.value)


def test_no_secret_stands_in_a_log_record(run, caplog):
    async def main():
        async with script() as played:
            client = connect(
                f"{played.url}?q=s3cret",
                client_id="s3cret-id",
                csrf_token="s3cret",
                headers={"Cookie": "s=s3cret", "Authorization": "s3cret"},
                params={"p": "s3cret"},
            )
            async with over_ws(played, client) as connection:
                connection.send("not edn )(")
                connection.send("[[[:bare 1]] nil]")
                connection.abort()
                connection = await played.accept()
                await connection.request()
                connection.respond(500, "oops", "Connection: close")
                probe = await played.accept()
                await probe.request()
                probe.respond(500, "oops", "Connection: close")
                await until(client, lambda state: state.retry_at is not None)

    caplog.set_level(1)
    run(main())
    assert len(caplog.records) > 0
    ours = [record for record in caplog.records if record.name.startswith("chansock")]
    assert not [record.getMessage() for record in ours if "s3cret" in record.getMessage()]
