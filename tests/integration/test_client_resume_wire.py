"""What a client that resumes writes, against literal bytes of a server that resumes."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from sente_script import (
    CLOSE,
    entered,
    scripted,
    scripted_in_virtual_time,
    turn_until,
    turns,
    until,
)

from chansock import packers
from chansock.client import ClientConfig, Event, connect
from chansock.errors import ChannelClosed, ConnectionLost, ReplyError, ReplyTimeout
from chansock.values import Keyword

DUMMY = "[:chsk/dummy-cb-200 nil]"


def shake(was="fresh", pos="7-0", handled=0):
    return (
        f'[[:chsk/handshake ["alice" {{:pos "{pos}", :was :{was}, :handled {handled}}} nil]] nil]'
    )


def ws(played, **options):
    return connect(played.url, transport="ws", client_id="alice/1", **options)


def ajax(played, **options):
    return connect(played.url, transport="ajax", client_id="alice/1", **options)


def resume_fields(request):
    return {n: v for n, v in request.query.items() if n in ("pos", "acked", "sent", "waits")}


async def upgraded(played, handshake):
    """Accept a WebSocket and greet it; return the connection and what its request said."""
    connection = await played.accept()
    request = await connection.request()
    connection.upgrade(request)
    connection.send(handshake)
    return connection, request


async def greeted(played, handshake):
    """Answer the handshake GET of an Ajax client; return the connection and that request."""
    connection = await played.accept()
    request = await connection.request()
    assert request.query["handshake?"] == "1"
    connection.respond(200, handshake)
    return connection, request


def sending(client, event_id, *data, timeout=None):
    return asyncio.create_task(client.send(event_id, *data, timeout=timeout))


# WebSocket


@scripted
async def test_handshakes_say_position_and_numbers(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, request = await upgraded(played, shake())
        assert resume_fields(request) == {"pos": "0", "acked": "0", "sent": "0"}
        await entering
        assert client.state.resumed == "fresh"
        await client.send("t/a", 1)
        asking = sending(client, "t/b", 2, timeout=60)
        texts = [(await connection.frame()).text for _ in range(2)]
        assert texts[0] == "[[:t/a 1] nil]"
        connection.send('[[[:c/d 1] [:chsk/ack 1] [:chsk/pos "7-5"]] nil]')
        assert await anext(client) == Event("c/d", 1)
        connection.abort()
        connection, request = await upgraded(played, shake("resumed", "7-5", 1))
        expected = {"pos": "7-5", "acked": "1", "sent": "2", "waits": "2"}
        assert resume_fields(request) == expected
        assert (await connection.frame()).text == texts[1]  # with the same callback id
        connection.send(f'[4 "{texts[1].split(chr(34))[1]}"]')
        assert await asking == 4
        assert client.state.resumed == "resumed"


@scripted
async def test_a_batch_without_a_position_leaves_it_as_it_is(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake(pos="7-3"))
        await entering
        connection.send("[[[:chsk/ack 0] [:c/d 1]] nil]")
        assert await anext(client) == Event("c/d", 1)
        connection.abort()
        _, request = await upgraded(played, shake("resumed", "7-3"))
        assert resume_fields(request)["pos"] == "7-3"


@scripted
async def test_a_server_that_does_not_read_makes_send_wait(played):
    limits = {"max_backlog_bytes": 1000, "max_unacked_bytes": 1 << 30}
    client = ws(played, config=ClientConfig(ws_ping_interval=None, **limits))
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        connection.writer.transport.pause_reading()
        sends = [sending(client, "t/a", "x" * 500_000) for _ in range(60)]
        await turns()
        assert sends[0].done()
        assert not sends[-1].done()
        connection.writer.transport.resume_reading()
        size = len('[[:t/a ""] nil]') + 500_000 + 14  # of a frame with its head
        assert len(await connection.reader.readexactly(60 * size)) == 60 * size
        await asyncio.gather(*sends)


@scripted
async def test_a_send_finds_out_that_a_connection_is_broken_and_is_kept(played):
    client = ws(played)
    async with entered(played, client) as entering:
        await upgraded(played, shake())
        await entering
        client.break_connection(is_noticed=False)
        assert await client.send("t/a", 1) is None
        connection, _ = await upgraded(played, shake("resumed", "7-0", 0))
        assert (await connection.frame()).text == "[[:t/a 1] nil]"
        await until(client, lambda state: state.open)
        assert client.state.reason.kind == "ws-error"


@scripted
async def test_a_late_reply_resolves_the_request_of_its_number(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        asking = [sending(client, "t/b", n, timeout=60) for n in range(3)]
        await connection.frame()
        connection.abort()
        connection, _ = await upgraded(played, shake("resumed", "7-0", 3))
        connection.send(
            '[[[:chsk/reply [3 :three]] [:chsk/reply [1 [:chsk/error "why"]]]'
            ' [:chsk/reply [2 :chsk/timeout]] [:chsk/reply [2 5]] [:chsk/pos "7-1"]] nil]'
        )
        assert await asking[2] == "three"
        with pytest.raises(ReplyError, match="why"):
            await asking[0]
        with pytest.raises(ReplyTimeout):
            await asking[1]
        assert client.state.open


@scripted_in_virtual_time
async def test_pings_carry_the_count_and_pongs_acknowledge(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake(handled=0))
        await entering
        await client.send("t/a", 1)
        asking = sending(client, "t/b", timeout=600)
        for _ in range(2):
            await connection.frame()
        connection.send("[:chsk/ws-ping nil]")
        assert (await connection.frame()).text == "[[:chsk/ws-pong [2 2]] nil]"
        for _ in range(2):
            loop.turn(10.0)
            await turns()
        text = (await connection.frame()).text
        assert text.startswith('[[:chsk/ws-ping [2 2]] "')
        connection.send(f'[["pong" 1] "{text.split(chr(34))[1]}"]')
        connection.send('[[[:chsk/reply [2 5]] [:chsk/pos "7-1"]] nil]')
        assert await asking == 5
        connection.send("[:chsk/ws-ping nil]")
        assert (await connection.frame()).text == "[[:chsk/ws-pong [2 3]] nil]"
        connection.abort()
        connection, request = await upgraded(played, shake("resumed", "7-1", 2))
        assert resume_fields(request) == {"pos": "7-1", "acked": "1", "sent": "2"}
        await until(client, lambda state: state.open)


@pytest.mark.parametrize("pong", ['[["nope" 1] "{}"]', "[[:pong 1] {!r}]", '[["pong" 1 2] "{}"]'])
@scripted_in_virtual_time
async def test_another_reply_to_a_ping_is_no_pong(played, pong):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        for _ in range(2):
            loop.turn(10.0)
            await turns()
        cb_id = (await connection.frame()).text.split('"')[1]
        connection.send(pong.replace("{!r}", '"{}"').format(cb_id))
        await until(client, lambda state: not state.open)
        assert client.state.reason.kind == "ws-ping-timeout"


@scripted_in_virtual_time
async def test_at_the_limit_the_client_asks_what_is_handled(played):
    loop = asyncio.get_running_loop()
    client = ws(played, config=ClientConfig(max_unacked_events=2))
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        for number in range(2):
            await client.send("t/a", number)
            await connection.frame()
        third = sending(client, "t/a", 2)
        text = (await connection.frame()).text
        assert text.startswith('[[:chsk/ws-ping [2 3]] "')
        connection.send(f'[["pong" 0] "{text.split(chr(34))[1]}"]')
        await turns()
        assert not third.done()
        loop.turn(0.1)
        text = (await connection.frame()).text  # it asks again, later and later
        connection.send(f'[["pong" 1] "{text.split(chr(34))[1]}"]')
        assert (await connection.frame()).text == "[[:t/a 2] nil]"
        await third


@scripted
async def test_a_gap_is_told_before_the_events_that_follow(played):
    client = ws(played)
    told = []
    client.on("*", lambda event: told.append(event.data))

    @client.on("chsk/state")
    def changed(event):
        if event.data[1].open:
            told.append(event.data[1].resumed)

    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        connection.send('[[[:c/d 1] [:chsk/pos "7-1"]] nil]')
        await turn_until(lambda: told == ["fresh", 1])
        connection.abort()
        connection, _ = await upgraded(played, shake("gap", "7-9"))
        connection.send('[[[:c/d 2] [:chsk/pos "7-10"]] nil]')
        await turn_until(lambda: len(told) == 4)
        assert told == ["fresh", 1, "gap", 2]


@scripted
async def test_what_cannot_be_read_is_told_as_a_gap(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake(pos="7-3"))
        await entering
        connection.send("[[[:c/d #unreadable")
        await until(client, lambda state: not state.open)
        connection, request = await upgraded(played, shake("fresh", "7-9"))
        assert resume_fields(request)["pos"] == "0"
        await until(client, lambda state: state.open)
        assert client.state.resumed == "gap"


@scripted
async def test_a_large_batch_that_breaks_off_is_told_as_a_gap(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake(pos="7-3"))
        await entering
        large = "x" * 200_000
        connection.send(f'[[[:c/d "{large}"] [:c/d #nope] [:chsk/pos "7-5"]] nil]')
        assert (await anext(client)).data == large
        _, request = await upgraded(played, shake("fresh", "7-9"))
        assert resume_fields(request)["pos"] == "0"
        await until(client, lambda state: state.open)
        assert client.state.resumed == "gap"


@scripted
async def test_a_large_batch_moves_the_position_as_a_small_one(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake(pos="7-3"))
        await entering
        asking = sending(client, "t/b", timeout=60)
        await connection.frame()
        large = "x" * 200_000
        connection.send(f'[[[:c/d "{large}"] [:chsk/reply [1 5]] [:chsk/pos "7-5"]] nil]')
        assert (await anext(client)).data == large
        assert await asking == 5
        connection.abort()
        _, request = await upgraded(played, shake("resumed", "7-5"))
        assert resume_fields(request)["pos"] == "7-5"


@pytest.mark.parametrize("when", ["open", "handshake"])
@scripted
async def test_an_id_that_another_client_has_is_left_to_it_at_once(played, when):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        await client.send("t/a", 1)
        await connection.frame()
        if when == "open":
            connection.close_frame(4409, "another connection of this client")
        else:
            connection.abort()
            connection, request = await upgraded(played, shake("resumed", "7-0", 2))
            assert request.query["client-id"] == "alice/1"
            assert (await connection.frame()).opcode == CLOSE
            connection.close_frame(1000)
        connection, request = await upgraded(played, shake("gap", "7-4", 0))
        assert request.query["client-id"] == client.client_id != "alice/1"
        assert resume_fields(request) == {"pos": "7-0", "acked": "0", "sent": "1"}
        assert (await connection.frame()).text == "[[:t/a 1] nil]"
        await until(client, lambda state: state.open)


@scripted
async def test_4409_of_a_server_that_does_not_resume_changes_no_id(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection = await played.accept_ws()
        await entering
        connection.close_frame(4409, "mine")
        await played.accept_ws()
        await until(client, lambda state: state.open)
        assert client.client_id == "alice/1"


@scripted
async def test_an_event_that_is_too_big_for_the_server_is_sent_once(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        big = sending(client, "t/big", "x" * 100, timeout=60)
        await connection.frame()
        connection.close_frame(1009, "expected at most 99 bytes")
        connection, _ = await upgraded(played, shake("resumed", "7-0", 0))
        assert (await connection.frame()).text == "[[:chsk/refused] nil]"
        with pytest.raises(ReplyError, match="1009"):
            await big
        await client.send("t/a", 1)
        assert (await connection.frame()).text == "[[:t/a 1] nil]"


@scripted
async def test_a_server_that_never_resumed_is_spoken_to_as_ever(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection = await played.accept_ws()
        await entering
        await client.send("t/a", 1)
        assert (await connection.frame()).text == "[[:t/a 1] nil]"
        connection.send("[:chsk/ws-ping nil]")
        assert (await connection.frame()).text == "[[:chsk/ws-pong] nil]"
        connection.send('[[[:c/d 1] [:chsk/pos "7-1"]] nil]')
        assert await anext(client) == Event("c/d", 1)
        connection.abort()
        connection, request = await upgraded(played, shake())
        assert resume_fields(request) == {"pos": "0", "acked": "0", "sent": "0"}


# Ajax


@scripted
async def test_polls_carry_the_position_of_all_that_came_before(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, request = await greeted(played, shake(pos="7-2"))
        assert resume_fields(request) == {"pos": "0", "acked": "0", "sent": "0"}
        await entering
        assert resume_fields(await polls.request()) == {"pos": "7-2"}
        polls.respond(200, '[[[:c/d 1] [:chsk/pos "7-3"]] nil]')
        assert resume_fields(await polls.request()) == {"pos": "7-3"}
        assert await anext(client) == Event("c/d", 1)
        polls.end()  # the answer is lost
        polls, request = await greeted(played, shake("resumed", "7-3"))
        assert resume_fields(request) == {"pos": "7-3", "acked": "0", "sent": "0"}


@scripted
async def test_posts_are_numbered_for_life(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, request = await greeted(played, shake(handled=0))
        udt = request.query["udt"]
        await entering
        await polls.request()
        telling = sending(client, "t/a", 1)
        posts = await played.accept()
        form = (await posts.request()).form
        assert (form["n"], form["ppstr"]) == (f"{udt}-1", "[[:t/a 1] nil]")
        assert "waits" not in form
        posts.respond(200, DUMMY)
        assert await telling is None
        asking = sending(client, "t/b", timeout=60)
        form = (await posts.request()).form
        assert (form["n"], form["waits"]) == (f"{udt}-2", "2")
        assert form["ppstr"].startswith('[[:t/b] "')
        polls.end()
        polls, request = await greeted(played, shake("resumed", "7-0", 1))
        assert resume_fields(request) == {"pos": "7-0", "acked": "0", "sent": "2", "waits": "2"}
        assert resume_fields(await polls.request()) == {"pos": "7-0", "waits": "2"}
        posts = await played.accept()
        again = (await posts.request()).form
        assert (again["n"], again["ppstr"]) == (f"{request.query['udt']}-2", form["ppstr"])
        posts.respond(200, "[5 nil]")
        assert await asking == 5


@scripted
async def test_a_post_that_the_server_took_is_not_sent_again(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = sending(client, "t/b", timeout=60)
        posts = await played.accept()
        await posts.request()
        posts.end()  # the answer is lost
        polls, _ = await greeted(played, shake("resumed", "7-0", 1))
        await polls.request()
        polls.respond(200, '[[[:chsk/reply [1 5]] [:chsk/ack 1] [:chsk/pos "7-1"]] nil]')
        assert await asking == 5
        await polls.request()
        await turns()
        assert len(played.connections) == 3  # no POST but the first
        polls.end()
        _, request = await greeted(played, shake("resumed", "7-1", 1))
        assert resume_fields(request) == {"pos": "7-1", "acked": "1", "sent": "1"}


@scripted
async def test_a_reply_acknowledges_and_a_dummy_answer_does_not(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = sending(client, "t/b", timeout=60)
        posts = await played.accept()
        await posts.request()
        posts.respond(200, "[5 nil]")
        assert await asking == 5
        telling = sending(client, "t/a")
        await posts.request()
        posts.respond(200, DUMMY)
        await telling
        polls.end()
        _, request = await greeted(played, shake("resumed", "7-0", 2))
        assert resume_fields(request) == {"pos": "7-0", "acked": "1", "sent": "2"}


@scripted
async def test_410_leads_to_a_handshake_and_the_event_goes_out_again(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = sending(client, "t/b", timeout=60)
        posts = await played.accept()
        await posts.request()
        posts.respond(410, "the handshake of this POST is over")
        await greeted(played, shake("resumed", "7-0", 0))
        posts = await played.accept()
        if (await posts.request()).method == "GET":
            posts = await played.accept()
            await posts.request()
        posts.respond(200, "[5 nil]")
        assert await asking == 5


@scripted_in_virtual_time
async def test_503_to_a_post_is_sent_again_with_its_number(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake(handled=0))
        await entering
        await polls.request()
        telling = sending(client, "t/a", 1)
        posts = await played.accept()
        first = (await posts.request()).form
        posts.respond(503, "full")
        await turns()
        loop.turn(1.0)
        again = (await posts.request()).form
        assert (again["n"], again["ppstr"]) == (first["n"], first["ppstr"])
        posts.respond(200, DUMMY)
        await telling


@scripted
async def test_a_refused_post_fails_alone_and_another_packet_has_its_number(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, request = await greeted(played, shake())
        udt = request.query["udt"]
        await entering
        await polls.request()
        asking = sending(client, "t/big", timeout=60)
        posts = await played.accept()
        await posts.request()
        posts.respond(413, "expected at most 9 bytes")
        with pytest.raises(ReplyError, match="413: expected at most 9 bytes"):
            await asking
        form = (await posts.request()).form
        assert (form["n"], form["ppstr"]) == (f"{udt}-1", "[[:chsk/refused] nil]")
        posts.respond(200, DUMMY)
        assert client.state.open


@scripted_in_virtual_time
async def test_a_post_whose_reply_nobody_awaits_gives_its_place_back(played):
    loop = asyncio.get_running_loop()
    client = ajax(played, config=ClientConfig(max_posts=1))
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = sending(client, "t/b", timeout=5)
        posts = await played.accept()
        await posts.request()
        loop.turn(5.0)
        with pytest.raises(ReplyTimeout):
            await asking
        assert await posts.at_end() == b""
        telling = sending(client, "t/a", 1)
        posts = await played.accept()
        assert (await posts.request()).form["n"].endswith("-2")
        posts.respond(503, "a POST before this one is missing")
        # The first may not have arrived: a handshake tells, and both go out again.
        _, request = await greeted(played, shake("resumed", "7-0", 0))
        assert resume_fields(request) == {"pos": "7-0", "acked": "0", "sent": "2"}
        forms = []
        while len(forms) < 2:
            posts = posts if forms else await played.accept()
            found = await posts.request()
            if found.method == "POST":
                forms.append(found.form)
                posts.respond(200, DUMMY)
        assert [form["n"].partition("-")[2] for form in forms] == ["1", "2"]
        await telling


@scripted_in_virtual_time
async def test_a_post_without_an_answer_leads_to_a_handshake(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        telling = sending(client, "t/a", 1)
        posts = await played.accept()
        await posts.request()
        await turns()
        loop.turn(60.0)
        assert await telling is None  # it is kept
        requests = []
        while not requests or requests[-1].method == "GET":
            connection = await played.accept()
            with contextlib.suppress(asyncio.IncompleteReadError):  # a poll asked again meanwhile
                requests.append(await connection.request())
                if "handshake?" in requests[-1].query:
                    connection.respond(200, shake("resumed", "7-0", 0))
        assert requests[-1].form["ppstr"] == "[[:t/a 1] nil]"
        assert "handshake?" in requests[0].query or "handshake?" in requests[1].query


@scripted
async def test_binary_posts_say_what_waits_in_the_query(played):
    client = ajax(played, packer=packers.MessagePack())
    packer = packers.MessagePack()

    def packed(handled):
        told = {"pos": "7-0", "was": "fresh", "handled": handled}
        return packer.packet([Keyword("chsk/handshake"), ["alice", told, None]], None)

    async with entered(played, client) as entering:
        polls = await played.accept()
        await polls.request()
        body = packed(4)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        polls.writer.write(head + body)
        await entering
        asking = sending(client, "t/b", timeout=60)
        posts = await played.accept()
        query = (await posts.request()).query
        assert (query["waits"], query["n"].partition("-")[2]) == ("5", "5")
        asking.cancel()


@scripted
async def test_a_handshake_in_answer_to_a_poll_sends_what_is_under_way_again(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        request = await polls.request()
        asking = sending(client, "t/b", timeout=60)
        posts = await played.accept()
        await posts.request()
        polls.respond(200, shake("resumed", "7-0", 0))
        assert await posts.at_end() == b""
        posts = await played.accept()
        form = (await posts.request()).form
        assert form["n"] == f"{request.query['udt']}-1"
        posts.respond(200, "[5 nil]")
        assert await asking == 5


@pytest.mark.parametrize("case", ["time-out", "not the lowest"])
@scripted
async def test_no_answer_acknowledges_more_than_it_knows(played, case):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = [sending(client, "t/b", n, timeout=60) for n in range(2)]
        posts = []
        for _ in asking:
            posts.append(await played.accept())
            await posts[-1].request()
        if case == "time-out":  # the handler goes on
            posts[0].respond(200, "[:chsk/timeout nil]")
            with pytest.raises(ReplyTimeout):
                await asking[0]
        else:
            posts[1].respond(200, "[5 nil]")
            assert await asking[1] == 5
        polls.end()
        _, request = await greeted(played, shake("resumed", "7-0", 2))
        assert resume_fields(request)["acked"] == "0"
        for task in asking:
            task.cancel()


@scripted_in_virtual_time
async def test_a_post_waits_as_long_as_its_request(played):
    loop = asyncio.get_running_loop()
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        asking = sending(client, "t/b", timeout=100)
        posts = await played.accept()
        await posts.request()
        loop.turn(61.0)
        await turns()
        posts.respond(200, "[5 nil]")
        assert await asking == 5
        assert client.state.open


@scripted
async def test_a_poll_that_cannot_be_read_is_told_as_a_gap(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake(pos="7-3"))
        await entering
        await polls.request()
        polls.respond(200, "not edn )(")
        _, request = await greeted(played, shake("fresh", "7-9"))
        assert resume_fields(request)["pos"] == "0"
        await until(client, lambda state: state.open)
        assert client.state.resumed == "gap"


@scripted
async def test_a_server_that_does_not_resume_gets_the_rest_as_sentes_does(played):
    client = ajax(played)
    async with entered(played, client) as entering:
        polls, _ = await greeted(played, shake())
        await entering
        await polls.request()
        client.disconnect()
        client.reconnect()
        asking = [sending(client, "t/b", n, timeout=60) for n in range(2)]
        polls, request = await greeted(played, '[[:chsk/handshake ["alice" nil nil]] nil]')
        udt = request.query["udt"]
        posts = []
        for number in (1, 2):
            posts.append(await played.accept())
            found = await posts[-1].request()
            if found.method == "GET":
                assert resume_fields(found) == {}
                posts[-1] = await played.accept()
                found = await posts[-1].request()
            assert found.form["n"] == f"{udt}-{number}"
            assert "waits" not in found.form
        posts[0].respond(413, "expected at most 9 bytes")
        with pytest.raises(ReplyError, match="413"):
            await asking[0]
        await turns()
        connections = len(played.connections)
        assert posts[0].reader._buffer == b""  # nothing takes its place
        polls.end()
        with pytest.raises(ConnectionLost):
            await asking[1]
        assert len(played.connections) <= connections + 1


@scripted
async def test_a_refused_client_takes_nothing_until_reconnect(played):
    client = ws(played)
    async with entered(played, client) as entering:
        connection, _ = await upgraded(played, shake())
        await entering
        asking = sending(client, "t/b", timeout=60)
        await connection.frame()
        connection.close_frame(4401, "log in again")
        with pytest.raises(ConnectionLost, match="log in again"):
            await asking
        with pytest.raises(ChannelClosed, match="log in again"):
            await client.send("t/a", 1)
        client.reconnect()
        assert await client.send("t/a", 2) is None
        connection, _ = await upgraded(played, shake("resumed", "7-0", 1))
        assert (await connection.frame()).text == "[[:t/a 2] nil]"
