"""A balancer that connects each connection to one of several ports by chance, from a fixed seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class ChanceBalancer:
    """Passes bytes on; `taken` counts the connections of each port.

    It splits no requests: of a kept-alive connection, all go to one port.
    """

    def __init__(self, ports: list[int], seed: int) -> None:
        self.ports = ports
        self.taken: Counter[int] = Counter()
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connect, HOST, 0)
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
        port = self._chance.choice(self.ports)
        self.taken[port] += 1
        there, back = await asyncio.open_connection(HOST, port)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.transport.abort()
            back.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            with suppress(OSError):
                writer.transport.abort()
