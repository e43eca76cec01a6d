"""The ways in which the server is wrong: over WebSocket, and over Ajax.

A way gets a `Call` and does with it what it likes, until the client leaves or `call.is_over`.
Nothing here decides when a way is used, and nothing judges a client.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import peer
from peer import BINARY, CLOSE, CONTINUATION, PING, TEXT

HANDSHAKE: Final = '[[:chsk/handshake ["u" nil nil]] nil]'
IDLE: Final = "[:chsk/timeout nil]"
DUMMY: Final = "[:chsk/dummy-cb-200 nil]"
MIB: Final = 1 << 20


@dataclass
class Call:
    """One request of a client, with its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    is_over: Callable[[], bool]  # the server is right again

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: str, status: int = 200, *fields: str) -> None:
        data = body.encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *fields]
        await self.write("\r\n".join([*lines, "", ""]).encode() + data)

    async def upgrade(self, accept: str | None = None) -> None:
        key = self.headers.get("sec-websocket-key", "")
        await self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % (accept or peer.accept_of(key)).encode()
        )

    async def frame(self, opcode: int, payload: bytes | str = b"", **more: Any) -> None:
        await self.write(peer.frame(opcode, payload, mask=False, **more))

    async def open(self) -> None:
        await self.upgrade()
        await self.frame(TEXT, HANDSHAKE)

    async def until_over(self) -> None:
        """Read nothing and write nothing."""
        while not self.is_over():
            await asyncio.sleep(0.2)

    async def read_on(self) -> None:
        """Read what comes and answer nothing."""
        while not self.is_over():
            try:
                async with asyncio.timeout(0.2):
                    if not await self.reader.read(1 << 16):
                        return
            except TimeoutError:
                pass


Way = Callable[[Call], Awaitable[None]]


def batch(event: str, count: int) -> str:
    return f"[[{' '.join([event] * count)}] nil]"


# -- of a poll


def answers(body: str, status: int = 200, *fields: str) -> Way:
    async def way(call: Call) -> None:
        await call.answer(body, status, *fields)

    return way


async def half_an_answer(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[[")
    await call.until_over()


async def silence(call: Call) -> None:
    await call.until_over()


async def reset(call: Call) -> None:
    sock = call.writer.get_extra_info("socket")
    sock.setsockopt(peer.socket.SOL_SOCKET, peer.socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.writer.close()


async def endless_body(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not call.is_over():
        await call.write(b"[" * 65536)


async def endless_chunks(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not call.is_over():
        await call.write(b"1\r\n[\r\n" * 8192)


async def endless_head(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\n")
    while not call.is_over():
        await call.write(b"X-More: and more\r\n" * 4096)


AJAX: Final[dict[str, Way]] = {
    "idle at once": answers(IDLE),
    "empty bodies": answers(""),
    "nil nil": answers("[nil nil]"),
    "handshakes": answers(HANDSHAKE),
    "no events": answers("[[] nil]"),
    "bad events": answers(batch('[1 2 "x"]', 60_000)),
    "events of no name": answers(batch("[:noname 1]", 60_000)),
    "good events": answers(batch("[:t/flood 1]", 60_000)),
    "junk": answers("<html>It works!</html>"),
    "bad UTF-8": answers("\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
    "redirects": answers("", 302, "Location: http://127.0.0.1:9/elsewhere"),
    "errors": answers("", 500),
    "not found": answers("", 404),
    "busy": answers("", 503, "Retry-After: 1"),
    "half answers": half_an_answer,
    "silence": silence,
    "resets": reset,
    "endless bodies": endless_body,
    "endless chunks": endless_chunks,
    "endless heads": endless_head,
}

# -- of a WebSocket


def refuses(status: int, *fields: str) -> Way:
    return answers("", status, *fields)


async def wrong_accept(call: Call) -> None:
    await call.upgrade(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    await call.read_on()


async def no_handshake(call: Call) -> None:
    await call.upgrade()
    await call.read_on()


async def events_before_the_handshake(call: Call) -> None:
    await call.upgrade()
    await call.frame(TEXT, batch("[:t/early 1]", 100))
    await call.read_on()


async def pings_without_reading(call: Call) -> None:
    await call.open()
    data = peer.frame(PING, b"x" * 125, mask=False) * 500
    while not call.is_over():
        await call.write(data)


async def stops_reading(call: Call) -> None:
    await call.open()
    while not call.is_over():
        await call.frame(TEXT, batch("[:t/tick 1]", 1))  # it looks alive
        await asyncio.sleep(0.2)


async def empty_fragments(call: Call) -> None:
    await call.open()
    await call.frame(TEXT, b"", fin=False)
    data = peer.frame(CONTINUATION, b"", fin=False, mask=False) * 5000
    while not call.is_over():
        await call.write(data)


async def endless_message(call: Call) -> None:
    await call.open()
    await call.frame(TEXT, b"[", fin=False)
    data = peer.frame(CONTINUATION, b"x" * 65536, fin=False, mask=False)
    while not call.is_over():
        await call.write(data)


async def gigabyte_announced(call: Call) -> None:
    await call.open()
    await call.write(struct.pack("!BBQ", 0x80 | TEXT, 127, 1 << 30))
    while not call.is_over():
        await call.write(b"x" * 65536)


def floods(packet: str) -> Way:
    async def way(call: Call) -> None:
        await call.open()
        data = peer.frame(TEXT, packet, mask=False)
        data *= max(1, 65536 // len(data))
        while not call.is_over():
            await call.write(data)

    return way


def sends(opcode: int, payload: bytes | str, **more: Any) -> Way:
    async def way(call: Call) -> None:
        await call.open()
        await call.frame(opcode, payload, **more)
        await call.read_on()

    return way


async def masked_frames(call: Call) -> None:
    await call.open()
    await call.write(peer.frame(TEXT, batch("[:t/tick 1]", 1)))
    await call.read_on()


async def drops(call: Call) -> None:
    await call.open()


async def mute(call: Call) -> None:
    await call.open()
    await call.read_on()


WS: Final[dict[str, Way]] = {
    "forbidden": refuses(403),
    "busy": refuses(503, "Retry-After: 1"),
    "upgrade required": refuses(426, "Upgrade: websocket"),
    "redirects": refuses(302, "Location: http://127.0.0.1:9/elsewhere"),
    "silence": silence,
    "half answers": half_an_answer,
    "resets": reset,
    "endless heads": endless_head,
    "wrong accept keys": wrong_accept,
    "no handshake": no_handshake,
    "events before the handshake": events_before_the_handshake,
    "pings without reading": pings_without_reading,
    "no reading": stops_reading,
    "no answers": mute,
    "empty fragments": empty_fragments,
    "endless messages": endless_message,
    "a gigabyte announced": gigabyte_announced,
    "handshakes": floods(HANDSHAKE),
    "good events": floods(batch("[:t/flood 1]", 50)),
    "bad events": floods(batch('[1 2 "x"]', 50)),
    "one large batch of bad events": sends(TEXT, batch('[1 2 "x"]', 60_000)),
    "one large batch of events": sends(TEXT, batch("[:t/flood 1]", 60_000)),
    "junk": floods("junk ]"),
    "bad UTF-8": sends(TEXT, b"\xff\xfe"),
    "binary": sends(BINARY, HANDSHAKE),
    "reserved bits": sends(TEXT, HANDSHAKE, rsv=7),
    "masks": masked_frames,
    "closes 1012": sends(CLOSE, peer.close_payload(1012, "service restart")),
    "closes 4000": sends(CLOSE, peer.close_payload(4000, "go away")),
    "bad closes": sends(CLOSE, b"\x03"),
    "drops": drops,
}
