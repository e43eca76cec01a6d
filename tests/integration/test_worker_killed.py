"""One of four workers is killed under load: what its clients miss, and when presence is right.

The workers are processes of `serve --workers 4` with an engine of their own. Each client sends
numbered events, which its worker passes on to the next user; a feeder on another worker sends to
all users. The test prints how long the clients of the killed worker were away.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from test_workers import workers

import chansock
from chansock.workers import supervisor
from chansock.workers.private_engine import program

APP = """
import os
import chansock

chsk = chansock.ChannelSocket(
    chansock.Config(keep_events=2000), user_id=lambda request: request.params.get("user")
)

@chsk.on("t/pid")
def pid(msg):
    return os.getpid()

@chsk.on("t/who")
def who(msg):
    return [os.getpid(), sorted(user for user in chsk.connected.any)]

@chsk.on("t/feed")
def feed(msg):
    for user in range(msg.data[0]):
        chsk.send(f"u{user}", "t/fed", msg.data[1])

@chsk.on("t/pass")
def passed(msg):
    to, number = msg.data
    chsk.send(to, "t/passed", [number, msg.is_redelivered])
"""
CLIENTS = 40
LIMIT = 30.0  # seconds, for what should take two
LEASE_AND_GRACE = 5.0 + 2.5  # the engine's lease_seconds, and Config.grace_ws

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not supervisor.IS_AVAILABLE, reason="several workers need Linux"),
    pytest.mark.skipif(program() is None, reason="neither valkey-server nor redis-server"),
]


async def until(is_true: Any, limit: float = LIMIT) -> None:
    async with asyncio.timeout(limit):
        while not is_true():
            await asyncio.sleep(0.01)


class Numbered:
    """One user's client, and what it got."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.fed: list[int] = []
        self.passed: list[tuple[int, bool]] = []
        self.resumed: list[Any] = []
        self.opened: list[float] = []
        client.on("t/fed", lambda event: self.fed.append(event.data))
        client.on("t/passed", lambda event: self.passed.append(tuple(event.data)))
        client.on_state(self._changed)

    def _changed(self, state: Any) -> None:
        if state.open:
            self.opened.append(time.monotonic())
            self.resumed.append(state.resumed)

    def unmarked(self) -> list[int]:
        return [number for number, is_redelivered in self.passed if not is_redelivered]


def test_clients_of_a_killed_worker_come_back_without_a_missed_event(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = ("-m", "chansock", "serve", "app:chsk", "--workers=4")
    with workers(*command, folder=tmp_path) as served:
        asyncio.run(kill_one(served.url))


async def kill_one(url: str) -> None:
    async with AsyncExitStack() as stack:

        async def client(user: str) -> Any:
            link = chansock.connect(f"{url}?user={user}", transport="ws")
            return await stack.enter_async_context(link)

        all_ = [Numbered(await client(f"u{n}")) for n in range(CLIENTS)]
        at = [await each.client.send("t/pid", timeout=LIMIT) for each in all_]
        feeder = await client("feeder")
        spared = await feeder.send("t/pid", timeout=LIMIT)
        victim = next(pid for pid in at if pid != spared)
        theirs = [each for each, pid in zip(all_, at, strict=True) if pid == victim]

        sent, is_over = 0, False

        async def load() -> None:
            nonlocal sent
            while not is_over:
                await feeder.send("t/feed", [CLIENTS, sent])
                for n, each in enumerate(all_):
                    await each.client.send("t/pass", [f"u{(n + 1) % CLIENTS}", sent])
                sent += 1
                await asyncio.sleep(0.02)

        loading = asyncio.create_task(load())
        await until(lambda: sent > 20)
        for each in all_:
            each.opened.clear()
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: all(each.opened for each in theirs))
        away = sorted(each.opened[0] - killed for each in theirs)
        print(f"{len(theirs)} clients away for {away[0]:.3f} to {away[-1]:.3f} s")
        before = sent
        await until(lambda: sent > before + 20)
        is_over = True
        await loading

        await until(lambda: all(len(each.fed) >= sent for each in all_))
        await until(lambda: all(len({n for n, _ in each.passed}) >= sent for each in all_))
        for each in all_:
            assert each.fed == list(range(sent))
            # Only an event that is marked may be handled again, or late: its fate was unknown.
            assert each.unmarked() == sorted(set(each.unmarked()))
            assert {number for number, _ in each.passed} == set(range(sent))
        assert {each.resumed[-1] for each in theirs} == {"resumed"}

        # Half of them leave: all workers must agree on the rest.
        for each in all_[::2]:
            await each.client.close()
        rest = sorted(["feeder", *(f"u{n}" for n in range(1, CLIENTS, 2))])
        deadline = max(killed, time.monotonic()) + LEASE_AND_GRACE + 5.0
        while True:
            seen = {}
            for each in [feeder, *(each.client for each in all_[1::2])]:
                pid, users = await each.send("t/who", timeout=LIMIT)
                seen[pid] = users
            if all(users == rest for users in seen.values()):
                break
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.1)
        print(f"presence right {time.monotonic() - killed:.3f} s after the kill")
        assert victim not in seen
