"""A loopback proxy that cuts its connections after a given byte, for clients that resume."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Cutting:
    """Passes bytes on to `target`, and cuts all connections once.

    `arm(up=n)` or `arm(down=n)`: after n more bytes to the server or to the client. What comes
    behind the n-th byte of that direction is lost. `hold()` keeps what the server says.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.count = 0  # connections so far
        self.cuts = 0
        self.blocks_websockets = False
        self._left: dict[str, int | None] = {"up": None, "down": None}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/chsk"

    def arm(self, *, up: int | None = None, down: int | None = None) -> None:
        self._left = {"up": up, "down": down}

    def hold(self) -> None:
        """Keep what the server says until `cut` or `let_go`."""
        self._flows.clear()

    def let_go(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Cut all connections; what was held is lost."""
        self.cuts += 1
        self._left = {"up": None, "down": None}
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._flows.set()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        self._writers.add(writer)
        head = b""
        if self.blocks_websockets:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                head = await reader.readuntil(b"\r\n\r\n")
            if b"pgrade: websocket" in head:
                writer.write(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                writer.close()
                return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        back.write(head)
        for args in ((reader, back, "up"), (there, writer, "down")):
            task = asyncio.create_task(self._pump(*args))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if way == "down":
                    await self._flows.wait()
                left = self._left[way]
                if left is not None:
                    if len(data) >= left:
                        writer.write(data[:left])
                        # What was written is to arrive: an abort would drop it here already.
                        await asyncio.sleep(0)
                        self.cut()
                        return
                    self._left[way] = left - len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def cutting(target: int) -> AsyncIterator[Cutting]:
    proxy = Cutting(target)
    server = await asyncio.start_server(proxy.met, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
