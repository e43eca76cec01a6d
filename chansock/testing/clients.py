"""Clients of a World: what Sente's clients do, one step at a time, without sockets.

They hand packets to the channel's endpoint as an edge does, and read what comes back.
Nothing is retried behind the test's back but what `WsClient.answers_pings` and
`AjaxClient.is_polling` name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from chansock._core.endpoint import Admission
from chansock._fast.dispatch import Connection
from chansock.errors import HandshakeRefused
from chansock.request import Request, Response
from chansock.testing.transport import RecordingTransport
from chansock.values import Keyword

if TYPE_CHECKING:
    from chansock.testing.world import World

__all__ = ["AjaxClient", "Event", "Handshake", "Reply", "WsClient"]

Pairs = Iterable[tuple[str, str]]


class Event(NamedTuple):
    """A push as it arrived: equal to the tuple `(id, data)`."""

    id: str
    data: Any = None


class Handshake(NamedTuple):
    """What the server said first. `uid` is `Keyword("sente/nil-uid")` without a user."""

    uid: Any
    data: Any


class Reply:
    """What will come back for an event that asked for a reply."""

    __slots__ = ("_values", "status")

    def __init__(self) -> None:
        self._values: list[Any] = []
        self.status: int | None = None  # over Ajax: of the POST

    @property
    def is_here(self) -> bool:
        return bool(self._values)

    @property
    def value(self) -> Any:
        """The reply. Raises LookupError if there is none."""
        if not self._values:
            raise LookupError(f"expected a reply, got none yet (status {self.status})")
        return self._values[0]

    def arrive(self, value: Any) -> None:
        self._values.append(value)


class _Client:
    """What both kinds have: who they are, and what arrived."""

    def __init__(self, world: World, client_id: str, params: Pairs, headers: Pairs, uid: Any) -> None:
        self.world = world
        self.client_id = client_id
        self.handshake: Handshake | None = None  # the newest
        self.events: list[Event] = []
        self._params = [("client-id", client_id), *params]
        self._headers = list(headers)
        self._uid = uid

    def take(self) -> list[Event]:
        """Give the events that arrived, and forget them."""
        events, self.events = self.events, []
        return events

    def _request(self, method: str, params: Pairs = (), headers: Pairs = ()) -> Request:
        target = f"{self.world.path}?{_urlencoded(params)}" if params else self.world.path
        fields = [("Host", "localhost"), *self._headers, *headers]
        request = Request.from_fields(method, target, fields, client=("127.0.0.1", 50000))
        if self._uid is not None:
            request.state["uid"] = self._uid
        return request

    def _event(self, event_id: str, data: Any, cb_id: Any) -> bytes:
        event = [Keyword(event_id)] if data is None else [Keyword(event_id), data]
        return self.world.packer.packet(event, cb_id)

    def _take_batch(self, batch: list[list[Any]]) -> None:
        self.events += [Event(*event) for event in batch]


class WsClient(_Client):
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

    def connect(self) -> None:
        """Open a socket, the next one if there was one before. Raises HandshakeRefused."""
        request = self._request("GET", self._params)
        admitted = self.world.admit(request, is_upgrade=True)
        if isinstance(admitted, Response):
            raise HandshakeRefused(admitted.status, _text(admitted))
        self.transport = transport = RecordingTransport("ws")
        transport.on_arrival = lambda: self._arrive(transport)
        transport.on_close = lambda: self._close_by_server(transport)
        transport.on_reading = self._pump
        self._seen = 0
        self._unread.clear()
        self.close_code = None
        self.connection = self.world.inside(lambda: self._endpoint.open(admitted, transport))

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
            self.world.inside(lambda: self._endpoint.closed(connection, code))

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

    def feed(self, *packets: bytes | str, is_text: bool = True) -> None:
        """Let these messages come in, in one read."""
        self._unread.extend((_bytes(packet), is_text) for packet in packets)
        self.world.inside(self._pump)

    def _pump(self) -> None:
        connection, endpoint = self.connection, self._endpoint
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
            self.world.inside(lambda: self._endpoint.drained(connection))

    def _arrive(self, transport: RecordingTransport) -> None:
        if transport is not self.transport:
            return
        while self._seen < len(transport.arrived):
            packet = transport.arrived[self._seen]
            self._seen += 1
            self._read(*self.world.packer.unpack(memoryview(packet)))

    def _read(self, value: Any, cb_id: Any) -> None:
        # The order of the tests is that of Sente's client.
        if _is_handshake(value):
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

    @property
    def _endpoint(self) -> Any:
        return self.world.chsk.endpoint


class Poll:
    """One GET: parked, answered, refused or dropped."""

    __slots__ = ("connection", "transport", "value")

    def __init__(self) -> None:
        self.transport = RecordingTransport("ajax")
        self.connection: Connection | None = None
        self.value: Any = None  # of a 200

    @property
    def status(self) -> int | None:
        """HTTP status; None while it is parked."""
        return self.transport.status

    @property
    def is_parked(self) -> bool:
        return self.connection is not None and self.transport.is_open


class AjaxClient(_Client):
    """A client on Ajax; made by `World.ajax`, which shakes hands.

    While `is_polling` it polls anew after each answer, and with a handshake after an
    error, as Sente's do; without it, `poll` and `shake_hands` are the test's to call.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_polling = False
        self.polls: list[Poll] = []  # all GETs so far

    # -- GET

    def shake_hands(self) -> Poll:
        """GET with `handshake?=1`. Raises HandshakeRefused if it is not answered 200."""
        poll = self._get([("udt", self.world.udt()), ("handshake?", "1")])
        if poll.status != 200:
            assert poll.status is not None
            raise HandshakeRefused(poll.status, _text(poll.transport.response))
        return poll

    def poll(self) -> Poll:
        """GET without `handshake?`: parked until there is something."""
        return self._get([("udt", self.world.udt())])

    @property
    def parked(self) -> Poll | None:
        """The newest poll, if it is parked."""
        return self.polls[-1] if self.polls and self.polls[-1].is_parked else None

    def drop(self) -> None:
        """Break the connections of all parked polls, as a page that is left."""
        self.is_polling = False
        for poll in self.polls:
            connection, poll.connection = poll.connection, None
            if connection is not None and poll.transport.is_open:
                poll.transport.is_open = False
                self.world.inside(lambda connection=connection: self._closed(connection))

    def _closed(self, connection: Connection) -> None:
        self.world.chsk.endpoint.closed(connection, 1006)

    def _get(self, params: Pairs) -> Poll:
        request = self._request("GET", [*params, *self._params])
        poll = Poll()
        self.polls.append(poll)
        self._open(poll, self.world.admit(request))
        return poll

    def _open(self, poll: Poll, admitted: Admission | Response) -> None:
        poll.transport.on_arrival = lambda: self._answered(poll)
        poll.transport.on_close = lambda: self._poll_again(is_error=True)
        if isinstance(admitted, Response):
            poll.transport.refuse(admitted)
            return
        endpoint = self.world.chsk.endpoint
        connection = self.world.inside(lambda: endpoint.open(admitted, poll.transport))
        poll.connection = connection

    def _answered(self, poll: Poll) -> None:
        value, _ = self.world.packer.unpack(memoryview(poll.transport.arrived[0]))
        poll.value = value
        if _is_handshake(value):
            self.handshake = Handshake(value[1][0], value[1][2])
        elif isinstance(value, list):
            self._take_batch(value)
        self._poll_again(is_error=False)

    def _poll_again(self, *, is_error: bool) -> None:
        # After a turn, as over a wire; and the server has to be done with this answer.
        if self.is_polling:
            params = [("udt", self.world.udt())]
            if is_error:
                params.append(("handshake?", "1"))
            self.world.loop.create_task(self._get_later(params))

    async def _get_later(self, params: Pairs) -> None:
        if not self.is_polling:
            return
        request = self._request("GET", [*params, *self._params])
        poll = Poll()
        self.polls.append(poll)
        self._open(poll, await self.world.admitted(request))

    # -- POST

    def send(self, event_id: str, data: Any = None) -> Reply:
        """POST `[[event_id data] nil]`; the answer's value is `Keyword("chsk/dummy-cb-200")`."""
        return self.post(self._event(event_id, data, None))

    def ask(self, event_id: str, data: Any = None) -> Reply:
        """POST `[[event_id data] :ajax]`; the answer is the reply."""
        return self.post(self._event(event_id, data, Keyword("ajax")))

    def post(self, packet: bytes | str, fields: Pairs = ()) -> Reply:
        """POST a packet as the form field `ppstr`, with further fields."""
        reply = Reply()
        text = _bytes(packet).decode()
        form = [("udt", self.world.udt()), ("client-id", self.client_id), ("ppstr", text), *fields]
        body = _urlencoded(form).encode()
        kind = "application/x-www-form-urlencoded;charset=UTF-8"
        request = self._request("POST", (), [("Content-Type", kind)])
        request.set_form(body)
        transport = RecordingTransport("ajax")

        def answered() -> None:
            reply.status = 200
            reply.arrive(self.world.packer.unpack(memoryview(transport.arrived[0]))[0])

        def refused() -> None:
            reply.status = transport.status

        transport.on_arrival = answered
        transport.on_close = refused
        admitted = self.world.admit(request)
        if isinstance(admitted, Response):
            transport.refuse(admitted)
        else:
            endpoint = self.world.chsk.endpoint
            self.world.inside(lambda: endpoint.post(admitted, body, transport))
        return reply


def _is_handshake(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] == "chsk/handshake"


def _bytes(packet: bytes | str) -> bytes:
    return packet.encode() if isinstance(packet, str) else packet


def _text(response: Response | None) -> str:
    if response is None:
        return ""
    return response.body if isinstance(response.body, str) else response.body.decode()


def _urlencoded(pairs: Pairs) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
