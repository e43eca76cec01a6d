"""What edges share to whom a framework gives requests one by one: admission, body, answer.

Reading a request and sending its answer is the framework's; what becomes of it in between is
the same for all. No framework, no WebSocket and no path is known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Self, TypeAlias

from chansock._core.endpoint import Admission, Endpoint
from chansock._core.posts import STOPPING
from chansock._edge import http1
from chansock._fast.events.dispatch import Connection, is_awaitable
from chansock._fast.events.packet import Packet
from chansock._fast.io.transport import Transport
from chansock.config import Config
from chansock.request import Request, Response

__all__ = ["Answer", "admitted", "answer", "body_of"]

Leaving: TypeAlias = Callable[[], Coroutine[Any, Any, object]]

_MAX_DIGITS: Final = 18  # of a Content-Length; int() raises past 4300
_LATE: Final = ("http", 503, "the server took too long")
_LATE_BODY: Final = ("http", 408, "expected a whole request sooner")
_BUSY: Final = ("incoming_full", 503, "expected less under way: see max_total_incoming_bytes")
FORM_SLACK: Final = 4096  # of a percent-encoded body: the fields beside the packet


class Answer(Transport):
    """The answer to one request: the packet, the Response or the end that comes first."""

    __slots__ = ("_code", "_response")

    def __init__(self) -> None:
        self.heard = True
        self._code = 0  # with which the channel ended it
        self._response: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    # -- a Transport

    def write(self, packets: list[Packet]) -> bool:
        if len(packets) != 1:
            raise ValueError(f"packets: expected 1 for a response, got {len(packets)}")
        return self._settle(http1.answer_of(packets[0]))

    def refuse(self, response: Response) -> None:
        self._settle(response)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._settle(http1.refuse(503, reason or f"closed with {code}")):
            self._code = code

    def backlog(self) -> int:
        return 0

    def set_reading(self, on: bool) -> None:
        """One request is all that there is to read."""

    def _settle(self, response: Response | None) -> bool:
        if self._response.done():
            return False
        self._response.set_result(response)
        return True

    # -- waiting

    async def given_to(
        self, admission: Admission, body: bytes, endpoint: Endpoint, leaving: Leaving
    ) -> Response | None:
        """Return the channel's answer; None: the peer has left before, as the
        end of `leaving()` tells.

        Where it is cancelled, for the server waits no longer, the answer is that of a stop.
        """
        if admission.kind == "post":
            connection = endpoint.post(admission, body, self)
            body = b""  # the channel has taken what it needs, and counts that
        else:
            connection = endpoint.open(admission, self)
        if not self._response.done():
            assert connection is not None  # there is one for what has no answer yet
            watcher = asyncio.create_task(leaving())
            watcher.add_done_callback(lambda _: self._settle(None))
            try:
                await asyncio.shield(self._response)
            except asyncio.CancelledError:
                endpoint.give_up(connection)
            finally:
                watcher.cancel()
        response = self._response.result()
        self._tell(endpoint, connection, response)
        return response

    def _tell(
        self, endpoint: Endpoint, connection: Connection | None, response: Response | None
    ) -> None:
        if connection is not None and (self._code or response is None):
            endpoint.closed(connection, self._code or 1006)


async def answer(
    request: Request,
    endpoint: Endpoint,
    config: Config,
    chunks: AsyncIterator[bytes],
    leaving: Leaving,
) -> Response | None:
    """Return the answer to a GET, a POST or another method; None: the peer has left.

    `chunks` is the body, and raises ConnectionError where the peer leaves in its midst;
    `leaving()` ends when it leaves while it waits for its answer, and is cancelled otherwise.
    """
    body = b""
    with _Incoming(endpoint) as incoming:
        if request.method == "POST":
            found = await body_of(request, endpoint, config, chunks, incoming)
            if found is None or isinstance(found, Response):
                return found
            body, found = found, None
            if body and http1.is_form(request):
                request.set_form(body)
        admission = await admitted(request, endpoint, config, is_upgrade=False, incoming=incoming)
    if isinstance(admission, Response):
        return admission
    answering = Answer().given_to(admission, body, endpoint, leaving)
    body = b""  # it would be held as long as the handler takes
    return await answering


class _Incoming:
    """What is held of one request until it is admitted, among that of all (`Endpoint.incoming`).

    If all hold too much, the largest are refused with 503. A stop refuses those whose body is
    not whole.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.parts: list[bytes] = []  # of its body
        self.timeout: asyncio.Timeout | None = None  # of what is waited for now
        self.refusal: tuple[str, int, str] | None = None  # why that ended early

    def __enter__(self) -> Self:
        self._share = self._endpoint.incoming.enter(_Incoming._cut, self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._endpoint.incoming.end(self._share)
        self.end_reading()

    def begin_reading(self) -> None:
        self._endpoint.incoming.reading.add(self._stop)

    def hold(self, part: bytes, size: int) -> None:
        """Keep a part of the body, which is `size` bytes long now. Raises TimeoutError if its
        reading has been ended."""
        if self.refusal is None:
            self.parts.append(part)
            self._endpoint.incoming.resize(self._share, size)
        if self.refusal is not None:
            raise TimeoutError  # that of `timeout` comes only once something is waited for

    def end_reading(self) -> None:
        self.parts = []
        self._endpoint.incoming.reading.discard(self._stop)

    def _cut(self) -> None:
        self._end(_BUSY)

    def _stop(self) -> None:
        self._end(STOPPING)

    def _end(self, refusal: tuple[str, int, str]) -> None:
        if self.timeout is not None and self.refusal is None:
            self.refusal = refusal
            self.parts.clear()  # at once: before its task goes on, others hold more
            self.timeout.reschedule(0)  # its time is over: TimeoutError in the next turn


async def body_of(
    request: Request,
    endpoint: Endpoint,
    config: Config,
    chunks: AsyncIterator[bytes],
    incoming: _Incoming,
) -> bytes | Response | None:
    """Read a body within its limits: it, the answer that refuses, or None: the peer left."""
    if endpoint.is_stopping:
        return endpoint.refuse(*STOPPING)
    limit = 3 * config.max_message_bytes + FORM_SLACK  # of a packet that is percent-encoded
    size = 0
    announced = request.headers.get("content-length", "")
    if not (announced.isdecimal() and (len(announced) > _MAX_DIGITS or int(announced) > limit)):
        try:
            async with asyncio.timeout(config.body_timeout) as incoming.timeout:
                incoming.begin_reading()
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        break
                    incoming.hold(chunk, size)
                    chunk = b""  # it is held there alone
            if size <= limit:
                return b"".join(incoming.parts)
        except TimeoutError:
            return endpoint.refuse(*(incoming.refusal or _LATE_BODY))
        except ConnectionError:
            return None
        finally:
            incoming.timeout = None
            incoming.end_reading()
    return endpoint.refuse("http", 413, f"expected at most {limit} bytes of body")


async def admitted(
    request: Request,
    endpoint: Endpoint,
    config: Config,
    *,
    is_upgrade: bool,
    incoming: _Incoming | None = None,
) -> Admission | Response:
    """Have the endpoint admit a request, within handshake_timeout."""
    found = endpoint.admit(request, is_upgrade=is_upgrade)
    if is_awaitable(found):
        try:
            async with asyncio.timeout(config.handshake_timeout) as timeout:
                if incoming is not None:
                    incoming.timeout = timeout
                return await found
        except TimeoutError:
            refusal = None if incoming is None else incoming.refusal
            return endpoint.refuse(*(refusal or _LATE))
        finally:
            if incoming is not None:
                incoming.timeout = None
    return found
