"""The client over Ajax, against literal bytes of Sente's server."""

from __future__ import annotations

import asyncio
import select

import pytest
from sente_script import (
    HANDSHAKE,
    entered,
    over_ajax,
    script,
    scripted,
    scripted_in_virtual_time,
    turns,
    until,
)

from chansock import packers
from chansock.client import ClientConfig, Event, Reason, connect
from chansock.errors import ChannelClosed, HandshakeRefused, ReplyError, ReplyTimeout
from chansock.values import Keyword


def ajax(played, **options):
    return connect(played.url, transport="ajax", client_id="alice/1", **options)


# Polls that are answered at once with no event are a second apart, but not past this.
QUICK = ClientConfig(max_backoff=0.001)


DUMMY = "[:chsk/dummy-cb-200 nil]"


@scripted
async def test_polls_are_those_of_sente(played):
    params = {"a": "1", "udt": "forged"}
    client = ajax(played, config=QUICK, csrf_token="tok123", params=params)
    async with entered(played, client) as entering:
        connection = await played.accept()
        first = await connection.request()
        udt = first.query["udt"]
        assert first.method == "GET"
        more = f"&pos=0&acked=0&sent=0&try={first.query['try']}"
        assert first.target == f"/chsk?udt={udt}&client-id=alice%2F1&handshake%3F=1{more}&a=1"
        assert 1_600_000_000_000 < int(udt) < 9_000_000_000_000
        assert first.headers == {
            "host": f"127.0.0.1:{played.port}",
            "x-csrf-token": "tok123",
            "x-requested-with": "XMLHTTPRequest",
        }
        connection.respond(200, HANDSHAKE)
        await entering
        state = client.state
        assert (state.open, state.type, state.uid) == (True, "ajax", "alice")
        second = await connection.request()
        assert int(second.query["udt"]) > int(udt)
        assert second.target == f"/chsk?udt={second.query['udt']}&client-id=alice%2F1&a=1"
        connection.respond(200, "[:chsk/timeout nil]")
        third = await connection.request()
        assert "handshake?" not in third.query
        assert client.state.open


@scripted
async def test_no_token_sends_no_token_header(played):
    async with entered(played, ajax(played)):
        request = await (await played.accept()).request()
        assert "x-csrf-token" not in request.headers


@scripted
async def test_the_next_poll_goes_out_before_the_events_of_the_last_are_handled(played):
    client = ajax(played)
    seen = []

    async with over_ajax(played, client) as connection:
        await connection.request()
        sock = connection.writer.get_extra_info("socket")

        @client.on("chat/said")
        def said(event):
            # The server's end has bytes to read: the next poll, written before this.
            seen.append((event.data, select.select([sock.fileno()], [], [], 0)[0] != []))

        connection.respond(200, "[[[:chat/said 1] [:chat/said 2]] nil]")
        await connection.request()
        assert seen == [(1, True), (2, True)]


@scripted
async def test_post_without_reply_waits_for_its_200(played):
    client = ajax(played, csrf_token="tok123", params={"a": "1"})
    async with entered(played, client) as entering:
        polls = await played.accept()
        udt = (await polls.request()).query["udt"]
        polls.respond(200, HANDSHAKE)
        await entering
        sending = asyncio.create_task(client.send("test/req", 5))
        posts = await played.accept()
        request = await posts.request()
        assert (request.method, request.target) == ("POST", "/chsk?a=1")
        assert request.headers["content-type"] == "application/x-www-form-urlencoded;charset=UTF-8"
        assert request.headers["x-csrf-token"] == "tok123"
        assert request.headers["x-requested-with"] == "XMLHTTPRequest"
        fields = request.body.decode().split("&")
        assert fields[0].startswith("udt=")
        assert fields[1:] == [
            "client-id=alice%2F1",
            f"n={udt}-1",
            "why=1",
            "ppstr=%5B%5B%3Atest%2Freq%205%5D%20nil%5D",
        ]
        assert not sending.done()
        posts.respond(200, DUMMY)
        assert await sending is None


@scripted
async def test_post_that_asks_for_a_reply_says_ajax_and_gives_it(played):
    client = ajax(played)
    async with over_ajax(played, client):
        asking = asyncio.create_task(client.send("test/req", 5, timeout=60))
        posts = await played.accept()
        assert (await posts.request()).form["ppstr"] == "[[:test/req 5] :ajax]"
        posts.respond(200, "[{:x [1 2 3]} nil]")
        assert await asking == {"x": [1, 2, 3]}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, "[:chsk/timeout nil]", ReplyTimeout),
        (200, "[:chsk/error nil]", ReplyError),
        (200, '[[:chsk/error "expected str, got 5"] nil]', ReplyError),
        (200, "", ReplyError),
        (200, "not edn )(", ReplyError),
        (400, "expected a packet, got x", ReplyError),
        (413, "expected at most 9 bytes, got 10", ReplyError),
    ],
)
@scripted
async def test_post_that_fails_by_itself_leaves_the_channel_open(played, status, body, error):
    client = ajax(played)
    async with over_ajax(played, client):
        asking = asyncio.create_task(client.send("test/req", timeout=60))
        posts = await played.accept()
        await posts.request()
        posts.respond(status, body)
        with pytest.raises(error):
            await asking
        assert client.state.open


@scripted
async def test_post_that_the_server_handled_but_left_unanswered_is_not_sent_again(played):
    # What a server answers to the POST of a handler that it cannot wait for when it stops.
    client = ajax(played)
    async with over_ajax(played, client) as polls:
        await polls.request()
        telling = asyncio.create_task(client.send("test/n", 1))
        told = await played.accept()
        assert (await told.request()).form["ppstr"] == "[[:test/n 1] nil]"
        asking = asyncio.create_task(client.send("test/n", 2, timeout=60))
        asked = await played.accept()
        assert (await asked.request()).form["ppstr"] == "[[:test/n 2] :ajax]"
        for connection in (told, asked):
            connection.respond(200, "[:chsk/timeout nil]", "Connection: close")
            assert await connection.at_end() == b""
        assert await telling is None
        with pytest.raises(ReplyTimeout, match="chsk/timeout"):
            await asking
        polls.respond(500, "broken", "Connection: close")
        again = await played.accept_ajax()
        await until(client, lambda state: state.open)
        assert (await again.request()).method == "GET"
        await turns()
        assert len(played.connections) == 4  # no POST among them but those two


@scripted
async def test_post_under_way_when_the_channel_closes_is_not_sent_again(played):
    client = ajax(played)
    async with over_ajax(played, client) as polls:
        await polls.request()
        sends = [
            asyncio.create_task(client.send("test/n", 1)),
            asyncio.create_task(client.send("test/n", 2, timeout=60)),
        ]
        for _ in sends:
            await (await played.accept()).request()
        polls.respond(500, "broken", "Connection: close")
        for task in sends:
            with pytest.raises(ChannelClosed):
                await task
        again = await played.accept_ajax()
        assert (await again.request()).method == "GET"
        await turns()
        assert len(played.connections) == 4


@scripted_in_virtual_time
async def test_post_without_an_answer_ends_after_ajax_timeout_with_or_without_a_place(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with over_ajax(played, client):
        sends = [asyncio.create_task(client.send("test/n", i)) for i in range(5)]
        for _ in range(4):  # the fifth waits for a place
            await (await played.accept()).request()
        loop.turn(60.0)
        for task in sends:
            with pytest.raises(ReplyTimeout, match="answer to the POST within 60 s"):
                await task
        assert client.state.open


@scripted
async def test_post_refused_by_403_closes_and_stays_closed(played):
    client = ajax(played)
    async with over_ajax(played, client):
        asking = asyncio.create_task(client.send("test/req"))
        posts = await played.accept()
        await posts.request()
        posts.respond(403, "Bad CSRF token")
        with pytest.raises(ChannelClosed, match="Bad CSRF token"):
            await asking
        await until(client, lambda state: not state.open)
        assert client.state.reason == Reason("refused", 403, "Bad CSRF token")
        assert client.state.retry_at is None


@scripted
async def test_four_posts_at_once_and_the_fifth_waits_for_a_place(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls = await played.accept()
        udt = (await polls.request()).query["udt"]
        polls.respond(200, HANDSHAKE)
        await entering
        sends = [asyncio.create_task(client.send("test/n", i, timeout=60)) for i in range(6)]
        places = []
        for i in range(4):
            connection = await played.accept()
            request = await connection.request()
            assert request.form["n"] == f"{udt}-{i + 1}"
            assert request.form["ppstr"] == f"[[:test/n {i}] :ajax]"
            places.append(connection)
        places[2].respond(200, "[:two nil]")  # held replies keep no other back
        assert await sends[2] == "two"
        fifth = await places[2].request()  # on the kept connection
        assert fifth.form["n"] == f"{udt}-5"
        places[2].respond(200, "[:four nil]")
        assert (await places[2].request()).form["n"] == f"{udt}-6"
        assert len(played.connections) == 5
        for index, connection in enumerate(places):
            connection.respond(200, f"[{index} nil]")
        assert await asyncio.gather(*sends) == [0, 1, "two", 3, "four", 2]


@scripted_in_virtual_time
async def test_post_that_times_out_gives_its_place_back(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with over_ajax(played, client):
        waits = [asyncio.create_task(client.send("test/n", i, timeout=30)) for i in range(4)]
        held = [await played.accept() for _ in range(4)]
        for connection in held:
            await connection.request()
        loop.turn(30)
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(result) for result in results] == [ReplyTimeout] * 4
        asking = asyncio.create_task(client.send("test/n", 4, timeout=60))
        connection = await played.accept()
        assert (await connection.request()).form["n"].endswith("-5")
        connection.respond(200, "[:late nil]")
        assert await asking == "late"
        for connection in held:
            await connection.at_end()


@scripted_in_virtual_time
async def test_post_with_503_is_sent_again_with_the_same_number_before_any_other(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with over_ajax(played, client):
        first = asyncio.create_task(client.send("test/n", 1))
        connection = await played.accept()
        number = (await connection.request()).form["n"]
        assert number.endswith("-1")
        connection.respond(503, "the inbox is full")
        await turns()
        second = asyncio.create_task(client.send("test/n", 2))
        await turns()
        assert len(played.connections) == 2  # the second waits for the first
        loop.turn(1.0)
        again = await connection.request()
        assert again.form["n"] == number
        assert again.form["ppstr"] == "[[:test/n 1] nil]"
        connection.respond(503, "the inbox is full")
        await turns()
        loop.turn(2.0)
        assert (await connection.request()).form["n"] == number
        connection.respond(200, DUMMY)
        assert await first is None
        follower = connection if len(played.connections) == 2 else await played.accept()
        assert (await follower.request()).form["n"].endswith("-2")
        follower.respond(200, DUMMY)
        assert await second is None


@scripted_in_virtual_time
async def test_post_waiting_to_be_sent_again_ends_with_the_channel(played):
    client = ajax(played)
    async with over_ajax(played, client):
        sends = [asyncio.create_task(client.send("test/n", i)) for i in range(6)]
        for _ in range(2):
            connection = await played.accept()
            await connection.request()
            connection.respond(503, "the inbox is full")
        await turns()
        client.disconnect()
        for task in sends:
            with pytest.raises(ChannelClosed):
                await task


@scripted
async def test_lost_poll_closes_and_comes_back_with_a_handshake(played):
    client = ajax(played)
    async with over_ajax(played, client) as connection:
        await connection.request()
        states = []
        client.on_state(states.append)
        connection.end()
        again = await played.accept()
        assert (await again.request()).query["handshake?"] == "1"
        assert [state.open for state in states] == [False]
        assert states[0].reason.kind == "unexpected"
        again.respond(200, HANDSHAKE)
        await until(client, lambda state: state.open)
        assert "handshake?" not in (await again.request()).query


@scripted
async def test_poll_ended_by_502_comes_back_with_a_handshake(played):
    client = ajax(played)
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(502, "going away", "connection: close")
        again = await played.accept()
        assert (await again.request()).query["handshake?"] == "1"
        assert client.state.reason == Reason("unexpected", 502, "going away")


@scripted
async def test_unreadable_poll_closes_and_comes_back_with_a_handshake(played):
    client = ajax(played)
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(200, "<html>captive portal</html>")
        again = await played.accept()
        assert (await again.request()).query["handshake?"] == "1"
        assert client.state.reason.kind == "unexpected"
        assert client.state.reason.text.startswith("cannot read a packet: expected a packet")


@scripted
async def test_handshake_in_answer_to_a_plain_poll_shows_as_a_break(played):
    client = ajax(played, config=QUICK)
    async with over_ajax(played, client) as connection:
        udt = (await connection.request()).query["udt"]
        states = []
        client.on_state(states.append)
        connection.respond(200, '[[:chsk/handshake ["bob" nil nil]] nil]')
        await connection.request()
        await until(client, lambda state: state.uid == "bob")
        assert [(s.open, s.uid) for s in states] == [(False, "alice"), (True, "bob")]
        sending = asyncio.create_task(client.send("test/n"))
        posts = await played.accept()
        assert (await posts.request()).form["n"] == f"{udt}-1"
        posts.respond(200, DUMMY)
        await sending


@scripted_in_virtual_time
async def test_poll_without_an_answer_is_asked_again_after_ajax_timeout(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with over_ajax(played, client) as connection:
        await connection.request()
        loop.turn(60.0)
        again = await played.accept()
        assert "handshake?" not in (await again.request()).query
        assert await connection.at_end() == b""
        assert client.state.open
        again.respond(200, "[[[:chat/said 1]] nil]")
        assert await anext(client) == Event("chat/said", 1)


@scripted
async def test_a_slow_reader_stops_the_polls_and_loses_nothing(played):
    client = ajax(played, config=ClientConfig(max_inbox_events=4))
    async with over_ajax(played, client) as connection:
        await connection.request()
        connection.respond(200, "[[[:n/n 0] [:n/n 1] [:n/n 2] [:n/n 3] [:n/n 4]] nil]")
        asked = asyncio.create_task(connection.request())
        await turns()
        assert (await anext(client)).data == 0
        assert (await anext(client)).data == 1
        await turns()
        assert not asked.done()
        assert (await anext(client)).data == 2
        await asked
        connection.respond(200, "[[[:n/n 5]] nil]")
        for i in (3, 4, 5):
            assert (await anext(client)).data == i


@scripted
async def test_cookies_are_kept_and_sent_with_every_later_request(played):
    client = ajax(played, config=QUICK, headers={"Cookie": "mine=1"})
    async with entered(played, client) as entering:
        polls = await played.accept()
        assert (await polls.request()).headers["cookie"] == "mine=1"
        polls.respond(200, HANDSHAKE, "Set-Cookie: lb=a; Path=/; HttpOnly")
        await entering
        assert (await polls.request()).headers["cookie"] == "mine=1; lb=a"
        sending = asyncio.create_task(client.send("test/n"))
        posts = await played.accept()
        assert (await posts.request()).headers["cookie"] == "mine=1; lb=a"
        posts.respond(200, DUMMY, "Set-Cookie: lb=; Max-Age=0; Path=/")
        await sending
        polls.respond(200, "[:chsk/timeout nil]")
        assert (await polls.request()).headers["cookie"] == "mine=1"


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, "Unauthorized request"), (403, "Bad CSRF token"), (500, "oops"), (302, "")],
)
@scripted
async def test_refused_handshake_raises_with_status_and_reason(played, status, body):
    async with entered(played, ajax(played)) as entering:
        connection = await played.accept()
        await connection.request()
        connection.respond(status, body, "Location: http://elsewhere.example/")
        with pytest.raises(HandshakeRefused) as caught:
            await entering
        assert (caught.value.status, caught.value.reason) == (status, body)
        assert len(played.connections) == 1


def test_nobody_listening_raises_connection_error(run):
    async def main():
        async with script() as played:
            pass
        with pytest.raises(ConnectionError):
            await ajax(played).__aenter__()

    run(main())


@scripted_in_virtual_time
async def test_server_that_does_not_answer_is_given_up_after_connect_timeout(played):
    loop = asyncio.get_running_loop()
    async with entered(played, ajax(played)) as entering:
        connection = await played.accept()
        await connection.request()
        loop.turn(10.0)
        with pytest.raises(ConnectionError, match="time-out"):
            await entering
        assert await connection.at_end() == b""


def test_binary_packer_posts_its_bytes_with_the_fields_in_the_query(run):
    class Plain:
        binary = True
        fragment = batch = None  # a client joins nothing

        def packet(self, value, cb_id):
            return b"\x00\xff" if cb_id is None else b"\x01\xff"

        def unpack(self, view):
            if bytes(view) == b"hello":
                return [Keyword("chsk/handshake"), ["u", None, None]], None
            return bytes(view).decode(), None

    async def main():
        async with script() as played, entered(played, ajax(played, packer=Plain())) as entering:
            polls = await played.accept()
            udt = (await polls.request()).query["udt"]
            polls.respond(200, "hello")
            client = await entering
            asking = asyncio.create_task(client.send("test/n", timeout=60))
            posts = await played.accept()
            request = await posts.request()
            assert request.headers["content-type"] == "application/octet-stream"
            assert request.body == b"\x01\xff"
            assert "&binary%3F=true&" in request.target
            assert request.query["n"] == f"{udt}-1"
            assert request.query["client-id"] == "alice/1"
            posts.respond(200, "yes")
            assert await asking == "yes"

    run(main())


@pytest.mark.parametrize(
    ("packer", "content_type"),
    [
        (packers.EDN(), "application/edn"),
        (packers.JSON(), "application/json"),
        (packers.Transit(), "application/transit+json"),
    ],
)
@scripted
async def test_text_is_posted_to_our_server_as_it_is_with_the_fields_in_the_query(
    played, packer, content_type
):
    client = ajax(played, packer=packer, csrf_token="tok123", params={"a": "1"})
    async with entered(played, client) as entering:
        polls = await played.accept()
        udt = (await polls.request()).query["udt"]
        hello = packer.packet([Keyword("chsk/handshake"), ["alice", None, None]], None)
        polls.respond(200, hello.decode(), "Content-Type: application/edn")
        await entering
        sending = asyncio.create_task(client.send("test/n", "汉字"))
        posts = await played.accept()
        request = await posts.request()
        assert request.headers["content-type"] == content_type
        assert request.headers["x-csrf-token"] == "tok123"
        assert packer.unpack(memoryview(request.body)) == (["test/n", "汉字"], None)
        assert "汉字".encode() in request.body
        query = request.query
        assert query.pop("udt").isdecimal()
        assert query == {
            "client-id": "alice/1",
            "raw": "true",
            "n": f"{udt}-1",
            "why": "1",
            "a": "1",
        }
        posts.respond(200, DUMMY)
        await sending


@scripted
async def test_answers_of_every_framing_are_read(played):
    client = ajax(played)
    async with over_ajax(played, client) as connection:
        await connection.request()
        body = b"[[[:n/n 1]] nil]"
        connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in body:
            connection.writer.write(b"1\r\n" + bytes([byte]) + b"\r\n")
        connection.writer.write(b"0\r\n\r\n")
        assert await anext(client) == Event("n/n", 1)
        await connection.request()
        connection.respond(200, body.decode().replace("1", "2"), "Connection: close")
        assert await anext(client) == Event("n/n", 2)
        until_end = await played.accept()
        assert "handshake?" not in (await until_end.request()).query
        until_end.respond(200, body.decode().replace("1", "3"), length=False)
        until_end.end()
        assert await anext(client) == Event("n/n", 3)
        await (await played.accept()).request()
        assert client.state.open
