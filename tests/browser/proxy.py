"""A proxy between browser and server that does to their connections what networks do.

It reads the head of each request, so that it knows a WebSocket from Ajax on the same
port, also where one connection carries several requests. What is to happen can be
changed at any time; nothing here knows what a channel is.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from log import Log
from readme_pair import free_port

# What happens to a WebSocket: it passes; its request is refused by 403, reset, closed or
# never answered; the 101 passes and then it is cut, or cut after the first frame of the
# server, or no byte passes any more.
Rule = Literal[
    "pass",
    "403",
    "reset",
    "close",
    "no-answer",
    "cut",
    "cut-after-handshake",
    "silent",
]
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
REFUSED += b"no WebSocket in here"
HEAD_END = b"\r\n\r\n"
MAX_HEAD = 64 * 1024
CHUNK = 64 * 1024
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Head:
    """One request as it came: when (`time.time()`), on the how manieth connection, what."""

    at: float
    connection: int
    method: str
    target: str
    is_upgrade: bool


class Proxy:
    """Listens on `port` of the loopback address, and passes what comes on to `target_port`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()  # the same when it comes back
        self.websockets: Rule = "pass"
        self.answer_to_lose = ""  # "GET" or "POST": the next is reset as the server answers
        self.lost = Log()  # the method of each request whose answer was lost
        self.heads = Log()  # of Head
        self.accepted: list[float] = []
        self.flow = asyncio.Event()
        self.flow.set()
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> Proxy:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failures:
            raise ExceptionGroup("the proxy failed", self._failures)

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, reuse_address=True, limit=MAX_HEAD
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections, and reset those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for link in tuple(self._links):
            link.reset()

    def cut_websockets(self) -> None:
        """Reset every WebSocket; Ajax stays."""
        for link in tuple(self._links):
            if link.is_websocket:
                link.reset()

    def hole(self) -> None:
        """Swallow every byte, and every end, from now on; connections are accepted still."""
        self.flow.clear()

    def release(self) -> None:
        """Pass bytes again, first what was swallowed."""
        self.flow.set()

    def lose(self) -> None:
        """Have no byte pass any more on the connections that are there; new ones work."""
        for link in self._links:
            link.flow = asyncio.Event()

    @property
    def upgrades(self) -> list[Head]:
        """The WebSockets asked for so far."""
        return [head for head in self.heads if head.is_upgrade]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.time())
        link = _Link(self, len(self.accepted), reader, writer)
        self._links.add(link)
        task = asyncio.get_running_loop().create_task(link.run())
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._links.discard(link)
            failure = None if task.cancelled() else task.exception()
            if isinstance(failure, Exception):
                self._failures.append(failure)

        task.add_done_callback(end)


class _Link:
    """One connection of the browser, and the one to the server that stands behind it."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy = proxy
        self.number = number
        self.is_websocket = False
        self.flow = proxy.flow
        self._reader = reader
        self._writer = writer
        self._server_writer: asyncio.StreamWriter | None = None
        self._rule: Rule = "pass"  # of the answer that comes next
        self._loses_answer = ""  # the method of its request

    def reset(self) -> None:
        """End both sides at once; the browser gets an RST."""
        _reset(self._writer)
        if self._server_writer is not None:
            _reset(self._server_writer)

    async def _wait_for_flow(self) -> None:
        flow = None
        while flow is not self.flow:  # it may be lost while it waits
            flow = self.flow
            await flow.wait()

    async def run(self) -> None:
        ways: list[asyncio.Task[None]] = []
        try:
            server_reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.proxy.target_port
            )
        except OSError:
            await self._wait_for_flow()
            _reset(self._writer)
            return
        self._server_writer = writer
        try:
            ways.append(asyncio.create_task(self._up(writer)))
            ways.append(asyncio.create_task(self._down(server_reader)))
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        except ConnectionError:
            await self._wait_for_flow()
            self.reset()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writer.close()
            writer.close()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        """Pass on what the browser says, head by head; a WebSocket as it comes."""
        while not self.is_websocket:
            try:
                head = await self._reader.readuntil(HEAD_END)
            except asyncio.IncompleteReadError:
                await self._wait_for_flow()
                return
            request = self._note(head)
            if request.is_upgrade:
                self.is_websocket = True
                self._rule = self.proxy.websockets
                if self._rule in ("403", "reset", "close", "no-answer"):
                    await self._refuse()
                    return
            if request.method == self.proxy.answer_to_lose:
                self.proxy.answer_to_lose = ""
                self._loses_answer = request.method
            await self._pass(writer, head)
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            left = int(length[1]) if length else 0
            while left > 0:
                data = await self._reader.read(min(CHUNK, left))
                if not data:
                    return
                left -= len(data)
                await self._pass(writer, data)
        is_mute = self._rule == "silent"
        while data := await self._reader.read(CHUNK):
            if not is_mute:
                await self._pass(writer, data)
        await self._wait_for_flow()
        if is_mute:
            # The server is not told either: `run` ends when it gives up, or on a reset.
            self._writer.close()
            await asyncio.Event().wait()

    def _note(self, head: bytes) -> Head:
        method, _, rest = head.decode("latin-1").partition(" ")
        is_upgrade = b"\r\nupgrade: websocket\r\n" in head.lower()
        noted = Head(time.time(), self.number, method, rest.partition(" ")[0], is_upgrade)
        self.proxy.heads.add(noted)
        return noted

    async def _refuse(self) -> None:
        await self._wait_for_flow()
        if self._rule == "403":
            self._writer.write(REFUSED)
        elif self._rule == "reset":
            self.reset()
        elif self._rule == "no-answer":
            while await self._reader.read(CHUNK):
                pass

    async def _down(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the server says, but what follows a 101 by the rule."""
        while data := await reader.read(CHUNK):
            if self._loses_answer:
                self.proxy.lost.add(self._loses_answer)
                self.reset()
                return
            if self._rule == "pass":
                await self._pass(self._writer, data)
                continue
            while HEAD_END not in data:
                data += await _more(reader)
            head, _, rest = data.partition(HEAD_END)
            await self._pass(self._writer, head + HEAD_END)
            if not head.startswith(b"HTTP/1.1 101"):
                self._rule = "pass"
                await self._pass(self._writer, rest)
                continue
            if self._rule == "cut-after-handshake":
                while len(rest) < _frame_size(rest):
                    rest += await _more(reader)
                await self._pass(self._writer, rest[: _frame_size(rest)])
            if self._rule == "silent":
                while await reader.read(CHUNK):
                    pass
            return
        await self._wait_for_flow()

    async def _pass(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._wait_for_flow()
        writer.write(data)
        await writer.drain()


async def _more(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(CHUNK)
    if not data:
        raise ConnectionResetError("the server ended in the middle of an answer")
    return data


def _frame_size(data: bytes) -> int:
    """Return the size of the frame (RFC 6455 section 5.2, unmasked) that data begins with."""
    if len(data) < 2:
        return 2
    size = data[1] & 0x7F
    if size < 126:
        return 2 + size
    more = 2 if size == 126 else 8
    if len(data) < 2 + more:
        return 2 + more
    return 2 + more + int.from_bytes(data[2 : 2 + more], "big")


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError, ValueError):  # closed already; uvloop has no number for it then
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()
