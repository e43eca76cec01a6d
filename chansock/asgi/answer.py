"""One GET or POST of the channel that an ASGI server carries, from its body to its answer.

`Answer` is the transport of one request. No WebSocket is known here, and no path.
"""

from __future__ import annotations

import asyncio

from chansock._core import http1
from chansock._core.endpoint import Admission, Endpoint
from chansock._fast.dispatch import Connection
from chansock._fast.fanout import Transport
from chansock._fast.packet import Packet
from chansock.asgi.scope import Receive
from chansock.config import Config
from chansock.request import Request, Response

__all__ = ["Answer", "body_of"]

FORM_SLACK = 4096  # of a percent-encoded body: the fields beside the packet


class Answer(Transport):
    """The answer to one request: the packet, the Response or the end that comes first."""

    __slots__ = ("_code", "_response")

    def __init__(self) -> None:
        self.kind = "ajax"
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
        self, admission: Admission, body: bytes, endpoint: Endpoint, receive: Receive
    ) -> Response | None:
        """Let the channel answer, and give its answer; None: the peer has left before.

        Where it is cancelled, for the server waits no longer, the answer is that of a stop.
        """
        if admission.kind == "post":
            connection = endpoint.post(admission, body, self)
        else:
            connection = endpoint.open(admission, self)
        if not self._response.done():
            assert connection is not None  # there is one for what has no answer yet
            watcher = asyncio.create_task(self._watch(receive))
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

    async def _watch(self, receive: Receive) -> None:
        """Note at once when the peer leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._settle(None)


async def body_of(
    request: Request, endpoint: Endpoint, config: Config, receive: Receive
) -> bytes | Response | None:
    """Read a body within its limits: it, the answer that refuses, or None: the peer left."""
    limit = 3 * config.max_message_bytes + FORM_SLACK  # of a packet that is percent-encoded
    parts: list[bytes] = []
    size = 0
    announced = request.headers.get("content-length", "")
    if not (announced.isdecimal() and int(announced) > limit):
        try:
            async with asyncio.timeout(config.body_timeout):
                while size <= limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            return endpoint.refuse("http", 408, "expected a whole request sooner")
        if size <= limit:
            return b"".join(parts)
    return endpoint.refuse("http", 413, f"expected at most {limit} bytes of body")
