"""The ground of the benches: a server on one core, the load generator on another.

The clock of pytest-benchmark is the generator's: seconds from the first request of a
round to the last byte of its last answer, divided by the number of answers, or of the
events in them where an answer holds several. What the
server's CPU spent on them is beside it. All servers of one question are asked in turn,
round by round, so that what disturbs the machine disturbs them alike; the first test of
a question runs it, and each reports its own server. Nothing here knows what is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from load import Dialect, Load, Round
from table import Row, means, rows

HERE = Path(__file__).parent
OURS = "chansock"
FLOOR = "C"  # floor.c
BEFORE = "before, "  # the server of the package in the folder that BASELINE names
ROUNDS, QUICK_ROUNDS = 5, 3
SECONDS, QUICK_SECONDS = 0.5, 0.1  # the least length of a round
PORT = r"\d+(?=/?$|/\w*(?: |$))"  # in the first line that a server prints: alone, or of its URL
MOST_OPEN = 2000  # connections of a round that stay open until its end


class Meter:
    """A clock that counts the seconds per answer of the rounds so far."""

    def __init__(self) -> None:
        self.total = 0.0

    def __call__(self) -> float:
        return self.total


METER = Meter()
PER_ANSWER = pytest.mark.benchmark(timer=METER)


def pinned(core: int) -> list[str]:
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few and short rounds")


Compile = Callable[[str], str]


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Return compile(name) -> path of the program made of name.c."""
    folder = tmp_path_factory.mktemp("programs")

    def compile_c(name: str) -> str:
        program = folder / name
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O3", "-o", program, HERE / f"{name}.c"], check=True)
        return str(program)

    return compile_c


@pytest.fixture(scope="session")
def generator(compile_c: Compile) -> list[str]:
    return [*pinned(1), compile_c("load")]


@dataclass(frozen=True, slots=True)
class Server:
    """The servers of the run, by name: NAME of rivals.py, or SCRIPT/NAME."""

    start: Callable[[str], tuple[int, int]]  # gives port and pid; lives until the end of the run
    stop: Callable[[str], None]


@pytest.fixture(scope="session")
def server(compile_c: Compile) -> Iterator[Server]:
    running: dict[str, tuple[subprocess.Popen[str], int]] = {}

    def command(name: str) -> list[str]:
        if name == FLOOR:
            return [compile_c("floor")]
        if name == "chansock-echo":
            return [sys.executable, "-m", "chansock.testing.echo", "--port", "0"]
        script, _, rival = name.rpartition("/")
        return [sys.executable, str(HERE / f"{script or 'rivals'}.py"), rival]

    def stop(name: str) -> None:
        process, _ = running.pop(name)
        process.kill()
        process.communicate()

    def start(name: str) -> tuple[int, int]:
        if name not in running:
            is_before = name.startswith(BEFORE)
            process = subprocess.Popen(
                [*pinned(0), *command(name.removeprefix(BEFORE))],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.environ["BASELINE"]} if is_before else None,
            )
            assert process.stdout is not None
            running[name] = process, 0
            found = re.search(PORT, process.stdout.readline().strip())
            if found is None:
                stop(name)
                raise RuntimeError(f"expected a port from the server {name}, got none")
            running[name] = process, int(found[0])
        process, port = running[name]
        return port, process.pid

    yield Server(start, stop)
    for name in list(running):
        stop(name)


@pytest.fixture(scope="module")
def printed(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """Lines that a bench without answers to count prints at its end."""
    lines: list[str] = []
    yield lines
    plugins = pytestconfig.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n", *lines, sep="\n")


Outcome = list[Round] | Exception  # of one implementation


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Outcome]]:
    """What was measured so far: question, implementation, rounds."""
    return {}


def asked_together(request: pytest.FixtureRequest) -> list[str]:
    """Name the implementations of which this run wants an answer to the same question."""

    def question(item: Any) -> dict[str, Any]:
        return {**item.callspec.params, "implementation": None, "test": item.originalname}

    return [
        item.callspec.params["implementation"]
        for item in request.session.items
        if item.path == request.node.path
        and hasattr(item, "callspec")
        and question(item) == question(request.node)
    ]


Measure = Callable[..., None]


@pytest.fixture
def measure(
    benchmark: Any,
    generator: list[str],
    server: Server,
    outcomes: dict[str, dict[str, Outcome]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Measure:
    """Return measure(dialects, clients=, in_flight=, mode=): the whole bench of benchmark.group.

    Rounds last `length` times as long as usual.
    """
    quick = request.config.getoption("--quick")

    def calibrate(load: Load, least: int, most: int, seconds: float) -> int:
        """Find how many requests a round takes; every answer is checked on the way."""
        requests = least
        while (trial := load.run(requests)).wall < seconds / 4 and requests < most:
            requests = min(most, requests * (2 if trial.wall > seconds / 16 else 8))
        return min(most, max(least, int(requests * seconds / trial.wall)))

    def ask_all(
        dialects: Mapping[str, Dialect], clients: int, in_flight: int, mode: str, length: float
    ) -> dict[str, Outcome]:
        seconds = (QUICK_SECONDS if quick else SECONDS) * length
        loads: dict[str, tuple[Load, int]] = {}
        outcome: dict[str, Outcome] = {}
        try:
            for name in asked_together(request):
                dialect = dialects[name]
                try:
                    port, pid = server.start(dialect.server or name)
                    load = Load(
                        generator, dialect, port=port, pid=pid, clients=clients,
                        in_flight=in_flight, mode=mode, folder=tmp_path / name,
                    )  # fmt: skip
                    loads[name] = load, 0
                    is_free = mode == "fan" or mode.startswith("pace")
                    least = 1 if is_free else clients * in_flight
                    most = MOST_OPEN if mode == "connect" else sys.maxsize
                    loads[name] = load, calibrate(load, least, most, seconds)
                    outcome[name] = []
                except RuntimeError as error:
                    outcome[name] = error
            for _ in range(QUICK_ROUNDS if quick else ROUNDS):
                for name, (load, requests) in loads.items():
                    rounds = outcome[name]
                    if isinstance(rounds, list):
                        try:
                            rounds.append(load.run(requests))
                        except RuntimeError as error:
                            outcome[name] = error
        finally:
            for load, _ in loads.values():
                load.stop()
        return outcome

    def measure(
        dialects: Mapping[str, Dialect],
        *,
        clients: int,
        in_flight: int = 1,
        mode: str = "echo",
        length: float = 1.0,
    ) -> None:
        if benchmark.group not in outcomes:
            outcomes[benchmark.group] = ask_all(dialects, clients, in_flight, mode, length)
        implementation = request.node.callspec.params["implementation"]
        rounds = outcomes[benchmark.group][implementation]
        events = dialects[implementation].events
        if isinstance(rounds, Exception):
            raise rounds
        remaining = iter(rounds)

        def one_round() -> None:
            result = next(remaining)
            METER.total += result.wall / (result.answers * events)

        def median(figure: Callable[[Round], float]) -> float:
            return statistics.median(map(figure, rounds))

        benchmark.pedantic(one_round, rounds=len(rounds))
        benchmark.extra_info.update(
            implementation=implementation,
            payload=len(dialects[implementation].answer),
            clients=clients,
            in_flight=in_flight,
            is_correct=True,  # the generator compares every byte, and stops at a wrong one
            answers=sum(r.answers for r in rounds),
            cpu=median(lambda r: r.cpu / (r.answers * events)),
            busy=median(lambda r: r.cpu / r.wall),
            generator_busy=median(lambda r: r.own / r.wall),
            latency=[median(lambda r: r.p50), median(lambda r: r.p99), median(lambda r: r.p999)],
        )

    return measure


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
            groups[bench.group].append(Row.of(bench.stats, bench.extra_info))
            if "mean_of" in bench.extra_info:
                kinds[bench.extra_info["mean_of"]][bench.group] = None
    if groups:
        terminalreporter.section("ratios")
        for line in rows(groups, OURS, FLOOR):
            terminalreporter.write_line(line)
        for line in means({kind: [groups[g] for g in kinds[kind]] for kind in kinds}, OURS):
            terminalreporter.write_line(line)
