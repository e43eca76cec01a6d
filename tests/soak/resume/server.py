"""The server of the soak of resume: a process of its own, since it is killed now and then.

    python -m soak.resume.server PORT LIFE LOG SEED [RULE]

Prints its port and process as JSON, then takes commands, one a line on stdin; the end of stdin
ends it.

    go NAMES...     publish, to these clients and their users
    hold            publish no more
    restart         stop the channel and start it again, in this process
    flood USER N    publish N events to one user, in a second or more
    final           publish one event more to each target
    report          answer by a line of JSON: the numbers by target, and counts

LOG gets a line `client-id k marked life` for each event that a handler is done with; it outlives
the process. RULE is a rule of `rules` to switch off.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import asdict
from random import Random
from typing import Any

import chansock
from chansock.clock import loop_factory
from chansock.target import ClientTarget
from soak.resume import SETTINGS, rules, user_of
from soak.resume.account import base, newest_of

TICK = 0.02
# Events a second: to each user, to all, to each client, and those of which few may come.
RATE_USER, RATE_ALL, RATE_CLIENT, RATE_OTHER = 14.0, 6.0, 2.0, 1.5
FLOOD = 40  # events of a flood in one tick


class Server:
    """The channel, what it publishes, and the log of what it handled."""

    def __init__(self, port: int, life: int, log: str, seed: str) -> None:
        self.random = Random(f"{seed}/{life}")
        self.port = port
        self.life = life
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.numbers: Counter[str] = Counter()  # by target
        self.g = base(life)
        self.clients: list[str] = []
        self.users: list[str] = []
        self.floods: dict[str, int] = {}
        self.is_going = False
        self.counts: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()
        self.chsk = chansock.ChannelSocket(
            chansock.Config(**SETTINGS),
            user_id=lambda request: user_of(request.params["client-id"]),
            handshake_data=self.handshake_data,
        )
        self.tasks: set[asyncio.Task[None]] = set()

    def add_handlers(self) -> None:
        for kind, handler in (("e", self.plain), ("q", self.plain), ("w", self.wait)):
            self.chsk.on(f"c/{kind}", handler)
        self.chsk.on("c/l", self.later)
        self.chsk.on("c/p", self.parallel, parallel=True)

    # -- in

    def heard(self, msg: chansock.EventMsg[Any]) -> list[int]:
        """Write down that an event was handled, and return the reply to it."""
        k, x = msg.data
        client_id, _, number = msg.key.rpartition("-")
        line = f"{client_id} {k} {number} {int(msg.is_redelivered)} {self.life}\n"
        os.write(self.log, line.encode())
        return [k, x + 1] if isinstance(x, int) else [k]

    def plain(self, msg: chansock.EventMsg[Any]) -> list[int]:
        return self.heard(msg)

    async def wait(self, msg: chansock.EventMsg[Any]) -> list[int]:
        await asyncio.sleep(self.random.random() * 0.04)
        return self.heard(msg)

    def parallel(self, msg: chansock.EventMsg[Any]) -> Awaitable[list[int]]:
        reply = self.heard(msg)  # at once, so that the order shows

        async def answer() -> list[int]:
            await asyncio.sleep(self.random.random() * 0.1)
            return reply

        return answer()

    def later(self, msg: chansock.EventMsg[Any]) -> Any:
        reply = self.heard(msg)

        async def answer() -> None:
            await asyncio.sleep(self.random.random() * 0.3)
            msg.reply(reply)

        task = asyncio.create_task(answer())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return chansock.LATER

    # -- out

    def newest(self, client_id: str) -> dict[str, int]:
        own = newest_of(self.numbers, client_id, user_of(client_id))
        return {kind: max(n, base(self.life)) for kind, n in own.items()}

    def handshake_data(self, request: chansock.Request) -> dict[str, int]:
        return self.newest(request.params["client-id"])

    def publish(self, key: str, to: Any, kind: str, size: int = 0, **more: Any) -> None:
        if not self.chsk.is_started:
            return
        n = max(self.numbers[key], base(self.life)) + 1
        self.chsk.send(to, f"s/{kind}", [self.g + 1, n, "x" * size], **more)
        self.g, self.numbers[key] = self.g + 1, n

    def to_user(self, user: str, size: int = 0) -> None:
        self.publish(f"u {user}", user, "u", size)

    def to_client(self, name: str) -> None:
        self.publish(f"c {name}", ClientTarget(user_of(name), name), "c", 10)

    def to_all(self) -> None:
        self.publish("b", chansock.ALL, "b", 20)

    def latest(self, user: str) -> None:
        self.publish(f"l {user}", user, "l", latest="l")

    def unkept(self, user: str) -> None:
        self.publish(f"k {user}", user, "k", keep=False)

    async def pace(self) -> None:
        """Publish at a steady rate, in bursts: whoever is due, mostly some events at once."""
        due: dict[str, float] = Counter()
        was = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(TICK)
            now = asyncio.get_running_loop().time()
            passed, was = min(now - was, 1.0), now
            for user in [*self.floods]:
                for _ in range(min(FLOOD, self.floods[user])):
                    self.to_user(user)
                self.floods[user] -= FLOOD
                if self.floods[user] <= 0:
                    del self.floods[user]
            if not self.is_going:
                continue
            for what, targets, rate in (
                (self.to_user, self.users, RATE_USER),
                (self.to_client, self.clients, RATE_CLIENT),
                (self.latest, self.users, RATE_OTHER),
                (self.unkept, self.users, RATE_OTHER),
            ):
                due[what.__name__] += rate * len(targets) * passed
                while due[what.__name__] > 0:
                    target = self.random.choice(targets)
                    count = self.random.choice((1, 1, 2, 8))
                    due[what.__name__] -= count
                    for _ in range(count):
                        what(target)
            if self.random.random() < 0.02:
                self.to_user(self.random.choice(self.users), 20_000)
            due["all"] += RATE_ALL * passed
            while due["all"] > 0:
                due["all"] -= 1
                self.to_all()

    def final(self) -> None:
        for user in self.users:
            self.to_user(user)
            self.latest(user)
        for name in self.clients:
            self.to_client(name)
        self.to_all()

    # -- life

    async def serve(self) -> None:
        """Serve, until stdin ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        pacing = asyncio.create_task(self.pace())
        pacing.add_done_callback(lambda task: None if task.cancelled() else os._exit(1))
        is_first = True
        while True:
            async with AsyncExitStack() as stack:
                served = chansock.serve(self.chsk, port=self.port)
                self.port = (await stack.enter_async_context(served)).port
                if is_first:
                    print(json.dumps({"port": self.port, "pid": os.getpid()}), flush=True)
                    is_first = False
                if not await self.obey(reader):
                    pacing.cancel()
                    return
                self.counts["restarts"] += 1
            for name, count in asdict(self.chsk.stats).items():
                if isinstance(count, int):
                    self.counts[name] += count

    async def obey(self, reader: asyncio.StreamReader) -> bool:
        """Obey until a restart (True), or the end (False)."""
        while line := (await reader.readline()).decode():
            command, *words = line.split()
            if command == "restart":
                return True
            if command == "go":
                self.clients, self.is_going = words, True
                self.users = sorted({user_of(name) for name in words})
            elif command == "hold":
                self.is_going = False
            elif command == "flood":
                self.floods[words[0]] = self.floods.get(words[0], 0) + int(words[1])
            elif command == "final":
                self.final()
            elif command == "report":
                found = {
                    "numbers": self.numbers,
                    "base": base(self.life),
                    "counts": self.counts,
                    "stats": asdict(self.chsk.stats),
                    "logged": self.logged,
                    "floods": len(self.floods),
                }
                print(json.dumps(found), flush=True)
        return False


class Records(logging.Handler):
    """Counts what chansock logs, and shows errors."""

    def __init__(self, logged: Counter[str]) -> None:
        super().__init__(logging.INFO)
        self.logged = logged

    def emit(self, record: logging.LogRecord) -> None:
        name = " ".join(str(record.msg).split(" ")[: 2 if "reason=%s" in str(record.msg) else 1])
        self.logged[name.replace("%s", str(record.args[0] if record.args else ""))] += 1
        if record.levelno >= logging.ERROR:
            print(f"logged: {self.format(record)}", file=sys.stderr, flush=True)
            self.logged["ERRORS"] += 1


async def main(port: str, life: str, log: str, seed: str, rule: str = "") -> None:
    server = Server(int(port), int(life), log, seed)
    if rule:
        rules.switch_off(rule, server)
    server.add_handlers()
    for name in ("chansock", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(Records(server.logged))
    await server.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(*sys.argv[1:]))
