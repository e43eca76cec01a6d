"""A client on Ajax: polls and POSTs on connections that are kept, and how they break."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import peer

from soak import SETTINGS, STALL
from soak.link import PATIENCE, Link
from soak.wire import Wire

if TYPE_CHECKING:
    from soak.client import Client

FORM = ("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
OCTETS = ("content-type", "application/octet-stream")
TIMEOUT = b"[:chsk/timeout nil]"
HANDSHAKE = b"[[:chsk/handshake "
ORDERED = re.compile(r":t/(?:plain|wait|answer|kick) \[(\d+)")
DUMMY = b"[:chsk/dummy-cb-200 nil]"
KEPT = SETTINGS["http_idle_timeout"] - 3  # seconds until the server might close an idle connection


class Ajax(Link):
    """Polls and POSTs, from one handshake to the next."""

    def __init__(self, client: Client, wire: Wire) -> None:
        super().__init__(client, wire)
        self.posts: list[Wire] = []
        self.may_poll = asyncio.Event()
        self.is_parked = False

    async def open(self, old: Link | None = None) -> None:
        client = self.client
        self.may_poll.set()
        # Sente's clients number nothing, and ours have several POSTs under way.
        self.is_numbered = self.random.random() < 0.5
        await self._get("&handshake%3F=1")
        answer = await self._answer(self.wire)
        if answer.status != 200:
            raise ValueError(f"{client.name}: expected a handshake, got {answer!r}")
        numbers = self._shook(answer.body)
        if old is None:
            client.account.handshake(numbers)
        else:
            await self._displace(old, numbers)
        client.count("connected ajax")
        self.start()

    async def _displace(self, old: Link, numbers: list[int]) -> None:
        """Displace a connection: not the handshake does so, but a poll that is parked."""
        client, account = self.client, self.client.account
        account.hold()
        try:
            while True:
                sent = time.monotonic()
                await self._poll()
                answer = await asyncio.wait_for(self._answer(self.wire), PATIENCE)
                if not answer.body.startswith(HANDSHAKE):
                    break
                client.count("polls answered by a handshake")
                numbers = self._shook(answer.body)
            if self.random.random() < 0.2:
                old.shut(False)
                if self.random.random() < 0.3:
                    await old.flood()
                await old.is_closed_within(SETTINGS["grace_ajax"] + 0.5)
            await old.read_out()
        except BaseException:
            account.is_clean = False  # what the poll was answered is not taken
            for event in account.release():
                account.take(*event, is_unread=False)
            raise
        theirs = account.release()
        account.hold()
        self.is_ending = not self._take(answer)
        if account.displaced(numbers, theirs, account.release()):
            client.count("sockets that were the newest again")
            client.questions = deque(sorted(client.questions))
            if time.monotonic() - sent < SETTINGS["grace_ajax"] - STALL:
                client.late("a displaced socket got pushes before its polls were gone")

    async def _answer(self, wire: Wire) -> peer.Answer:
        """Read an answer; what a packer made is edn's text again."""
        answer = await peer.read_answer(wire)
        if answer.status != 200:
            return answer
        return replace(answer, body=self.client.packed.text(answer.body))

    async def _get(self, more: str) -> None:
        self.client.was_sure = self.client.sure
        self.udt = f"{time.time_ns() // 1000}"
        target = f"{self.client.target}&udt={self.udt}{more}"
        await self.wire.send(peer.request("GET", target, host="localhost"))

    def _shook(self, text: bytes) -> list[int]:
        """Begin to number POSTs anew: by the GET that was answered by a handshake."""
        numbers = self.client.shake(text)
        self.shaken, self.number = self.udt, 0
        return numbers

    async def _poll(self) -> None:
        self.is_parked = True
        await self._get("")

    async def read(self) -> None:
        client = self.client
        clean = False
        try:
            while True:
                if not self.is_parked:
                    await self.may_poll.wait()
                    if self.is_ending or self.wire.is_over:
                        clean = not self.is_unread
                        return
                    await self._poll()
                answer = await self._answer(self.wire)
                if answer.body.startswith(HANDSHAKE):
                    self.is_parked = False
                    client.count("polls answered by a handshake")
                    client.account.handshake(self._shook(answer.body))
                elif not self._take(answer):
                    clean = True
                    return
        except asyncio.IncompleteReadError as error:
            clean = self.is_ending and not (error.partial or self.wire.was_cut or self.is_unread)
        finally:
            if not clean:
                client.account.is_clean = False
            self.close()

    def _take(self, answer: peer.Answer) -> bool:
        """Take what a poll was answered. False: 503, the session was cut between two polls."""
        self.is_parked = False
        if answer.status == 503:
            self.client.count("polls answered 503")
            return False
        if answer.status != 200:
            raise ValueError(f"{self.client.name}: poll answered {answer!r}")
        if answer.body != TIMEOUT:
            self.client.batch(answer.body, is_unread=self.is_unread)
        return True

    async def _post(self, wire: Wire, packet: str, number: str) -> bytes:
        """POST one packet; give the body of the answer, empty if it broke."""
        pairs = [("udt", self.udt), ("client-id", self.client.name), ("user", self.client.uid)]
        if self.is_numbered:
            pairs.append(("n", number))
        body = self.client.packed.pack(packet)
        if self.client.packed.binary:
            target = f"/chsk?{peer.urlencoded([*pairs, ('binary?', 'true')])}"
            request = peer.request("POST", target, [OCTETS], body, host="localhost")
        else:
            form = peer.urlencoded([*pairs, ("ppstr", body.decode())])
            request = peer.request("POST", "/chsk", [FORM], form.encode(), host="localhost")
        await wire.send(request)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._answer(wire)
        except TimeoutError:
            self.client.late(f"no answer to POST {packet}")
            return b""
        except (asyncio.IncompleteReadError, OSError):
            if self.is_open:
                self.client.late(f"POST {packet} broke")
            # We closed it when the poll had ended; whether it was handled is not known.
            self.client.cut.update(int(number) for number in ORDERED.findall(packet))
            return b""
        wire.used = time.monotonic()
        if answer.status in (408, 410) or answer.body == TIMEOUT:
            self.client.late(f"POST {packet} answered {answer.status} {answer.text}")
            return b""
        if answer.status != 200:
            self.client.fault(f"POST {packet} answered {answer!r}")
        return answer.body

    def _next(self) -> str:
        self.number += 1
        return f"{self.shaken}-{self.number}"

    async def _wire(self, index: int) -> Wire:
        while len(self.posts) <= index:
            self.posts.append(await Wire.connect(self.client.port))
        wire = self.posts[index]
        if time.monotonic() - wire.used > KEPT:
            wire.close()
            wire = self.posts[index] = await Wire.connect(self.client.port)
            self.client.count("connections that were idle")
        return wire

    async def tell(self, event: str) -> None:
        wire = await self._wire(0)
        body = await self._post(wire, f"[[{event}] nil]", self._next())
        if body and body != DUMMY:
            self.client.fault(f"expected the dummy, got {body[:200]!r}")

    async def ask(self, count: int) -> None:
        async def ask(index: int, event: str, kind: str, k: int, answer: int, number: str) -> None:
            body = await self._post(await self._wire(index), f"[[{event}] :ajax]", number)
            if body and body != f"[[{k} {answer}] nil]".encode():
                self.client.fault(f"{event}: expected {answer}, got {body[:200]!r}")
            elif body:
                self.replied(kind, k)
                self.client.count("replies")

        wires = min(count, 3) if self.is_numbered else 1
        for index in range(wires):
            await self._wire(index)
        for start in range(0, count, wires):
            group = []
            for index in range(min(wires, count - start)):
                group.append(ask(index, *self.asked(), self._next()))
            self.random.shuffle(group)  # the numbers have the order, not the sending
            await asyncio.gather(*group)

    def shut(self, is_shut: bool) -> None:
        change = (lambda event: event.clear()) if is_shut else (lambda event: event.set())
        change(self.may_poll)
        change(self.wire.gate)

    async def sleep(self) -> None:
        """Poll no more for so long that the session is gone; then poll as if nothing was."""
        self.may_poll.clear()
        await self.is_closed_within(10)
        self.may_poll.set()
        await self.is_closed_within(1)
        await self.leave()

    async def kick(self) -> None:
        await self.tell(f":t/kick [{self.client.next()}]")
        await self.is_closed_within(1)
        if self.is_open:  # no poll was parked just then
            await self.leave()

    async def leave(self) -> None:
        await self.fin()

    async def fin(self) -> None:
        self.is_ending = True
        self.may_poll.set()
        self.wire.fin()
        await self.finish()

    async def reset(self) -> None:
        self.is_unread = True
        self.wire.reset()
        self.may_poll.set()
        await self.finish()

    def close(self) -> None:
        for wire in (self.wire, *self.posts):
            with contextlib.suppress(OSError):
                wire.close()
