"""The server under soak: a process of its own, so that its memory and descriptors can be told.

    python -m soak.server CLIENTS RATE SEED

There is a channel for each packer, with the clients whose packer it is. Prints their ports as
JSON, then takes commands, one a line on stdin: `go` (send RATE numbered events a
second, and what floods ask for besides), `hold` (send no more), `report`, `stop` (three events
more to whoever is there, then end). The last two are answered by a line of JSON. The end of
stdin ends it, too.

    :s/u [n m q pad]  the n-th event of this user, sent after the m-th broadcast; q: a question
    :s/b [m pad]      the m-th broadcast
    :s/l [l pad]      the l-th of those of which only the latest counts (`latest`)

    :t/plain :t/wait :t/parallel [k x]  answered by [k x+1], at once or later
    :t/answer [k n v]     the answer to the question of event n
    :t/flood [events bytes]             so many events more, at once
    :t/kick [k]           disconnect me

k counts what a client sends, but for what is parallel. The handshake carries the client's
ledger, so that it can tell what it missed and why.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import chansock
from chansock._core import log_limit
from chansock.clock import loop_factory
from soak import SETTINGS, note_stalls, question, user_of
from soak.packed import PACKERS, packer_of

TICK = 0.02  # seconds between two rounds of sending
LOOK = 0.1  # between two looks at all sessions; below every grace
BROADCASTS = 0.5  # a second
GRACE = "events_lost reason=grace events=%d of %r"
LIST_OF_LEDGER = ("meant", "cut", "grace", "replaced", "waiting", "heard", "is_open")


@dataclass(slots=True)
class Ledger:
    """What was meant for one client, and what became of it, over all its sessions."""

    uid: str
    client_id: str
    meant: int = 0
    cut: int = 0  # too_slow and budget; by the records of the log, as the next
    grace: int = 0
    replaced: int = 0
    waiting: int = 0  # at the last look
    heard: int = 0  # k of the last event that came from it
    is_open: int = 0  # 1: a connection took its pushes at the last look
    may_skip: bool = True  # since its handshake nothing came
    answered: int = 0  # number of the last event that it answered


class Found:
    """What all channels tell of this process."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.lates: list[tuple[float, str]] = []  # faults, unless a process stood still
        self.gaps: list[tuple[float, str, int, int]] = []  # client, the k expected, and come
        self.logged: Counter[str] = Counter()
        self.stalls: list[float] = []  # when this process had stood still

    def fault(self, text: str) -> None:
        if len(self.faults) < 50:
            self.faults.append(text)

    def late(self, text: str) -> None:
        if len(self.lates) < 50:
            self.lates.append((time.monotonic(), text))

    def gap(self, client_id: str, expected: int, got: int) -> None:
        if len(self.gaps) < 1000:
            self.gaps.append((time.monotonic(), client_id, expected, got))


class Soak:
    """The channel of one packer, what it sends, and the ledger of each of its clients."""

    def __init__(
        self, packer: str, ledgers: list[Ledger], rate: float, seed: str, found: Found
    ) -> None:
        self.random = Random(f"{seed}/{packer}")
        self.packer = packer
        self.rate = rate
        self.found = found
        self.chsk = chansock.ChannelSocket(
            chansock.Config(**SETTINGS),
            user_id=lambda request: request.params["user"],
            handshake_data=self.handshake_data,
            packer=PACKERS[packer],
        )
        self.ledgers: dict[tuple[str, str], Ledger] = {}
        self.of_user: dict[str, list[Ledger]] = {}
        for ledger in ledgers:
            self.ledgers[ledger.uid, ledger.client_id] = ledger
            self.of_user.setdefault(ledger.uid, []).append(ledger)
        self.uids = list(self.of_user)
        self.numbers = dict.fromkeys(self.uids, 0)
        self.latest = dict.fromkeys(self.uids, 0)
        self.broadcasts = 0
        self.answers = 0
        self.is_going = False
        for name, handler, is_parallel in (
            ("t/plain", self.plain, False),
            ("t/wait", self.wait, False),
            ("t/parallel", self.parallel, True),
            ("t/answer", self.answer, False),
            ("t/flood", self.flood, True),
            ("t/kick", self.kick, False),
        ):
            self.chsk.on(name, handler, parallel=is_parallel)

    # -- the ledger

    def look(self, ledger: Ledger) -> Any:
        """Note whether the client has a session, and what waits for it; give the session."""
        session = self.chsk._core.hub.table.find(ledger.uid, ledger.client_id)
        if session is None or session.is_gone:
            ledger.waiting = ledger.is_open = 0
            return None
        ledger.waiting = session.waiting_events
        ledger.is_open = int(session.current is not None)
        return session

    def handshake_data(self, request: chansock.Request) -> list[int]:
        ledger = self.ledgers[request.params["user"], request.params["client-id"]]
        self.look(ledger)
        ledger.may_skip = True
        return self.snapshot(ledger)

    def snapshot(self, ledger: Ledger) -> list[int]:
        uid = ledger.uid
        return [
            self.numbers[uid],
            self.broadcasts,
            self.latest[uid],
            *(getattr(ledger, name) for name in LIST_OF_LEDGER),
        ]

    def check(self) -> None:
        """Look at all, and add up: sent = written + replaced + lost + waiting."""
        for ledger in self.ledgers.values():
            self.look(ledger)
        stats, lost = self.chsk.stats, self.chsk.stats.lost
        waiting = sum(ledger.waiting for ledger in self.ledgers.values())
        pairs = {
            "sent = written + replaced + lost + waiting": (
                stats.sent,
                stats.written + stats.replaced + sum(asdict(lost).values()) + waiting,
            ),
            "sent": (stats.sent, sum(x.meant for x in self.ledgers.values())),
            "cut": (lost.too_slow + lost.budget, sum(x.cut for x in self.ledgers.values())),
            "grace": (lost.grace, sum(x.grace for x in self.ledgers.values())),
            "replaced": (stats.replaced, sum(x.replaced for x in self.ledgers.values())),
        }
        for name, (counted, expected) in pairs.items():
            if counted != expected:
                self.found.fault(f"{name}: counted {counted}, by the ledgers {expected}")

    # -- out

    def send(self, to: Any, ledgers: list[Ledger], event_id: str, data: Any, **more: Any) -> None:
        before = []
        for ledger in ledgers:
            session = self.look(ledger)
            if session is not None:
                before.append((ledger, session, ledger.waiting))
                ledger.meant += 1
        self.chsk.send(to, event_id, data, **more)
        for ledger, session, waited in before:
            ledger.waiting = session.waiting_events
            if more and waited and ledger.waiting == waited:
                ledger.replaced += 1

    def send_user(self, uid: str, size: int = 0) -> None:
        number = self.numbers[uid] = self.numbers[uid] + 1
        data = [number, self.broadcasts, question(number), "x" * size]
        self.send(uid, self.of_user[uid], "s/u", data)

    def send_latest(self, uid: str) -> None:
        number = self.latest[uid] = self.latest[uid] + 1
        self.send(uid, self.of_user[uid], "s/l", [number, "y"], latest="l")

    def broadcast(self) -> None:
        self.broadcasts += 1
        self.send(chansock.ALL, list(self.ledgers.values()), "s/b", [self.broadcasts, "z" * 20])

    def round(self) -> int:
        """Send a little to somebody, mostly one event, now and then many; give their number."""
        random = self.random
        uid = random.choice(self.uids)
        what = random.random()
        if what < 0.70:
            self.send_user(uid, random.randrange(100))
            return 1
        if what < 0.80:
            count = random.randint(2, 60)
            for _ in range(count):
                self.send_user(uid, random.randrange(40))
            return count
        count = random.randint(1, 3)
        for _ in range(count):
            self.send_latest(uid)
        return count

    async def pace(self) -> None:
        loop = asyncio.get_running_loop()
        was = loop.time()
        due = due_broadcasts = 0.0
        while True:
            await asyncio.sleep(TICK)
            now = loop.time()
            if self.is_going:
                due += self.rate * (now - was)
                due_broadcasts += BROADCASTS * (now - was)
                while due > 0:
                    due -= self.round()
                if self.broadcasts < due_broadcasts:
                    for _ in range(self.random.choice((1, 1, 1, 4))):
                        self.broadcast()
            was = now

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self.check()

    # -- in

    def came(self, msg: chansock.EventMsg[Any], *, is_ordered: bool = True) -> Ledger:
        ledger = self.ledgers[msg.uid, msg.client_id]
        if is_ordered:
            number = msg.data[0]
            if number != ledger.heard + 1 and not (ledger.may_skip and number > ledger.heard):
                self.found.gap(ledger.client_id, ledger.heard + 1, number)
            ledger.heard, ledger.may_skip = max(ledger.heard, number), False
        return ledger

    def plain(self, msg: chansock.EventMsg[Any]) -> list[int]:
        self.came(msg)
        return [msg.data[0], msg.data[1] + 1]

    async def wait(self, msg: chansock.EventMsg[Any]) -> list[int]:
        self.came(msg)
        await asyncio.sleep(0.003 * (msg.data[1] % 3))
        return [msg.data[0], msg.data[1] + 1]

    async def parallel(self, msg: chansock.EventMsg[Any]) -> list[int]:
        await asyncio.sleep(0.01 * (msg.data[1] % 5))
        return [msg.data[0], msg.data[1] + 1]

    def answer(self, msg: chansock.EventMsg[Any]) -> None:
        ledger = self.came(msg)
        _, number, value = msg.data
        self.answers += 1
        if not ledger.answered < number <= self.numbers[ledger.uid]:
            self.found.late(f"{ledger.client_id}: answered {number} after {ledger.answered}")
        if value != 2 * question(number) + 1:
            self.found.fault(f"{ledger.client_id}: answered {value} to question {question(number)}")
        ledger.answered = number

    async def flood(self, msg: chansock.EventMsg[Any]) -> None:
        events, size = msg.data
        for sent in range(events):
            if self.is_going:
                self.send_user(msg.uid, size)
            if sent % 20 == 19:
                await asyncio.sleep(0.001)

    def kick(self, msg: chansock.EventMsg[Any]) -> None:
        self.came(msg)
        self.chsk.disconnect(msg.client, reason="as asked")

    # -- commands

    def report(self) -> dict[str, Any]:
        core = self.chsk._core
        assert core is not None
        return {
            "stats": asdict(self.chsk.stats),
            "connected": len(self.chsk.connected.any),
            "tables": {
                "users": len(core.hub.table),
                "connections": len(core.hub.connections),
                "away": core.hub.table.away,
                "outboxes": len(core.fanout),
                "posts": len(core.dispatch.posts),
                "stray_inboxes": len(core.endpoint._stray_inboxes),
                "incoming": core.endpoint.incoming.held,
            },
            "total": sum(self.numbers.values()) + sum(self.latest.values()) + self.broadcasts,
            "answers": self.answers,
            "ledgers": {x.client_id: self.snapshot(x) for x in self.ledgers.values()},
        }


def make(clients: int, rate: float, seed: str, found: Found) -> list[Soak]:
    """Make the channel of each packer that somebody has."""
    shares: dict[str, list[Ledger]] = {}
    for number in range(clients):
        uid = user_of(number, clients)
        shares.setdefault(packer_of(uid, seed), []).append(Ledger(uid, f"c{number}"))
    return [
        Soak(packer, ledgers, rate * len(ledgers) / clients, seed, found)
        for packer, ledgers in shares.items()
    ]


def added(reports: list[Any]) -> Any:
    """Add up the reports, or what stands at one place of them: numbers, and tables of such."""
    first = reports[0]
    if isinstance(first, dict):
        keys = {key: None for report in reports for key in report}
        return {key: added([report[key] for report in reports if key in report]) for key in keys}
    # A client's ledger stands in one report only; the lag of a loop is that of all.
    return first if isinstance(first, list | float) else sum(reports)


class Records(logging.Handler):
    """Counts what chansock logs; what it cut goes to the ledger, and an error is a fault."""

    def __init__(self, soaks: list[Soak], found: Found) -> None:
        super().__init__(logging.INFO)
        self.ledgers = {key: ledger for soak in soaks for key, ledger in soak.ledgers.items()}
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        name = str(record.msg).split(" ", 1)[0]
        if name == "session_cut":
            reason, events, session = record.args
            self.ledgers[session.uid, session.client_id].cut += events
            name += f" {reason}"
        elif record.msg == GRACE:
            events, session = record.args
            self.ledgers[session.uid, session.client_id].grace += events
        if record.levelno > logging.INFO:
            self.found.logged[name] += 1
        if record.levelno >= logging.ERROR:
            self.found.fault(f"logged: {self.format(record)}")


async def lines() -> Any:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line.decode().strip()


async def main(clients: int, rate: float, seed: str) -> None:
    log_limit.BURST = 1 << 30  # each line about a session goes to its ledger
    found = Found()
    soaks = make(clients, rate, seed, found)
    for name in ("chansock", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(Records(soaks, found))
    async with AsyncExitStack() as stack:
        ports = {}
        for soak in soaks:
            listener = await stack.enter_async_context(chansock.serve(soak.chsk, port=0))
            ports[soak.packer] = listener.port
        works = [work for soak in soaks for work in (soak.pace(), soak.watch())]
        tasks = [asyncio.create_task(work) for work in (*works, note_stalls(found.stalls))]
        for task in tasks:
            task.add_done_callback(lambda task: task.cancelled() or found.fault(str(task)))
        print(json.dumps(ports), flush=True)
        async for line in lines():
            if line == "go" or line == "hold":
                for soak in soaks:
                    soak.is_going = line == "go"
            elif line == "report":
                gc.collect()  # so that memory is what is held, not what is not yet collected
                report = added([soak.report() for soak in soaks])
                print(json.dumps(report | vars(found)), flush=True)
            elif line == "stop":
                for soak in soaks:
                    for uid in _there(soak):
                        for _ in range(3):
                            soak.send_user(uid)
                    soak.check()
                break
        for task in tasks:
            task.cancel()
    stats = added([asdict(soak.chsk.stats) for soak in soaks])
    print(json.dumps({"stats": stats, "faults": found.faults}), flush=True)


def _there(soak: Soak) -> Iterator[str]:
    for uid, ledgers in soak.of_user.items():
        if any(soak.look(ledger) for ledger in ledgers):
            yield uid


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
