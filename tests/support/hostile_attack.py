"""What an attack is, and what it finds: the server under attack, and its memory.

An attack is a coroutine that takes a Target. It prepares itself, calls `begin`, does its
worst, and returns in a few words what became of it. Nothing here knows the attacks.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile_client import question
from hostile_peer import KIB, MIB, Hostile

CHANSOCK, EDGE, WEBSOCKETS, AIOHTTP = "chansock", "chansock.aiohttp", "websockets", "aiohttp"
OURS = (CHANSOCK, EDGE)
ON_SOCKETS = (CHANSOCK, EDGE, WEBSOCKETS)  # attacks by frames
ON_REQUESTS = (CHANSOCK, EDGE, AIOHTTP)  # attacks by requests
QUIET = 100  # answers without a change of memory, until a server counts as settled


@dataclass(frozen=True)
class Attack:
    """One attack, the limits of what it may do, and the servers that it makes sense for.

    outcome: a pattern of what `run` returns. growth: bytes that the server's memory may rise.
    config: settings of Config; a function is called with the size of the attack. logged: bytes
    that the server may log. answers: how many the innocent client gets at least meanwhile. size:
    how much of the attack there is in a test, `full` in the bench.
    """

    run: Callable[[Target], Awaitable[str]]
    outcome: str
    growth: int
    config: dict[str, Any] = field(default_factory=dict)
    servers: tuple[str, ...] = OURS
    packer: str = "EDN"
    has_users: bool = False  # each client is a user of its own, else all are anonymous
    logged: int | None = None
    answers: int = 0
    size: int = 0
    full: int = 0

    def settings(self, size: int) -> dict[str, Any]:
        """Return the settings of Config for an attack of that size."""
        # Attackers answer no pings: on a busy machine the server would close them before the end.
        config = {"ws_ping_timeout": None, **self.config}
        return {name: v(size) if callable(v) else v for name, v in config.items()}


class Memory:
    """The memory of a process, by /proc: what it holds, and the most since `reset`."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")

    def now(self) -> int:
        return self._read("VmRSS")

    def most(self) -> int:
        return self._read("VmHWM")

    def reset(self) -> int:
        (self.folder / "clear_refs").write_text("5")
        return self.now()

    def _read(self, name: str) -> int:
        lines = (self.folder / "status").read_text().splitlines()
        # A process that has ended holds nothing.
        return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0) * KIB


class Target:
    """The server under attack, as an attack sees it."""

    def __init__(
        self, server: subprocess.Popen[str], innocent: subprocess.Popen[str], port: int,
        packer: str, size: int,
    ) -> None:  # fmt: skip
        self.port = port
        self.packer = packer
        self.size = size
        self.memory = Memory(server.pid)
        self.before = 0  # bytes held when the attack began
        self.most = 0  # the most since, where the server has ended
        self._server = server
        self._innocent = innocent
        self._observer: Hostile | None = None
        self._asked = 100_000

    def begin(self) -> None:
        """Measure from now on: memory, and how long the innocent client waits."""
        assert self._innocent.stdin is not None
        self.before = self.memory.reset()
        self._innocent.stdin.write("b")
        self._innocent.stdin.flush()

    async def answers(self, number: int = 1) -> None:
        """Ask that often and wait for each answer: all that was sent before is read then."""
        if self._observer is None:
            self._observer = await Hostile.upgraded(self.port, client="observer")
        for _ in range(number):
            self._asked += 1
            asks, name = question(self.packer, self._asked)
            await self._observer.send(asks)
            tail = b""
            while name not in tail:
                piece = await self._observer.read()
                if not piece:
                    raise ConnectionError("the server has closed the observer's connection")
                tail = tail[-16:] + piece

    async def settled(self) -> None:
        """Ask until the server's memory changes no more: it has read all that it will."""
        held, quiet = 0, 0
        while quiet < QUIET:
            await self.answers()
            now = self.memory.now()
            held, quiet = now, quiet + 1 if now == held else 0

    async def stopped(self) -> int:
        """Stop the server in order; return how many events t/later it has handled.

        The observer leaves before: the server would wait for the answer to its close frame.
        """
        self.close()
        self._server.send_signal(signal.SIGTERM)
        assert self._server.stdout is not None
        line = await asyncio.to_thread(self._server.stdout.readline)
        self.most = self.memory.most()
        return int(line or -1)

    def pause(self) -> None:
        """Stop the server until `resume`: what becomes due meanwhile is due at once."""
        self._server.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._observer is not None:
            self._observer.close()
            self._observer = None


__all__ = [
    "AIOHTTP", "CHANSOCK", "EDGE", "KIB", "MIB", "ON_REQUESTS", "ON_SOCKETS", "OURS",
    "WEBSOCKETS", "Attack", "Memory", "Target",
]  # fmt: skip
