"""A balancer that sends each HTTP request to one of several ports by chance, from a fixed seed.

Each request has a connection of its own behind it: so of a kept-alive connection, one may go to
another port than the one before. After a 101, bytes are passed both ways. Who goes away, by a FIN
or a reset, does so behind the balancer as well. Nothing of chansock is imported; no test here.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

HOST = "127.0.0.1"
LIMIT = 1 << 20  # of a head
START_LIMIT = 30.0  # seconds


class ChanceBalancer:
    """`taken` counts the requests of each port."""

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self.ports = ports
        self.taken: Counter[int] = Counter()
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connect, HOST, 0, limit=LIMIT)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            first = await reader.read(1)
            while first:
                first = await self._exchange(first, reader, writer)
            writer.close()  # after what was written
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            writer.transport.abort()  # the test is over, or who asked is gone
        finally:
            self._tasks.discard(task)

    async def _exchange(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """Pass on one request and its answer; return the first byte of the next, b"": none."""
        head = first + await reader.readuntil(b"\r\n\r\n")
        port = self._chance.choice(self.ports)
        self.taken[port] += 1
        there, back = await asyncio.open_connection(HOST, port, limit=LIMIT)
        asking = asyncio.create_task(_ask(head, reader, back))
        try:
            status = await _answer(there, writer, has_body=not head.startswith(b"HEAD "))
            if status == 101:
                await asyncio.gather(_behind(asking, reader, back), _pass(there, writer))
            return b"" if status in (None, 101) else await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            back.transport.abort()


async def _ask(head: bytes, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> bytes:
    """Pass a request on, and then wait for what the client does next: a byte, or its end."""
    try:
        back.write(head)
        async for part in _body(head, reader):
            with suppress(ConnectionError):  # an answer may come before the body has ended
                back.write(part)
                await back.drain()
        first = await reader.read(1)
    except ConnectionError:
        _reset(back)
        return b""
    if not first:
        with suppress(OSError):
            back.write_eof()
    return first


async def _answer(
    there: asyncio.StreamReader, writer: asyncio.StreamWriter, *, has_body: bool
) -> int | None:
    """Pass an answer on; return its status, or None where the connection ends with it."""
    status = 100
    while status < 101:
        try:
            head = await there.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            writer.write(error.partial)
            return None
        status = int(head[9:12])
        writer.write(head)
    if has_body and status not in (101, 204, 304):
        fields = _fields(head)
        is_framed = b"content-length" in fields or b"transfer-encoding" in fields
        async for part in _body(head, there) if is_framed else _rest(there):
            writer.write(part)
            await writer.drain()
        if not is_framed or fields.get(b"connection", b"").lower() == b"close":
            return None
    return status


async def _behind(
    asking: asyncio.Task[bytes], reader: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    """Pass on what a client sends behind its handshake."""
    if first := await asking:
        back.write(first)
        await _pass(reader, back)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async for data in _rest(reader):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        _reset(writer)


async def _rest(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(65536):
        yield data


async def _body(head: bytes, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield a body as it came, by its Content-Length or in chunks."""
    fields = _fields(head)
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
        return
    left = int(fields.get(b"content-length", b"0"))
    while left:
        data = await reader.read(min(left, 65536))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield data


def _fields(head: bytes) -> dict[bytes, bytes]:
    rows = (row.partition(b":") for row in head.split(b"\r\n")[1:-2])
    return {name.lower(): value.strip() for name, _, value in rows}


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def in_thread(balancers: Sequence[ChanceBalancer]) -> Iterator[list[int]]:
    """Yield their ports: they listen on a loop of their own, for tests that begin loops anew."""
    listening: Future[list[int]] = Future()
    end: Future[None] = Future()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            each = [await stack.enter_async_context(one.listening()) for one in balancers]
            listening.set_result(each)
            await asyncio.wrap_future(end)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    try:
        yield listening.result(START_LIMIT)
    finally:
        end.set_result(None)
        thread.join(START_LIMIT)
