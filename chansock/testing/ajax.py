"""A World's client on Ajax, without HTTP: GETs that are parked, POSTs that are answered.

Nothing happens by itself but the next poll, while the client is told to poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from chansock._core.endpoint import Admission
from chansock._core.event import check_id
from chansock._fast.events.dispatch import Connection
from chansock.errors import HandshakeRefused
from chansock.request import Request, Response
from chansock.testing.client import (
    Pairs,
    PendingReply,
    WorldClient,
    as_bytes,
    is_handshake,
    pairs,
    text_of,
    urlencoded,
)
from chansock.testing.network import Lane
from chansock.testing.resume import Resumption
from chansock.testing.transport import RecordingTransport
from chansock.values import NO_DATA, Keyword

__all__ = ["AjaxClient", "Poll"]

Params: TypeAlias = Sequence[tuple[str, str]]


class Poll:
    """One GET: parked, answered, refused or dropped."""

    __slots__ = ("connection", "is_handshake", "params", "transport", "value")

    def __init__(self, params: Params) -> None:
        self.params = params
        self.is_handshake: bool = any(name == "handshake?" for name, _ in params)
        self.transport: RecordingTransport = RecordingTransport("ajax")
        self.connection: Connection | None = None
        self.value: Any = None  # of a 200

    @property
    def status(self) -> int | None:
        """HTTP status; None while it is parked."""
        return self.transport.status

    @property
    def is_parked(self) -> bool:
        """Whether the server holds it, without an answer yet."""
        return self.connection is not None and self.transport.is_open


class AjaxClient(WorldClient):
    """A client on Ajax.

    While `is_polling` it polls anew after each answer, and after an error once with a
    handshake, as Sente's do; if that fails too it gives up (theirs wait and try again).
    Without it, `poll` and `shake_hands` are the test's to call.
    """

    def __init__(self, *args: Any, resumes: bool | Resumption = False) -> None:
        super().__init__(*args, resumes=resumes)
        self.is_polling: bool = False
        self.polls: list[Poll] = []  # all GETs so far
        # Not answered at once: what a break ends.
        self._posts: list[tuple[Connection, RecordingTransport]] = []
        self._asked: set[PendingReply] = set()
        self._unheard: list[Callable[[], object]] = []  # answers that came while it lagged
        self._polled = 0
        self._udt: str | None = None  # of the newest handshake that was answered

    # -- life

    @property
    def is_open(self) -> bool:
        return self.is_polling or self.parked is not None

    def connect(self) -> None:
        """Shake hands, then poll, and go on polling. Raises HandshakeRefused."""
        __tracebackhide__ = True
        self.shake_hands()
        self.is_polling = True
        self.poll()

    def reconnect(self) -> None:
        __tracebackhide__ = True
        self.cut()
        self.connect()

    def close(self, code: int = 1000) -> None:
        """Leave the page: its requests break off, and nobody hears of a code."""
        self.cut()

    def cut(self) -> None:
        self.drop()

    def lag(self) -> None:
        self.is_lagging = True

    def resume(self) -> None:
        self.is_lagging = False
        unheard, self._unheard = self._unheard, []
        for call in unheard:
            self._hear(call, self._down)

    def drop(self) -> None:
        """Break the connections of all parked polls and POSTs, as a page that is left."""
        self.breaks += self.is_open
        self.is_polling = False
        self._asked.clear()
        self._unheard.clear()
        has_vanished = self._up.is_dead
        self._up.cut()
        self._down.cut()
        self._up, self._down = Lane(self.world.loop), Lane(self.world.loop)
        requests, self._posts = self._posts, []
        for poll in self.polls:
            if poll.connection is not None:
                requests.append((poll.connection, poll.transport))
                poll.connection = None
        if has_vanished:
            return  # nobody tells the server
        for connection, transport in requests:
            if transport.is_open:
                transport.is_open = False
                self.world.inside(partial(self.world._endpoint.closed, connection, 1006))

    def _hear(self, call: Callable[[], object], down: Lane) -> None:
        """Read an answer, as soon as the network has brought it and nothing holds it up.

        `down` is the lane of its request: nobody reads what comes after that was cut.
        """

        def arrive() -> None:
            if self.is_lagging:
                self._unheard.append(call)
            else:
                call()

        down.put(arrive, self.network.down)

    # -- GET

    def shake_hands(self, udt: str | None = None) -> Poll:
        """GET with `handshake?=1`. Raises HandshakeRefused if it is not answered 200.

        `udt` is what numbered POSTs refer to (`post(packet, [("n", f"{udt}-1")])`).
        """
        __tracebackhide__ = True
        poll = self._get([("udt", udt or self.world._udt()), ("handshake?", "1")])
        self.world._pass_delay(self.network.down)
        if poll.status != 200:
            assert poll.status is not None
            raise self.world._blamed(
                HandshakeRefused(poll.status, text_of(poll.transport.response))
            )
        return poll

    def poll(self) -> Poll:
        """GET without `handshake?`: parked until there is something."""
        return self._get(self._poll_params())

    def _poll_params(self) -> list[tuple[str, str]]:
        # A client that resumes numbers its polls, as ours do.
        self._polled += 1
        number = [] if self.resumption is None else [("n", str(self._polled))]
        return [("udt", self.world._udt()), *number]

    def repeat_poll(self) -> None:
        """Send the newest poll again, as browsers do by themselves if the answer broke off."""
        params = list(self.polls[-1].params)
        self.world.loop.create_task(self._get_later(params, self._up, is_repeated=True))

    @property
    def parked(self) -> Poll | None:
        """The newest poll, if it is parked."""
        return self.polls[-1] if self.polls and self.polls[-1].is_parked else None

    def _get_request(self, params: Params) -> Request:
        own: list[tuple[str, str]] = []
        if self.resumption is not None and ("handshake?", "1") in params:
            own = self.resumption.params()
        elif self.resumption is not None:
            own = [("pos", self.resumption.position), *self.resumption.waits_param()]
        return self._request("GET", [*params, *self._params, *own])

    def _get(self, params: Params) -> Poll:
        request = self._get_request(params)
        poll = Poll(params)
        self.polls.append(poll)
        self.world._pass_delay(self.network.up)
        self._open(poll, self.world._admit(request))
        return poll

    def _open(self, poll: Poll, admitted: Admission | Response) -> None:
        down = self._down
        poll.transport.on_arrival = lambda: self._hear(partial(self._answered, poll), down)
        poll.transport.on_close = lambda: self._hear(partial(self._failed, poll), down)
        if isinstance(admitted, Response):
            poll.transport.refuse(admitted)
            return
        endpoint = self.world._endpoint
        connection = self.world.inside(lambda: endpoint.open(admitted, poll.transport))
        poll.connection = connection

    def _answered(self, poll: Poll) -> None:
        value, _ = self.world.packer.unpack(memoryview(poll.transport.arrived[0]))
        poll.value = value
        if is_handshake(value):
            again = self._told(value)
            self._udt = dict(poll.params)["udt"]
            if self.resumption is not None:
                for number, packet in again:
                    reply = self.resumption.replies.get(number)
                    self._post_numbered(number, packet, reply or PendingReply(self, "sent again"))
        elif isinstance(value, list):
            self._take_batch(value)
        self._poll_again(is_error=False)

    def _failed(self, poll: Poll) -> None:
        self.breaks += self.is_polling and not poll.is_handshake
        if poll.is_handshake:
            self.is_polling = False
        self._poll_again(is_error=True)

    def _poll_again(self, *, is_error: bool) -> None:
        # After a turn, as over a wire; and the server has to be done with this answer.
        if self.is_polling:
            params = [("udt", self.world._udt()), ("handshake?", "1")]
            if not is_error:
                params = self._poll_params()
            self.world.loop.create_task(self._get_later(params, self._up))

    async def _get_later(self, params: Params, lane: Lane, *, is_repeated: bool = False) -> None:
        if self.network.up:
            await asyncio.sleep(self.network.up)
        if lane.is_dead or not (self.is_polling or is_repeated):
            return
        request = self._get_request(params)
        poll = Poll(params)
        self.polls.append(poll)
        self._open(poll, await self.world._admitted(request))

    # -- POST

    def send(self, event_id: str, data: Any = NO_DATA, *, timeout: float | None = None) -> Any:
        """POST `[[event_id data] nil]`; the answer's value is `Keyword("chsk/dummy-cb-200")`.

        With a timeout it is `ask(...).wait(timeout)`.
        """
        __tracebackhide__ = True
        if timeout is not None:
            return self.ask(event_id, data).wait(timeout)
        return self._send(event_id, self._packet(check_id(event_id), data, None), asks=False)

    def ask(self, event_id: str, data: Any = NO_DATA) -> PendingReply:
        """POST `[[event_id data] :ajax]`; the answer is the reply."""
        packet = self._packet(check_id(event_id), data, Keyword("ajax"))
        return self._send(event_id, packet, asks=True)

    def _send(self, event_id: str, packet: bytes, *, asks: bool) -> PendingReply:
        # While it is closed, a client that resumes keeps its events for the next handshake.
        reply = PendingReply(self, event_id)
        if self.resumption is None:
            return self._post(reply, packet, ())
        number = self.resumption.number(packet, reply if asks else None)
        if self._udt is not None and self.is_open:
            self._post_numbered(number, packet, reply)
        return reply

    def _post_numbered(self, number: int, packet: bytes, reply: PendingReply) -> None:
        assert self.resumption is not None
        self.resumption.sent = max(self.resumption.sent, number)
        fields = [("n", f"{self._udt}-{number}"), *self.resumption.waits_param()]
        self._post(reply, packet, fields)

    def post(self, packet: bytes | str, fields: Pairs = ()) -> PendingReply:
        """POST a packet, with further fields: in a form as `ppstr`, or a binary one as the body."""
        return self._post(PendingReply(self, "a packet"), packet, fields)

    def _post(self, reply: PendingReply, packet: bytes | str, fields: Pairs) -> PendingReply:
        transport, down = RecordingTransport("ajax"), self._down

        def answered() -> None:
            self._asked.discard(reply)
            if reply.is_here:
                return
            reply.status = 200
            if self.resumption is not None:
                self.resumption.arrived(reply)
            reply.arrive(self.world.packer.unpack(memoryview(transport.arrived[0]))[0])

        def refused() -> None:
            self._asked.discard(reply)
            reply.status = transport.status
            reply.response = transport.response

        transport.on_arrival = lambda: self._hear(answered, down)
        transport.on_close = lambda: self._hear(refused, down)
        self._asked.add(reply)
        request, body = self._post_request(packet, pairs(fields))
        lane = self._up

        def opened(admitted: Admission | Response) -> None:
            if lane.is_dead:
                return
            if isinstance(admitted, Response):
                transport.refuse(admitted)
                return
            endpoint = self.world._endpoint
            connection = self.world.inside(lambda: endpoint.post(admitted, body, transport))
            if connection is not None:
                self._posts.append((connection, transport))

        async def admit_later() -> None:
            opened(await self.world._admitted(request))

        if self.network.up or not lane.is_idle:
            lane.put(lambda: self.world.loop.create_task(admit_later()), self.network.up)
        elif not lane.is_dead:
            opened(self.world._admit(request))
        return reply

    def _post_request(self, packet: bytes | str, fields: Params) -> tuple[Request, bytes]:
        # The params go with each request, else a hook that reads one would see another user.
        own = [("udt", self.world._udt()), ("client-id", self.client_id), *fields]
        names = {name for name, _ in own}
        query = [pair for pair in self._params if pair[0] not in names]
        if self.world.packer.binary:
            query = [*own, ("binary?", "true"), *query]
            kind = ("Content-Type", "application/octet-stream")
            return self._request("POST", query, [kind]), as_bytes(packet)
        body = urlencoded([*own, ("ppstr", as_bytes(packet).decode())]).encode()
        kind = ("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8")
        request = self._request("POST", query, [kind])
        request.set_form(body)
        return request, body

    def _awaits(self, reply: PendingReply) -> bool:
        return reply in self._asked or (
            self.resumption is not None and reply in self.resumption.replies.values()
        )
