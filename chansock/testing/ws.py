"""A World's client on a WebSocket, without the socket.

Messages and closing handshakes, no frames. Nothing happens by itself but the answer
to a ping, and the answer to the server's close.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from chansock._fast.dispatch import Connection
from chansock.errors import HandshakeRefused
from chansock.request import Request, Response
from chansock.testing.client import Client, Handshake, Reply, as_bytes, is_handshake, text_of
from chansock.testing.transport import RecordingTransport

__all__ = ["WsClient"]


class WsClient(Client):
    """A client on a WebSocket; made by `World.ws`, which connects it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.answers_pings = True
        self.pings = 0  # of the server
        self.close_code: int | None = None  # 1006: cut
        self.transport = RecordingTransport("ws")
        self.connection: Connection | None = None
        self.stray: list[Any] = []  # what a client could make nothing of
        self._replies: dict[Any, Reply] = {}
        self._unread: deque[tuple[bytes, bool]] = deque()
        self._seen = 0

    # -- life

    def handshake_request(self) -> Request:
        """The GET that asks for a socket."""
        return self._request("GET", self._params)

    def connect(self) -> None:
        """Open a socket, the next one if there was one before. Raises HandshakeRefused."""
        request = self.handshake_request()
        admitted = self.world.admit(request, is_upgrade=True)
        if isinstance(admitted, Response):
            raise HandshakeRefused(admitted.status, text_of(admitted))
        self.transport = transport = RecordingTransport("ws")
        transport.on_arrival = lambda: self._arrive(transport)
        transport.on_close = lambda: self._close_by_server(transport)
        transport.on_reading = self._pump
        self._seen = 0
        self._unread.clear()
        self.close_code = None
        self.connection = self.world.inside(lambda: self.world.endpoint.open(admitted, transport))

    @property
    def is_open(self) -> bool:
        return self.connection is not None

    def close(self, code: int = 1000) -> None:
        """Close in order, as a page that is left."""
        self._end(code)

    def cut(self) -> None:
        """Break the connection: no closing handshake."""
        self._end(1006)

    def _end(self, code: int) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self.close_code = code
            self.transport.is_open = False
            self.world.inside(lambda: self.world.endpoint.closed(connection, code))

    def _close_by_server(self, transport: RecordingTransport) -> None:
        # The peer's close frame takes a turn, as it would on a wire.
        assert transport.closed_with is not None
        code, _ = transport.closed_with
        if transport is self.transport:
            self.world.loop.call_soon(self._end, code)

    # -- sending

    def send(self, event_id: str, data: Any = None) -> None:
        """Send `[[event_id data] nil]`."""
        self.feed(self._event(event_id, data, None))

    def ask(self, event_id: str, data: Any = None) -> Reply:
        """Send `[[event_id data] cb-id]`."""
        cb_id = self.world.new_cb_id()
        reply = self._replies[cb_id] = Reply()
        self.feed(self._event(event_id, data, cb_id))
        return reply

    def ping(self) -> Reply:
        """Send `[[:chsk/ws-ping] cb-id]`; the answer is the string "pong"."""
        return self.ask("chsk/ws-ping")

    def feed(self, *packets: bytes | str, is_text: bool | None = None) -> None:
        """Let these messages come in, in one read; by default of the packer's own kind."""
        if is_text is None:
            is_text = not self.world.packer.binary
        self._unread.extend((as_bytes(packet), is_text) for packet in packets)
        self.world.inside(self._pump)

    def _pump(self) -> None:
        connection, endpoint = self.connection, self.world.endpoint
        if connection is None:
            return
        while self._unread and self.transport.is_reading and self.connection is connection:
            packet, is_text = self._unread[0]
            if not endpoint.receive(connection, packet, is_text=is_text):
                self.transport.is_reading = False
                break
            self._unread.popleft()
        connection.corked()

    @property
    def unread(self) -> int:
        """Messages that were sent and the server does not read: it was told to stop."""
        return len(self._unread)

    # -- receiving

    def drain(self) -> None:
        """Read again, what waits first, after `transport.is_slow` was set."""
        self.transport.is_slow = False
        self.transport.drain()
        connection = self.connection
        if connection is not None:
            self.world.inside(lambda: self.world.endpoint.drained(connection))

    def _arrive(self, transport: RecordingTransport) -> None:
        if transport is not self.transport:
            return
        while self._seen < len(transport.arrived):
            packet = transport.arrived[self._seen]
            self._seen += 1
            self._read(*self.world.packer.unpack(memoryview(packet)))

    def _read(self, value: Any, cb_id: Any) -> None:
        # The order of the tests is that of Sente's client.
        if is_handshake(value):
            self.handshake = Handshake(value[1][0], value[1][2])
        elif value == "chsk/ws-ping":
            self.pings += 1
            if self.answers_pings:
                self.world.loop.call_soon(self.feed, self._event("chsk/ws-pong", None, None))
        elif cb_id is not None:
            reply = self._replies.get(cb_id)
            if reply is None or reply.is_here:
                self.stray.append([value, cb_id])
            else:
                reply.arrive(value)
        elif isinstance(value, list):
            self._take_batch(value)
        else:
            self.stray.append([value, cb_id])
