"""The polls and POSTs of a raw client: HTTP by tests/support/peer.py, the rest as the wire says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import peer

from soak.resume.raw import GONE, OVERTAKEN, Confused, Ended, RawClient, Wire, read

WITHIN = 2.5  # seconds for an answer that is due at once
POLL_WITHIN = 8.0
WINDOW = 4  # POSTs under way
EDN = ("content-type", "application/edn")


class AjaxLink:
    """Polls and POSTs, from one handshake to the next."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.target = f"/chsk?client-id={client.name}"
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.idle: list[Wire] = []
        self.again: list[int] = []  # POSTs that failed

    def wake(self) -> None:
        self.news.set()

    def end(self) -> None:
        self.ended.set()

    async def run(self) -> None:
        client = self.client
        try:
            self.udt = f"{time.time_ns()}"
            params = client.params(of_handshake=True)
            target = f"{self.target}&udt={self.udt}&handshake?=1{params}"
            answer = await self.ask("GET", target, within=WITHIN)
            if answer.status in (409, 503):
                await asyncio.sleep(0.1)
                raise Ended
            self.next = client.shook(answer.body)
            works: list[Any] = [self.poll(), self.ended.wait()]
            works += [self.post() for _ in range(WINDOW)]
            if client.is_wild:
                works.append(asyncio.sleep(client.random.expovariate(1 / 6.0)))
            tasks = [asyncio.ensure_future(work) for work in works]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            for wire in self.idle:
                wire.writer.close()

    # -- one request

    async def ask(
        self, method: str, target: str, body: bytes = b"", *, within: float
    ) -> peer.Answer:
        """Send a request on a connection that is idle, or a new one, and read its answer."""
        wire: Wire | None = None
        is_whole = False
        try:
            async with asyncio.timeout(within):
                if self.idle:
                    wire = self.idle.pop()
                else:
                    wire = await Wire.connect(self.client.port)
                answer = await wire.ask(method, target, [EDN] if body else [], body)
            is_whole = answer.header("connection") != "close"
            if answer.status not in (200, 410, 503) and answer.body != OVERTAKEN:
                raise Confused(f"answered {answer.status} {answer.body!r:.200} to {target}")
            return answer
        finally:
            if wire is not None:
                if is_whole:
                    self.idle.append(wire)
                else:
                    self.leave(wire)

    def leave(self, wire: Wire) -> None:
        way = self.client.random.randrange(3)
        if wire.writer.is_closing():
            return
        if way == 0:
            wire.reset()
        elif way == 1:
            wire.writer.close()
        else:
            self.client.keep(self.close_late(wire))

    async def close_late(self, wire: Wire) -> None:
        await asyncio.sleep(self.client.random.uniform(0.3, 3))
        wire.writer.close()

    # -- polls

    async def poll(self) -> None:
        client = self.client
        failures = 0
        while True:
            udt = f"{time.time_ns()}"
            target = f"{self.target}&udt={udt}{client.params(of_handshake=False)}"
            try:
                answer = await self.ask("GET", target, within=POLL_WITHIN)
            except GONE:
                failures += 1
                client.account.note("a poll failed")
                if failures > 2 or client.random.random() < 0.4:
                    raise Ended from None
                continue
            failures = 0
            client.account.note(f"a poll was answered {answer.status}")
            if answer.status != 200:
                raise Ended
            if answer.body.startswith(b"[[:chsk/handshake "):
                raise Confused(f"a poll was answered by {answer.body[:200]!r}")
            value, _ = read(answer.body)
            if value != "chsk/timeout":
                client.took(value)

    # -- POSTs

    async def post(self) -> None:
        """Send one POST after the other, beside others that do so."""
        client = self.client
        while True:
            if self.again:
                self.again.sort()
                k = self.again.pop(0)
            elif self.next <= client.made:
                k = self.next
                self.next += 1
            else:
                self.news.clear()
                await self.news.wait()
                continue
            if k not in client.buffer:
                continue  # it was acknowledged meanwhile
            event, wants_reply = client.buffer[k]
            client.wrote(k)
            waits = "" if client.waits is None else f"&waits={client.waits}"
            target = f"{self.target}&udt={time.time_ns()}&raw=true&n={self.udt}-{k}{waits}"
            cb_id = ":ajax" if wants_reply else "nil"
            try:
                body = f"[[{event}] {cb_id}]".encode()
                answer = await self.ask("POST", target, body, within=WITHIN)
            except GONE:
                self.again.append(k)
                await asyncio.sleep(0.05)
                continue
            if answer.status == 410:
                raise Ended
            if answer.status == 503:
                self.again.append(k)
                await asyncio.sleep(0.1)
                continue
            if wants_reply:
                value, _ = read(answer.body)
                client.replied(k, value)
                if k == client.acked + 1:
                    client.acknowledged(k)
