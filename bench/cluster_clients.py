"""The other side of the cluster's bench: the two processes of an implementation, and their clients.

What they are asked, and what is counted, is the business of bench_cluster.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import picows
from bench_memory import cpu_seconds
from cluster_rivals import USERS
from conftest import HERE, OURS, pinned
from rivals import EVENTS, RESUMING

ALONE, RESUMED = f"{OURS}, alone", f"{OURS}, resuming"
SOCKET_IO = "python-socketio"
STREAMS = "socket.io, Redis streams"  # Node's
NODE_MODULES = HERE / "js" / "node_modules"
CONNECTING = 16  # at a time
SETTLE = 60.0  # seconds until the last event is there, on a machine that does other work as well
QUIET = 0.05, 0.001  # seconds, and of CPU in them: a process that uses no more is done


def path_of(name: str) -> str:
    if name == RESUMED:
        return RESUMING.replace("c{n}", "{user}") + "0"
    if name.startswith(OURS):
        return "/chsk?client-id={user}"
    if name in (SOCKET_IO, STREAMS):
        return EVENTS[SOCKET_IO].path + "&user={user}"
    return "/?user={user}"


class Node:
    """One process of an implementation."""

    def __init__(self, name: str, redis: str) -> None:
        command = [sys.executable, str(HERE / "cluster_rivals.py"), name]
        if name == STREAMS:
            command = ["node", str(HERE / "js" / "cluster.mjs")]
        self.process = subprocess.Popen(
            [*pinned(0), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "REDIS": redis},
        )  # fmt: skip
        self.pid = self.process.pid
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.strip().isdigit(), f"expected a port from {name}, got {line!r}"
        self.port = int(line)

    async def order(self, what: str, count: int) -> None:
        """Have it carry out an order of cluster_rivals; return once it is done."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        done = await asyncio.to_thread(self.process.stdout.readline)
        assert done, f"expected an answer to {what} {count}, got the end of the process"

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


Pair = tuple[Node, Node]  # the first one sends


class Heard:
    """What some clients have heard."""

    def __init__(self) -> None:
        self.opened = self.met = self.count = 0  # clients, clients with an event, events
        self.latencies: list[float] = []  # us

    def reset(self) -> None:
        self.count = 0
        self.latencies = []

    def take(self, data: bytes) -> int:
        if count := data.count(b"news/item"):
            self.count += count
            now = time.monotonic_ns()
            self.latencies += [(now - int(at)) / 1e3 for at in re.findall(rb'"(\d{9,}) news', data)]
        return count


class Listener(picows.WSListener):  # type: ignore[misc]
    """A client that notes events; to engine.io it says what has to be said first."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.is_open = self.has_met = False

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data[:2] == b"0{":
            transport.send(picows.WSMsgType.TEXT, b"40")
            return
        if not self.is_open:
            self.is_open = True
            self.heard.opened += 1
        if self.heard.take(data) and not self.has_met:
            self.has_met = True
            self.heard.met += 1


async def until(is_so: Callable[[], bool], seconds: float = SETTLE) -> bool:
    end = time.monotonic() + seconds
    while not (done := is_so()) and time.monotonic() < end:
        await asyncio.sleep(0.002)
    return done


async def until_quiet(pids: list[int]) -> None:
    """Wait until none of the processes does anything that is worth counting."""
    seconds, least = QUIET
    before = [0.0] * len(pids)
    for _ in range(int(SETTLE / seconds)):
        after = [cpu_seconds(pid) for pid in pids]
        if all(now - then < least for now, then in zip(after, before, strict=True)):
            return
        before = after
        await asyncio.sleep(seconds)


class Audience:
    """The clients of the two processes of an implementation."""

    def __init__(self, name: str, pair: Pair, users: tuple[list[str], list[str]]) -> None:
        self.name, self.pair, self.users = name, pair, users
        self.heard = Heard(), Heard()
        self._links: list[Any] = []

    async def come(self, order: str) -> None:
        """Connect, and send events until each client has heard one."""

        async def link(node: Node, user: str, heard: Heard) -> None:
            url = f"ws://127.0.0.1:{node.port}{path_of(self.name).format(user=user)}"
            head = {"Cookie": "session=1"}
            link, _ = await picows.ws_connect(lambda: Listener(heard), url, extra_headers=head)
            self._links.append(link)

        for node, users, heard in zip(self.pair, self.users, self.heard, strict=True):
            for at in range(0, len(users), CONNECTING):
                await asyncio.gather(*(link(node, u, heard) for u in users[at : at + CONNECTING]))
            assert await until(lambda h=heard, u=users: h.opened == len(u)), (  # type: ignore[misc]
                f"expected {len(users)} clients of {self.name}, got {heard.opened}"
            )
        for _ in range(int(SETTLE)):
            await self.pair[0].order(order, USERS if order == "send" else 1)
            if await until(self.has_met, 1.0):
                break
        assert self.has_met(), f"expected each client of {self.name} to hear an event"
        await until_quiet([node.pid for node in self.pair])

    def has_met(self) -> bool:
        both = zip(self.users, self.heard, strict=True)
        return all(heard.met == len(users) for users, heard in both)

    def leave(self) -> None:
        for link in self._links:
            link.disconnect()

    async def listen(self, order: str, count: int) -> int:
        """Carry out an order; return how many events did not come."""
        for heard in self.heard:
            heard.reset()
        await self.pair[0].order(order, count)
        wanted = count * sum(map(len, self.users)) if order == "all" else count
        heard = self.heard
        await until(lambda: heard[0].count + heard[1].count >= wanted)
        return wanted - heard[0].count - heard[1].count
