"""One client of the soak: connects, asks, answers, ends each connection in some way, comes back.

What it does is drawn from the seed; what comes of that, from time as well.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from random import Random
from typing import Protocol

from soak.account import Account, Snapshot
from soak.ajax import Ajax
from soak.link import Link
from soak.packed import Packed
from soak.wire import Wire
from soak.ws import Ws

SMALL = 8192  # the receive buffer of every second connection: less lies in the kernel

EVENT = rb':s/(?:u \[(\d+) (\d+) (\d+)|b \[(\d+)|l \[(\d+)) "[a-z]*"\]'
BATCH = re.compile(rb"\[\[\[" + EVENT + rb"\](?: \[" + EVENT + rb"\])*\] nil\]")
EVENTS = re.compile(EVENT)
HANDSHAKE = re.compile(rb'\[\[:chsk/handshake \["(\w+)" nil \[([\d ]+)\]\]\] nil\]')

ENDS, WEIGHTS = zip(
    ("leave", 20),
    ("fin", 25),
    ("reset", 30),
    ("kick", 6),
    ("displace", 10),
    ("lag", 8),
    ("lag_long", 3),
    ("sleep", 2),
    strict=True,
)


class World(Protocol):
    """What all clients share."""

    ports: dict[str, int]  # by the packer of who listens there
    seed: str
    is_over: bool
    counts: Counter[str]

    def fault(self, text: str) -> None: ...

    def late(self, text: str) -> None:
        """Report a fault, unless one of the two processes stood still just now."""


class Client:
    """One client-id of one user, over all its connections."""

    def __init__(
        self, world: World, name: str, uid: str, packed: Packed, *, is_steady: bool, is_alone: bool
    ) -> None:
        self.world = world
        self.name = name
        self.uid = uid
        self.packed = packed
        self.is_steady = is_steady
        self.is_alone = is_alone  # no other client of this user
        self.random = Random(f"{world.seed}/{name}")
        self.account = Account(name, world.fault)
        self.questions: deque[tuple[int, int]] = deque()  # (number of the event, question)
        self.calls = 0  # callback ids so far
        # Asked on a socket that ended: a later one of the same client may bring the reply.
        self.outlived: dict[str, tuple[str, int, int]] = {}
        self.sent = 0  # k of the last event sent in order
        self.sure = 0  # the last k of which we know that it was handled
        self.cut: set[int] = set()  # each k whose POST we cut off, so that it may be missing
        self.was_sure = 0  # the same, when the newest GET was sent
        self.target = f"/chsk?user={uid}&client-id={name}"

    @property
    def port(self) -> int:
        return self.world.ports[self.packed.name]

    def count(self, name: str) -> None:
        self.world.counts[name] += 1

    def fault(self, text: str) -> None:
        self.world.fault(f"{self.name}: {text}")

    def late(self, text: str) -> None:
        self.world.late(f"{self.name}: {text}")

    # -- what comes

    def shake(self, text: bytes) -> list[int]:
        found = HANDSHAKE.fullmatch(text)
        if found is None or found[1].decode() != self.uid:
            raise ValueError(f"{self.name}: expected a handshake, got {text[:200]!r}")
        numbers = [int(word) for word in found[2].split()]
        heard = Snapshot(*numbers).heard
        if not self.was_sure <= heard <= self.sent:
            self.fault(f"the server heard {heard}, expected {self.was_sure} to {self.sent}")
        return numbers

    def batch(self, text: bytes, *, is_unread: bool) -> None:
        """Take a batch of events."""
        if BATCH.fullmatch(text) is None:
            self.fault(f"expected a batch, got {text[:200]!r}")
            return
        for number, before, question, broadcast, latest in EVENTS.findall(text):
            if number:
                self.account.take("u", int(number), int(before), is_unread=is_unread)
                if question != b"0" and not is_unread:
                    self.questions.append((int(number), int(question)))
            elif broadcast:
                self.account.take("b", int(broadcast), None, is_unread=is_unread)
            else:
                self.account.take("l", int(latest), None, is_unread=is_unread)
        self.count("batches")

    # -- what goes

    def next(self) -> int:
        self.sent += 1
        return self.sent

    async def answer_questions(self, link: Link) -> None:
        while self.questions and link.is_open:
            number, question = self.questions.popleft()
            await link.tell(f":t/answer [{self.next()} {number} {2 * question + 1}]")
            self.count("questions answered")

    # -- the life

    async def run(self) -> None:
        random = self.random
        is_ws = random.random() < 0.5
        link: Link | None = None
        await asyncio.sleep(2 * random.random())  # not all at once
        while not self.world.is_over or link is not None:
            if link is None:
                link = await self.connect(is_ws)
                if link is None:
                    continue
            await self.live(link)
            if self.world.is_over:
                await link.leave()
                return
            if not link.is_open:
                end = "as the server did"
            elif self.is_steady:
                continue
            else:
                end = random.choices(ENDS, WEIGHTS)[0]
            if end == "displace" and (not self.is_alone or not isinstance(link, Ws)):
                end = "leave"
            kind = "ws" if is_ws else "ajax"
            self.count(f"end {kind} {end}")
            self.account.after = f"{self.account.after}, {kind} {end}"[-60:]
            if random.random() < 0.2:
                is_ws = not is_ws
            if end == "displace":
                link = await self.connect(is_ws, link)
                continue
            await getattr(link, end, link.finish)()
            link = None
            self.questions.clear()
            await self.pause()

    async def live(self, link: Link) -> None:
        """Ask now and then, until it has been enough or the server ends it."""
        random = self.random
        until = time.monotonic() + random.expovariate(1 / 7)
        while link.is_open and not self.world.is_over and time.monotonic() < until:
            await link.is_closed_within(random.uniform(0.3, 4))
            if link.is_open:
                await self.answer_questions(link)
                if random.random() < 0.6:
                    await link.ask(random.randint(1, 4))

    async def pause(self) -> None:
        """Stay away: not at all, within grace, or longer."""
        random = self.random
        what = random.random()
        if what < 0.4:
            self.count("back at once")
        elif what < 0.75:
            self.count("back within grace")
            await asyncio.sleep(random.uniform(0.05, 0.9))
        else:
            self.count("back after grace")
            await asyncio.sleep(random.uniform(2.8, 5.0))

    async def connect(self, is_ws: bool, old: Link | None = None) -> Link | None:
        """Connect; while an old connection stands, which is then read to its end."""
        if old is not None and self.random.random() < 0.3:
            old.stop_reading()
            await old.flood()
            await asyncio.sleep(0.3)
        wire = await Wire.connect(self.port, SMALL if self.random.random() < 0.5 else 0)
        link = Ws(self, wire) if is_ws else Ajax(self, wire)
        try:
            await link.open(old)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.late(f"could not connect: {error!r}")
            link.close()
            if old is not None and old.is_open:
                await old.leave()
            return None
        return link
