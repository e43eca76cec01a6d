"""A WebSocket of a client, for tests/support/peer.py: frames, replies, and five ways to end it."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import deque

import peer

from soak.link import PATIENCE, Link

REPLY = re.compile(rb'\[\[(\d+) (\d+)\] "(\w+)"\]')
PING = b"[:chsk/ws-ping nil]"


class Ws(Link):
    """A WebSocket."""

    async def open(self, old: Link | None = None) -> None:
        client = self.client
        self.waiting: deque[tuple[str, int, int]] = deque()  # (callback id, k, answer), in order
        self.parallel: dict[str, tuple[str, int, int]] = {}
        self.is_settled = asyncio.Event()
        self.is_silent = False
        self.is_half_closed = False
        key = base64.b64encode(self.random.randbytes(16)).decode()
        fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        client.was_sure = client.sure
        await self.wire.send(peer.request("GET", client.target, fields, host="localhost"))
        found = await peer.read_answer(self.wire)
        if found.status != 101 or found.header("sec-websocket-accept") != peer.accept_of(key):
            raise ValueError(f"{client.name}: expected a 101, got {found!r}")
        numbers = client.shake(await self._text())
        if old is None:
            client.account.handshake(numbers)
        else:
            await old.read_out()
            client.account.displaced(numbers)
        client.count("connected ws")
        self.start()

    async def _text(self) -> bytes:
        found = await peer.read_frame(self.wire)
        if found.opcode == peer.CLOSE:
            self.saw_close = True
            self.client.count(f"close {found.code}")
            if not self.is_ending:
                await self.wire.send(peer.frame(peer.CLOSE, found.payload))
            return b""
        if found.opcode != self._opcode or not found.fin or found.masked or found.rsv:
            raise ValueError(f"expected a whole unmasked data frame, got {found!r}")
        return self.client.packed.text(found.payload)

    @property
    def _opcode(self) -> int:
        return peer.BINARY if self.client.packed.binary else peer.TEXT

    def _frame(self, text: str) -> bytes:
        return peer.frame(self._opcode, self.client.packed.pack(text))

    async def read(self) -> None:
        client, clean = self.client, False
        try:
            while True:
                text = await self._text()
                if self.saw_close:
                    clean = not self.is_unread
                    await self.wire.readexactly(1)  # to the end
                    client.fault("bytes after a close frame")
                elif text == PING:
                    if not (self.is_silent or self.is_ending):
                        await self.say("[[:chsk/ws-pong] nil]")
                elif text.startswith(b"[[["):
                    client.batch(text, is_unread=self.is_unread)
                else:
                    self._reply(text)
        except asyncio.IncompleteReadError as error:
            if self.is_half_closed and not self.has_lagged:
                clean = not (error.partial or self.wire.was_cut)
            if self.is_ending and not (clean or self.has_lagged):
                client.fault(f"no good end: {error!r}, reset: {self.wire.was_cut}")
        finally:
            if not clean:
                client.account.is_clean = False
            self.wire.close()
            self.is_settled.set()
            # Its handlers are done before many more connections have come and gone.
            client.outlived = {reply[0]: reply for reply in self.waiting} | self.parallel

    def _reply(self, text: bytes) -> None:
        found = REPLY.fullmatch(text)
        if found is None:
            self.client.fault(f"expected a reply, got {text[:200]!r}")
            return
        reply = (found[3].decode(), int(found[1]), int(found[2]))
        call = reply[0]
        expected = self.parallel.pop(call, None) or self.client.outlived.pop(call, None)
        if expected is None and self.waiting:
            expected = self.waiting.popleft()
            self.replied("", reply[1])
        if reply != expected:
            self.client.fault(f"expected the reply {expected}, got {reply}")
        if not (self.waiting or self.parallel):
            self.is_settled.set()
        self.client.count("replies")

    async def say(self, text: str) -> None:
        await self.wire.send(self._frame(text))

    async def tell(self, event: str) -> None:
        await self.say(f"[[{event}] nil]")

    async def ask(self, count: int) -> None:
        self.is_settled.clear()
        frames = []
        for _ in range(count):
            event, kind, k, answer = self.asked()
            self.client.calls += 1
            call = f"a{self.client.calls}"
            if kind == "parallel":
                self.parallel[call] = (call, k, answer)
            else:
                self.waiting.append((call, k, answer))
            frames.append(self._frame(f'[[{event}] "{call}"]'))
        await self.wire.send(b"".join(frames))
        if self.random.random() < 0.1:
            return  # it ends with answers under way, or asks more before they are here
        try:
            await asyncio.wait_for(self.is_settled.wait(), PATIENCE)
        except TimeoutError:
            self.client.late(f"no reply to {list(self.waiting)[:3]} {list(self.parallel)[:3]}")

    def shut(self, is_shut: bool) -> None:
        (self.wire.gate.clear if is_shut else self.wire.gate.set)()

    async def sleep(self) -> None:
        """Answer no ping until the server gives up."""
        self.is_silent = True
        await self.finish()

    async def leave(self) -> None:
        """Close in order."""
        self.is_ending = True
        await self.wire.send(peer.frame(peer.CLOSE, peer.close_payload(1000)))
        await self.finish()

    async def fin(self) -> None:
        self.is_ending = self.is_half_closed = True
        self.wire.fin()
        await self.finish()

    async def reset(self) -> None:
        self.is_unread = True
        self.wire.reset()
        await self.finish()

    def close(self) -> None:
        self.wire.close()
