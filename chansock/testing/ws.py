"""A World's client on a WebSocket, without the socket.

Messages and closing handshakes, no frames. Nothing happens by itself but the answer
to a ping, and the answer to the server's close.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from chansock._core import wire
from chansock._core.event import check_id
from chansock._fast.events.dispatch import Connection
from chansock.errors import ChannelClosed, HandshakeRefused
from chansock.request import Request, Response
from chansock.testing.client import (
    PendingReply,
    WorldClient,
    as_bytes,
    is_handshake,
    text_of,
)
from chansock.testing.network import Lane
from chansock.testing.resume import Resumption
from chansock.testing.transport import RecordingTransport
from chansock.values import NO_DATA, Keyword

__all__ = ["WsClient"]


class _Socket:
    """One connection: what the network and the server have of it, also when its client left."""

    __slots__ = (
        "connection",
        "down",
        "has_ended",
        "is_pumped",
        "seen",
        "transport",
        "unread",
        "up",
    )

    def __init__(self, transport: RecordingTransport, up: Lane, down: Lane) -> None:
        self.transport = transport
        self.up = up
        self.down = down
        self.connection: Connection | None = None  # None: refused while it opened
        self.unread: deque[tuple[bytes, bool]] = deque()  # arrived, and the server does not read
        self.seen = 0  # packets of the transport that went on to the client
        self.has_ended = False  # and the server knows
        self.is_pumped = False  # the server takes a message of it right now


class WsClient(WorldClient):
    """A client on a WebSocket."""

    def __init__(self, *args: Any, resumes: bool | Resumption = False) -> None:
        super().__init__(*args, resumes=resumes)
        self._is_back = False
        self.answers_pings = True
        self.pings: int = 0  # of the server
        self.connection: Connection | None = None  # None: closed, as far as it knows
        self.stray: list[Any] = []  # what a client could make nothing of
        self._socket = _Socket(RecordingTransport("ws"), self._up, self._down)
        self._replies: dict[Any, PendingReply] = {}

    # -- life

    @property
    def is_open(self) -> bool:
        return self.connection is not None

    @property
    def transport(self) -> RecordingTransport:
        """What the server holds of its newest socket."""
        return self._socket.transport

    def handshake_request(self) -> Request:
        """The GET that asks for a socket."""
        own = [] if self.resumption is None else self.resumption.params()
        return self._request("GET", [*self._params, *own])

    def connect(self) -> None:
        """Open a socket, the next one if there was one before. Raises HandshakeRefused.

        With a delay of the network it lets pass what the handshake takes.
        """
        __tracebackhide__ = True
        if self.connection is None:
            self._down.cut()  # what still comes is not read: the request says what has come
        request = self.handshake_request()
        self.world._pass_delay(self.network.up)
        admitted = self.world._admit(request, is_upgrade=True)
        if isinstance(admitted, Response):
            self.world._pass_delay(self.network.down)
            raise self.world._blamed(HandshakeRefused(admitted.status, text_of(admitted)))
        self._up, self._down = Lane(self.world.loop), Lane(self.world.loop)
        self._is_back = False  # the handshake of this socket has arrived
        transport = RecordingTransport("ws")
        transport.is_slow = self.is_lagging
        self._socket = socket = _Socket(transport, self._up, self._down)
        transport.on_arrival = lambda: self._arrive(socket)
        transport.on_close = lambda: self._close_by_server(socket)
        transport.on_reading = lambda: self._pump(socket)
        self.close_code = None
        endpoint = self.world._endpoint
        self.connection = socket.connection = self.world.inside(
            lambda: endpoint.open(admitted, transport)
        )
        if socket.unread:  # what its handshake had it send again
            self.world.inside(lambda: self._pump(socket))
        self.world._pass_delay(self.network.down)

    def reconnect(self) -> None:
        __tracebackhide__ = True
        self.cut()
        self.connect()

    def close(self, code: int = 1000) -> None:
        self._end(code)

    def cut(self) -> None:
        self._end(1006)

    def _end(self, code: int) -> None:
        if self.connection is None:
            return
        self.connection = None
        self.close_code = code
        self.breaks += 1
        socket = self._socket
        if code == 1006:
            has_vanished = socket.up.is_dead
            socket.up.cut()
            socket.down.cut()
            if not has_vanished:  # else nobody tells the server
                self._server_learns(socket, code)
        else:
            socket.up.put(lambda: self._server_learns(socket, code), self.network.up)

    def _server_learns(self, socket: _Socket, code: int) -> None:
        connection = socket.connection
        if connection is not None and not socket.has_ended:
            socket.has_ended = True
            socket.transport.is_open = False
            self.world.inside(lambda: self.world._endpoint.closed(connection, code))

    def _close_by_server(self, socket: _Socket) -> None:
        assert socket.transport.closed_with is not None
        code, _ = socket.transport.closed_with
        loop = self.world.loop
        if socket.down.is_dead:
            # The peer's close frame never comes; an edge waits for it no longer than that.
            timeout = self.world.chsk.config.close_timeout
            loop.call_later(timeout, self._server_learns, socket, 1006)
            return

        def closed() -> None:
            # The peer's close frame takes a turn, as it would on a wire.
            if socket is self._socket:
                loop.call_soon(self._end, code)
            else:
                loop.call_soon(self._server_learns, socket, code)

        socket.down.put(closed, self.network.down)

    # -- sending

    def send(self, event_id: str, data: Any = NO_DATA, *, timeout: float | None = None) -> Any:
        __tracebackhide__ = True
        if timeout is not None:
            return self.ask(event_id, data).wait(timeout)
        self._send(check_id(event_id), data, None)
        return None

    def ask(self, event_id: str, data: Any = NO_DATA) -> PendingReply:
        __tracebackhide__ = True
        return self._ask(check_id(event_id), data)

    def _ask(self, keyword: Keyword, data: Any) -> PendingReply:
        __tracebackhide__ = True
        reply = PendingReply(self, keyword)
        self._send(keyword, data, reply)
        return reply

    def _send(self, keyword: Keyword, data: Any, reply: PendingReply | None) -> None:
        # While it is closed, a client that resumes keeps its events for the next connection.
        __tracebackhide__ = True
        resumption = self.resumption if keyword != wire.WS_PING else None
        if resumption is None:
            self._check_open(keyword)
        cb_id = None if reply is None else self._new_cb_id(resumption)
        packet = self._packet(keyword, data, cb_id)
        if reply is not None and cb_id is not None:
            self._replies[cb_id] = reply
            reply.cb_id = cb_id
        if resumption is not None:
            number = resumption.number(packet, reply)
            if self.connection is None or not self._is_back:
                return
            resumption.sent = number
        self.feed(packet)

    def _new_cb_id(self, resumption: Resumption | None) -> str:
        # What a client that resumes has asked may be answered in the next World.
        return self.world._new_cb_id() if resumption is None else f"r{resumption.numbered + 1}"

    def _check_open(self, event_id: str) -> None:
        if self.connection is None:
            raise ChannelClosed(f"expected a client that is open to send {event_id}, got {self!r}")

    def ping(self) -> PendingReply:
        """Send `[[:chsk/ws-ping] cb-id]`; the answer is the string "pong".

        A client that resumes sends its numbers too, and the answer is `["pong" handled]`.
        """
        resumption = self.resumption
        return self._ask(wire.WS_PING, NO_DATA if resumption is None else resumption.counts())

    def _pong(self) -> bytes:
        resumption = self.resumption
        return self._packet(wire.WS_PONG, None if resumption is None else resumption.counts(), None)

    def feed(self, *packets: bytes | str, is_text: bool | None = None) -> None:
        """Feed these messages, in one read; by default of the packer's own kind."""
        if is_text is None:
            is_text = not self.world.packer.binary
        messages = [(as_bytes(packet), is_text) for packet in packets]
        socket = self._socket

        def arrive() -> None:
            socket.unread.extend(messages)
            self.world.inside(lambda: self._pump(socket))

        socket.up.put(arrive, self.network.up)

    def _pump(self, socket: _Socket) -> None:
        connection = socket.connection
        if connection is None or socket.has_ended or socket.is_pumped:
            return  # what a handler has the client send comes behind the message that it handles
        socket.is_pumped = True
        try:
            self._pass_on(socket, connection)
        finally:
            socket.is_pumped = False
        connection.corked()

    def _pass_on(self, socket: _Socket, connection: Connection) -> None:
        endpoint = self.world._endpoint
        while socket.unread and socket.transport.is_reading and not socket.has_ended:
            packet, is_text = socket.unread[0]
            if not endpoint.receive(connection, packet, is_text=is_text):
                socket.transport.is_reading = False
                break
            socket.unread.popleft()

    @property
    def unread(self) -> int:
        """Messages that arrived and the server does not read: it was told to stop."""
        return len(self._socket.unread)

    def _awaits(self, reply: PendingReply) -> bool:
        return self.is_open or self.resumption is not None

    # -- receiving

    def lag(self) -> None:
        self.is_lagging = True
        self.transport.is_slow = True

    def resume(self) -> None:
        self.drain()

    def drain(self) -> None:
        """Read again, what waits first, after `transport.is_slow` was set."""
        self.is_lagging = False
        self.transport.is_slow = False
        self.transport.drain()
        connection = self.connection
        if connection is not None:
            self.world.inside(lambda: self.world._endpoint.drained(connection))

    def _arrive(self, socket: _Socket) -> None:
        while socket.seen < len(socket.transport.arrived):
            packet = socket.transport.arrived[socket.seen]
            socket.seen += 1
            socket.down.put(partial(self._take, socket, packet), self.network.down)

    def _take(self, socket: _Socket, packet: bytes) -> None:
        if socket is self._socket:
            self._read(*self.world.packer.unpack(memoryview(packet)))

    def _read(self, value: Any, cb_id: Any) -> None:
        # The order of the tests is that of Sente's client.
        if is_handshake(value):
            again = self._told(value)
            self._is_back = True
            if again:
                self.feed(*(packet for _, packet in again))
        elif value == "chsk/ws-ping":
            self.pings += 1
            if self.answers_pings:
                self.world.loop.call_soon(lambda: self.feed(self._pong()))
        elif cb_id is not None:
            reply = self._replies.get(cb_id)
            if reply is None and self.resumption is not None:
                reply = self.resumption.find(cb_id)  # of a client that it goes on for
            if reply is None or reply.is_here:
                self.stray.append([value, cb_id])
                return
            reply.arrive(value)
            if self.resumption is not None:
                self.resumption.arrived(reply)
                if isinstance(value, list) and value[:1] == [wire.PONG]:
                    self.resumption.acknowledge(value[1])
        elif isinstance(value, list):
            acked = None if self.resumption is None else self.resumption.acked
            self._take_batch(value)
            if self.resumption is not None and self.resumption.acked != acked:
                self.feed(self._pong())  # the server may forget the replies that are here
        else:
            self.stray.append([value, cb_id])
