"""A whole server in memory, one for each input: connections that are fed bytes, in virtual time.

Everything is real but the socket: the connection's transport keeps what is written, pauses
and closes as asyncio's do. What went wrong inside is in `faults`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import chansock
from chansock import ChannelSocket, Config
from chansock._edge import http1
from chansock._edge.forwarded import Proxies
from chansock._fast.events.server_protocol import Protocol, Service
from chansock.clock import LoopClock
from chansock.errors import EncodeError
from chansock.request import Request, Response
from chansock.testing import VirtualTimeLoop

T = TypeVar("T")

STEP = 0.01  # seconds; how long the handler of :t/wait takes
STALL = 5.0  # seconds that a connection may leave its peer unread
LIFE = 120.0  # seconds; every time-out and grace is over


class Wire(asyncio.Transport):
    """What asyncio gives a protocol, without the socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_tls: bool, room: int | None) -> None:
        super().__init__({"peername": ("192.0.2.1", 1234), "sslcontext": is_tls or None})
        self.loop = loop
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.is_reading = True
        self.is_ending = False  # close or abort was called
        self.is_gone = False  # and connection_lost
        self.at_eof = False  # nothing may be written any more
        self.room = room  # bytes that the kernel takes until `drain`; None: all
        self.backlog = 0

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.connection_made(self)

    # -- called by the connection

    def write(self, data: Any) -> None:
        assert not self.at_eof, "written after the end"
        if self.is_ending:
            return
        self.written.append(bytes(data))
        if self.room is None:
            return
        self.room -= len(data)
        if self.room < 0:
            was_empty, self.backlog = not self.backlog, -self.room
            if was_empty:
                self.protocol.pause_writing()

    def drain(self, room: int) -> None:
        """Make the peer read."""
        self.room = room
        if self.backlog and not self.is_gone:
            self.backlog = 0
            self.protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.backlog

    def can_write_eof(self) -> bool:
        return not self._extra["sslcontext"]

    def write_eof(self) -> None:
        self.at_eof = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_ending

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self.is_ending:
            self.is_ending = True
            self.loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        self.is_gone = True
        self.protocol.connection_lost(error)

    # -- called by the test

    def feed(self, data: bytes) -> bytes:
        """Feed data to the connection as reads would; what is left is what it would not read."""
        while data and self.is_reading and not self.is_ending:
            memory = memoryview(self.protocol.get_buffer(-1))
            size = min(len(memory), len(data))
            assert size, "a read without room"
            memory[:size] = data[:size]
            memory.release()
            data = data[size:]
            self.protocol.buffer_updated(size)
        return data

    def hang_up(self, *, in_order: bool) -> None:
        """Leave: with FIN, or with RST. Without TLS only a connection that reads notices."""
        if self.is_ending or not (self.is_reading or self._extra["sslcontext"]):
            return
        if not in_order:
            self._end(ConnectionResetError())
        elif not self.protocol.eof_received():
            self.close()


def _is_unwritable_reply(record: logging.LogRecord) -> bool:
    """Return whether a handler echoed what the reader takes and the writer does not."""
    error = record.exc_info[1] if record.exc_info else None
    return record.msg.startswith("handler_error") and isinstance(error, EncodeError)


class Faults(logging.Handler):
    """Keeps what the code under test blames itself for, and log calls that cannot be worded."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:
            text = f"{record.msg!r} cannot be worded: {error!r}"
        else:
            if record.levelno < logging.ERROR or _is_unwritable_reply(record):
                return
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self.found.append(text)

    def note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.found.append(f"{context.get('message')} {context.get('exception')!r}")


CONFIG = {
    False: Config(allowed_origins=("*",)),
    True: Config(
        allowed_origins=("http://h", "*"),
        max_head_bytes=512,
        max_header_fields=8,
        max_message_bytes=256,
        max_inbox_events=3,
        max_inbox_bytes=512,
        max_backlog_bytes=1024,
        max_backlog_events=8,
        max_clients_per_user=2,
    ),
}


class Server:
    def __init__(self, faults: Faults, *, is_small: bool, has_slow_hooks: bool) -> None:
        self.faults = faults
        self.wires: list[Wire] = []
        self.loop = VirtualTimeLoop()
        self.loop.set_exception_handler(faults.note)
        hook = _slow_user if has_slow_hooks else _user
        self.chsk = ChannelSocket(CONFIG[is_small], user_id=hook)
        self._add_handlers(self.chsk)
        self.inside(self.chsk._start, LoopClock(self.loop))
        fields = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
        proxies = Proxies(("192.0.2.0/24",), fields, lambda: self.chsk._timers.log_limit)
        self.service = Service(
            self.chsk._endpoint,
            self.chsk._clock,
            self.chsk._timers,
            self.chsk.config,
            path="/chsk",
            fallback=_fallback,
            http1=http1,
            forwarded=(lambda request, _: proxies.apply(request)) if is_small else None,
        )

    @staticmethod
    def _add_handlers(chsk: ChannelSocket) -> None:
        chsk.on("t/echo", lambda msg: msg.data)
        chsk.on("t/push", lambda msg: chsk.send(chansock.ALL, "t/pushed", msg.data))
        chsk.on("t/latest", lambda msg: chsk.send(msg.client, "t/pushed", msg.data, latest=1))
        chsk.on("t/leave", lambda msg: chsk.disconnect(msg.client))

        @chsk.on("t/wait")
        async def wait(msg: Any) -> Any:
            await asyncio.sleep(STEP)
            return msg.data

        @chsk.on("t/side", parallel=True)
        async def side(msg: Any) -> Any:
            await asyncio.sleep(STEP)
            return msg.data

    def inside(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call as the loop would, with the loop running; no turn passes."""
        return self.loop.inside(partial(call, *arguments))

    def connect(self, *, is_tls: bool = False, room: int | None = None) -> Wire:
        wire = Wire(self.loop, is_tls=is_tls, room=room)
        self.inside(wire.connect, Protocol(self.service))
        self.wires.append(wire)
        return wire

    def feed(self, wire: Wire, data: bytes) -> None:
        """Feed data to a connection, and advance the time while it wants to read no more."""
        waited = 0.0
        data = self.inside(wire.feed, data)
        while data and not wire.is_ending and waited < STALL:
            self.loop.advance(STEP)
            waited += STEP
            data = self.inside(wire.feed, data)

    def end(self) -> None:
        """Stop, when all peers have left; nothing may be left over."""
        self.loop.advance(LIFE)
        for wire in self.wires:
            wire.close()  # where nobody noticed
        self.loop.advance(LIFE)
        assert len(self.service) == 0, "a connection that nobody ended"
        assert not len(self.chsk.connected.any), "a user that stayed"
        assert self.chsk.stats.waiting_bytes == 0, self.chsk.stats
        self.inside(self.chsk.stop)
        self.loop.run(self.chsk._finish(1.0))

    def close(self) -> None:
        self.loop.close()


def _user(request: Request) -> str | None:
    return request.params.get("user") or None


async def _slow_user(request: Request) -> str | None:
    await asyncio.sleep(STEP)
    return _user(request)


def _fallback(request: Request) -> Any:
    if request.path == "/slow":
        return _slow(request)
    if request.path == "/echo":
        return Response(200, request.query)
    if request.path == "/empty":
        return Response(204)
    return None


async def _slow(request: Request) -> Response:
    await asyncio.sleep(STEP)
    return Response(200, request.head)


@contextmanager
def server(**settings: Any) -> Iterator[Server]:
    """Yield a server; at the end it must have no fault to report."""
    faults = Faults()
    logs = [logging.getLogger("chansock"), logging.getLogger("asyncio")]
    for log in logs:
        log.addHandler(faults)
    try:
        made = Server(faults, **settings)
        try:
            yield made
            made.end()
        finally:
            made.close()
        assert not faults.found, "\n".join(faults.found)
    finally:
        for log in logs:
            log.removeHandler(faults)
