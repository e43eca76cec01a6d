"""The ground of the benches: a server on one core, the load generator on another.

The clock of pytest-benchmark is the generator's: seconds from the first request of a
round to the last byte of its last answer, divided by the number of answers. What the
server's CPU spent on them is beside it. Nothing here knows what is asked.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from table import Row, means, rows

HERE = Path(__file__).parent
OURS = "chansock"
SECONDS = 0.5  # the least length of a round; CPU clocks move in steps of up to 4 ms
MASK = b"\x37\xfa\x21\x3d"  # the one of RFC 6455 section 5.7


class Meter:
    """A clock that counts the seconds per answer of the rounds so far."""

    def __init__(self) -> None:
        self.total = 0.0

    def __call__(self) -> float:
        return self.total


METER = Meter()
PER_ANSWER = pytest.mark.benchmark(timer=METER)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is spoken to: the bytes of one request and of what it brings back."""

    request: bytes
    answer: bytes
    path: str = "/"
    greetings: int = 0
    hello: bytes = b""


@dataclass(slots=True)
class Round:
    answers: int
    wall: float
    cpu: float


@dataclass(slots=True)
class Load:
    """A generator that is connected and has had its first answers, all of them right."""

    process: subprocess.Popen[str]
    rounds: list[Round] = field(default_factory=list)

    def run(self, requests: int) -> Round:
        """Raises RuntimeError if an answer was wrong or missing."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{requests}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and what it wrote to stderr says why
        line = self.process.stdout.readline().split()
        if len(line) != 3:
            raise RuntimeError("the load generator stopped; its reason stands above")
        return Round(int(line[0]), float(line[1]), float(line[2]))


def text_frame(payload: str, *, masked: bool = False) -> bytes:
    """One whole text message as RFC 6455 section 5.2 writes it, below 64 KiB."""
    data = payload.encode()
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    if not masked:
        return b"\x81" + size + data
    body = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))
    return b"\x81" + bytes([size[0] | 0x80]) + size[1:] + MASK + body


def pinned(core: int) -> list[str]:
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few and short rounds: under a minute")


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("load") / "load"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-o", program, HERE / "load.c"], check=True)
    return program


@pytest.fixture
def server() -> Iterator[Callable[[str], tuple[int, int]]]:
    """Give start(name) -> (port, pid) of one of rivals.py, stopped at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> tuple[int, int]:
        command = [*pinned(0), sys.executable, str(HERE / "rivals.py"), name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline()), process.pid

    yield start
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


Measure = Callable[..., None]


@pytest.fixture
def measure(
    benchmark: Any,
    generator: Path,
    server: Callable[[str], tuple[int, int]],
    request: pytest.FixtureRequest,
) -> Iterator[Measure]:
    """Give measure(implementation, dialect, clients=, in_flight=, mode=): the whole bench."""
    loads: list[Load] = []

    def measure(
        implementation: str,
        dialect: Dialect,
        *,
        clients: int,
        in_flight: int = 1,
        mode: str = "echo",
    ) -> None:
        port, pid = server(implementation)
        head = (
            f"GET {dialect.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        arguments = (head.encode(), dialect.hello, dialect.request, dialect.answer)
        command = [
            *pinned(1), str(generator), str(port), str(clients), str(in_flight), mode, str(pid),
            str(dialect.greetings), *(argument.hex() for argument in arguments),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        load = Load(process)
        loads.append(load)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{implementation} did not take the clients")

        quick = request.config.getoption("--quick")
        least = 1 if mode == "fan" else clients * in_flight
        trial = load.run(least)  # checks every answer before anything is timed
        trial = load.run(least)
        seconds = SECONDS / 2 if quick else SECONDS
        requests = max(least, int(least * seconds / trial.wall))

        def one_round() -> None:
            result = load.run(requests)
            load.rounds.append(result)
            METER.total += result.wall / result.answers

        benchmark.pedantic(one_round, rounds=3 if quick else 7, warmup_rounds=1)
        timed = load.rounds[1:]
        benchmark.extra_info.update(
            implementation=implementation,
            payload=len(dialect.answer),
            clients=clients,
            in_flight=in_flight,
            is_correct=True,  # the generator compares every byte, and stops at a wrong one
            answers=sum(r.answers for r in timed),
            cpu=statistics.median(r.cpu / r.answers for r in timed),
        )

    yield measure
    for load in loads:
        load.process.kill()
        load.process.communicate()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print, for each question, every implementation beside chansock."""
    session = getattr(config, "_benchmarksession", None)
    groups: dict[str, list[Row]] = defaultdict(list)
    kinds: dict[str, dict[str, None]] = defaultdict(dict)  # groups of which a mean is wanted
    for bench in getattr(session, "benchmarks", ()):
        if not bench.has_error and "implementation" in bench.extra_info:
            wall, info = bench.stats, bench.extra_info
            spread = wall.stddev / wall.mean if wall.mean else 0.0
            seconds = wall.min if info.get("is_least") else wall.median
            groups[bench.group].append((info["implementation"], seconds, spread, info.get("cpu")))
            if "mean_of" in info:
                kinds[info["mean_of"]][bench.group] = None
    if groups:
        terminalreporter.section("ratios")
        for line in rows(groups, OURS):
            terminalreporter.write_line(line)
        for line in means({kind: [groups[g] for g in kinds[kind]] for kind in kinds}, OURS):
            terminalreporter.write_line(line)
