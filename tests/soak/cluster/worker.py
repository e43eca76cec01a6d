"""A worker of the soak's cluster: a process of its own, which publishes, serves, and is killed.

    python -m soak.cluster.worker PORT SENDER FOLDER SEED WORKERS ENGINE [RULE]

ENGINE is the URL of the engine, or `-`: there is none. Prints its port as JSON, then takes the
commands of `soak.resume.server` on stdin but `restart`, and `silence USER SECONDS`: nothing is sent
to that user for so long. The end of stdin stops it cleanly. The parent stops and starts it. In
FOLDER, which outlives it,

    handled         has a line `client-id k marked sender` for each client event
    ports           has a line `user open|close sender` for each of these two events
    stored.SENDER   has the numbers by target that were stored for certain, as JSON
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import chansock
from chansock.clock import loop_factory
from soak.cluster import RATES, SETTINGS, rules
from soak.resume import server, user_of

TICK = 0.05
STORED_EACH = 0.5  # seconds between two notes of what is stored
FLOOD = 60  # events of a flood in one tick


class Worker(server.Server):
    """The channel of one worker, and what it publishes."""

    def __init__(
        self, port: int, sender: int, folder: Path, seed: str, workers: int, engine: str
    ) -> None:
        super().__init__(port, sender, str(folder / "handled"), seed)
        self.folder = folder
        self.workers = workers
        self.has_engine = engine != "-"
        self.silent: dict[str, float] = {}  # until when nothing is sent to a user
        self.ports = os.open(folder / "ports", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        more: dict[str, Any] = {"backplane": engine} if self.has_engine else {}
        self.chsk = chansock.ChannelSocket(
            chansock.Config(**SETTINGS),
            user_id=lambda request: user_of(request.params["client-id"]),
            handshake_data=self.handshake_data,
            **more,
        )

    def add_handlers(self) -> None:
        super().add_handlers()
        self.chsk.on("chsk/uidport-open", lambda msg: self.note_port(msg, "open"))
        self.chsk.on("chsk/uidport-close", lambda msg: self.note_port(msg, "close"))

    async def wait(self, msg: chansock.EventMsg[Any]) -> list[int]:
        # Noted first: a client that moves meanwhile goes on elsewhere with its next events.
        reply = self.heard(msg)
        await asyncio.sleep(self.random.random() * 0.04)
        return reply

    def note_port(self, msg: chansock.EventMsg[Any], what: str) -> None:
        os.write(self.ports, f"{msg.uid} {what} {self.life}\n".encode())

    def publish(self, key: str, to: Any, kind: str, size: int = 0, **more: Any) -> None:
        before = self.g, self.numbers[key]
        try:
            super().publish(key, to, kind, size, **more)
        except chansock.ChansockError as error:
            if type(error).__name__ != "BackplaneFull":
                raise
            assert before == (self.g, self.numbers[key])  # counted only once it was sent
            self.counts["sends refused"] += 1

    async def pace(self) -> None:
        """Publish at a steady rate, mostly some events at once."""
        loop = asyncio.get_running_loop()
        due: Counter[str] = Counter()
        was = loop.time()
        while True:
            await asyncio.sleep(TICK)
            now = loop.time()
            passed, was = min(now - was, 1.0) / self.workers, now
            for user in [*self.floods]:
                for _ in range(min(FLOOD, self.floods[user])):
                    self.to_user(user)
                self.floods[user] -= FLOOD
                if self.floods[user] <= 0:
                    del self.floods[user]
            if not self.is_going:
                continue
            for kind, what, targets in (
                ("u", self.to_user, self.users),
                ("c", self.to_client, self.clients),
                ("k", self.unkept, self.users),
            ):
                due[kind] += RATES[kind] * len(targets) * passed  # type: ignore[assignment]
                while due[kind] > 0:
                    target = self.random.choice(targets)
                    if now < self.silent.get(user_of(target), 0.0):
                        due[kind] -= 1
                        continue
                    count = self.random.choice((1, 1, 2, 4))
                    due[kind] -= count
                    for _ in range(count):
                        what(target)
            due["b"] += RATES["b"] * passed  # type: ignore[assignment]
            while due["b"] > 0:
                due["b"] -= 1
                self.to_all()

    def final(self) -> None:
        for user in self.users:
            self.to_user(user)
        for name in self.clients:
            self.to_client(name)
        self.to_all()

    async def note_stored(self) -> None:
        """Write down, again and again, which events are stored for certain."""
        new = self.folder / f"new.{self.life}"
        while True:
            await asyncio.sleep(STORED_EACH)
            numbers = dict(self.numbers)
            await self.chsk.stored()  # type: ignore[attr-defined]
            new.write_text(json.dumps(numbers))
            new.replace(self.folder / f"stored.{self.life}")

    async def serve(self) -> None:
        """Serve, until stdin ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        works = [self.pace(), *([self.note_stored()] if self.has_engine else [])]
        async with chansock.serve(self.chsk, port=self.port) as served:
            print(json.dumps({"port": served.port}), flush=True)
            tasks = [asyncio.create_task(work) for work in works]
            for task in tasks:
                task.add_done_callback(self.show)
            await self.obey(reader)
            for task in tasks:
                task.cancel()
        # A clean stop stores all that was sent.
        (self.folder / f"stored.{self.life}").write_text(json.dumps(self.numbers))

    def show(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            print(f"worker {self.life}: {error!r}", file=sys.stderr, flush=True)
            self.logged["ERRORS"] += 1

    async def obey(self, reader: asyncio.StreamReader) -> bool:
        """Obey until the end of stdin."""
        while line := (await reader.readline()).decode():
            command, *words = line.split()
            if command == "go":
                self.clients, self.is_going = words, True
                self.users = sorted({user_of(name) for name in words})
            elif command == "hold":
                self.is_going = False
            elif command == "flood":
                self.floods[words[0]] = self.floods.get(words[0], 0) + int(words[1])
            elif command == "silence":
                end = asyncio.get_running_loop().time() + float(words[1])
                self.silent[words[0]] = max(end, self.silent.get(words[0], 0.0))
            elif command == "final":
                self.final()
            elif command == "report":
                found = {
                    "sender": self.life,
                    "numbers": self.numbers,
                    "counts": self.counts,
                    "logged": self.logged,
                    "floods": len(self.floods),
                    "users": sorted(str(user) for user in self.chsk.connected.any),
                }
                print(json.dumps(found), flush=True)
        return False


async def main(
    port: str, sender: str, folder: str, seed: str, workers: str, engine: str, rule: str = ""
) -> None:
    worker = Worker(int(port), int(sender), Path(folder), seed, int(workers), engine)
    if rule:
        rules.switch_off(rule, worker, has_engine=worker.has_engine)
    worker.add_handlers()
    for name in ("chansock", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(server.Records(worker.logged))
    await worker.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(*sys.argv[1:]))
