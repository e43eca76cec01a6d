"""The WebSocket of a raw client: frames by tests/support/peer.py, the rest as the wire says."""

from __future__ import annotations

import asyncio
from typing import Any

import peer

from soak.resume.raw import OVERTAKEN, Confused, Ended, RawClient, Wire, read

WITHIN = 2.5  # seconds for a handshake, or the answer to a ping
PING = 1.0


class WsLink:
    """One WebSocket."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.is_left = False
        self.answers = 0  # to pings

    def wake(self) -> None:
        self.news.set()

    def end(self) -> None:
        self.ended.set()

    async def run(self) -> None:
        client = self.client
        async with asyncio.timeout(WITHIN):
            self.wire = await Wire.connect(client.port)
        try:
            target = f"/chsk?client-id={client.name}&udt=1{client.params(of_handshake=True)}"
            async with asyncio.timeout(WITHIN):
                answer = await self.wire.upgrade(target)
                if answer.status != 101:
                    if answer.status != 503 and answer.body != OVERTAKEN:
                        raise Confused(f"answered {answer.status} {answer.body!r:.200}")
                    await asyncio.sleep(0.1)
                    raise Ended
                self.next = client.shook((await self.wire.text()).encode())
            works = [self.read(), self.write(), self.ping(), self.ended.wait()]
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
            self.leave()
        finally:
            if not self.is_left:
                self.wire.writer.close()

    def leave(self) -> None:
        """End it in some way, or leave it open without reading it."""
        way = self.client.random.randrange(4)
        if self.wire.writer.is_closing():
            return
        if way == 0:
            self.wire.reset()
        elif way == 1:
            self.is_left = True
            self.client.keep(self.close_late())
        elif way == 2:
            self.client.keep(self.wire.send(peer.frame(peer.CLOSE, peer.close_payload(1000))))

    async def close_late(self) -> None:
        await asyncio.sleep(self.client.random.uniform(0.3, 3))
        self.wire.writer.close()

    async def say(self, text: str) -> None:
        await self.wire.send(peer.frame(peer.TEXT, text))

    # -- out

    async def write(self) -> None:
        client = self.client
        while True:
            while self.next <= client.made:
                event, wants_reply = client.buffer[self.next]
                cb_id = f'"r{self.next}"' if wants_reply else "nil"
                frame = peer.frame(peer.TEXT, f"[[{event}] {cb_id}]")
                client.wrote(self.next)
                self.next += 1
                await self.wire.send(frame)
            self.news.clear()
            await self.news.wait()

    async def ping(self) -> None:
        client, number = self.client, 0
        while True:
            await asyncio.sleep(PING)
            number += 1
            await self.say(f'[[:chsk/ws-ping {client.counts(self.next - 1)}] "p{number}"]')
            await asyncio.sleep(WITHIN)
            if self.answers < number:
                raise Ended

    # -- in

    async def read(self) -> None:
        while True:
            frame = await self.wire.frame()
            if frame.opcode == peer.CLOSE:
                if frame.code == 1011 and frame.reason != "ping timeout":  # a line that stood still
                    raise Confused(f"closed {frame.code} {frame.reason}")
                raise Ended
            if frame.opcode == peer.PING:
                await self.wire.send(peer.frame(peer.PONG, frame.payload))
            elif frame.opcode == peer.TEXT:
                await self.take(read(frame.payload))

    async def take(self, packet: list[Any]) -> None:
        client = self.client
        value, cb_id = packet
        if cb_id is not None:
            if cb_id.startswith("p"):
                self.answers = int(cb_id[1:])
                client.acknowledged(value[1])
            else:
                client.replied(int(cb_id[1:]), value)
        elif value == "chsk/ws-ping":
            await self.say(f"[[:chsk/ws-pong {client.counts(self.next - 1)}] nil]")
        else:
            client.took(value)
            if any(event[0] == "chsk/ack" for event in value):
                await self.say(f"[[:chsk/ws-pong {client.counts(self.next - 1)}] nil]")
