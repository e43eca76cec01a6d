"""chansock's Python clients, each on another transport; some of them sync.

    python -m soak.resume.clients URL NAMES...

What goes in and out is in `children`. The even users' clients go from one transport to another:
with `auto` a broken network leads to Ajax, and `reconnect` back to a WebSocket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import threading
import time
from collections import deque
from typing import Any

import chansock
from soak.resume import ASKS, KINDS, REPLY_TIMEOUT

EACH = 0.05  # seconds between two lines
TRANSPORTS = ("ws", "ajax", "auto")
MOST = 200  # sends under way
CONFIG = chansock.ClientConfig(
    connect_timeout=2.5,
    close_timeout=1.0,
    ajax_timeout=8.0,
    ws_ping_interval=1.5,
    ws_ping_timeout=1.5,
    max_backoff=0.7,
    max_unacked_events=400,
)


class Driver:
    """What both kinds of client share: what they report."""

    def __init__(self, name: str, url: str, transport: Any, connect: Any) -> None:
        self.name = name
        self.random = random.Random(name)
        self.items: deque[list[Any]] = deque()
        self.k = 0
        self.under_way = 0
        self.is_going = True
        self.client = connect(url, CONFIG, client_id=name, transport=transport)
        self.client.on("chsk/state", self.state)
        for kind in KINDS:
            self.client.on(f"s/{kind}", self.event)

    def event(self, event: Any) -> None:
        g, n, _ = event.data
        self.items.append(["e", event.id[2:], g, n])

    def state(self, event: Any) -> None:
        _, new, open_changed = event.data
        if new.open and open_changed:
            data = {str(kind): n for kind, n in new.handshake_data.items()}
            self.items.append(["h", new.resumed, data])

    def choose(self) -> tuple[str, list[Any], float | None]:
        """Choose an event to send, and note it."""
        self.k += 1
        kind = self.random.choice(("e", "e", "e", *ASKS))
        if kind == "e":
            self.items.append(["s", self.k])
            return "c/e", [self.k, "x" * self.random.choice((0, 30, 300))], None
        x = self.random.randrange(1000)
        self.items.append(["a", self.k, x])
        self.items.append(["s", self.k])
        return f"c/{kind}", [self.k, x], REPLY_TIMEOUT

    def replied(self, k: int, timeout: float | None, value: object) -> None:
        if timeout is not None:
            self.items.append(["r", k, value])

    def failed(self, k: int, timeout: float | None, error: Exception) -> None:
        if timeout is None:
            self.items.append(["f", "send failed", f"{k}: {error!r:.200}"])
        else:
            if "was not sent" in str(error):  # there was no room for it all that time
                self.items.append(["u", k])
                return
            self.items.append(["x", k, f"{error!r:.200}"])

    @property
    def is_quiet(self) -> bool:
        return not self.is_going and not self.under_way


class AsyncDriver(Driver):
    """Drives a Client."""

    def __init__(self, name: str, url: str, transport: Any) -> None:
        super().__init__(name, url, transport, chansock.connect)
        self.tasks: set[asyncio.Task[None]] = set()
        self.transport = transport

    async def run(self) -> None:
        while True:
            try:
                await self.client.open()
                break
            except (OSError, chansock.HandshakeRefused):
                await asyncio.sleep(0.2)
        while True:
            await asyncio.sleep(self.random.uniform(0.05, 0.8))
            if not self.is_going:
                continue
            for _ in range(self.random.choice((1, 2, 10, 30))):
                if self.under_way < MOST:
                    self.send()
            chance = self.random.random()
            if chance < 0.02:
                self.client.break_connection(is_noticed=self.random.random() < 0.7)
            elif chance < 0.05 and self.transport == "auto":
                self.client.reconnect()

    def send(self) -> None:
        event_id, data, timeout = self.choose()
        self.under_way += 1
        task = asyncio.create_task(self._send(event_id, data, timeout))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _send(self, event_id: str, data: list[Any], timeout: float | None) -> None:
        try:
            value = await self.client.send(event_id, data, timeout=timeout)
        except Exception as error:
            self.failed(data[0], timeout, error)
        else:
            self.replied(data[0], timeout, value)
        finally:
            self.under_way -= 1


class SyncDriver(Driver):
    """Drives a SyncClient, in a thread of its own."""

    def __init__(self, name: str, url: str, transport: Any) -> None:
        super().__init__(name, url, transport, chansock.connect_sync)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                self.client.open()
                break
            except (OSError, chansock.HandshakeRefused):
                time.sleep(0.2)
        while True:
            time.sleep(self.random.uniform(0.01, 0.3))
            for _ in range(self.random.choice((1, 2, 10))):
                if self.is_going:
                    self.send()

    def send(self) -> None:
        self.under_way = 1
        event_id, data, timeout = self.choose()
        try:
            value = self.client.send(event_id, data, timeout=timeout)
        except Exception as error:
            self.failed(data[0], timeout, error)
        else:
            self.replied(data[0], timeout, value)
        self.under_way = 0


async def main(url: str, *names: str) -> None:
    logging.basicConfig(level=logging.ERROR)
    drivers: list[Driver] = []
    tasks = []
    for number, name in enumerate(names):
        if number >= 4:
            drivers.append(SyncDriver(name, url, TRANSPORTS[number % 2]))
        else:
            driver = AsyncDriver(name, url, TRANSPORTS[number % 3])
            drivers.append(driver)
            tasks.append(asyncio.create_task(driver.run()))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    hold = asyncio.create_task(reader.readline())
    while not (hold.done() and not hold.result()):
        done, _ = await asyncio.wait([*tasks, hold], timeout=EACH)
        for task in done & set(tasks):
            task.result()
        if hold.done() and hold.result():
            for driver in drivers:
                driver.is_going = False
            hold = asyncio.create_task(reader.readline())
        for driver in drivers:
            driver.items.append(["q", driver.is_quiet])
            items = [driver.items.popleft() for _ in range(len(driver.items))]
            print(json.dumps([driver.name, items]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
