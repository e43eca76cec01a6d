"""The engine of the soak: redis-server behind a proxy that can cut or stall it, and a replica.

Nothing of chansock is known here. Two servers on ports of their own change places at a failover;
the workers see the proxy's port alone.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from random import Random

from soak.resume.proxy import Proxy

SECONDS_TO_START = 10.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """One redis-server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, *, is_empty: bool = False) -> None:
        if is_empty:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        words += ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        words += ["--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", *words], stdout=log, stderr=log)
        async with asyncio.timeout(SECONDS_TO_START):
            while not await self.answers():
                await asyncio.sleep(0.05)

    async def answers(self) -> bool:
        try:
            return (await self.ask("PING")).startswith("+PONG")
        except OSError:
            return False

    async def ask(self, command: str) -> str:
        """Send an inline command; return the first line of the answer."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"{command}\r\n".encode())
                return (await reader.readline()).decode()
            finally:
                writer.close()

    async def info(self, section: str) -> dict[str, str]:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"INFO {section}\r\n".encode())
                size = int((await reader.readline())[1:])
                text = (await reader.readexactly(size)).decode()
            finally:
                writer.close()
        pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Engine:
    """The server that serves, its replica, and the proxy in front."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.main = RedisServer(folder / "redis-a")
        self.replica = RedisServer(folder / "redis-b")
        self.random = random

    async def start(self) -> None:
        await self.main.start()
        await self.replica.start()
        await self.replicate()
        self.proxy = Proxy(self.main.port, self.random)
        self.proxy.is_calm = True
        self.url = f"redis://127.0.0.1:{await self.proxy.start()}/0"

    async def replicate(self) -> None:
        await self.replica.ask(f"REPLICAOF 127.0.0.1 {self.main.port}")

    async def is_replicated(self) -> bool:
        return (await self.replica.info("replication")).get("master_link_status") == "up"

    async def stall(self, seconds: float) -> None:
        """Pass on nothing for a while, one way or both; what was sent comes afterwards."""
        ways = self.random.choice((("up",), ("down",), ("up", "down")))
        held = [getattr(pair, way) for pair in self.proxy.pairs for way in ways]
        for way in held:
            way.is_still = True
        await asyncio.sleep(seconds)
        for way in held:
            way.go_on()

    async def fail_over(self, lost: float) -> None:
        """Have the replica take over without what was stored during the last `lost` seconds."""
        async with asyncio.timeout(SECONDS_TO_START):
            while not await self.is_replicated():
                await asyncio.sleep(0.05)
        await self.replica.ask("REPLICAOF NO ONE")
        await asyncio.sleep(lost)
        self.main.kill()
        self.main, self.replica = self.replica, self.main
        self.proxy.target = self.main.port
        self.proxy.break_all()
        await self.replica.start(is_empty=True)
        await self.replicate()

    def kill(self) -> None:
        for server in (self.main, self.replica):
            server.signal(signal.SIGCONT)
            server.kill()
