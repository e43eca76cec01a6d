"""The client over a WebSocket, against literal bytes of Sente's server."""

from __future__ import annotations

import asyncio
import re

import pytest
from sente_script import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    entered,
    frame,
    over_ws,
    script,
    scripted,
    turns,
    until,
)

from chansock.client import ClientConfig, Event, Reason, connect
from chansock.errors import ChannelClosed, EncodeError, InvalidEvent, ReplyError, ReplyTimeout
from chansock.values import Keyword

# what neither `send` nor `on` takes
NO_IDS = ("", "say", "/say", "chat/", ":chat/say", "a/b/c", "a/b c", "a/1", "a/\ud800", 5, ["a/b"])


def ws(played, **options):
    return connect(played.url, transport="ws", client_id="alice/1", **options)


@scripted
async def test_upgrade_request_is_that_of_sente(played):
    client = connect(
        f"http://127.0.0.1:{played.port}/chsk",
        transport="ws",
        client_id="alice/1",
        csrf_token="tok 123",
        params={"lang": "é", "client-id": "forged"},
        headers={"X-App": "1"},
    )
    async with entered(played, client):
        request = await (await played.accept()).request()
        assert request.method == "GET"
        assert request.target == (
            "/chsk?lang=%C3%A9&client-id=alice%2F1&csrf-token=tok%20123&why=1"
            f"&pos=0&acked=0&sent=0&try={request.query['try']}"
        )
        assert request.headers["host"] == f"127.0.0.1:{played.port}"
        assert request.headers["upgrade"] == "websocket"
        assert request.headers["sec-websocket-version"] == "13"
        assert request.headers["x-app"] == "1"
        assert "sec-websocket-extensions" not in request.headers


@scripted
async def test_open_means_that_the_handshake_message_has_come(played):
    async with entered(played, ws(played)) as entering:
        connection = await played.accept()
        connection.upgrade(await connection.request())
        connection.writer.write(frame(PING, b"are you there"))
        assert (await connection.frame()).opcode == PONG
        assert not entering.done()
        connection.send(HANDSHAKE)
        client = await entering
        state = client.state
        assert (state.open, state.type, state.uid) == (True, "ws", "alice")
        assert state.handshake_data == {"motd": "hi"}
        assert state.ever_opened
        assert (state.reason, state.retry_at) == (None, None)


@scripted
async def test_handshake_in_the_same_segment_as_the_101_opens(played):
    async with entered(played, ws(played)) as entering:
        connection = await played.accept()
        request = await connection.request()
        connection.upgrade(request, then=frame(TEXT, HANDSHAKE.encode()))
        assert (await entering).state.open


@scripted
async def test_nil_uid_of_the_wire_is_no_uid(played):
    async with entered(played, ws(played)) as entering:
        await played.accept_ws("[[:chsk/handshake [:sente/nil-uid nil nil]] nil]")
        assert (await entering).state.uid is None


@scripted
async def test_event_without_reply_is_a_packet_with_nil(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        assert await client.send("chat/say", {"text": "hi"}) is None
        sent = await connection.frame()
        assert (sent.opcode, sent.is_last) == (TEXT, True)
        assert sent.text == '[[:chat/say {:text "hi"}] nil]'
        await client.send("chat/ping")
        assert (await connection.frame()).text == "[[:chat/ping] nil]"


@scripted
async def test_reply_is_found_by_its_six_hex_characters(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        first = asyncio.create_task(client.send("math/double", 1, timeout=60))
        second = asyncio.create_task(client.send("math/double", 2, timeout=60))
        ids = []
        for number in (1, 2):
            text = (await connection.frame()).text
            found = re.fullmatch(rf'\[\[:math/double {number}\] "([0-9a-f]{{6}})"\]', text)
            ids.append(found[1])
        connection.send(f'[4 "{ids[1]}"]')
        connection.send(f'[2 "{ids[0]}"]')
        connection.send(f'[99 "{ids[0]}"]')  # a second answer: nobody waits
        assert (await first, await second) == (2, 4)


@scripted
async def test_no_reply_in_time_raises_reply_timeout(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        with pytest.raises(ReplyTimeout, match=r"within 0\.01 s"):
            await client.send("test/no-reply", timeout=0.01)
        await connection.frame()
        assert client.state.open


@scripted
async def test_chsk_error_raises_reply_error_and_a_string_of_that_text_does_not(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        for value, answer in ((":chsk/error", None), ('"chsk/error"', "chsk/error")):
            asking = asyncio.create_task(client.send("test/req", timeout=60))
            cb_id = (await connection.frame()).text.split('"')[1]
            connection.send(f'[{value} "{cb_id}"]')
            if answer is None:
                with pytest.raises(ReplyError):
                    await asking
            else:
                assert await asking == answer
        asking = asyncio.create_task(client.send("test/req", timeout=60))
        cb_id = (await connection.frame()).text.split('"')[1]
        connection.send(f'[[:chsk/error "expected str, got 5"] "{cb_id}"]')
        with pytest.raises(ReplyError, match=r"the data: expected str, got 5$") as caught:
            await asking
        assert caught.value.reason == "expected str, got 5"


@scripted
async def test_what_cannot_be_sent_raises_and_sends_nothing(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        for bad in (*NO_IDS, "chsk/ws-ping"):
            with pytest.raises(InvalidEvent):
                await client.send(bad)
        for bad in ("5", float("nan"), True, -1, -0.5, 0, b"5"):
            with pytest.raises(InvalidEvent, match="timeout: expected a positive number"):
                await client.send("chat/say", 1, timeout=bad)
        with pytest.raises(EncodeError):
            await client.send("chat/say", object())
        await client.send("chat/say", 1)
        assert (await connection.frame()).text == "[[:chat/say 1] nil]"


@pytest.mark.parametrize("bad", [*NO_IDS, "chsk/recv", "chsk/foo", "chsk/timeout"])
def test_id_that_no_event_can_have_gets_no_handler(bad):
    with pytest.raises(InvalidEvent, match="expected"):
        connect("ws://h/chsk").on(bad)


@scripted
async def test_an_id_has_several_handlers_and_a_catch_all_comes_last(played):
    client = ws(played)
    got = []
    client.on("*", lambda event: got.append(("any", event.id)))

    @client.on("chat/a")
    async def first(event):
        await asyncio.sleep(0)
        got.append(("first", event.data))

    @client.once("chat/a")
    def once(event):
        got.append(("once", event.data))

    @client.on("chat/a")
    def fails(event):
        raise RuntimeError("of one handler, which costs the others nothing")

    client.on("chsk/state", lambda event: None)
    done = asyncio.Event()
    client.once("chat/b")(lambda event: done.set())
    async with over_ws(played, client) as connection:
        connection.send("[[[:chat/a 1] [:chat/a 2] [:chat/b] [:chat/b]] nil]")
        await done.wait()
        await turns()
        assert got == [
            ("first", 1),
            ("once", 1),
            ("any", "chat/a"),
            ("first", 2),
            ("any", "chat/a"),
            ("any", "chat/b"),
            ("any", "chat/b"),
        ]


@pytest.mark.parametrize(
    ("handler", "got"),
    [
        (5, "got 5"),
        (lambda: None, r"got <lambda>\(\)"),
        (lambda a, b: None, r"got <lambda>\(a, b\)"),
    ],
)
def test_handler_that_cannot_be_called_with_one_argument_is_refused(handler, got):
    client = connect("ws://h/chsk")
    form = r"like def handler\(event\): \.\.\., "
    for add in (client.on, client.once):
        with pytest.raises(TypeError, match=f"for 'chat/said', {form}{got}"):
            add("chat/said", handler)
    form = r"like def handler\(state\): \.\.\., "
    with pytest.raises(TypeError, match=f"for 'state', {form}{got}"):
        client.on_state(handler)
    client.on("chat/said", print)


@scripted
async def test_events_go_to_their_handlers_and_the_rest_to_the_iterator_in_order(played):
    client = ws(played)
    seen = []

    @client.on("chat/said")
    def said(event):
        seen.append(event)

    @client.on("chat/slow")
    async def slow(event):
        seen.append(("begin", event.data))
        await asyncio.sleep(0)
        seen.append(("end", event.data))

    async with over_ws(played, client) as connection:
        connection.send(
            "[[[:chat/slow 1] [:chat/said 2] [:chat/slow 3] [:other/a] [:other/b 4]] nil]"
        )
        rest = [await anext(client), await anext(client)]
        assert rest == [Event("other/a", None), Event("other/b", 4)]
        assert seen == [
            ("begin", 1),
            ("end", 1),
            Event("chat/said", 2),
            ("begin", 3),
            ("end", 3),
        ]


def test_a_handler_that_raises_is_logged_and_the_next_event_is_handled(run, caplog):
    async def main():
        async with script() as played:
            client = ws(played)
            client.on("chat/bad", lambda event: 1 / 0)

            @client.on("chat/bad-too")
            async def bad(event):
                raise ValueError(event.data)

            async with over_ws(played, client) as connection:
                connection.send("[[[:chat/bad] [:chat/bad-too 1] [:chat/good 2]] nil]")
                assert await anext(client) == Event("chat/good", 2)

    run(main())
    ours = [record.message for record in caplog.records if record.name.startswith("chansock")]
    assert ours == [
        "handler_failed event='chat/bad'",
        "handler_failed event='chat/bad-too'",
    ]


@scripted
async def test_server_ping_is_answered_and_handed_to_its_handler_alone(played):
    client = ws(played)
    pings = []
    client.on("chsk/ws-ping", pings.append)
    async with over_ws(played, client) as connection:
        connection.send("[:chsk/ws-ping nil]")
        assert (await connection.frame()).text == "[[:chsk/ws-pong] nil]"
        assert pings == [Event("chsk/ws-ping", None)]
        connection.send("[[[:chat/said 1]] nil]")
        assert await anext(client) == Event("chat/said", 1)


@scripted
async def test_a_forged_or_broken_event_in_a_batch_costs_only_itself(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.send("[[[:chat/a 1] [:chsk/x 2] [:bare 3] [:chat/b 4 5] 6 [:chat/c 7]] nil]")
        assert await anext(client) == Event("chat/a", 1)
        assert await anext(client) == Event("chat/c", 7)


def test_a_packet_that_cannot_be_read_closes_with_1007_and_the_client_comes_back(run, caplog):
    async def main():
        async with script() as played:
            client = ws(played)
            async with over_ws(played, client) as connection:
                asking = asyncio.create_task(client.send("chat/ask", timeout=60))
                await connection.frame()
                deep = "[" * 498 + "]" * 498
                connection.send(f"[[[:chat/a 1] [:chat/deep {deep} {deep}]] nil")
                connection.send("[[[:chat/lost 1]] nil]")
                closing = await connection.frame()
                assert closing.opcode == CLOSE
                assert closing.payload == b"\x03\xefa packet that cannot be read"
                with pytest.raises(ChannelClosed, match=r"got the end .* \(unexpected 1007: "):
                    await asking
                assert not client.state.open
                reason = client.state.reason
                assert (reason.kind, reason.code) == ("unexpected", 1007)
                assert reason.text.startswith("cannot read a packet: expected a packet")
                assert client.state.last_close.reason == reason
                again = await played.accept_ws()
                again.send("[[[:chat/b 2]] nil]")
                assert await anext(client) == Event("chat/b", 2)

    run(main())
    assert sum(r.message.startswith("bad_packet") for r in caplog.records) == 1


def test_a_server_whose_packets_cannot_be_read_is_called_with_growing_pauses(run):
    async def main():
        asked = []

        def backoff(n):
            asked.append(n)
            return 0.0

        async with script() as played:
            client = ws(played, backoff=backoff)
            async with over_ws(played, client) as connection:
                for _ in range(4):
                    connection.send("not edn )(")
                    connection = await played.accept_ws()
        return asked

    assert run(main()) == [2, 3, 4]


@scripted
async def test_fragments_are_joined_with_a_ping_between_them(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        text = '[[[:chat/said "é漢"]] nil]'.encode()
        for cut in range(len(text) + 1):
            connection.writer.write(
                frame(TEXT, text[:cut], is_last=False)
                + frame(PING, b"mid")
                + frame(0, b"", is_last=False)
                + frame(0, text[cut:])
            )
            assert await anext(client) == Event("chat/said", "é漢")
            pong = await connection.frame()
            assert (pong.opcode, pong.payload) == (PONG, b"mid")


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        (frame(0, b"x"), 1002),  # a continuation of nothing
        (frame(TEXT, b"x", is_last=False) + frame(TEXT, b"y"), 1002),  # a message in a message
        (frame(TEXT, b"x", rsv=4), 1002),
        (frame(PING, b"x", rsv=2), 1002),
        (frame(3, b"x"), 1002),  # a reserved opcode
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", is_last=False), 1002),
        (b"\x81\x81\x00\x00\x00\x00x", 1002),  # masked
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1006).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xe6\xbc", is_last=False) + frame(0, b""), 1007),  # cut in a character
        (frame(TEXT, b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(TEXT, b"x" * 1001), 1009),
        (frame(TEXT, b"x" * 600, is_last=False) + frame(0, b"x" * 600), 1009),
    ],
)
@scripted
async def test_what_breaks_rfc_6455_is_answered_with_its_close_code(played, bytes_, code):
    client = ws(played, config=ClientConfig(max_message_bytes=1000))
    async with over_ws(played, client) as connection:
        connection.writer.write(bytes_)
        sent = await connection.frame()
        assert (sent.opcode, sent.close[0]) == (CLOSE, code)
        connection.end()
        again = await played.accept_ws()  # it comes back at once
        await until(client, lambda state: state.open)
        assert client.state.reason.kind == "unexpected"
        assert client.state.reason.code == code
        again.send("[[[:chat/a 1]] nil]")
        assert await anext(client) == Event("chat/a", 1)


@scripted
async def test_close_frame_is_answered_with_the_same_code(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.close_frame(4401, "authority over")
        sent = await connection.frame()
        assert (sent.opcode, sent.close[0]) == (CLOSE, 4401)
        assert await connection.at_end() == b""
        await until(client, lambda state: not state.open)
        assert client.state.reason == Reason("refused", 4401, "authority over")


@scripted
async def test_close_frame_without_a_code_is_answered_without_one(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.writer.write(frame(CLOSE, b""))
        sent = await connection.frame()
        assert (sent.opcode, sent.payload) == (CLOSE, b"")


@scripted
async def test_leaving_sends_close_1000_as_sente_does(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        client.disconnect()
        assert not client.state.open
        assert client.state.reason == Reason("requested-disconnect")
        sent = await connection.frame()
        assert (sent.opcode, sent.close) == (CLOSE, (1000, "CLOSE_NORMAL"))
        with pytest.raises(ChannelClosed):
            await client.send("chat/say", 1)
        with pytest.raises(ChannelClosed):
            await client.send("chat/say", 1, timeout=60)
        connection.close_frame(1000)
        assert await connection.at_end() == b""
        assert [event async for event in client] == []


@scripted
async def test_disconnect_ends_the_iterator_after_what_came_before(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.send("[[[:chat/a 1] [:chat/b 2]] nil]")
        got = []
        async for event in client:
            got.append(event.data)
            client.disconnect()
        assert got == [1, 2]
        connection.end()


@scripted
async def test_disconnect_ends_a_wait_for_a_reply_at_once(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        asking = asyncio.create_task(client.send("test/req", timeout=60))
        await connection.frame()
        client.disconnect()
        with pytest.raises(ChannelClosed):
            await asking
        connection.end()


@pytest.mark.slow
@scripted
async def test_a_slow_reader_stops_the_socket_and_loses_nothing(played):
    client = ws(played, config=ClientConfig(max_inbox_events=10))
    async with over_ws(played, client) as connection:
        filler = "x" * 10_000
        count = 2_000  # 20 MB: more than the kernel holds between the two
        connection.writer.transport.set_write_buffer_limits(1)

        async def push():
            for i in range(count):
                connection.send(f'[[[:chat/n [{i} "{filler}"]]] nil]')
                await connection.writer.drain()

        pushing = asyncio.create_task(push())
        await asyncio.wait({pushing}, timeout=0.3)
        assert not pushing.done()  # the socket is not read
        for i in range(count):
            assert (await anext(client)).data[0] == i
        await pushing


@pytest.mark.slow
@scripted
async def test_sends_wait_for_room_and_keep_their_order(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        connection.writer.transport.pause_reading()
        sends = [asyncio.create_task(client.send("chat/n", [i, "x" * 500_000])) for i in range(40)]
        while not any(task.done() for task in sends):
            await asyncio.sleep(0)
        assert not sends[-1].done()  # neither the socket nor its buffer has it
        sends[-2].cancel()
        connection.writer.transport.resume_reading()
        expected = [*range(38), 39]
        for i in expected:
            assert (await connection.frame()).text.startswith(f"[[:chat/n [{i} ")
        await asyncio.wait(sends)
        assert [task.cancelled() for task in sends].count(True) == 1


def test_binary_packer_sends_binary_frames(run):
    class Marked:
        binary = True
        fragment = batch = None  # a client joins nothing

        def packet(self, value, cb_id):
            return repr((value, cb_id)).encode()

        def unpack(self, view):
            assert bytes(view) == b"hello"
            return [Keyword("chsk/handshake"), ["u", None, None]], None

    async def main():
        async with script() as played, entered(played, ws(played, packer=Marked())) as entering:
            connection = await played.accept()
            connection.upgrade(await connection.request())
            connection.writer.write(frame(BINARY, b"hello"))
            client = await entering
            await client.send("chat/say", 1)
            sent = await connection.frame()
            assert sent.opcode == BINARY

    run(main())


@scripted
async def test_a_second_handshake_renews_uid_and_data(played):
    client = ws(played)
    seen = []
    client.on("chsk/handshake", lambda event: seen.append(event.data))
    async with over_ws(played, client) as connection:
        connection.send('[[:chsk/handshake ["bob" nil 7]] nil]')
        await until(client, lambda state: state.uid == "bob")
        assert (client.state.open, client.state.handshake_data) == (True, 7)
        assert seen == [["alice", None, {"motd": "hi"}, True], ["bob", None, 7, False]]
