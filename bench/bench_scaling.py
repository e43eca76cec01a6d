"""What a second and a fourth worker bring: connections, replies, and deliveries.

The workers, their engine, and the load generator share the cores of this machine, and on few cores
they are in each other's way. So CPU is counted: a worker that has a core of its own, and an engine
that has another, do as much as their CPU allows. `by CPU` is how many times as much N workers do
then as one does, N * (CPU of one for each) / (CPU of all N for each). The rate is what this machine
did, with everything on it. `busiest` is the share of the CPU that the busiest worker used.
The numbers of workers are asked in turn, round by round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pytest
import table
from bench_cluster import engine_version, redis
from bench_memory import Ground, ground
from bench_request_reply import TEXTS
from bench_resume import batch
from conftest import OURS
from load import Dialect, Load, Round, text_frame
from rivals import EVENTS
from worker_servers import ENGINE, WORKERS

__all__ = ["ground", "redis"]

ONE, TWO = "1 worker", "2 workers"
ROUNDS, QUICK_ROUNDS = 5, 3
SHARE_IF_QUICK = 4  # of a round's work: one of so many
TARGET = 1.8  # times as much, with two workers


@dataclass(frozen=True, slots=True)
class Question:
    title: str  # what is counted
    mode: str  # of load.c
    count: int  # requests of a round
    clients: int
    in_flight: int = 1
    events: int = 0  # of a burst, each of which reaches every client
    base: str = ONE  # a connection is made known to the engine, so the base has one as well

    @property
    def dialect(self) -> Dialect:
        request, answer = TEXTS[OURS]
        if self.events:
            request, answer = f"[[:news/post {self.events}] nil]", batch(OURS, self.events)
        texts = text_frame(request, masked=True), text_frame(answer)
        return replace(EVENTS[OURS], request=texts[0], answer=texts[1])

    @property
    def units(self) -> int:
        """How many of what is counted one answer is."""
        return self.events or 1


QUESTIONS = [
    Question("connections, 16 at a time", "connect", 1_000, 16, base=ONE + ENGINE),
    Question("connections, 200 at a time", "connect", 1_000, 200, base=ONE + ENGINE),
    Question("replies, 100 clients x 1 in flight", "echo", 20_000, 100),
    Question("replies, 100 clients x 16 in flight", "echo", 60_000, 100, 16),
    Question("deliveries, an event to 1,000 clients", "fan", 100, 1_000, events=1),
    Question("deliveries, bursts of 50 to 1,000 clients", "fan", 30, 1_000, events=50),
]


@dataclass(slots=True)
class Cost:
    """Seconds for each of what is counted."""

    wall: float
    workers: float
    busiest: float
    engine: float


def processes(pid: int, engine: int) -> tuple[list[int], int]:
    """Return the workers of a server, and its engine; a server without children is a worker."""
    found = [
        int(child)
        for children in Path(f"/proc/{pid}/task").glob("*/children")
        for child in children.read_text().split()
    ]
    names = {child: Path(f"/proc/{child}/comm").read_text() for child in found}
    engines = [child for child, name in names.items() if name.startswith(("redis", "valkey"))]
    workers = [child for child, name in names.items() if name.startswith("python")]
    return workers or [pid], engines[0] if engines else engine


def cost(rounds: list[Round], question: Question) -> Cost:
    def each(seconds: float, answers: int) -> float:
        return seconds / answers / question.units

    found = [(r, [r.cpu, *r.others[:-1]]) for r in rounds]  # the engine is the last
    return Cost(
        wall=median(each(r.wall, r.answers) for r, _ in found),
        workers=median(each(sum(cpus), r.answers) for r, cpus in found),
        busiest=median(max(cpus) / sum(cpus) for _, cpus in found),
        engine=median(each(r.others[-1], r.answers) for r, _ in found),
    )


def lines(question: Question, costs: dict[str, Cost]) -> Iterator[str]:
    columns = f"{'per second':>12}{'cpu':>9}{'engine':>9}{'busiest':>9}{'by CPU':>9}"
    yield f"{question.title:46}{columns}"
    for name, one in costs.items():
        yield (
            f"  {name:44}{1 / one.wall:12,.0f}{one.workers * 1e6:9.2f}"
            f"{one.engine * 1e6:9.2f}{one.busiest:9.0%}{by_cpu(name, ONE, costs):8.2f}x"
        )
    got = by_cpu(TWO, question.base, costs)
    is_met = "met" if got >= TARGET else "MISSED"
    yield f"  target of {TWO}: at least {TARGET} times {question.base} by CPU; {got:.2f}, {is_met}"


def by_cpu(name: str, base: str, costs: dict[str, Cost]) -> float:
    return WORKERS[name] * costs[base].workers / costs[name].workers


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_scaling(
    ground: Ground,
    redis: tuple[str, int],
    printed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    question: Question,
) -> None:
    monkeypatch.setenv("REDIS", redis[0])
    count = question.count // (SHARE_IF_QUICK if ground.is_quick else 1)
    loads: dict[str, Load] = {}
    rounds: dict[str, list[Round]] = {name: [] for name in WORKERS}
    with ExitStack() as stack:
        for name in WORKERS:
            port, pid = stack.enter_context(ground.fresh(f"worker_servers/{name}"))
            workers, engine = processes(pid, redis[1])
            assert len(workers) == WORKERS[name]
            loads[name] = stack.enter_context(
                ground.connected(
                    question.dialect, (port, workers[0]), question.clients, question.mode,
                    others=(*workers[1:], engine), in_flight=question.in_flight,
                )
            )  # fmt: skip
            loads[name].run(count)
        for _ in range(QUICK_ROUNDS if ground.is_quick else ROUNDS):
            for name, load in loads.items():
                rounds[name].append(load.run(count))
    if not printed:
        printed.append(
            f"{table.ground(('redis', 'hiredis', 'uvloop'))}; {engine_version()}; "
            f"{os.cpu_count()} cores. us of CPU for each"
        )
    costs = {name: cost(found, question) for name, found in rounds.items()}
    costs[ONE].engine = 0.0  # it has none
    printed.append("")
    printed.extend(lines(question, costs))
