"""What clients that read nothing cost the others, and the server's memory.

Broadcasts go to a thousand clients that read, while one more does not: what the others wait,
beside what they waited without it, and what the server holds for it. Then a thousand that do
not read are each sent events of their own, far past what Config lets wait for all. Memory is
Private_* of the server's process; the limits are the defaults of Config.
"""

from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench_memory import Ground, ground, private_bytes  # noqa: F401
from conftest import OURS
from fan_rivals import BY_USER, dialect
from load import HEAD, allow_descriptors
from table import verdict

CLIENTS, QUICK_CLIENTS = 1000, 200
PAYLOAD = 1024
EACH = 100  # broadcasts of a round
ROUNDS, QUICK_ROUNDS = 9, 3
MOST_P99 = 1.10  # of what it is without the slow one
MIB = 1 << 20
ONE, ALL = 1 * MIB, 256 * MIB  # max_backlog_bytes, max_total_backlog_bytes
SLACK = 1.1  # of what stands around the bytes that are counted
EVENTS, SIZE = 150, 4096  # 600 MiB for a thousand


@contextmanager
def sleepers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open sockets that never read."""
    allow_descriptors(count + 200)
    with ExitStack() as stack:
        found = []
        for number in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(HEAD.format(path=f"/chsk?client-id=slow{number}", port=port).encode())
            found.append(sock)
        yield found


def test_one_among_many(ground: Ground, printed: list[str]) -> None:  # noqa: F811
    """Half of the rounds with a client beside that takes nothing, in turn with the others."""
    clients = QUICK_CLIENTS if ground.is_quick else CLIENTS
    news = dialect(OURS, 1, PAYLOAD)
    without, beside, held = [], [], []
    with ground.fresh(news.server) as at, ground.connected(news, at, clients, "fan") as load:
        load.run(EACH)
        for _ in range(QUICK_ROUNDS if ground.is_quick else ROUNDS):
            without.append(load.run(EACH).p99)
            before = private_bytes(at[1])
            with sleepers(at[0], 1):
                beside.append(load.run(EACH).p99)
                held.append(private_bytes(at[1]) - before)
    ratio = statistics.median(beside) / statistics.median(without)
    printed.append(f"one that reads nothing, among {clients:,} that each broadcast reaches")
    printed.append(
        verdict(OURS, "p99 of the others", f"{MOST_P99} of it without", f"{ratio:.2f}",
                ratio <= MOST_P99)
    )  # fmt: skip
    printed.append(
        verdict(OURS, "memory for it", f"{ONE / MIB:.0f} MiB", f"{max(held) / MIB:.2f} MiB",
                max(held) <= ONE * SLACK)
    )  # fmt: skip


def test_a_thousand(ground: Ground, printed: list[str]) -> None:  # noqa: F811
    """Each is sent events of its own: nothing is shared, and all together is too much."""
    clients = QUICK_CLIENTS if ground.is_quick else CLIENTS
    name = f"{OURS}{BY_USER}"
    asked = dialect(name, 1, SIZE)
    with ground.fresh(asked.server) as (port, pid), sleepers(port, clients):
        with ground.connected(asked, (port, pid), 1, "fan") as load:
            before = private_bytes(pid)
            most = 0
            for _ in range(EVENTS):
                load.run(1)
                most = max(most, private_bytes(pid) - before)
    printed.append(
        f"{clients:,} that read nothing, each sent {EVENTS * SIZE / MIB:.1f} MiB of its own"
    )
    printed.append(
        verdict(OURS, "memory for all", f"{ALL / MIB:.0f} MiB", f"{most / MIB:.0f} MiB",
                most <= ALL * SLACK)
    )  # fmt: skip
