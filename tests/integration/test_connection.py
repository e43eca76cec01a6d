"""connection, as a WebSocket: raw bytes on real sockets, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from typing import Any

import pytest
import raw_listener
from raw_listener import (
    BINARY,
    CLOSE,
    GET,
    HELLO,
    KEY,
    PING,
    POLL,
    PONG,
    TEXT,
    UPGRADE,
    Ground,
    Run,
    ground,
    on_ground,
)

from chansock._fast.events.packet import Packet
from chansock._fast.ws.frames import close_payload, frame


@on_ground()
async def test_the_101_and_the_first_packet_come_in_one_piece(place: Ground) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", place.port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, UPGRADE)
        data = await loop.sock_recv(sock, 65536)
    assert data.startswith(b"HTTP/1.1 101 ")
    assert data.endswith(frame(TEXT, HELLO))


@on_ground()
async def test_frames_that_come_with_the_head_are_taken(place: Ground) -> None:
    client = await place.client(UPGRADE + frame(TEXT, b'[[:t/echo 1] "x"]', mask=KEY))
    await client.head()
    assert await client.frame() == (TEXT, HELLO)
    assert await client.frame() == (TEXT, b'[1 "x"]')


@on_ground()
async def test_what_one_read_makes_goes_out_in_one_send(place: Ground) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", place.port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, UPGRADE)
        await loop.sock_recv(sock, 65536)
        events = [frame(TEXT, b'[[:t/echo %d] "c"]' % k, mask=KEY) for k in range(20)]
        events.insert(10, frame(PING, b"p", mask=KEY))
        await loop.sock_sendall(sock, b"".join(events))
        data = await loop.sock_recv(sock, 65536)
    assert data.count(b'"c"') == 20
    assert frame(PONG, b"p") in data


@on_ground()
async def test_a_ping_is_answered_with_its_payload(place: Ground) -> None:
    client = await place.ws()
    client.send(frame(PING, b"hi", mask=KEY), frame(PONG, b"", mask=KEY))
    assert await client.frame() == (PONG, b"hi")


@on_ground()
async def test_a_close_frame_is_echoed_and_the_connection_ends(place: Ground) -> None:
    for payload, code in ((close_payload(1001, "bye"), 1001), (b"", 1005), (b"\x0f\xa0", 4000)):
        client = await place.ws()
        client.send(frame(CLOSE, payload, mask=KEY))
        assert await client.frame() == (CLOSE, payload)
        assert await client.eof() == b""
        assert await place.door.told.get() == ("closed", code)
    await place.gone()
    assert place.door.told.empty()


@on_ground()
async def test_replies_go_out_before_the_answer_to_a_close_frame(place: Ground) -> None:
    client = await place.ws()
    client.send(
        frame(TEXT, b'[[:t/echo 1] "x"]', mask=KEY), frame(CLOSE, close_payload(1000), mask=KEY)
    )
    assert await client.frame() == (TEXT, b'[1 "x"]')
    assert await client.frame() == (CLOSE, close_payload(1000))


def test_a_broken_frame_closes_with_its_code(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    broken = {
        1002: frame(TEXT, b"unmasked"),
        1007: frame(TEXT, b"\xff", mask=KEY),
        1009: frame(TEXT, bytes(2000), mask=KEY),
    }

    async def main() -> None:
        async with ground(max_message_bytes=1000) as place:
            for code, data in broken.items():
                client = await place.ws()
                client.send(frame(TEXT, b'[[:t/echo 1] "x"]', mask=KEY), data, bytes(100_000))
                assert await client.frame() == (TEXT, b'[1 "x"]')
                opcode, payload = await client.frame()
                assert (opcode, payload[:2]) == (CLOSE, code.to_bytes(2, "big"))
                assert await client.eof() == b""
                assert await place.door.told.get() == ("closed", code)
                client.writer.close()
            await place.gone()
            assert place.door.told.empty()

    with caplog.at_level(logging.INFO, "chansock.server_protocol"):
        run(main())
    assert [record.message.split()[0] for record in caplog.records] == ["ws_frame_error"] * 3


@on_ground()
async def test_a_socket_that_ends_without_a_close_frame_is_1006(place: Ground) -> None:
    client = await place.ws()
    client.writer.close()
    assert await place.door.told.get() == ("closed", 1006)
    client = await place.ws()
    client.reset()
    assert await place.door.told.get() == ("closed", 1006)
    assert not place.door.transports[0].write([Packet(b"late")])


@on_ground()
async def test_our_close_waits_for_the_peers(place: Ground) -> None:
    client = await place.ws()
    transport = place.door.transports[0]
    transport.write([Packet(b"last")])
    transport.close(4401, "authority over")
    transport.close(1000)
    assert not transport.write([Packet(b"late")])
    assert await client.frame() == (TEXT, b"last")
    assert await client.frame() == (CLOSE, close_payload(4401, "authority over"))
    client.send(frame(TEXT, b'[[:t/echo 1] "x"]', mask=KEY), frame(PING, b"", mask=KEY))
    client.send(frame(CLOSE, close_payload(4401), mask=KEY))
    assert await client.eof() == b""
    assert await place.door.told.get() == ("closed", 4401)
    assert place.door.events == []


@on_ground(close_timeout=0.05)
async def test_a_peer_that_does_not_answer_a_close_is_cut_off(place: Ground) -> None:
    client = await place.ws()
    place.door.transports[0].close(1013)
    assert await client.frame() == (CLOSE, close_payload(1013))
    assert await place.door.told.get() == ("closed", 1013)
    await place.gone()


@on_ground(max_message_bytes=2 << 20, max_inbox_bytes=2 << 20)
async def test_messages_of_every_size_come_back_whole(place: Ground) -> None:
    random_ = random.Random(6455)
    sizes = [0, 1, 125, 126, 65_500, 65_535, 65_536, 70_000, 262_144, 300_000, 1 << 20]
    sizes += [random_.randrange(1 << random_.randrange(1, 18)) for _ in range(100)]
    random_.shuffle(sizes)
    texts = [random_.choice("abcdé") * size for size in sizes]
    data = bytearray()
    for text in texts:
        payload = f'[[:t/echo "{text}"] "c"]'.encode()
        cut = random_.choice([0, 0, len(payload) // 3])
        if cut:
            data += frame(TEXT, payload[:cut], mask=KEY, fin=False)
            data += frame(0, payload[cut:], mask=KEY)
        else:
            data += frame(TEXT, payload, mask=KEY)
    client = await place.ws()

    async def feed() -> None:
        at = 0
        while at < len(data):
            step = random_.randrange(1, 200_000)
            client.send(bytes(data[at : at + step]))
            at += step
            await client.writer.drain()

    feeding = asyncio.create_task(feed())
    for text in texts:
        opcode, payload = await client.frame()
        assert opcode == TEXT
        assert payload == f'["{text}" "c"]'.encode()
    await feeding


@on_ground(max_inbox_events=4)
async def test_a_peer_whose_handler_lags_is_not_read_and_loses_nothing(place: Ground) -> None:
    gate = asyncio.Event()

    async def wait(msg: Any) -> Any:
        await gate.wait()
        return msg.data

    place.door.on("t/wait", wait)
    client = await place.ws()
    count = 2000
    big = "x" * 10_000
    for k in range(count):
        client.send_text(f'[[:t/wait [{k} "{big}"]] "c"]')
    await place.settle()
    assert len(place.door.events) == 1
    assert client.writer.transport.get_write_buffer_size() > 1_000_000  # type: ignore[attr-defined]
    gate.set()
    for k in range(count):
        assert (await client.frame())[1] == f'[[{k} "{big}"] "c"]'.encode()
    assert [data[0] for data in place.door.events] == list(range(count))


@on_ground()
async def test_a_peer_that_does_not_read_gets_all_in_order_later(place: Ground) -> None:
    client = await place.ws()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    transport = place.door.transports[0]
    packets = [Packet(b"%06d" % k + bytes(50_000), True) for k in range(600)]
    for packet in packets:
        assert transport.write([packet])
    assert transport.backlog() > 1_000_000
    transport.write(packets[:3])
    transport.close(1000)
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    for packet in packets + packets[:3]:
        assert await client.frame() == (BINARY, packet.body())
    assert await client.frame() == (CLOSE, close_payload(1000))
    assert transport.backlog() == 0


@on_ground()
async def test_a_backlog_that_is_gone_is_told(place: Ground) -> None:
    client = await place.ws()
    transport = place.door.transports[0]
    while transport.backlog() == 0:
        transport.write([Packet(bytes(1_000_000), True)])
    assert place.door.drains == 0
    while place.door.drains == 0:
        await client.frame()
    assert transport.backlog() == 0


@on_ground()
async def test_a_peer_that_pings_and_does_not_read_gets_the_last_pong(place: Ground) -> None:
    client = await place.ws()
    transport = place.door.transports[0]
    written = 0
    while transport.backlog() == 0:
        transport.write([Packet(bytes(1_000_000), True)])
        written += 1
    before = transport.backlog()
    client.send(*(frame(PING, b"%d" % k, mask=KEY) for k in range(1000)))
    client.send_text("[[:t/echo 1] nil]")
    while not place.door.events:
        await asyncio.sleep(0)
    assert transport.backlog() <= before
    for _ in range(written):
        assert (await client.frame())[0] == BINARY
    assert await client.frame() == (PONG, b"999")


@on_ground()
async def test_set_reading_stops_and_goes_on(place: Ground) -> None:
    client = await place.ws()
    transport = place.door.transports[0]
    transport.set_reading(False)
    client.send_text('[[:t/echo 1] "a"]', '[[:t/echo 2] "b"]')
    await place.settle()
    assert place.door.events == []
    transport.set_reading(True)
    assert await client.frame() == (TEXT, b'[1 "a"]')
    assert await client.frame() == (TEXT, b'[2 "b"]')


@on_ground(tls=True)
async def test_all_of_it_works_over_tls(place: Ground) -> None:
    client = await place.client(GET % b"/other")
    assert await client.response() == (404, b"not found")
    client = await place.ws()
    assert place.door.requests[0].scheme == "https"
    for size in (10, 1000, 70_000, 300_000, 900_000):
        text = "x" * size
        client.send_text(f'[[:t/echo "{text}"] "c"]')
        assert await client.frame() == (TEXT, f'["{text}" "c"]'.encode())
    client.send(frame(CLOSE, close_payload(1000), mask=KEY))
    assert await client.frame() == (CLOSE, close_payload(1000))
    assert await place.door.told.get() == ("closed", 1000)


class Poisoned(raw_listener.Socket):
    """Overwrites the shared read buffer after each read."""

    __slots__ = ("memory",)

    def get_buffer(self, hint: int) -> Any:
        window = super().get_buffer(hint)
        if not hasattr(self, "memory"):
            self.memory = memoryview(window)  # the first time all of it
        return window

    def buffer_updated(self, size: int) -> None:
        super().buffer_updated(size)
        self.memory[:] = b"\xff" * len(self.memory)


def test_nothing_that_is_borrowed_outlives_its_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_listener, "Socket", Poisoned)
    values = [
        f'[{k} "{"é" * (k % 90)}" {{:a/key {k}.5, "s" sym}} "{"z" * (k * 7 % 3000)}"]'
        for k in range(400)
    ]
    data = bytearray()
    for k, value in enumerate(values):
        payload = f'[[:t/wait {value}] "c{k}"]'.encode()
        cut = k * 13 % len(payload)
        if k % 3:
            data += frame(TEXT, payload, mask=KEY)
        else:
            data += frame(TEXT, payload[:cut], mask=KEY, fin=False)
            data += frame(PING, b"%d" % k, mask=KEY) + frame(0, payload[cut:], mask=KEY)

    async def main() -> None:
        async with ground(max_inbox_events=4) as place:
            gate = asyncio.Event()

            async def wait(msg: Any) -> Any:
                await gate.wait()
                return msg.data

            place.door.on("t/wait", wait)
            client = await place.ws()
            client.send(bytes(data))
            await place.settle()
            gate.set()
            found = {k: [] for k in (TEXT, PONG)}
            while len(found[TEXT]) < len(values):
                opcode, payload = await client.frame()
                found[opcode].append(payload)
            assert found[TEXT] == [f'[{value} "c{k}"]'.encode() for k, value in enumerate(values)]
            assert found[PONG] == [b"%d" % k for k in range(0, len(values), 3)]

    run(main())


@on_ground()
async def test_connections_share_one_buffer_without_mixing(place: Ground) -> None:
    async def talk(seed: int) -> None:
        random_ = random.Random(seed)
        client = await place.client(UPGRADE)
        await client.head()
        await client.frame()
        for _ in range(15):
            size = random_.choice([10, 3000, 90_000, random_.randrange(60_000, 400_000)])
            text = chr(97 + seed) * size
            data = frame(TEXT, f'[[:t/echo "{text}"] "c"]'.encode(), mask=KEY)
            cut = random_.randrange(len(data))
            client.send(data[:cut])
            await asyncio.sleep(0)
            client.send(data[cut:])
            assert (await client.frame())[1] == f'["{text}" "c"]'.encode()

    await asyncio.gather(*(talk(seed) for seed in range(20)))


@on_ground()
async def test_a_stop_ends_every_connection_in_its_own_way(place: Ground) -> None:
    idle = await place.client(GET % b"/other")
    await idle.response()
    silent = await place.client()
    socket_ = await place.ws()
    poll = await place.client(POLL)
    assert await place.door.told.get() == "open"
    gone = asyncio.Event()
    place.service.stop(gone.set)
    assert await idle.eof() == b""
    assert await silent.eof() == b""
    assert (await poll.eof()).startswith(b"HTTP/1.1 503 ")
    assert await socket_.frame() == (CLOSE, close_payload(1012, "service restart"))
    assert not gone.is_set()
    for client in (poll, socket_):
        client.writer.close()
    await gone.wait()
    assert len(place.service) == 0


@pytest.mark.parametrize(
    "packet",
    [
        "[" + "(" * 480 + "1" + ")" * 480 + " nil]",
        "[[:t/none] " + "(" * 480 + ":a\u00a0b" + ")" * 480 + "]",
    ],
)
def test_what_is_too_deep_to_be_logged_costs_no_connection(packet: str, run: Run) -> None:
    async def main() -> None:
        async with ground() as place:
            wire = await place.ws()
            wire.send_text(packet, '[[:t/echo 7] "a"]')
            assert await wire.frame() == (TEXT, b'[7 "a"]')

    run(main())


def test_a_read_that_was_broken_off_ends_its_connection_alone(run: Run) -> None:
    class Ours(BaseException):
        pass

    def bad(msg: Any) -> None:
        raise Ours

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with ground() as place:
            place.door.on("t/bad", bad)
            client, other = await place.ws(), await place.ws()
            client.send_text('[[:t/echo 1] "a"]', "[[:t/bad] nil]", '[[:t/echo 2] "b"]')
            with contextlib.suppress(ConnectionResetError):
                assert await client.eof() == b""
            other.send_text('[[:t/echo 3] "c"]')
            assert await other.frame() == (TEXT, b'[3 "c"]')

    run(main())
