"""What a hostile peer is made of: a raw socket, frames and requests as bytes.

Nothing here knows the attacks, or the server under attack.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import Sequence

from peer import CLOSE

KIB, MIB = 1024, 1 << 20
ZERO = b"\x00" * 4  # a mask that costs the attacker nothing
CONTINUATION = 0
UPGRADE = (
    "GET /chsk?client-id={client} HTTP/1.1\r\nHost: localhost\r\n"
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
)


class Hostile:
    """A raw socket: the kernel keeps what is not read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, port: int, receive_buffer: int = 0) -> Hostile:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    @classmethod
    async def upgraded(
        cls, port: int, fields: str = "", receive_buffer: int = 0, client: str = "mallory"
    ) -> Hostile:
        """Connect, become a WebSocket, and read the first frame: chansock's handshake.

        Raises ConnectionError if the server does not accept the WebSocket.
        """
        self = await cls.connect(port, receive_buffer)
        await self.send(UPGRADE.format(client=client, fields=fields).encode())
        read = b""
        while not has_first_frame(read):
            piece = await self.read()
            read += piece
            if not piece or (b"\r\n\r\n" in read and b" 101 " not in read):
                self.close()
                raise ConnectionError(f"expected a WebSocket, got {read[:80]!r}")
        return self

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def send_all_it_can(self, data: bytes) -> None:
        """Send until everything is sent, or the server has hung up."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""
        return await self.loop.sock_recv(self.sock, MIB)

    async def read_until(self, end: bytes) -> bytes:
        """Read until what was read ends with `end`; raises ConnectionError if it never does."""
        read = bytearray()
        while not read.endswith(end):
            piece = await self.read()
            if not piece:
                raise ConnectionError(f"expected {end!r}, got the end behind {read[-80:]!r}")
            read += piece
        return bytes(read)

    async def rest(self) -> bytes:
        """Read to the end; a reset counts as one."""
        read = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await self.read():
                read += piece
        return bytes(read)

    async def count(self, wanted: bytes, number: int) -> int:
        """Read until `wanted` has come `number` times, or to the end; return how often."""
        found, tail = 0, b""
        with contextlib.suppress(ConnectionError):
            while found < number and (piece := await self.read()):
                piece = tail + piece
                found += piece.count(wanted)
                tail = piece[-len(wanted) + 1 :]
        return found

    async def last_word(self) -> int | None:
        """Read to the end; return the code of the close frame there, None without one."""
        tail = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.read():
                tail = (tail + piece)[-256:]
        return close_code(tail)

    def close(self) -> None:
        self.sock.close()


def close_code(tail: bytes) -> int | None:
    """Return the code of the close frame that ends what was read, None without one."""
    at = tail.rfind(bytes([0x80 | CLOSE]))
    if at < 0 or len(tail) - at < 4 or tail[at + 1] != len(tail) - at - 2:
        return None
    return int(struct.unpack_from("!H", tail, at + 2)[0])


def has_first_frame(read: bytes) -> bool:
    """Return whether a response and one short frame are there; a refusal never has them."""
    head, found, rest = read.partition(b"\r\n\r\n")
    if not found or b" 101 " not in head or len(rest) < 2:
        return False
    return len(rest) >= 2 + rest[1]


async def many_upgraded(
    port: int, number: int, client: str = "mallory{n}", receive_buffer: int = 0
) -> list[Hostile]:
    """Open that many WebSockets, 50 at a time; those that are refused are left out."""
    many: list[Hostile] = []
    for first in range(0, number, 50):
        found = await asyncio.gather(
            *(
                Hostile.upgraded(port, client=client.format(n=n), receive_buffer=receive_buffer)
                for n in range(first, min(number, first + 50))
            ),
            return_exceptions=True,
        )
        many += [one for one in found if isinstance(one, Hostile)]
    return many


def close_all(many: Sequence[Hostile]) -> None:
    for one in many:
        one.close()


def masked_frame(first: int, payload: bytes) -> bytes:
    """A frame with a mask of zeros; `first` is its first byte."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + ZERO + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 0x80 | 126, size) + ZERO + payload
    return struct.pack("!BBQ", first, 0x80 | 127, size) + ZERO + payload


def bomb(size: int) -> bytes:
    """Deflate that many zeros as a message: a thousandth is left."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = b"\x00" * MIB
    out = [deflater.compress(piece) for _ in range(size // MIB)]
    out.append(deflater.flush(zlib.Z_SYNC_FLUSH)[:-4])
    return b"".join(out)
