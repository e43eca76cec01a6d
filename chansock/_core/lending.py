"""Polls and POSTs of clients whose home is another node.

The node that got the request lends it: the home has a transport that passes the answer back by the
engine. Hooks and checks have run where the request came in. Which node is whose home is the
business of `homes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from chansock._core.cluster_keys import uid_of, user_key
from chansock._core.homes import YIELD, Homes
from chansock._core.packing import PackingError, Reader, Writer
from chansock._core.request_fields import is_form
from chansock._fast.events.dispatch import Connection, Dispatch, Inbox
from chansock._fast.events.packet import Packet
from chansock._fast.http.request import Admission
from chansock._fast.io.timers import TimerQueue
from chansock._fast.io.transport import Transport
from chansock.config import Config
from chansock.request import Request, Response
from chansock.target import ClientTarget

__all__ = ["Lending", "Lent"]

log = logging.getLogger("chansock.backplane")

YIELDED: Final = 2  # number, state
LEND: Final = 3  # number, kind, user's name, client-id, scheme, head, body
ANSWER: Final = 4  # number, status, content type, body, number of fields, their names and values
GONE: Final = 5  # number: nobody waits for the answer any more

SLACK: Final = 5.0  # seconds more than a poll may take, for its way there and back


class Lent:
    """In an Admission's `handshake`: the home of its client."""

    __slots__ = ("home",)

    def __init__(self, home: str) -> None:
        self.home = home


class RemoteTransport(Transport):
    """Where a home answers a request that another node lent."""

    streams = False
    receives = False

    def __init__(self, answer: Callable[[Response], None], make: Callable[[Packet], Response]):
        self._answer = answer
        self._make = make
        self._is_open = True

    def write(self, packets: list[Packet]) -> bool:
        if not self._is_open:
            return False
        self.refuse(self._make(packets[0]))
        return True

    def refuse(self, response: Response) -> None:
        if self._is_open:
            self._is_open = False
            self._answer(response)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.refuse(Response(503, reason or "closed"))

    def backlog(self) -> int:
        return 0

    def set_reading(self, on: bool) -> None:
        pass

    def gone(self) -> None:
        self._is_open = False


class Lending:
    """Lends requests to their homes, and serves those that others lent."""

    def __init__(
        self,
        homes: Homes,
        endpoint: Any,
        dispatch: Dispatch,
        config: Config,
        timers: TimerQueue,
        make_answer: Callable[[Packet], Response],
    ) -> None:
        self._homes = homes
        self._engine = homes.engine
        self._endpoint = endpoint
        self._dispatch = dispatch
        self._config = config
        self._timers = timers
        self._make_answer = make_answer
        self._lent: dict[int, Connection] = {}
        self._numbers: dict[Connection, tuple[int, str]] = {}
        self._borrowed: dict[tuple[str, int], tuple[Connection, RemoteTransport]] = {}
        self._newest = 0
        self.count = 0

    # -- where the request came in

    def lend(
        self, admission: Admission, home: str, transport: Transport, body: bytes = b""
    ) -> Connection:
        """Pass a request to its home; the connection stands for it until it is answered."""
        self._newest += 1
        self.count += 1
        number, request = self._newest, admission.request
        connection = Connection(
            self._dispatch, transport, request, admission.uid, admission.client_id, None, Inbox(),
            True,
        )  # fmt: skip
        out = Writer((LEND,))
        out.put_number(number)
        for text in (admission.kind, user_key(admission.uid), admission.client_id, request.scheme):
            out.put_text(text)
        out.put_bytes(request.head)
        out.put_bytes(body)
        self._lent[number] = connection
        self._numbers[connection] = number, home
        connection.timer = self._timers.schedule(
            self._config.poll_timeout + SLACK, self._unanswered, number
        )
        self._engine.call(home, bytes(out))
        return connection

    def _unanswered(self, number: int) -> None:
        connection = self._lent[number]
        connection.timer = None
        self._answer(number, Response(503, "the home of this client does not answer"))

    def _answer(self, number: int, response: Response) -> None:
        connection = self._lent.pop(number, None)
        if connection is None:
            return
        del self._numbers[connection]
        connection.forget()
        connection.transport.refuse(response)

    def gone(self, connection: Connection) -> bool:
        """Note that the peer of a request has gone; False: it was not lent."""
        found = self._numbers.pop(connection, None)
        if found is None:
            return False
        number, home = found
        del self._lent[number]
        connection.forget()
        out = Writer((GONE,))
        out.put_number(number)
        self._engine.call(home, bytes(out))
        return True

    # -- what other nodes say

    def called(self, origin: str, payload: bytes) -> None:
        """Take a message of another node."""
        try:
            self._called(origin, Reader(payload))
        except (PackingError, ValueError) as error:
            self._timers.log_limit.error(log, "call_refused: %s", error)

    def _called(self, origin: str, reader: Reader) -> None:
        kind, number = reader.byte(), reader.number()
        if kind == YIELD:
            key, client_id = reader.text(), reader.text()
            uid = None if key.startswith("c") else uid_of(key)

            def answer(state: bytes) -> None:
                out = Writer((YIELDED,))
                out.put_number(number)
                out.put_bytes(state)
                self._engine.call(origin, bytes(out))

            client = ClientTarget(uid, client_id)
            self._homes.hand_on(client, reader.number(), answer, origin)
        elif kind == YIELDED:
            self._homes.answered(number, reader.bytes())
        elif kind == LEND:
            self._borrow(origin, number, reader)
        elif kind == ANSWER:
            status, content_type, body = reader.number(), reader.text(), reader.bytes()
            fields = tuple((reader.text(), reader.text()) for _ in range(min(reader.number(), 32)))
            self._answer(number, Response(status, body, content_type, headers=fields))
        elif kind == GONE:
            connection, transport = self._borrowed.pop((origin, number), (None, None))
            if connection is not None and transport is not None:
                transport.gone()
                self._endpoint.closed(connection, 1006)

    def _borrow(self, origin: str, number: int, reader: Reader) -> None:
        kind, key, client_id, scheme = (reader.text() for _ in range(4))
        head, body = reader.bytes(), reader.bytes()
        request = Request(head, scheme=scheme)
        if kind == "post" and is_form(request):
            request.set_form(body)
        admission = Admission(kind, request, uid_of(key), client_id)

        def answer(response: Response) -> None:
            self._borrowed.pop((origin, number), None)
            out = Writer((ANSWER,))
            out.put_number(number)
            out.put_number(response.status)
            out.put_text(response.content_type)
            out.put_bytes(response.body_bytes)
            out.put_number(len(response.headers))
            for name, value in response.headers:
                out.put_text(name)
                out.put_text(value)
            self._engine.call(origin, bytes(out))

        transport = RemoteTransport(answer, self._make_answer)
        client = ClientTarget(admission.uid, client_id)
        if not self._homes.is_home(client):
            transport.refuse(Response(503, "expected a handshake first"))
            return
        if kind == "post":
            connection = self._endpoint.post(admission, body, transport)
        else:
            connection = self._endpoint.open(admission, transport)
        if connection is not None:
            self._borrowed[origin, number] = connection, transport
