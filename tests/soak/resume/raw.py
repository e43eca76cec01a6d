"""A client of our own hand, that does what the wire's description says and nothing else.

`RawClient` keeps what outlives a connection: position, numbers, buffer, and pending replies, and
goes from one connection (`raw_ws`, `raw_ajax`) to the next. It breaks connections itself, too:
closes or resets them, or leaves them open and unread, and changes its transport. The edn that the
soak's server writes is read here by turning it into JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import peer

from soak.resume import ASKS, REPLY_TIMEOUT
from soak.resume.account import Account

LIMIT = 120  # events in the buffer, past which no more are made
GONE = (asyncio.IncompleteReadError, OSError, TimeoutError, asyncio.LimitOverrunError)

_KEYWORD = re.compile(rb":([a-z][a-z0-9/*?.-]*)")
_NIL = re.compile(rb"\bnil\b")
_SHAKEN = re.compile(
    rb"\[\[:chsk/handshake \[\S+ \{([^}]*)\} \{([^}]*)\}\]\] nil\]"
)  # fmt: skip
_PAIR = re.compile(rb':(\w+) "?:?([\w-]+)"?')


# The body of a 409: another worker got an older handshake of this client after this one.
OVERTAKEN = b"a newer handshake of this client came first"


class Confused(Exception):
    """The server said something that the wire does not know, or broke a rule of it."""


class Ended(Exception):
    """The connection is over; another one is to come."""


def read(packet: bytes) -> Any:
    """Read a packet; keywords are read as strings without the colon."""
    text = _NIL.sub(b"null", _KEYWORD.sub(rb'"\1"', packet))
    return json.loads(text.replace(b" ", b","))  # no string of the soak has a space


def read_handshake(packet: bytes) -> tuple[dict[str, str], dict[str, int]] | None:
    """Read what a handshake says of the position, and its data; None if it is none."""
    found = _SHAKEN.fullmatch(packet)
    if found is None:
        return None
    told, data = (
        {key.decode(): value.decode() for key, value in _PAIR.findall(part)}
        for part in found.groups()
    )
    return told, {kind: int(n) for kind, n in data.items()}


class Wire(peer.Peer):
    """A connection, which breaks by an OSError only."""

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        await super().send(data)


class Link(Protocol):
    """One connection of a client."""

    async def run(self) -> None:
        """Open it, and serve it until it ends; raises what ends it."""

    def wake(self) -> None:
        """Write what is new in the buffer."""

    def end(self) -> None:
        """Have `run` return."""


class RawClient:
    """One client, over all its connections."""

    def __init__(self, name: str, account: Account, random: Random, port: int) -> None:
        self.name = name
        self.account = account
        self.random = random
        self.port = port
        self.new_link: list[Callable[[RawClient], Link]] = []
        self.changes_transport = False
        self.link: Link | None = None
        self.is_going = True  # events are made
        self.is_wild = True  # it breaks connections itself
        self.is_over = False
        self.is_careless = False  # a control: it keeps nothing that was written
        self.away_until = 0.0
        # what the wire has it keep
        self.pos = "0"
        self.attempt = 0  # grows with each handshake
        self.acked = 0
        self.sent = 0
        self.made = 0
        self.buffer: dict[int, tuple[str, bool]] = {}  # event, and whether it wants a reply
        self.pending: dict[int, tuple[float, str]] = {}  # when its reply is overdue, and its kind
        self._left: set[asyncio.Task[None]] = set()

    # -- from one connection to the next

    async def run(self) -> None:
        making = asyncio.create_task(self.make_events())
        loop = asyncio.get_running_loop()
        kind = self.random.randrange(len(self.new_link))
        while not self.is_over:
            if self.changes_transport and self.random.random() < 0.4:
                kind = (kind + 1) % len(self.new_link)
            self.link = self.new_link[kind](self)
            self.account.note(f"{type(self.link).__name__} from {self.pos.partition('-')[2]}")
            try:
                await self.link.run()
            except (*GONE, Ended):
                pass
            except Exception as error:
                self.account.fault("confused", f"{type(error).__name__} {error}")
            self.link = None
            wait = self.random.choice((0.0, 0.02, 0.2, 0.5))
            await asyncio.sleep(wait)
            while (left := self.away_until - loop.time()) > 0:  # which may grow meanwhile
                await asyncio.sleep(left)
        making.cancel()

    def stay_away(self, seconds: float) -> None:
        """Be away from the next moment on, for a while."""
        self.away_until = asyncio.get_running_loop().time() + seconds
        self.end()

    def end(self) -> None:
        """End the present connection."""
        if self.link is not None:
            self.link.end()

    def keep(self, work: Any) -> None:
        """Do something beside the present connection: end an old one, some time."""
        task = asyncio.create_task(self._quietly(work))
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    @staticmethod
    async def _quietly(work: Any) -> None:
        with contextlib.suppress(*GONE, Ended):
            await work

    # -- what the application does

    async def make_events(self) -> None:
        """Make events in bursts, and see which replies are overdue."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.random.uniform(0.05, 0.8))
            # Its replies would be overdue before a client is back that is away for long.
            if self.is_going and self.away_until - loop.time() < REPLY_TIMEOUT / 3:
                for _ in range(self.random.choice((1, 2, 10, 30))):
                    if len(self.buffer) < LIMIT:
                        self.make_event()
                if self.link is not None:
                    self.link.wake()
            now = loop.time()
            for k, (due, kind) in list(self.pending.items()):
                if due < now:
                    del self.pending[k]
                    self.account.no_reply(k, f"c/{kind}, within {REPLY_TIMEOUT} s; {self.numbers}")

    def make_event(self) -> None:
        self.made = k = self.made + 1
        kind = self.random.choice(("e", "e", "e", *ASKS))
        if kind == "e":
            size = self.random.choice((0, 10, 30, 200))
            self.buffer[k] = f':c/e [{k} "{"x" * size}"]', False
            return
        x = self.random.randrange(1000)
        self.buffer[k] = f":c/{kind} [{k} {x}]", True
        self.account.ask(k, x)
        self.pending[k] = asyncio.get_running_loop().time() + REPLY_TIMEOUT, kind

    # -- what the wire has it do

    @property
    def numbers(self) -> str:
        return f"acked {self.acked}, sent {self.sent}, made {self.made}, by {type(self.link)}"

    @property
    def waits(self) -> int | None:
        """The oldest event that was sent and waits for its reply."""
        return min((k for k in self.pending if k <= self.sent), default=None)

    def params(self, *, of_handshake: bool) -> str:
        waits = "" if self.waits is None else f"&waits={self.waits}"
        if not of_handshake:
            return f"&pos={self.pos}{waits}"
        self.attempt += 1
        numbers = f"&acked={self.acked}&sent={self.sent}&try={self.attempt}"
        return f"&pos={self.pos}{numbers}{waits}"

    def counts(self, written: int) -> str:
        """The data of a ping or a pong; `written`: the newest event that this connection has."""
        return f"[{written} {self.waits or written + 1}]"

    def shook(self, packet: bytes) -> int:
        """Take a handshake; return the number of the event to go on with."""
        found = read_handshake(packet)
        if found is None:
            raise Confused(f"expected a handshake, got {packet[:200]!r}")
        told, data = found
        handled = int(told["handled"])
        if not self.acked <= handled <= self.sent:
            raise Confused(f"handled {handled}, acknowledged {self.acked}, sent {self.sent}")
        self.account.handshake(told["was"], data)
        self.pos = told["pos"]
        return handled + 1

    def wrote(self, k: int) -> None:
        self.sent = max(self.sent, k)
        if self.is_careless:
            self.acknowledged(k)

    def acknowledged(self, k: int) -> None:
        for each in range(self.acked + 1, k + 1):
            self.buffer.pop(each, None)
        self.acked = max(self.acked, k)

    def replied(self, k: int, value: object) -> None:
        """Take a reply, which may come twice."""
        if self.pending.pop(k, None) is not None:
            self.account.reply(k, value)

    def took(self, events: list[Any]) -> None:
        """Take a batch."""
        for event in events:
            event_id, data = event
            if event_id == "chsk/pos":
                self.pos = data
                self.account.note(f"at {data.partition('-')[2]}")
            elif event_id == "chsk/ack":
                if data > self.sent:
                    raise Confused(f"acknowledged {data}, sent {self.sent}")
                self.acknowledged(data)
            elif event_id == "chsk/reply":
                self.replied(*data)
            elif event_id.startswith("s/"):
                self.account.event(event_id[2:], data[0], data[1])
            else:
                raise Confused(f"expected an event of the soak, got {event!r:.200}")

    @property
    def is_quiet(self) -> bool:
        return self.link is not None and not self.pending and self.sent == self.made
