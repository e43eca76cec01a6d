"""A Sente server played by a test: it reads what a client sends, and writes literal bytes.

Knows HTTP/1.1 and RFC 6455 as far as a client can tell, and nothing of chansock. The test
says what happens when: accept a connection, read a request or a frame, answer it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import inspect
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HANDSHAKE = '[[:chsk/handshake ["alice" nil {:motd "hi"}]] nil]'

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    is_last: bool

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def close(self) -> tuple[int, str]:
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def frame(opcode: int, payload: bytes, *, is_last: bool = True, rsv: int = 0) -> bytes:
    """RFC 6455 section 5.2, unmasked: a server's."""
    first = (0x80 if is_last else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes([first, size])
    elif size < 1 << 16:
        head = bytes([first, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 127]) + size.to_bytes(8, "big")
    return head + payload


class Connection:
    """One TCP connection from the client, at the server's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> Request:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().strip().split("\r\n")
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers
            headers[name.lower()] = value.strip()
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, target, headers, body)

    def respond(self, status: int, body: str = "", *fields: str, length: bool = True) -> None:
        payload = body.encode()
        lines = [f"HTTP/1.1 {status} Words", *fields]
        if length:
            lines.append(f"content-length: {len(payload)}")
        self.writer.write("\r\n".join((*lines, "", "")).encode() + payload)

    def upgrade(self, request: Request, *fields: str, then: bytes = b"") -> None:
        key = request.headers["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-Websocket-Accept: {accept}",
            *fields,
        )
        self.writer.write("\r\n".join((*lines, "", "")).encode() + then)

    def send(self, text: str) -> None:
        self.writer.write(frame(TEXT, text.encode()))

    async def frame(self) -> Frame:
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client masks (RFC 6455 section 5.1)"
        assert not first & 0x70, "nothing was negotiated that would set these bits"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        stream = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    def close_frame(self, code: int, reason: str = "") -> None:
        self.writer.write(frame(CLOSE, code.to_bytes(2, "big") + reason.encode()))

    async def at_end(self) -> bytes:
        """Wait until the client has closed; give what it sent before."""
        return await self.reader.read()

    def end(self) -> None:
        """Close the connection, FIN."""
        self.writer.close()

    def abort(self) -> None:
        """Close the connection, RST."""
        self.writer.transport.abort()


class Script:
    """The listening side: connections in the order in which they came."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Connection] = asyncio.Queue()
        self.connections: list[Connection] = []
        self.port = 0
        self.server: asyncio.Server | None = None

    async def stop_listening(self) -> None:
        """Refuse connections from now on, and keep those that are there."""
        assert self.server is not None
        self.server.close()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/chsk"

    async def accept(self) -> Connection:
        return await self._arrived.get()

    async def accept_ws(self, handshake: str = HANDSHAKE) -> Connection:
        """Accept a WebSocket, and greet it as Sente does."""
        connection = await self.accept()
        request = await connection.request()
        assert request.headers["upgrade"] == "websocket"
        connection.upgrade(request)
        connection.send(handshake)
        return connection

    async def accept_ajax(self, handshake: str = HANDSHAKE) -> Connection:
        """Accept an Ajax client, answer its handshake GET; its poll is to be read next."""
        connection = await self.accept()
        request = await connection.request()
        assert request.query["handshake?"] == "1"
        connection.respond(200, handshake)
        return connection

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self._arrived.put_nowait(connection)


@contextlib.asynccontextmanager
async def script() -> AsyncIterator[Script]:
    played = Script()
    server = await asyncio.start_server(played._met, "127.0.0.1", 0, limit=1 << 25)
    played.port = server.sockets[0].getsockname()[1]
    played.server = server
    try:
        yield played
    finally:
        server.close()
        for connection in played.connections:
            connection.writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)  # let the transports see their end


@contextlib.asynccontextmanager
async def entered(played, client):
    """Enter a client beside the test, which plays the server meanwhile: gives the task."""
    entering = asyncio.create_task(client.__aenter__())
    try:
        yield entering
    finally:
        if not entering.done():
            entering.cancel()
        await asyncio.wait({entering})
        if not entering.cancelled() and entering.exception() is None:
            leaving = asyncio.create_task(client.__aexit__(None, None, None))
            await asyncio.sleep(0)
            for connection in played.connections:
                connection.abort()  # the answer to its close frame, as quick as can be
            await leaving


@contextlib.asynccontextmanager
async def over_ws(played, client):
    """Return the server's end of a client that is open over a WebSocket."""
    async with entered(played, client) as entering:
        connection = await played.accept_ws()
        await entering
        yield connection


@contextlib.asynccontextmanager
async def over_ajax(played, client):
    """Return the server's end of the poll connection of a client that is open over Ajax."""
    async with entered(played, client) as entering:
        connection = await played.accept_ajax()
        await entering
        yield connection


async def until(client, holds):
    """Wait until the client's state is such."""
    changed = asyncio.Event()
    client.on_state(lambda state: changed.set())
    while not holds(client.state):
        await changed.wait()
        changed.clear()


async def turns():
    """Run everything that is ready, sockets included."""
    for _ in range(100):
        await asyncio.sleep(0)


async def turn_until(holds):
    """Turn the loop until something holds that has no event of its own."""
    while not holds():
        await asyncio.sleep(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time can be put forward; sockets are real."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead

    def turn(self, seconds: float) -> None:
        self.ahead += seconds


def run_in_virtual_time(coro, kind=VirtualTimeLoop, limit=120.0):
    """Drive a coroutine on a loop with virtual time, `limit` seconds of real time at most."""

    async def limited():
        loop = asyncio.get_running_loop()
        watchdog = loop.run_in_executor(None, done.wait, limit)
        task = asyncio.create_task(coro)
        await asyncio.wait({task, watchdog}, return_when=asyncio.FIRST_COMPLETED)
        done.set()
        await watchdog
        if not task.done():
            task.cancel()
        return await task

    done = threading.Event()
    with asyncio.Runner(loop_factory=kind) as runner:
        return runner.run(limited())


def scripted(test):
    """Make of `async def test(played, ...)` a test that runs beside a script, on each loop."""

    @functools.wraps(test)
    def on_each_loop(run, **given):
        run(_play(test, given))

    return _asking_for(on_each_loop, test, "run")


def scripted_in_virtual_time(test):
    """The same on a VirtualTimeLoop."""

    @functools.wraps(test)
    def in_virtual_time(**given):
        run_in_virtual_time(_play(test, given))

    return _asking_for(in_virtual_time, test)


async def _play(test, given):
    async with script() as played:
        await test(played, **given)


def _asking_for(wrapper, test, *fixtures):
    """Set what pytest passes: the test's own parameters but the script, and these fixtures."""
    _, *own = inspect.signature(test).parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    names = [*fixtures, *(parameter.name for parameter in own)]
    wrapper.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return wrapper
