"""What connections cost that do nothing: memory for each, CPU for all, and what leavers leave.

Memory is what the server's process has for itself alone (Private_* of smaps_rollup), for each
connection between the first few and the last; what the kernel keeps for a socket is not in
it. "uvloop" is a transport with a protocol that only says 101. The sockets are load.c's, with
a Chromium's head or a bare one; a server that is slow to connect to gets fewer of them, since
each costs the same. chansock has a session and a user for each, the others no more than they
need; its handshake is read, so that nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import pytest
from conftest import OURS, Server
from load import BARE_HEAD, Dialect, Load
from rivals import EVENTS, GRACE, KEEP_ALIVE
from table import verdict

KIB = 1024
BARE, CHROMIUM = "bare head", "a Chromium's head"
OPEN, QUICK_OPEN = 10_000, 5_000
OPEN_IF_HEAVY, QUICK_OPEN_IF_HEAVY = 3_000, 1_000
HEAVY = ("Starlette on uvicorn", "python-socketio")
FEW = 100  # connections that come first: what they make a server allocate once is not counted
ANONYMOUS = f"{OURS}, anonymous"
CHANNEL = replace(EVENTS[OURS], server=f"{OURS}, open to all")
DIALECTS = {
    OURS: CHANNEL,
    ANONYMOUS: replace(CHANNEL, server=ANONYMOUS),
    "uvloop": Dialect(),
    **{name: dialect for name, dialect in EVENTS.items() if name != OURS},
}
HEADS = {BARE: BARE_HEAD, CHROMIUM: EVENTS[OURS].head}
TARGETS = {BARE: 2.5, CHROMIUM: 3.0}  # KiB for each of chansock's, and its session

IDLE_SECONDS, QUICK_IDLE_SECONDS = 5.0, 2.0
MOST_IDLE = 0.01  # of a core

VISITS, QUICK_VISITS = 50_000, 10_000
# As many as are in grace at a time come first, more than once: what the allocator keeps of them
# it would use again, and it is no part of what is counted.
VISITS_BEFORE = 20_000
MOST_LEFT = 16  # bytes for each: the smallest of Python's objects, so that none is kept


def private_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * KIB for line in rollup.splitlines() if line[:8] == "Private_")


def cpu_seconds(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


@dataclass(frozen=True, slots=True)
class Ground:
    """A server of its own for each question, and sockets to it that stay open."""

    server: Server
    generator: list[str]
    folder: Path
    is_quick: bool

    @contextmanager
    def fresh(self, name: str) -> Iterator[tuple[int, int]]:
        try:
            yield self.server.start(name)
        finally:
            self.server.stop(name)

    @contextmanager
    def connected(
        self,
        dialect: Dialect,
        at: tuple[int, int],
        clients: int,
        mode: str = "echo",
        others: Sequence[int] = (),
        in_flight: int = 1,
    ) -> Iterator[Load]:
        port, pid = at
        load = Load(
            self.generator, dialect, port=port, pid=pid, clients=clients, in_flight=in_flight,
            mode=mode, folder=Path(mkdtemp(dir=self.folder)) / mode, others=others,
        )  # fmt: skip
        try:
            yield load
        finally:
            load.stop()


@pytest.fixture
def ground(
    server: Server, generator: list[str], tmp_path: Path, pytestconfig: pytest.Config
) -> Ground:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("expected Linux 4.14 or later: its /proc says what memory is a process's own")
    return Ground(server, generator, tmp_path, pytestconfig.getoption("quick"))


Measured = dict[tuple[str, str], float]  # implementation and head: KiB for each connection


@pytest.fixture(scope="module")
def measured(printed: list[str]) -> Measured:
    printed.append(f"{'an idle connection':48}{'connections':>12}{'KiB for each':>14}{'x':>8}")
    return {}


@pytest.mark.parametrize("implementation", DIALECTS)
@pytest.mark.parametrize("head", HEADS)
def test_memory_of_an_idle_connection(
    ground: Ground, measured: Measured, printed: list[str], head: str, implementation: str
) -> None:
    if implementation in HEAVY:
        clients = QUICK_OPEN_IF_HEAVY if ground.is_quick else OPEN_IF_HEAVY
    else:
        clients = QUICK_OPEN if ground.is_quick else OPEN
    dialect = replace(DIALECTS[implementation], head=HEADS[head])
    with ExitStack() as stack:
        at = stack.enter_context(ground.fresh(dialect.server or implementation))
        stack.enter_context(ground.connected(dialect, at, FEW))
        before = private_bytes(at[1])
        more = replace(dialect, path=dialect.path.replace("{n}", "more-{n}"))
        stack.enter_context(ground.connected(more, at, clients))
        each = (private_bytes(at[1]) - before) / clients / KIB
    measured[implementation, head] = each
    ours = measured.get((OURS, head))
    times = f"{each / ours:.2f}" if ours else "-"
    printed.append(f"  {implementation + ', ' + head:46}{clients:12,}{each:14.2f}{times:>8}")
    if implementation in (OURS, ANONYMOUS):
        most = TARGETS[head]
        told = verdict(implementation, "memory", f"{most} KiB", f"{each:.2f}", each <= most)
        printed.append(told)


def test_cpu_of_idle_connections(ground: Ground, printed: list[str]) -> None:
    """Between two keep-alives of the default interval nothing is due, and nothing is done."""
    clients = QUICK_OPEN if ground.is_quick else OPEN
    seconds = QUICK_IDLE_SECONDS if ground.is_quick else IDLE_SECONDS
    dialect = replace(CHANNEL, server=f"{OURS}, kept alive")
    with ground.fresh(dialect.server) as at:
        first = time.monotonic()
        with ground.connected(dialect, at, clients):
            time.sleep(0.5)  # the server is done with the last of them
            start, used = time.monotonic(), cpu_seconds(at[1])
            time.sleep(seconds)
            end, used = time.monotonic(), cpu_seconds(at[1]) - used
    if end > first + KEEP_ALIVE:
        raise RuntimeError(
            f"expected the window to end before the first keep-alive, {KEEP_ALIVE} s"
        )
    share = used / (end - start)
    printed.append(f"{clients:,} idle connections over {seconds} s between keep-alives:")
    most = f"{MOST_IDLE:.0%} of a core"
    printed.append(verdict(OURS, "cpu", most, f"{share:.3%}", share <= MOST_IDLE))


def test_memory_after_clients_have_left(ground: Ground, printed: list[str]) -> None:
    visits = QUICK_VISITS if ground.is_quick else VISITS
    dialect = replace(CHANNEL, server=f"{OURS}, forgetting")
    with ground.fresh(dialect.server) as at, ground.connected(dialect, at, 16, "visit") as load:

        def left_after(count: int) -> int:
            load.run(count)
            time.sleep(4 * GRACE)  # the last grace has ended
            return private_bytes(at[1])

        before = left_after(VISITS_BEFORE)
        left = (left_after(visits) - before) / visits
    printed.append(f"{visits:,} clients came, left, and their grace of {GRACE} s passed:")
    most, got = f"{MOST_LEFT} bytes for each", f"{left:.1f}"
    printed.append(verdict(OURS, "memory left", most, got, left <= MOST_LEFT))
