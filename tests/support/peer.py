"""A peer that knows bytes alone: RFC 9112 (HTTP/1.1) and RFC 6455 (WebSocket) over asyncio streams.

Nothing of chansock may be imported here: what this file takes for a right answer is
what the two RFCs say, so that a fault of ours cannot hide behind a fault of ours.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import quote

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came: `payload` unmasked, `masked` as it was."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def code(self) -> int | None:
        """The code of a close frame, None if it has none."""
        return struct.unpack_from("!H", self.payload)[0] if self.payload else None

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, whole."""

    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str | None:
        """Return the first field of that name, in any case."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


def frame(
    opcode: int, payload: bytes | str = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """Build a frame as a client does: shortest length, a fresh mask (RFC 6455 section 5.2)."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, bit | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(data))
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + unmask(data, key)


def unmask(data: bytes, key: bytes) -> bytes:
    """XOR with the mask; its own inverse (RFC 6455 section 5.3)."""
    size = len(data)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(size)


def close_payload(code: int | None, reason: str = "") -> bytes:
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


def accept_of(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _ACCEPT_GUID).encode()).digest()).decode()


def request(
    method: str, target: str, headers: Fields = (), body: bytes = b"", *, host: str = "localhost"
) -> bytes:
    """Build a request; Host and Content-Length are added unless `headers` has them."""
    fields = list(headers)
    have = {name.lower() for name, _ in fields}
    if "host" not in have:
        fields.insert(0, ("Host", host))
    if (body or method == "POST") and not have & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def urlencoded(pairs: Iterable[tuple[str, str]]) -> str:
    """Percent-encode as Sente's clients do: space as %20."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    """Read one response, whole; `head_only`: it answers a HEAD. A 100 is passed over."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rows = head[:-4].split("\r\n")
        version, status, *reason = line.split(" ", 2)
        if version != "HTTP/1.1":
            raise ValueError(f"expected an HTTP/1.1 status line, got {line!r}")
        pairs = [(n.strip(), v.strip()) for n, _, v in (row.partition(":") for row in rows)]
        found = Answer(int(status), "".join(reason), pairs)
        if found.status != 100:
            break
    if head_only or found.status in (101, 204, 304):
        return found
    length = found.header("content-length")
    if length is None:
        if found.header("transfer-encoding") is not None or status == "200":
            raise ValueError(f"expected a Content-Length, got {head!r}")
        body = await reader.read(-1)  # RFC 9112 section 6.3: up to the end
    else:
        body = await reader.readexactly(int(length))
    return Answer(found.status, found.reason, found.headers, body)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Read one frame, whatever it is."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    masked = bool(second & 0x80)
    key = await reader.readexactly(4) if masked else b""
    data = await reader.readexactly(size)
    return Frame(
        opcode=first & 15,
        payload=unmask(data, key) if masked else data,
        fin=bool(first & 0x80),
        rsv=first >> 4 & 7,
        masked=masked,
    )


class Peer:
    """One TCP connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        peer = writer.get_extra_info("peername")
        self.host = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "localhost"

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> Self:
        return cls(*await asyncio.open_connection(host, port, limit=1 << 22))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- bytes

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def fin(self) -> None:
        """End our half, as a client does that goes away in order."""
        if self.writer.can_write_eof():
            self.writer.write_eof()

    def reset(self) -> None:
        """Break the connection: the server sees a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def rest(self) -> bytes:
        """Read to the end of the server's half; a reset counts as one."""
        with contextlib.suppress(ConnectionResetError):
            return await self.reader.read(-1)
        return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    # -- HTTP

    async def answer(self, *, head_only: bool = False) -> Answer:
        return await read_answer(self.reader, head_only=head_only)

    async def ask(
        self, method: str, target: str, headers: Fields = (), body: bytes = b""
    ) -> Answer:
        await self.send(request(method, target, headers, body, host=self.host))
        return await self.answer(head_only=method == "HEAD")

    async def post_form(
        self, target: str, pairs: Iterable[tuple[str, str]], headers: Fields = ()
    ) -> Answer:
        """POST a form as Sente's clients do."""
        kind = ("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
        return await self.ask("POST", target, [*headers, kind], urlencoded(pairs).encode())

    # -- WebSocket

    async def upgrade(self, target: str, headers: Fields = ()) -> Answer:
        """Request a WebSocket; check the 101, or return the refusal."""
        key = base64.b64encode(os.urandom(16)).decode()
        fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
            *headers,
        ]
        found = await self.ask("GET", target, fields)
        if found.status == 101 and found.header("sec-websocket-accept") != accept_of(key):
            raise ValueError(f"expected the accept of {key!r}, got {found.headers!r}")
        return found

    async def frame(self) -> Frame:
        return await read_frame(self.reader)

    async def text(self) -> str:
        """Read one whole, unmasked text frame, as a server must send it."""
        found = await self.frame()
        if found.opcode != TEXT or not found.fin or found.masked or found.rsv:
            raise ValueError(f"expected a whole unmasked text frame, got {found!r}")
        return found.text

    async def say(self, text: str) -> None:
        await self.send(frame(TEXT, text))

    async def bye(self, code: int | None = 1000, reason: str = "") -> Frame:
        """Close in order: our close frame, then the server's, which is given."""
        await self.send(frame(CLOSE, close_payload(code, reason)))
        while (found := await self.frame()).opcode != CLOSE:
            pass
        return found
