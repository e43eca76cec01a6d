"""What an event costs that goes from one process to the clients of another, through one Redis.

Two processes of each implementation and one redis-server. CPU is that of the process that sends,
of the one that delivers, and of the engine, each for one event; a latency is the time from `send`
in one process to a client of the other. Every event is waited for: what did not come is said.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import picows
import pytest
from bench_memory import Ground, cpu_seconds, ground
from cluster_rivals import SERVERS, USERS
from conftest import HERE, OURS, pinned
from load import BARE_HEAD
from rivals import EVENTS, RESUMING
from table import verdict

__all__ = ["ground"]

ALONE = f"{OURS}, alone"
NAMES = [name for name in SERVERS if name != ALONE]
ROUNDS = 5
EVENTS_SENT, QUICK_SENT = 8_000, 1_600  # in a round
TO_ALL, QUICK_TO_ALL = 50, 10
EVERYBODY = 1_000
PACED, QUICK_PACED = 600, 200
SETTLE = 30.0  # seconds for the last event to come
CONNECTS, QUICK_CONNECTS = 4_000, 1_000
SEND_TARGET, RECEIVE_TARGET = 1 / 12, 1 / 8  # of python-socketio's CPU
ENGINE_TARGET = 6.0  # us of the engine's CPU for a kept event
CONNECT_TARGET = 2.0  # times the CPU of a connection without an engine
PATHS = {name: "/chsk?client-id=c{n}&user={user}" for name in NAMES if name.startswith(OURS)}
PATHS["python-socketio"] = "/socket.io/?EIO=4&transport=websocket&user={user}"


@pytest.fixture(scope="module")
def redis() -> Iterator[tuple[str, int]]:
    """Start a redis-server; return its URL and pid."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    assert program, "expected redis-server on PATH: apt-get install redis-server"
    with tempfile.TemporaryDirectory(prefix="chsk") as folder:
        path = f"{folder}/s"
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen([*pinned(1), *command], stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                assert process.poll() is None, "expected the engine to start"
                time.sleep(0.01)
            yield f"unix://{path}", process.pid
        finally:
            process.kill()
            process.wait()


class Node:
    """One process of an implementation."""

    def __init__(self, name: str, redis: str) -> None:
        self.process = subprocess.Popen(
            [*pinned(0), sys.executable, str(HERE / "cluster_rivals.py"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "REDIS": redis},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"\d+(?=/?$|/\w*$)", line.strip())
        assert found, f"expected a port from {name}, got {line!r}"
        self.port = int(found[0])

    @property
    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    async def order(self, what: str, count: int) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        await asyncio.to_thread(self.process.stdout.readline)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Listener(picows.WSListener):  # type: ignore[misc]
    """A client that counts events; it says hello to those who want one."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.is_open = False

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data[:2] == b"0{":  # engine.io's
            transport.send(picows.WSMsgType.TEXT, b"40")
            return
        if not self.is_open:
            self.is_open = True
            self.heard.opened += 1
        self.heard.take(data)


class Heard:
    """What all clients of a round heard."""

    def __init__(self) -> None:
        self.opened = self.count = 0
        self.latencies: list[float] | None = None

    def take(self, data: bytes) -> None:
        count = data.count(b"news/item")
        self.count += count
        if count and self.latencies is not None:
            now = time.monotonic_ns()
            for sent in re.findall(rb'"(\d{9,}) news', data):
                self.latencies.append((now - int(sent)) / 1e3)

    async def until(self, opened: int, count: int) -> int:
        """Wait for so many; return how many did not come."""
        end = time.monotonic() + SETTLE
        while (self.opened < opened or self.count < count) and time.monotonic() < end:
            await asyncio.sleep(0.002)
        assert self.opened >= opened, f"expected {opened} clients, got {self.opened}"
        return count - self.count


@contextmanager
def nodes(name: str, redis: str) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        both = []
        for _ in range(2):
            both.append(Node(name, redis))
            stack.callback(both[-1].stop)
        yield both[0], both[1]


async def come(name: str, node: Node, users: list[str], heard: Heard) -> list[Any]:
    path = PATHS.get(name, "/?user={user}")
    found = []
    for user in users:
        url = f"ws://127.0.0.1:{node.port}{path.format(n=user, user=user)}"
        headers = {"Cookie": "session=1"}
        transport, _ = await picows.ws_connect(lambda: Listener(heard), url, extra_headers=headers)
        found.append(transport)
    await heard.until(len(users), 0)
    return found


@dataclass(slots=True)
class Cost:
    """us of CPU for each event (of a broadcast: for each delivery), or of latency."""

    send: float
    receive: float
    engine: float
    lost: int


@dataclass(frozen=True, slots=True)
class Question:
    order: str
    count: int
    users: tuple[list[str], list[str]]  # of the sender, and of the other


async def asked(name: str, both: tuple[Node, Node], engine: int, question: Question) -> Cost:
    heards = Heard(), Heard()
    comers = zip(both, question.users, heards, strict=True)
    links = [await come(name, node, users, heard) for node, users, heard in comers]
    deliveries = question.count * (EVERYBODY if question.order == "all" else 1)
    rounds = []
    for _ in range(ROUNDS):
        before = both[0].cpu, both[1].cpu, cpu_seconds(engine)
        for heard in heards:
            heard.count = 0
        await both[0].order(question.order, question.count)
        lost = 0
        for heard, users in zip(heards, question.users, strict=True):
            wanted = question.count if question.order == "send" else question.count * len(users)
            lost += await heard.until(0, wanted if users else 0)
        used = both[0].cpu, both[1].cpu, cpu_seconds(engine)
        each = [(now - then) / deliveries * 1e6 for now, then in zip(used, before, strict=True)]
        rounds.append(Cost(each[0], each[1], each[2], lost))
    for link in (link for some in links for link in some):
        link.disconnect()
    return Cost(
        median(one.send for one in rounds),
        median(one.receive for one in rounds),
        median(one.engine for one in rounds),
        sum(one.lost for one in rounds),
    )


def times(value: float, ours: float) -> str:
    return f"{value / ours:8.1f}" if ours else f"{'-':>8}"


def test_events_to_users_of_another_process(
    redis: tuple[str, int], printed: list[str], pytestconfig: pytest.Config
) -> None:
    count = QUICK_SENT if pytestconfig.getoption("quick") else EVENTS_SENT
    users = [f"u{n}" for n in range(USERS)]
    costs = {}
    for name in NAMES:
        with nodes(name, redis[0]) as both:
            question = Question("send", count, ([], users))
            costs[name] = asyncio.run(asked(name, both, redis[1], question))
    ours = costs[OURS]
    printed.append(f"{'us of CPU for an event to one user elsewhere':44}{'send':>8}{'x':>8}"
                   f"{'receive':>9}{'x':>8}{'engine':>8}{'lost':>6}")  # fmt: skip
    for name, cost in costs.items():
        printed.append(
            f"  {name:42}{cost.send:8.2f}{times(cost.send, ours.send)}{cost.receive:9.2f}"
            f"{times(cost.receive, ours.receive)}{cost.engine:8.2f}{cost.lost:6}"
        )
    rival = costs["python-socketio"]
    for what, got, most in (
        ("CPU to send", ours.send / rival.send, SEND_TARGET),
        ("CPU to receive", ours.receive / rival.receive, RECEIVE_TARGET),
    ):
        told = f"1/{1 / most:.0f} of python-socketio's", f"1/{1 / got:.1f}"
        printed.append(verdict(OURS, what, *told, got <= most))
    told = f"{ENGINE_TARGET} us", f"{ours.engine:.2f}"
    printed.append(verdict(OURS, "engine", *told, ours.engine <= ENGINE_TARGET))
    assert ours.lost == 0


def test_a_broadcast_to_clients_of_two_processes(
    redis: tuple[str, int], printed: list[str], pytestconfig: pytest.Config
) -> None:
    count = QUICK_TO_ALL if pytestconfig.getoption("quick") else TO_ALL
    half = [f"v{n}" for n in range(EVERYBODY // 2)]
    other = [f"w{n}" for n in range(EVERYBODY // 2)]
    printed.append(f"{f'us of CPU for a delivery, {EVERYBODY:,} clients of two':44}{'sender':>8}"
                   f"{'x':>8}{'other':>9}{'x':>8}{'engine':>8}{'lost':>6}")  # fmt: skip
    ours = None
    for name in NAMES:
        with nodes(name, redis[0]) as both:
            question = Question("all", count, (half, other))
            cost = asyncio.run(asked(name, both, redis[1], question))
        ours = ours or cost
        printed.append(
            f"  {name:42}{cost.send:8.2f}{times(cost.send, ours.send)}{cost.receive:9.2f}"
            f"{times(cost.receive, ours.receive)}{cost.engine:8.3f}{cost.lost:6}"
        )


def test_latency_from_one_process_to_a_client_of_another(
    redis: tuple[str, int], printed: list[str], pytestconfig: pytest.Config
) -> None:
    count = QUICK_PACED if pytestconfig.getoption("quick") else PACED
    printed.append(f"{'us from send to a client of another process':44}{'p50':>8}{'p99':>8}")

    async def measure(name: str, both: tuple[Node, Node]) -> list[float]:
        heard = Heard()
        links = await come(name, both[1], ["u0"], heard)
        await both[0].order("pace", 20)
        heard.latencies, heard.count = [], 0
        await both[0].order("pace", count)
        await heard.until(0, count)
        for link in links:
            link.disconnect()
        return heard.latencies

    for name in NAMES:
        with nodes(name, redis[0]) as both:
            found = asyncio.run(measure(name, both))
        cuts = quantiles(found, n=100)
        printed.append(f"  {name:42}{cuts[49]:8.0f}{cuts[98]:8.0f}")


def test_a_connection_with_an_engine_and_without(
    ground: Ground, redis: tuple[str, int], printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS", redis[0])
    count = QUICK_CONNECTS if ground.is_quick else CONNECTS
    printed.append(f"{'us of CPU for a connection':44}{'server':>8}{'engine':>8}")
    for what, path in (
        ("without positions", "/chsk?client-id=c{n}&user=u{n}"),
        ("resuming", f"{RESUMING}0&user=u{{n}}"),
    ):
        costs = {}
        for name in (ALONE, OURS):
            dialect = replace(EVENTS[OURS], path=path, head=BARE_HEAD)
            each: list[tuple[float, float]] = []
            with ground.fresh(f"cluster_rivals/{name}") as at:
                for number in range(ROUNDS):
                    there = replace(dialect, path=path.replace("c{n}", f"c{number}-{{n}}"))
                    with ground.connected(there, at, 50, mode="connect") as load:
                        before = cpu_seconds(at[1]), cpu_seconds(redis[1])
                        load.run(count // ROUNDS)
                        used = cpu_seconds(at[1]) - before[0], cpu_seconds(redis[1]) - before[1]
                    each.append((used[0] / count * ROUNDS * 1e6, used[1] / count * ROUNDS * 1e6))
            costs[name] = median(one for one, _ in each)
            engine = median(one for _, one in each)
            printed.append(f"  {f'{name}, {what}':42}{costs[name]:8.1f}{engine:8.1f}")
        told = f"{CONNECT_TARGET} x without an engine", f"{costs[OURS] / costs[ALONE]:.2f} x"
        is_met = costs[OURS] <= costs[ALONE] * CONNECT_TARGET
        printed.append(verdict(OURS, "connect", *told, is_met))
