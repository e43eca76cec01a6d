"""A proxy on loopback that breaks what passes through it, by chance.

Each connection has a fate: it is cut at some byte of one direction or at some time, by FIN or by
RST; it stands still one way for a while; it is taken and nothing is forwarded; or what it carries
comes late, even after its client has gone. `is_calm` forwards all as it comes. `shut(seconds)`
is an outage. Nothing of chansock is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter, deque
from random import Random
from typing import cast

LINGER_0 = struct.pack("ii", 1, 0)
MEAN_BYTES = 30_000.0  # until a cut, in one direction
MEAN_SECONDS = 4.0


class Proxy:
    """A listener in front of one port, and all connections through it."""

    def __init__(self, port: int, random: Random) -> None:
        self.target = port
        self.random = random
        self.is_calm = False
        self.counts: Counter[str] = Counter()
        self.pairs: set[Pair] = set()
        self._shut_until = 0.0

    async def start(self) -> int:
        """Listen; return the port."""
        self.loop = asyncio.get_running_loop()
        self.server = await self.loop.create_server(lambda: Pair(self).near, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]  # type: ignore[no-any-return]

    def shut(self, seconds: float) -> None:
        """Break all connections, and take no other for a while."""
        self._shut_until = self.loop.time() + seconds
        self.break_all()

    def break_all(self) -> None:
        for pair in list(self.pairs):
            pair.cut(is_reset=self.random.random() < 0.5)

    @property
    def is_shut(self) -> bool:
        return self.loop.time() < self._shut_until


class Way:
    """One direction of a connection: what is on its way, and what becomes of it."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sink: End | None = None
        self.delay = 0.0
        self.room = 1 << 60  # bytes until the fate
        self.stall = 0.0  # the fate: stand still for so long; 0: a cut
        self.is_still = False
        self.waiting: deque[tuple[float, bytes]] = deque()  # b"": the end
        self.timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        loop = self.pair.proxy.loop
        if not self.delay and not self.waiting and not self.is_still and self.is_linked:
            self.pass_on(data)
            return
        self.waiting.append((loop.time() + self.delay, data))
        self.look()

    @property
    def is_linked(self) -> bool:
        return self.sink is not None and self.sink.transport is not None

    def look(self) -> None:
        """Pass on what is due."""
        loop = self.pair.proxy.loop
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self.waiting and not self.is_still and self.is_linked:
            due, data = self.waiting[0]
            if due > loop.time():
                self.timer = loop.call_at(due, self.look)
                return
            self.waiting.popleft()
            self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        assert self.sink is not None
        if not data:
            self.sink.end()
            return
        if len(data) < self.room:
            self.room -= len(data)
            self.sink.write(data)
            return
        head, rest = data[: self.room], data[self.room :]
        self.sink.write(head)
        self.room = 1 << 60
        proxy = self.pair.proxy
        if not self.stall:
            proxy.counts["cut at a byte"] += 1
            self.pair.cut(is_reset=proxy.random.random() < 0.5)
            return
        proxy.counts["stood still one way"] += 1
        self.is_still = True
        self.waiting.appendleft((0.0, rest))
        proxy.loop.call_later(self.stall, self.go_on)

    def go_on(self) -> None:
        self.is_still = False
        self.look()


class End(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, pair: Pair, way: Way) -> None:
        self.pair = pair
        self.way = way  # on which goes what comes here
        self.transport: asyncio.Transport | None = None
        self.is_ended = False  # nothing more is written to it
        self.has_eof = False  # nothing more comes from it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.pair.made(self)

    def data_received(self, data: bytes) -> None:
        if not self.pair.is_deaf:
            self.way.put(data)

    def eof_received(self) -> bool:
        self.has_eof = True
        self.way.put(b"")
        return not self.is_ended  # else the transport closes, which it does not by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.way.put(b"")
        self.pair.lost()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not (self.is_ended or self.transport.is_closing()):
            self.transport.write(data)

    def end(self) -> None:
        self.is_ended = True
        if self.transport is not None and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
            if self.has_eof:
                self.transport.close()

    def close(self, *, is_reset: bool) -> None:
        if self.transport is None:
            return
        if is_reset:
            sock = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            self.transport.abort()
        else:
            self.transport.close()


class Pair:
    """One connection: the client's socket, the server's, and the two ways between."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.is_deaf = False
        self.up, self.down = Way(self), Way(self)
        self.near, self.far = End(self, self.up), End(self, self.down)
        self.up.sink, self.down.sink = self.far, self.near
        self.tasks: set[asyncio.Task[None]] = set()
        self.timer: asyncio.TimerHandle | None = None

    def made(self, end: End) -> None:
        if end is self.far:
            self.up.look()
            if self.near.transport is None:
                self.up.put(b"")
            return
        proxy = self.proxy
        proxy.pairs.add(self)
        if proxy.is_shut:
            proxy.counts["refused"] += 1
            self.cut(is_reset=True)
            return
        if not proxy.is_calm:
            self.choose()
        if not self.is_deaf:
            task = proxy.loop.create_task(self.connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def choose(self) -> None:
        """Choose the fate."""
        proxy, random = self.proxy, self.proxy.random
        fate = random.random()
        way = random.choice((self.up, self.down))
        if fate < 0.03:
            proxy.counts["half open"] += 1
            self.is_deaf = True
            self.timer = proxy.loop.call_later(random.uniform(0.5, 3), self.cut)
        elif fate < 0.40:
            way.room = 1 + int(random.expovariate(1 / MEAN_BYTES))
        elif fate < 0.55:
            way.room = 1 + int(random.expovariate(1 / MEAN_BYTES))
            way.stall = random.uniform(0.2, 3)
        elif fate < 0.80:
            self.timer = proxy.loop.call_later(random.expovariate(1 / MEAN_SECONDS), self.due)
        if random.random() < 0.15:
            self.up.delay = random.uniform(0.005, 0.1)
            self.down.delay = random.uniform(0.005, 0.1)
        elif random.random() < 0.15:
            proxy.counts["late"] += 1
            self.up.delay = random.uniform(0.1, 0.6)

    def due(self) -> None:
        self.proxy.counts["cut in time"] += 1
        self.cut(is_reset=self.proxy.random.random() < 0.5)

    async def connect(self) -> None:
        try:
            await self.proxy.loop.create_connection(
                lambda: self.far, "127.0.0.1", self.proxy.target
            )
        except OSError:
            self.proxy.counts["no server"] += 1
            self.cut(is_reset=True)

    def cut(self, *, is_reset: bool = True) -> None:
        self.near.close(is_reset=is_reset)
        self.far.close(is_reset=is_reset)

    def lost(self) -> None:
        if self.near.transport is None and self.far.transport is None:
            self.proxy.pairs.discard(self)
            if self.timer is not None:
                self.timer.cancel()
        elif self.near.transport is None and not self.up.waiting:
            self.far.close(is_reset=False)
        elif self.far.transport is None and not self.down.waiting:
            self.near.close(is_reset=False)
