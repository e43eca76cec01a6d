"""connection with permessage-deflate: raw bytes and `websockets` on real sockets, on both loops."""

from __future__ import annotations

import asyncio
import json
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from deflated import plain, raw
from peer import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_payload, frame, read_frame
from raw_listener import HELLO, UPGRADE, Client, Ground, Run, ground, on_ground
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from chansock import ALL, ChannelSocket, Compression, Config, serve
from chansock._fast.ws import frames as room

OFFER = "permessage-deflate; client_max_window_bits"  # Chromium's
LONG = "so long, " * 100
RSV1 = 4


async def opened(place: Ground, offer: str | None = OFFER) -> tuple[Client, str]:
    """A WebSocket that said hello, and the head of its 101."""
    field = "" if offer is None else f"Sec-WebSocket-Extensions: {offer}\r\n"
    client = await place.client(UPGRADE[:-2] + field.encode() + b"\r\n")
    head = (await client.head()).decode()
    assert head.startswith("HTTP/1.1 101 ")
    assert (await client.frame())[1] == HELLO
    assert await place.door.told.get() == "open"
    return client, head


def deflated(text: str, **options: Any) -> bytes:
    return frame(TEXT, raw(text.encode(), **options), rsv=RSV1)


def text_of(found: Frame) -> str:
    """What a frame of the server says, deflated or not."""
    assert (found.opcode, found.fin, found.masked) == (TEXT, True, False)
    return (plain(found.payload) if found.rsv == RSV1 else found.payload).decode()


@pytest.mark.parametrize(
    ("compression", "offer"), [(False, OFFER), (True, None), (True, "permessage-bzip2")]
)
def test_nothing_is_agreed_on_unless_both_want_it(
    run: Run, compression: bool, offer: str | None
) -> None:
    async def main() -> None:
        async with ground(compression=compression) as place:
            client, head = await opened(place, offer)
            assert "extensions" not in head.lower()
            client.send_text(f'[[:t/echo "{LONG}"] "c"]')
            found = await read_frame(client.reader)
            assert (found.rsv, found.text) == (0, f'["{LONG}" "c"]')
            client.send(deflated('[[:t/echo 1] "c"]'))
            assert (await read_frame(client.reader)).code == 1002

    run(main())


@on_ground(compression=True)
async def test_both_sides_may_deflate_once_agreed(place: Ground) -> None:
    client, head = await opened(place)
    assert head.endswith(
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "client_no_context_takeover; server_max_window_bits=12\r\n\r\n"
    )
    for _ in range(3):
        client.send(deflated(f'[[:t/echo "{LONG}é"] "c"]'))
        found = await read_frame(client.reader)
        assert found.rsv == RSV1
        assert len(found.payload) < 100
        assert text_of(found) == f'["{LONG}é" "c"]'


@on_ground(compression=True)
async def test_a_message_may_go_plain_all_the_same(place: Ground) -> None:
    client, _ = await opened(place)
    client.send_text('[[:t/echo 1] "c"]', f'[[:t/echo "{LONG}"] "c"]')
    short, long = await read_frame(client.reader), await read_frame(client.reader)
    assert (short.rsv, short.text) == (0, '[1 "c"]')
    assert (long.rsv, text_of(long)) == (RSV1, f'["{LONG}" "c"]')


@on_ground(compression=True)
async def test_an_empty_deflated_message_is_a_message(place: Ground) -> None:
    client, _ = await opened(place)
    client.send(frame(TEXT, b"\0", rsv=RSV1), deflated('[[:t/echo 1] "c"]'))
    assert text_of(await read_frame(client.reader)) == '[1 "c"]'


@on_ground(compression=True)
async def test_a_message_is_whole_wherever_it_was_split(place: Ground) -> None:
    client, _ = await opened(place)
    for mode in (zlib.Z_SYNC_FLUSH, zlib.Z_FINISH):
        payload = raw('[[:t/echo "é, é, é and é"] "c"]'.encode(), mode=mode)
        for at in range(len(payload) + 1):
            client.send(
                frame(TEXT, payload[:at], rsv=RSV1, fin=False),
                frame(PING, b"between"),
                frame(CONTINUATION, payload[at:]),
            )
            pong = await read_frame(client.reader)
            assert (pong.opcode, pong.payload) == (PONG, b"between")
            assert text_of(await read_frame(client.reader)) == '["é, é, é and é" "c"]'
        client.send(frame(TEXT, payload[:1], rsv=RSV1, fin=False))
        client.send(*(frame(CONTINUATION, payload[k : k + 1], fin=False) for k in range(1, 20)))
        client.send(frame(CONTINUATION, payload[20:]))
        assert text_of(await read_frame(client.reader)) == '["é, é, é and é" "c"]'


BROKEN: dict[str, tuple[int, bytes]] = {
    "RSV1 on a continuation": (
        1002,
        frame(TEXT, raw(b"x")[:1], rsv=RSV1, fin=False)
        + frame(CONTINUATION, raw(b"x")[1:], rsv=RSV1),
    ),
    "RSV1 on a control frame": (1002, frame(PING, b"", rsv=RSV1)),
    "RSV2": (1002, frame(TEXT, raw(b"x"), rsv=2)),
    "RSV1 and RSV3": (1002, frame(TEXT, raw(b"x"), rsv=RSV1 | 1)),
    "no deflated data": (1007, frame(TEXT, b"\xff\xff", rsv=RSV1)),
    "cut off": (1007, frame(TEXT, raw(LONG.encode())[:-1], rsv=RSV1)),
    "no UTF-8 behind it": (1007, frame(TEXT, raw(b"\xff"), rsv=RSV1)),
    "a bomb": (1009, frame(TEXT, raw(bytes(1 << 24)), rsv=RSV1)),
    "one byte too long": (1009, frame(TEXT, raw(b"a" * 20_001), rsv=RSV1)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_a_rule_closes_with_its_code(run: Run, what: str) -> None:
    code, data = BROKEN[what]

    async def main() -> None:
        async with ground(compression=True, max_message_bytes=20_000) as place:
            client, _ = await opened(place)
            client.send(deflated('[[:t/echo 1] "c"]'), data, deflated('[[:t/echo 2] "c"]'))
            assert text_of(await read_frame(client.reader)) == '[1 "c"]'
            found = await read_frame(client.reader)
            assert (found.opcode, found.code, found.rsv) == (CLOSE, code, 0)
            assert await client.eof() == b""
            assert await place.door.told.get() == ("closed", code)

    run(main())


@on_ground(compression=True)
async def test_a_malformed_offer_is_answered_400(place: Ground) -> None:
    client = await place.client(
        UPGRADE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate;\r\n\r\n"
    )
    status, body = await client.response()
    assert status == 400
    assert body.startswith(b"Sec-WebSocket-Extensions: expected")


@on_ground(compression=True, max_inbox_events=2)
async def test_a_deflated_message_that_has_no_room_waits(place: Ground) -> None:
    gate = asyncio.Event()

    async def wait(msg: Any) -> Any:
        await gate.wait()
        return msg.data

    place.door.on("t/wait", wait)
    client, _ = await opened(place)
    client.send(*(deflated(f'[[:t/wait {k}] "c"]') for k in range(20)))
    await place.settle()
    assert len(place.door.events) == 1
    gate.set()
    for k in range(20):
        assert text_of(await read_frame(client.reader)) == f'[{k} "c"]'


@pytest.mark.parametrize("bits", [None, 9, 15])
def test_a_client_that_keeps_its_window_is_understood(run: Run, bits: int | None) -> None:
    async def main() -> None:
        options = Compression(client_takeover=True)
        async with ground(compression=options) as place:
            offer = OFFER if bits is None else f"{OFFER}={bits}"
            client, head = await opened(place, offer)
            agreed = min(bits or 12, 12)
            assert f"; client_max_window_bits={agreed}\r\n" in head
            deflater = zlib.compressobj(wbits=-agreed)
            for k in range(30):
                text = f'[[:t/echo "{LONG[: 50 * k]}"] "c"]'
                data = deflater.compress(text.encode()) + deflater.flush(zlib.Z_SYNC_FLUSH)
                client.send(frame(TEXT, data[:-4], rsv=RSV1))
                if k % 3 == 0:  # what goes plain is no part of the window
                    client.send_text(text)
                    assert text_of(await read_frame(client.reader)) == f'["{LONG[: 50 * k]}" "c"]'
                assert text_of(await read_frame(client.reader)) == f'["{LONG[: 50 * k]}" "c"]'
            assert len(data) < 40

    run(main())


class Counted:
    """zlib's constructors, counting what they made and what is alive of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        for name in ("compressobj", "decompressobj"):
            monkeypatch.setattr(room, name, self._counting(name, getattr(zlib, name)))

    def _counting(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        class Held:
            def __init__(self, *args: Any) -> None:
                self.held = make(*args)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.held, name)

        def counting(*args: Any) -> Any:
            self.made.append(name)
            made = Held(*args)
            self.alive.add(made)
            return made

        return counting


@pytest.mark.parametrize("takeover", [False, True])
def test_an_idle_connection_owns_no_compressor(
    run: Run, monkeypatch: pytest.MonkeyPatch, takeover: bool
) -> None:
    counted = Counted(monkeypatch)

    async def main() -> None:
        async with ground(compression=Compression(client_takeover=takeover)) as place:
            clients = [(await opened(place))[0] for _ in range(3)]
            assert counted.made == []
            for client in clients:
                client.send(deflated(f'[[:t/echo "{LONG}"] "c"]'))
                assert text_of(await read_frame(client.reader)) == f'["{LONG}" "c"]'
            assert counted.made == ["decompressobj", "compressobj"] * 3
            assert not counted.alive

    run(main())


def test_a_broadcast_is_deflated_once_for_each_window(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)

    async def main() -> None:
        chsk = ChannelSocket(Config(compression=True))
        async with serve(chsk, port=0) as listener:
            url = listener.url.replace("http", "ws") + "?client-id="
            sockets = [
                await connect(f"{url}{k}", extensions=[factory] if factory else None, proxy=None)
                for k, factory in enumerate(
                    [ClientPerMessageDeflateFactory()] * 8
                    + [ClientPerMessageDeflateFactory(server_max_window_bits=9)] * 8
                    + [None] * 2
                )
            ]
            for socket in sockets:
                assert "chsk/handshake" in str(await socket.recv())
            counted.made.clear()
            chsk.send(ALL, "t/news", LONG)
            for socket in sockets:
                assert await socket.recv() == f'[[[:t/news "{LONG}"]] nil]'
            assert counted.made == ["compressobj"] * 2
            for socket in sockets:
                await socket.close()

    run(main())


OFFERS = {
    "nothing": {},
    "server_no_context_takeover": {"server_no_context_takeover": True},
    "client_no_context_takeover": {"client_no_context_takeover": True},
    "server_max_window_bits": {"server_max_window_bits": 10},
    "client_max_window_bits": {"client_max_window_bits": True},
    "client_max_window_bits=9": {"client_max_window_bits": 9},
    "all": {
        "server_no_context_takeover": True,
        "client_no_context_takeover": True,
        "server_max_window_bits": 15,
        "client_max_window_bits": 15,
    },
}


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("offer", OFFERS)
def test_websockets_talks_both_ways_whatever_it_offers(
    run: Run, offer: str, takeover: bool
) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(compression=Compression(client_takeover=takeover)))
        chsk.on("t/echo", lambda msg: msg.data)
        factory: Any = ClientPerMessageDeflateFactory(**OFFERS[offer])
        async with serve(chsk, port=0) as listener:
            url = listener.url.replace("http", "ws") + "?client-id=a"
            socket: ClientConnection
            async with connect(url, extensions=[factory], proxy=None) as socket:
                assert [extension.name for extension in socket.protocol.extensions] == [
                    "permessage-deflate"
                ]
                assert "chsk/handshake" in str(await socket.recv())
                for size in (1, 10, 300, 5000, 30_000, 3):
                    text = json.dumps("".join(f"{k:x}" for k in range(size)))
                    await socket.send(f'[[:t/echo {text}] "c"]')
                    assert await socket.recv() == f'[{text} "c"]'

    run(main())


def test_a_close_frame_goes_plain(run: Run) -> None:
    async def main() -> None:
        async with ground(compression=Compression(threshold=0)) as place:
            client, _ = await opened(place)
            place.door.transports[0].close(4401, "a" * 100)
            found = await read_frame(client.reader)
            assert (found.rsv, found.payload) == (0, close_payload(4401, "a" * 100))

    run(main())
