"""What an event costs that goes from one process to the clients of another, through one Redis.

Two processes of each implementation share core 0; redis-server and the clients share core 1. CPU is
that of the process that sends, of the one that delivers, and of the engine, each for one event, or
for one delivery of a broadcast. A latency is the time from `send` in one process to a client of the
other. The implementations are asked in turn, round by round. Before the first round each client has
heard an event; what a client does not hear is printed as lost.

The file is past 400 lines because all of its questions ask the same processes in the same rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median, quantiles

import pytest
import table
from bench_memory import Ground, cpu_seconds, ground
from cluster_clients import (
    ALONE,
    CONNECTING,
    NODE_MODULES,
    SOCKET_IO,
    STREAMS,
    Audience,
    Node,
    Pair,
    until_quiet,
)
from cluster_rivals import SERVERS, USERS
from conftest import OURS, pinned
from load import BARE_HEAD, SPARE, allow_descriptors
from redis import Redis
from rivals import EVENTS, RESUMING

__all__ = ["ground"]

NAMES = [name for name in SERVERS if name != ALONE]
if (NODE_MODULES / "@socket.io").exists():
    NAMES.append(STREAMS)  # after `npm install` in bench/js
ROUNDS, QUICK_ROUNDS = 5, 3
EVENTS_SENT, QUICK_SENT = 3_200, 1_600  # in a round
TO_ALL, QUICK_TO_ALL = 30, 10
OURS_MORE = 5  # times as many of chansock's
EVERYBODY = 1_000
PACED, QUICK_PACED = 400, 100  # an event each 5 ms
CONNECTS, QUICK_CONNECTS = 1_500, 500
SEND_TARGET, RECEIVE_TARGET = 12, 8  # python-socketio's CPU is so many times as much
# The engine's CPU for a kept event of ours, beside the three commands without which none can be
# kept and passed on, pipelined. Microseconds say more of the machine than of the script.
ENGINE_TARGET = 2.0
BARE = 16, 200, 400  # events at once, bytes of each, times
CONNECT_TARGET = 2.0  # times the CPU of a connection without an engine


def engine() -> str:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    assert program, "expected redis-server on PATH: apt-get install redis-server"
    return program


@pytest.fixture(scope="module")
def redis() -> Iterator[tuple[str, int]]:
    """Start a redis-server; return its URL and pid."""
    program = engine()
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


@pytest.fixture(scope="module")
def pairs(redis: tuple[str, int]) -> Iterator[dict[str, Pair]]:
    """Start two processes of each implementation."""
    with ExitStack() as stack:

        def start(name: str) -> Node:
            node = Node(name, redis[0])
            stack.callback(node.stop)
            return node

        yield {name: (start(name), start(name)) for name in NAMES}


@dataclass(slots=True)
class Cost:
    """us of CPU for each event, or each delivery of a broadcast."""

    send: float
    receive: float
    engine: float
    lost: int

    @classmethod
    def of(cls, rounds: list[Cost]) -> Cost:
        found = [median(getattr(one, field.name) for one in rounds) for field in fields(cls)[:3]]
        return cls(*found, lost=sum(one.lost for one in rounds))


Users = tuple[list[str], list[str]]  # of the process that sends, and of the other
Turn = Callable[[Audience], Awaitable[None]]  # one round of an implementation


async def by_turns(
    pairs: dict[str, Pair], users: Users, order: str, rounds: int, turn: Turn
) -> None:
    """Connect all clients, and have the implementations take turns."""
    audiences = [Audience(name, pair, users) for name, pair in pairs.items()]
    for audience in audiences:
        await audience.come(order)
    for _ in range(rounds):
        for audience in audiences:
            await turn(audience)
    for audience in audiences:
        audience.leave()


async def costs_of(
    pairs: dict[str, Pair], engine: int, users: Users, order: str, count: int, rounds: int
) -> dict[str, Cost]:
    found: dict[str, list[Cost]] = {name: [] for name in pairs}

    async def turn(audience: Audience) -> None:
        # A round of chansock's would be too short to count.
        number = count * (OURS_MORE if audience.name.startswith(OURS) else 1)
        deliveries = number * sum(map(len, users)) if order == "all" else number
        await audience.listen(order, number // 10)  # what others displaced in the caches
        pids = [*(node.pid for node in audience.pair), engine]
        await until_quiet(pids)
        before = [cpu_seconds(pid) for pid in pids]
        lost = await audience.listen(order, number)
        await until_quiet(pids)
        each = [
            (cpu_seconds(pid) - then) / deliveries * 1e6
            for pid, then in zip(pids, before, strict=True)
        ]
        found[audience.name].append(Cost(*each, lost=lost))

    await by_turns(pairs, users, order, rounds, turn)
    return {name: Cost.of(rounds) for name, rounds in found.items()}


def times(value: float, ours: float) -> str:
    return f"{value / ours:7.1f}" if ours else f"{'-':>7}"


def lines(title: str, whom: tuple[str, str], costs: dict[str, Cost]) -> Iterator[str]:
    ours = costs[OURS]
    columns = f"{whom[0]:>10}{'x':>7}{whom[1]:>10}{'x':>7}{'engine':>9}{'x':>7}{'lost':>6}"
    yield f"{title:46}{columns}"
    for name, cost in costs.items():
        yield (
            f"  {name:44}{cost.send:10.2f}{times(cost.send, ours.send)}"
            f"{cost.receive:10.2f}{times(cost.receive, ours.receive)}"
            f"{cost.engine:9.2f}{times(cost.engine, ours.engine)}{cost.lost:6}"
        )


def test_events_to_users_of_another_process(
    pairs: dict[str, Pair],
    redis: tuple[str, int],
    printed: list[str],
    pytestconfig: pytest.Config,
) -> None:
    is_quick = pytestconfig.getoption("quick")
    count, rounds = (QUICK_SENT, QUICK_ROUNDS) if is_quick else (EVENTS_SENT, ROUNDS)
    users = [], [f"u{n}" for n in range(USERS)]
    costs = asyncio.run(costs_of(pairs, redis[1], users, "send", count, rounds))
    versions = [table.ground(table.CLUSTER), engine_version(), *node_versions()]
    printed.append("; ".join(versions))
    printed.append("")
    title = f"us of CPU for an event, {USERS} users in a turn"
    printed.extend(lines(title, ("send", "receive"), costs))
    ours, rival = costs[OURS], costs[SOCKET_IO]
    for what, most, got in (
        ("CPU to send", SEND_TARGET, rival.send / ours.send),
        ("CPU to receive", RECEIVE_TARGET, rival.receive / ours.receive),
    ):
        told = f"1/{most} of {SOCKET_IO}'s", f"1/{got:.1f}"
        printed.append(table.verdict(OURS, what, *told, got >= most))
    bare = bare_cost(redis)
    got_times = ours.engine / bare
    told = f"{ENGINE_TARGET:.0f} times RPUSH, LTRIM, PUBLISH", f"{got_times:.2f} ({bare:.2f} us)"
    printed.append(table.verdict(OURS, "engine's CPU", *told, got_times <= ENGINE_TARGET))
    assert ours.lost == 0


def bare_cost(redis: tuple[str, int]) -> float:
    """Return the us of the engine's CPU to keep and publish an event by commands alone."""
    url, pid = redis
    at_once, size, times = BARE
    client = Redis.from_url(url)
    listener = client.pubsub()
    listener.subscribe(*(f"bare:{number}" for number in range(at_once)))
    event = b"e" * size
    found = []
    for _ in range(ROUNDS):
        before = cpu_seconds(pid)
        for _ in range(times):
            pipeline = client.pipeline(transaction=False)
            for number in range(at_once):
                pipeline.rpush(f"bare:{number}", event)
                pipeline.ltrim(f"bare:{number}", -100, -1)
                pipeline.publish(f"bare:{number}", event)
            pipeline.execute()
            while listener.get_message(ignore_subscribe_messages=True) is not None:
                pass
        found.append((cpu_seconds(pid) - before) / (times * at_once) * 1e6)
    listener.close()
    client.delete(*(f"bare:{number}" for number in range(at_once)))
    client.close()
    return median(found)


def engine_version() -> str:
    told = subprocess.run(
        [engine(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"(\w+) server v=(\S+)", told)
    return " ".join(found.groups()) if found else told.strip()


def node_versions() -> Iterator[str]:
    if STREAMS not in NAMES:
        return
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    yield f"Node {told.strip()}"
    for name in ("socket.io", "@socket.io/redis-streams-adapter"):
        package = json.loads((NODE_MODULES / name / "package.json").read_text())
        yield f"{name} {package['version']}"


def test_a_broadcast_to_clients_of_two_processes(
    pairs: dict[str, Pair],
    redis: tuple[str, int],
    printed: list[str],
    pytestconfig: pytest.Config,
) -> None:
    is_quick = pytestconfig.getoption("quick")
    count, rounds = (QUICK_TO_ALL, QUICK_ROUNDS) if is_quick else (TO_ALL, ROUNDS)
    allow_descriptors(EVERYBODY * len(pairs) + SPARE)
    half, other = ([f"{side}{n}" for n in range(EVERYBODY // 2)] for side in "vw")
    costs = asyncio.run(costs_of(pairs, redis[1], (half, other), "all", count, rounds))
    title = f"us of CPU for a delivery, {EVERYBODY:,} clients of two"
    printed.append("")
    printed.extend(lines(title, ("sender's", "other's"), costs))
    assert costs[OURS].lost == 0


def test_latency_from_one_process_to_a_client_of_another(
    pairs: dict[str, Pair], printed: list[str], pytestconfig: pytest.Config
) -> None:
    is_quick = pytestconfig.getoption("quick")
    count, rounds = (QUICK_PACED, QUICK_ROUNDS) if is_quick else (PACED, ROUNDS)
    found: dict[str, list[float]] = {name: [] for name in pairs}
    load = os.getloadavg()[0]

    async def turn(audience: Audience) -> None:
        await audience.listen("pace", count)
        found[audience.name] += audience.heard[1].latencies

    asyncio.run(by_turns(pairs, ([], ["u0"]), "pace", rounds, turn))
    printed.append("")
    title = f"us from send to a client (load average {load:.1f})"
    printed.append(f"{title:46}{'p50':>10}{'x':>7}{'p99':>10}{'x':>7}")
    ours: list[float] = []
    for name, latencies in found.items():
        cuts = quantiles(latencies, n=100)
        ours = ours or [cuts[49], cuts[98]]
        p50, p99 = cuts[49], cuts[98]
        printed.append(
            f"  {name:44}{p50:10.0f}{times(p50, ours[0])}{p99:10.0f}{times(p99, ours[1])}"
        )


def test_a_connection_with_an_engine_and_without(
    ground: Ground, redis: tuple[str, int], printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS", redis[0])
    count = QUICK_CONNECTS if ground.is_quick else CONNECTS
    rounds = QUICK_ROUNDS if ground.is_quick else ROUNDS
    printed.append("")
    title = f"us of CPU for a connection, {CONNECTING} at a time"
    printed.append(f"{title:46}{'server':>10}{'x':>7}{'engine':>9}")
    for what, path in (("", EVENTS[OURS].path), (", resuming", f"{RESUMING}0")):
        dialect = replace(EVENTS[OURS], path=path, head=BARE_HEAD)
        costs: dict[str, list[tuple[float, float]]] = {ALONE: [], OURS: []}
        with ExitStack() as stack:
            at = {
                name: stack.enter_context(ground.fresh(f"cluster_rivals/{name}")) for name in costs
            }
            for number in range(rounds):
                fresh = replace(dialect, path=path.replace("c{n}", f"c{number}-{{n}}"))
                for name, found in costs.items():
                    with ground.connected(
                        fresh, at[name], CONNECTING, mode="connect", others=redis[1:]
                    ) as load:
                        got = load.run(count)
                    found.append((got.cpu / count * 1e6, got.others[0] / count * 1e6))
        server = {name: median(cpu for cpu, _ in found) for name, found in costs.items()}
        for name, found in costs.items():
            engine = median(cpu for _, cpu in found) if name == OURS else 0.0
            printed.append(
                f"  {name + what:44}{server[name]:10.1f}{server[name] / server[ALONE]:7.2f}"
                f"{engine:9.1f}"
            )
        got_times = server[OURS] / server[ALONE]
        told = f"{CONNECT_TARGET:.0f} times as much as alone", f"{got_times:.2f}"
        is_met = got_times <= CONNECT_TARGET
        printed.append(table.verdict(OURS + what, "CPU to connect", *told, is_met))
