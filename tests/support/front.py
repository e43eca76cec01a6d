"""A proxy in front of real engines, for what only the network between can do. No test here."""

from __future__ import annotations

import asyncio

from redis_server import Server, free_port

__all__ = ["Front"]


class Front:
    """An address that leads to one server, later to another, or to none."""

    def __init__(self, server: Server | None) -> None:
        self.server = server
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.passes = asyncio.Event()  # while it is not set, all waits here
        self.passes.set()
        self.gates: list[asyncio.Event] = []  # one of each connection
        self.held = 0  # reads that wait at a gate

    async def __aenter__(self) -> Front:
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.server is None:
            writer.transport.abort()
            return
        try:
            up, down = await asyncio.open_unix_connection(self.server.path)
        except OSError:
            writer.close()
            return
        self.writers += (writer, down)
        gate = asyncio.Event()
        gate.set()
        self.gates.append(gate)
        for source, sink in ((reader, down), (up, writer)):
            task = asyncio.create_task(self.copy(source, sink, gate))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(65536):
                await self.passes.wait()
                self.held += 1
                await gate.wait()
                self.held -= 1
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        sink.close()

    def hold(self) -> None:
        """Keep what is sent on the connections that are open now, until `let_go`."""
        for gate in self.gates:
            gate.clear()

    def let_go(self) -> None:
        for gate in self.gates:
            gate.set()

    def cut(self) -> None:
        """End all connections; new ones are accepted."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def turn_to(self, server: Server | None) -> None:
        self.server = server
        self.cut()
