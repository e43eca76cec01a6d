"""Runs the soak of both clients and judges it.

    python -m soak.wrong.run MINUTES [--seed SEED] [--way WAY]

Exit code 1 if a rule was broken: a client's memory, what it asks a server that brings no event,
how long it keeps its loop busy, and how soon it is open once the server is right again.

Memory is the peak of the whole process, above what it held when it was first open. Node runs with
small spaces for new and old objects, so that V8 looks for garbage early: with its defaults an
endless body took 76 MiB, so 41, of which the client held 16 both times. How long a loop is busy is
CPU time of its thread: the machine may run others meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from soak.wrong.server import Server
from soak.wrong.ways import AJAX, WS

TESTS = Path(__file__).parents[2]
MIB = 1 << 20
MOST_GROWTH = 64 * MIB  # of a client's memory, from when it was first open
MOST_GETS = 5.0  # a second, on the average of a way, of polls and upgrades without events
MOST_BLOCK = 0.1  # seconds of CPU time
OPEN_WITHIN = 10.0  # seconds after the server is right again
WRONG_FOR = 8.0  # seconds
NODE = ["node", "--expose-gc", "--max-semi-space-size=2", "--max-old-space-size=64"]  # MiB


class Process:
    """One client, and the last line that it printed."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command
        self.block = 0.0  # the longest since it was last asked for
        self.first_memory = 0

    async def start(self) -> None:
        self.last: dict[str, Any] = {"is_open": False, "events": 0, "answers": 0, "block": 0.0}
        places = (TESTS.parent, TESTS, TESTS / "support")
        paths = [*map(str, places), os.environ.get("PYTHONPATH", "")]
        self.child = await asyncio.create_subprocess_exec(
            *self.command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.child.stdout is not None
        while line := await self.child.stdout.readline():
            self.last = json.loads(line)
            self.block = max(self.block, self.last["block"])

    def begin(self) -> None:
        """Measure from now on."""
        Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")  # proc(5): the peak is forgotten
        self.first_memory = self.memory()
        self.longest_block()

    def memory(self) -> int:
        """Return the most bytes that it held since `begin`."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def longest_block(self) -> float:
        block, self.block = self.block, 0.0
        return block

    async def open_within(self, limit: float) -> float | None:
        """Return the seconds until it is open and was answered once more; None: not in time."""
        start, answers = time.monotonic(), self.last["answers"]
        while time.monotonic() - start < limit:
            if self.last["is_open"] and self.last["answers"] > answers:
                return time.monotonic() - start
            await asyncio.sleep(0.05)
        return None

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self.child.kill()
        await self.child.wait()
        await self.reading


class Soak:
    """One server and four clients: each language on each transport."""

    def __init__(self) -> None:
        self.server = Server()
        self.clients: list[Process] = []
        self.faults: list[str] = []
        self.worst: dict[str, dict[str, float]] = {}

    def fault(self, text: str) -> None:
        print("FAULT", text, flush=True)
        self.faults.append(text)

    def note(self, name: str, what: str, value: float) -> None:
        worst = self.worst.setdefault(name, {})
        worst[what] = max(worst.get(what, 0.0), value)

    async def start(self) -> None:
        await self.server.start()
        url = f"http://127.0.0.1:{self.server.port}/chsk"
        for transport in ("ws", "ajax"):
            for language, command in (
                ("python", [sys.executable, "-P", "-m", "soak.wrong.client"]),
                ("js", [*NODE, str(TESTS / "soak" / "wrong" / "client.mjs")]),
            ):
                name = f"{language}-{transport}"
                self.clients.append(Process(name, [*command, url, name, transport]))
        for client in self.clients:
            await self._start(client)

    @staticmethod
    async def _start(client: Process) -> None:
        await client.start()
        if await client.open_within(30) is None:
            raise RuntimeError(f"{client.name}: expected it to be open")
        client.begin()

    async def try_ways(self, ways: tuple[str, str]) -> None:
        """Be wrong for a while, then right, and look at each client."""
        self.server.gets.clear()
        events = {client.name: client.last["events"] for client in self.clients}
        self.server.use(ways)
        await asyncio.sleep(WRONG_FOR)
        for client in self.clients:
            where = f"{client.name}: {ways['ajax' in client.name]}"
            rate = self.server.gets[client.name] / WRONG_FOR
            if client.last["events"] == events[client.name]:
                self.note(client.name, "GETs a second", rate)
                if rate > MOST_GETS:
                    self.fault(f"{where}: {rate:.1f} GETs a second")
        self.server.use(None)
        waits = [client.open_within(OPEN_WITHIN) for client in self.clients]
        for client, found in zip(self.clients, await asyncio.gather(*waits), strict=True):
            where = f"{client.name}: {ways['ajax' in client.name]}"
            if client.child.returncode is not None:
                raise RuntimeError(f"{where}: it ended with {client.child.returncode}")
            if found is None:
                self.fault(f"{where}: not open within {OPEN_WITHIN} s")
            block, growth = client.longest_block(), client.memory() - client.first_memory
            self.note(client.name, "s until open", found or OPEN_WITHIN)
            self.note(client.name, "s of block", block)
            self.note(client.name, "MiB of growth", growth / MIB)
            if block > MOST_BLOCK:
                self.fault(f"{where}: its loop was busy for {block:.3f} s of CPU time")
            if growth > MOST_GROWTH:
                self.fault(f"{where}: grew by {growth / MIB:.0f} MiB")
                await client.end()  # another one goes on: the peak of this one hides what follows
                await self._start(client)

    async def end(self) -> None:
        for client in self.clients:
            await client.end()


async def main(minutes: float, seed: int, way: str | None) -> int:
    chance = random.Random(seed)
    print("seed", seed, flush=True)
    soak = Soak()
    await soak.start()
    over = time.monotonic() + minutes * 60
    tried = 0
    try:
        rest: tuple[list[str], list[str]] = ([], [])
        while time.monotonic() < over:
            chosen = []
            for left, ways in zip(rest, (WS, AJAX), strict=True):
                if not left:
                    left.extend(ways)
                    chance.shuffle(left)
                chosen.append(way if way in ways else left.pop())
            await soak.try_ways((chosen[0], chosen[1]))
            tried += 1
    finally:
        await soak.end()
    print(f"{tried} ways of each transport, {len(soak.faults)} faults")
    for name, worst in soak.worst.items():
        print(f"{name:12}", "  ".join(f"{value:8.2f} {what}" for what, value in worst.items()))
    return 1 if soak.faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="soak.wrong.run", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--way", choices=sorted({*WS, *AJAX}), help="this one alone")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.minutes, options.seed, options.way)))
