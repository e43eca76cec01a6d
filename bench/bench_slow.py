"""What clients that read nothing cost the others, and the server's memory.

Broadcasts go to a thousand clients that read, while one more does not: what the others wait,
beside what they waited without it, and what the server holds for it until it is cut. Then a
thousand that do not read are each sent events of their own, far past what Config lets wait for
all. Memory is Private_* of the server's process; the limits are the defaults of Config.

One broadcast that the machine disturbed is the p99 of a round of a hundred. So rounds with the
slow client and without stand in turn, the ratio is taken within each turn, and the median of
them counts; a second round without it in each turn shows what is noise.
"""

from __future__ import annotations

import itertools
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
FILL = 300  # broadcasts after which the kernel takes nothing more for one that reads nothing
SETTLE = 3  # broadcasts until the one that left is forgotten
PAST = 1300  # broadcasts after which it has been cut, by events or by bytes
TURNS, QUICK_TURNS = 15, 5
STEP = 25  # broadcasts between two looks at the memory
NUMBERS = itertools.count()  # of clients: none finds what waited for another
MOST_P99 = 1.10  # of what it is without the slow one
MIB = 1 << 20
ONE, ALL = 1 * MIB, 256 * MIB  # max_backlog_bytes, max_total_backlog_bytes
EVENTS, SIZE = 150, 4096  # 600 MiB for a thousand


@contextmanager
def sleepers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open sockets that never read."""
    allow_descriptors(count + 200)
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(
                HEAD.format(path=f"/chsk?client-id=slow{next(NUMBERS)}", port=port).encode()
            )
            found.append(sock)
        yield found


def test_one_among_many(ground: Ground, printed: list[str]) -> None:  # noqa: F811
    """With a client beside that takes nothing, and without."""
    clients = QUICK_CLIENTS if ground.is_quick else CLIENTS
    news = dialect(OURS, 1, PAYLOAD)
    ratios, noise = [], []
    with ground.fresh(news.server) as at, ground.connected(news, at, clients, "fan") as load:

        def without() -> float:
            return load.run(EACH).p99

        def beside() -> float:
            with sleepers(at[0], 1):
                load.run(FILL)
                p99 = load.run(EACH).p99
            load.run(SETTLE)
            return p99

        load.run(FILL)
        before = private_bytes(at[1])
        most = 0
        with sleepers(at[0], 1):
            for _ in range(0, PAST, STEP):
                load.run(STEP)
                most = max(most, private_bytes(at[1]) - before)
        for turn in range(QUICK_TURNS if ground.is_quick else TURNS):
            if turn % 2:
                first, slow, second = without(), beside(), without()
            else:
                second, slow, first = without(), beside(), without()
            ratios.append(slow / first)
            noise.append(second / first)
    ratio, of_nothing = statistics.median(ratios), statistics.median(noise)
    printed.append(f"one that reads nothing, among {clients:,} that each broadcast reaches")
    printed.append(
        verdict(OURS, "p99 of the others", f"{MOST_P99} of it without",
                f"{ratio:.2f} (without, of it without: {of_nothing:.2f})", ratio <= MOST_P99)
    )  # fmt: skip
    printed.append(
        verdict(OURS, "memory for it", f"{ONE / MIB:.0f} MiB", f"{most / MIB:.2f} MiB",
                most <= ONE)
    )  # fmt: skip


def test_a_thousand(ground: Ground, printed: list[str]) -> None:  # noqa: F811
    """Each is sent events of its own: nothing is shared, and all together is too much."""
    clients = QUICK_CLIENTS if ground.is_quick else CLIENTS
    name = f"{OURS}{BY_USER}"
    asked = dialect(name, 1, SIZE)
    with ground.fresh(asked.server) as (port, pid), sleepers(port, clients):
        with ground.connected(asked, (port, pid), 1, "fan") as load:
            load.run(1)  # what it takes to send at all, the kernel takes these
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
                most <= ALL)
    )  # fmt: skip
