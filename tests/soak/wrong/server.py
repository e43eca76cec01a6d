"""The server: right or wrong, in a way that `use` chooses; what clients ask is counted.

Right, it is the least that speaks Sente's wire: one event a second, an echo of what is asked,
polls parked for some seconds. A right server knows no session: each poll gets its own events.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import peer
from peer import CLOSE, PING, PONG, TEXT

from soak.wrong.ways import AJAX, DUMMY, HANDSHAKE, WS, Call, batch

PARKED = 1.0  # seconds until a poll gets an event
MOST_BODY = 1 << 22
PINGED = re.compile(r"\[\[:chsk/ws-ping\] ([^\]]+)\]")
ASKED = re.compile(r'\[\[:t/echo (\d+)\] (:ajax|"[^"]*")\]')


class Server:
    """Listens on a port of its own. `gets` counts polls and upgrades, by client-id."""

    def __init__(self) -> None:
        self.ways: tuple[str, str] | None = None  # over WebSocket and over Ajax; None: right
        self.gets: Counter[str] = Counter()
        self.port = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", limit=MOST_BODY)
        self.port = server.sockets[0].getsockname()[1]

    def use(self, ways: tuple[str, str] | None) -> None:
        """Be wrong in these ways, and no longer as before; None: be right."""
        self.ways = ways
        for call in list(self._calls):
            call.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, EOFError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass
        finally:
            self._calls.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        ways = self.ways
        call = Call(reader, writer, method, target, headers, body, lambda: self.ways is not ways)
        if method == "GET":
            self.gets[parse_qs(urlsplit(target).query).get("client-id", [""])[0]] += 1
        if headers.get("upgrade", "").lower() == "websocket":
            await (self._socket(call) if ways is None else WS[ways[0]](call))
            return False
        if method == "POST":
            await self._post(call)
            return True
        if ways is not None:
            await AJAX[ways[1]](call)
            return True
        if "handshake" not in target:
            await asyncio.sleep(PARKED)
            await call.answer(batch("[:t/tick 1]", 1))
        else:
            await call.answer(HANDSHAKE)
        return True

    async def _post(self, call: Call) -> None:
        packet = call.body.decode()
        if packet.startswith("ppstr=") or "&ppstr=" in packet:
            packet = parse_qs(packet)["ppstr"][0]
        asked = ASKED.search(packet)
        await call.answer(f"[{asked[1]} nil]" if asked else DUMMY)

    async def _socket(self, call: Call) -> None:
        await call.open()
        ticks = asyncio.create_task(self._tick(call))
        try:
            while True:
                frame = await peer.read_frame(call.reader)
                if frame.opcode == CLOSE:
                    await call.frame(CLOSE, frame.payload)
                    return
                if frame.opcode == PING:
                    await call.frame(PONG, frame.payload)
                elif frame.opcode == TEXT:
                    if asked := ASKED.search(frame.text):
                        await call.frame(TEXT, f"[{asked[1]} {asked[2]}]")
                    elif pinged := PINGED.match(frame.text):
                        await call.frame(TEXT, f'["pong" {pinged[1]}]')
        finally:
            ticks.cancel()

    async def _tick(self, call: Call) -> None:
        with contextlib.suppress(OSError):
            while True:
                await call.frame(TEXT, batch("[:t/tick 1]", 1))
                await asyncio.sleep(PARKED)
