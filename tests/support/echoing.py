"""The raw echo, on a socket and without one, for the tests of frames and connections. No test here.

`echoing()` listens as `python -m chansock.testing.echo` does. `Fed` is one connection that a
test feeds as the loop would, in the pieces that it chooses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from raw_listener import KEY, UPGRADE, Client

from chansock._edge.sockets import ServerProtocol
from chansock._fast.events.server_protocol import Service
from chansock._fast.ws.frames import frame
from chansock.config import Config
from chansock.server import create_server
from chansock.testing.echo import service


def client(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """One frame as a client sends it."""
    return frame(opcode, payload, mask=KEY, fin=fin)


class Place:
    """A listening echo."""

    def __init__(self, port: int, shared: Service) -> None:
        self.port = port
        self.service = shared
        self.protocols: list[ServerProtocol] = []
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        wire = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(wire)
        return wire

    async def client(self) -> Client:
        """Open a WebSocket."""
        wire = await self.connect()
        wire.send(UPGRADE)
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        return wire


@asynccontextmanager
async def echoing(**settings: Any) -> AsyncIterator[Place]:
    loop = asyncio.get_running_loop()
    shared = service(loop, Config(**settings) if settings else None)

    def accept() -> ServerProtocol:
        place.protocols.append(ServerProtocol(shared))
        return place.protocols[-1]

    server = await create_server(loop, accept, "127.0.0.1", 0)
    place = Place(server.sockets[0].getsockname()[1], shared)
    try:
        yield place
    finally:
        server.close()
        shared.abort()
        for wire in place.clients:
            wire.writer.transport.abort()
        while len(shared):
            await asyncio.sleep(0)


class FakeTransport:
    """Takes what is written, as much as there is."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False
        self.is_paused = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int = 0) -> None:
        """Everything is taken at once."""


class Fed:
    """One connection of an echo, upgraded; each piece is one read. Needs a running loop.

    What a read leaves for later turns of the loop is taken at once, unless ``takes_turns`` is
    true. The read buffer is overwritten after each read, unless ``poisons`` is false.
    """

    def __init__(self, *, poisons: bool = True, takes_turns: bool = False, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        self.transport = FakeTransport()
        self._service = service(loop, Config(**settings) if settings else None)
        self._protocol = ServerProtocol(self._service)
        self._protocol.connection_made(self.transport)  # type: ignore[arg-type]
        self._memory = memoryview(self._protocol.get_buffer(-1))  # all of the shared buffer
        self._poison = b"\xff" * len(self._memory) if poisons else None
        self._takes_turns = takes_turns
        self.feed([UPGRADE])
        assert self.transport.written.startswith(b"HTTP/1.1 101 ")
        self.transport.written.clear()

    def feed(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            while piece and not self.transport.is_closed:
                memory = memoryview(self._protocol.get_buffer(-1))
                part, piece = piece[: len(memory)], piece[len(memory) :]
                memory[: len(part)] = part
                self._protocol.buffer_updated(len(part))
                if self._poison is not None:
                    # Whoever still looks there sees no text, no frame and no number of ours.
                    self._memory[:] = self._poison
                while self._leaves_something():
                    self._service.go_on()

    def _leaves_something(self) -> bool:
        is_open = not self.transport.is_closed
        return self.transport.is_paused and is_open and not self._takes_turns

    def close(self) -> None:
        self._protocol.connection_lost(None)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Read a server's frames as (opcode, payload), each with FIN and no mask."""
    found = []
    at = 0
    while at < len(data):
        first, size = data[at], data[at + 1]
        assert first & 0xF0 == 0x80
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        found.append((first & 0x0F, data[at : at + size]))
        at += size
    assert at == len(data)
    return found
