"""A listener with a stub endpoint, and raw sockets to it: for the tests of connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chansock import packers
from chansock._core import wire
from chansock._edge import http1
from chansock._edge.extensions import Extensions
from chansock._fast.events.dispatch import Connection, Dispatch, Inbox, Route
from chansock._fast.events.fanout import Fanout, Outbox
from chansock._fast.events.packet import Packet
from chansock._fast.events.server_protocol import Protocol, Service
from chansock._fast.io.timers import TimerQueue
from chansock._fast.io.transport import Transport
from chansock._fast.ws.frames import frame
from chansock.clock import LoopClock
from chansock.config import Config
from chansock.request import Request, Response
from chansock.server import create_server

KEY = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GET = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"
POLL = GET % b"/chsk?client-id=a"
UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO = b'["hello" nil]'  # what the stub writes when a socket opens
SLOW = 20.0
TLS = Path(__file__).parents[1] / "data" / "tls"
Run = Callable[[Any], Any]


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


class Socket(Protocol, asyncio.BufferedProtocol):
    __slots__ = ()


@dataclass
class Admission:
    kind: str
    request: Request


class Door:
    """A stub endpoint: admits all that comes, echoes events, and notes what it is told."""

    def __init__(self, clock: LoopClock, timers: TimerQueue, config: Config) -> None:
        packer = packers.EDN()
        self.fanout = Fanout(
            clock,
            timers,
            packer,
            max_bytes=1 << 30,
            max_events=1 << 30,
            max_total=1 << 30,
            delay_ws=0.0,
            delay_ajax=0.0,
        )
        self.routes: dict[str, Route] = {}
        self.dispatch = Dispatch(
            clock,
            self.fanout,
            packer,
            sender=None,  # type: ignore[arg-type]
            routes=self.routes,
            own_routes={},
            unclaimed=lambda msg: False,
            failed=lambda msg, error: None,
            wire=wire,
            max_events=config.max_inbox_events,
            max_bytes=config.max_inbox_bytes,
        )
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.requests: list[Request] = []
        self.posted: list[bytes] = []
        self.transports: list[Transport] = []
        self.events: list[Any] = []
        self.drains = 0
        self.answer: Callable[[Request], Any] | None = None
        self.on("t/echo", lambda msg: msg.data)

    def on(self, event_id: str, handler: Callable[[Any], Any]) -> None:
        def noted(msg: Any) -> Any:
            self.events.append(msg.data)
            return handler(msg)

        self.routes[event_id] = Route(noted)

    def admit(self, request: Request, *, is_upgrade: bool, is_loopback: bool) -> Any:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer(request)
        return self.admission(request, is_upgrade)

    @staticmethod
    def admission(request: Request, is_upgrade: bool = False) -> Admission:
        kind = "post" if request.method == "POST" else "ws" if is_upgrade else "poll"
        return Admission(kind, request)

    def _link(self, admission: Admission, transport: Transport) -> Connection:
        self.transports.append(transport)
        is_post = admission.kind == "post"
        return Connection(
            self.dispatch, transport, admission.request, None, "a", None, Inbox(), is_post
        )

    def open(self, admission: Admission, transport: Transport) -> Connection:
        link = self._link(admission, transport)
        if admission.kind == "ws":
            link.outbox = Outbox(self.fanout)
            link.outbox.attach(transport, Packet(HELLO))
        self.told.put_nowait("open")
        return link

    def post(self, admission: Admission, body: bytes, transport: Transport) -> Connection:
        self.posted.append(body)
        self.told.put_nowait("post")
        return self._link(admission, transport)

    def answer_fields(self, request: Request) -> tuple[tuple[str, str], ...]:
        return ()

    def drained(self, link: Connection) -> None:
        self.drains += 1
        assert link.outbox is not None
        link.outbox.drained()

    def settles(self, link: Connection, call: Callable[[], object]) -> bool:
        return False

    def give_up(self, link: Connection) -> None:
        link.transport.close(1012, "service restart")

    def refuse(self, reason: str, status: int, text: str, why: str | None = None) -> Response:
        return Response(status, text)

    def closed(self, link: Connection, code: int) -> None:
        self.told.put_nowait(("closed", code))
        link.outbox = None


class Ground:
    """A listener with a stub door, and raw clients to it."""

    def __init__(self, service: Service, door: Door, port: int, tls: bool) -> None:
        self.service = service
        self.door = door
        self.port = port
        self.tls = tls
        self.clients: list[Client] = []

    async def client(self, data: bytes = b"") -> Client:
        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        client = Client(*streams)
        self.clients.append(client)
        client.send(data)
        return client

    async def ws(self) -> Client:
        client = await self.client(UPGRADE)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.frame() == (TEXT, HELLO)
        assert await self.door.told.get() == "open"
        return client

    async def settle(self) -> None:
        """Make the server read what was sent before, by a few requests of another connection."""
        client = await self.client()
        for _ in range(10):
            client.send(GET % b"/other")
            await client.response()

    async def gone(self) -> None:
        while len(self.service):
            await asyncio.sleep(0)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    def send_text(self, *texts: str) -> None:
        self.send(*(frame(TEXT, text.encode(), mask=KEY) for text in texts))

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self) -> tuple[int, bytes]:
        head = await self.head()
        _, found, rest = head.lower().partition(b"content-length: ")
        size = int(rest.split(b"\r\n")[0]) if found else 0
        return int(head.split()[1]), await self.reader.readexactly(size)

    async def frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, await self.reader.readexactly(size)

    async def eof(self) -> bytes:
        """Everything until the server's end of the stream."""
        return await self.reader.read()

    def reset(self) -> None:
        """Leave without a word: the kernel sends RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@asynccontextmanager
async def ground(
    *, tls: bool = False, fallback: Any = None, **settings: Any
) -> AsyncIterator[Ground]:
    loop = asyncio.get_running_loop()
    config = Config(**{"handshake_timeout": SLOW, "body_timeout": SLOW, **settings})
    clock = LoopClock(loop)
    timers = TimerQueue(clock)
    door = Door(clock, timers, config)
    service = Service(
        door,
        clock,
        timers,
        config,
        path="/chsk",
        fallback=fallback,
        http1=http1,
        extensions=Extensions(config),
    )
    context = server_tls() if tls else None
    server = await create_server(
        loop, lambda: Socket(service), "127.0.0.1", 0, **({"ssl": context} if tls else {})
    )
    place = Ground(service, door, server.sockets[0].getsockname()[1], tls)
    try:
        yield place
    finally:
        server.close()
        service.abort()
        for client in place.clients:
            client.writer.transport.abort()
        await clock.stop(1.0)
        await place.gone()


def on_ground(**settings: Any) -> Any:
    """Make a test of a coroutine that takes a Ground."""

    def decorate(test: Any) -> Any:
        def driven(run: Run) -> None:
            async def main() -> None:
                async with ground(**settings) as place:
                    await test(place)

            run(main())

        driven.__name__ = test.__name__
        return driven

    return decorate
