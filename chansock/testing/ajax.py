"""A World's client on Ajax, without HTTP: GETs that are parked, POSTs that are answered.

Nothing happens by itself but the next poll, while the client is told to poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from chansock._core.endpoint import Admission
from chansock._fast.dispatch import Connection
from chansock.errors import HandshakeRefused
from chansock.request import Response
from chansock.testing.client import (
    Client,
    Handshake,
    Pairs,
    Reply,
    as_bytes,
    is_handshake,
    text_of,
    urlencoded,
)
from chansock.testing.transport import RecordingTransport
from chansock.values import Keyword

__all__ = ["AjaxClient", "Poll"]

Params: TypeAlias = Sequence[tuple[str, str]]


class Poll:
    """One GET: parked, answered, refused or dropped."""

    __slots__ = ("connection", "is_handshake", "transport", "value")

    def __init__(self, params: Params) -> None:
        self.is_handshake = any(name == "handshake?" for name, _ in params)
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


class AjaxClient(Client):
    """A client on Ajax; made by `World.ajax`, which shakes hands.

    While `is_polling` it polls anew after each answer, and after an error once with a
    handshake, as Sente's do; if that fails too it gives up (theirs wait and try again).
    Without it, `poll` and `shake_hands` are the test's to call.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_polling = False
        self.polls: list[Poll] = []  # all GETs so far
        self._posts: list[tuple[Connection, RecordingTransport]] = []  # not answered at once

    # -- GET

    def shake_hands(self, udt: str | None = None) -> Poll:
        """GET with `handshake?=1`. Raises HandshakeRefused if it is not answered 200.

        `udt` is what numbered POSTs refer to (`post(packet, [("n", f"{udt}-1")])`).
        """
        poll = self._get([("udt", udt or self.world.udt()), ("handshake?", "1")])
        if poll.status != 200:
            assert poll.status is not None
            raise HandshakeRefused(poll.status, text_of(poll.transport.response))
        return poll

    def poll(self) -> Poll:
        """GET without `handshake?`: parked until there is something."""
        return self._get([("udt", self.world.udt())])

    @property
    def parked(self) -> Poll | None:
        """The newest poll, if it is parked."""
        return self.polls[-1] if self.polls and self.polls[-1].is_parked else None

    def drop(self) -> None:
        """Break the connections of all parked polls and POSTs, as a page that is left."""
        self.is_polling = False
        requests, self._posts = self._posts, []
        for poll in self.polls:
            if poll.connection is not None:
                requests.append((poll.connection, poll.transport))
                poll.connection = None
        for connection, transport in requests:
            if transport.is_open:
                transport.is_open = False
                self.world.inside(partial(self.world.endpoint.closed, connection, 1006))

    def _get(self, params: Params) -> Poll:
        request = self._request("GET", [*params, *self._params])
        poll = Poll(params)
        self.polls.append(poll)
        self._open(poll, self.world.admit(request))
        return poll

    def _open(self, poll: Poll, admitted: Admission | Response) -> None:
        poll.transport.on_arrival = lambda: self._answered(poll)
        poll.transport.on_close = lambda: self._failed(poll)
        if isinstance(admitted, Response):
            poll.transport.refuse(admitted)
            return
        endpoint = self.world.endpoint
        connection = self.world.inside(lambda: endpoint.open(admitted, poll.transport))
        poll.connection = connection

    def _answered(self, poll: Poll) -> None:
        value, _ = self.world.packer.unpack(memoryview(poll.transport.arrived[0]))
        poll.value = value
        if is_handshake(value):
            self.handshake = Handshake(value[1][0], value[1][2])
        elif isinstance(value, list):
            self._take_batch(value)
        self._poll_again(is_error=False)

    def _failed(self, poll: Poll) -> None:
        if poll.is_handshake:
            self.is_polling = False
        self._poll_again(is_error=True)

    def _poll_again(self, *, is_error: bool) -> None:
        # After a turn, as over a wire; and the server has to be done with this answer.
        if self.is_polling:
            params = [("udt", self.world.udt())]
            if is_error:
                params.append(("handshake?", "1"))
            self.world.loop.create_task(self._get_later(params))

    async def _get_later(self, params: Params) -> None:
        if not self.is_polling:
            return
        request = self._request("GET", [*params, *self._params])
        poll = Poll(params)
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
        """POST a packet, with further fields: in a form as `ppstr`, or a binary one as the body."""
        reply = Reply()
        fields = [("udt", self.world.udt()), ("client-id", self.client_id), *fields]
        is_binary = self.world.packer.binary
        if is_binary:
            body = as_bytes(packet)
            query, kind = [*fields, ("binary?", "true")], "application/octet-stream"
        else:
            body = urlencoded([*fields, ("ppstr", as_bytes(packet).decode())]).encode()
            query, kind = [], "application/x-www-form-urlencoded;charset=UTF-8"
        request = self._request("POST", query, [("Content-Type", kind)])
        if not is_binary:
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
            endpoint = self.world.endpoint
            connection = self.world.inside(lambda: endpoint.post(admitted, body, transport))
            if connection is not None:
                self._posts.append((connection, transport))
        return reply
