"""One WebSocket that an ASGI server carries: what goes out, and what comes in.

`Socket` is the transport: packets wait in it until the server has taken them, one after
the other. It and the reader of what the peer sends are two tasks for each WebSocket, and
none for a message. No request, hook or refusal is known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any, Final

from chansock._core.endpoint import Endpoint
from chansock._fast.events.dispatch import Connection
from chansock._fast.events.packet import Packet
from chansock._fast.io.transport import Transport
from chansock.asgi.scope import Receive, Send
from chansock.config import Config

__all__ = ["Socket"]

log = logging.getLogger("chansock.asgi")

NO_STATUS: Final = 1005  # RFC 6455 section 7.4.1: a close frame without a code
ABNORMAL: Final = 1006  # and no close frame at all
# Bytes that may wait for the end of the loop's turn before they count as a backlog: a handler
# that flushes again and again is to be stopped by the limits.
HIGH: Final = 128 * 1024


class Socket(Transport):
    """What the channel writes to; `run` has the server send it.

    There is a backlog while the server does not take what was sent last: its peer is slow.
    """

    __slots__ = (
        "_config",
        "_is_sending",
        "_limit",
        "_may_read",
        "_packets",
        "_reason",
        "_send",
        "_waiting",
        "_wake",
        "_was_blocked",
        "code",
        "is_open",
    )

    def __init__(self, send: Send, config: Config) -> None:
        self.streams = self.receives = True
        self.is_open: bool = True
        self.code: int = ABNORMAL  # with which it ends, unless somebody says otherwise
        self._reason: str | None = None  # of our own close; None: there is none
        self._send = send
        self._config = config
        self._packets: deque[Packet] = deque()
        self._waiting = 0
        self._is_sending = False
        self._was_blocked = False
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._limit: asyncio.Timeout | None = None

    # -- a Transport

    def write(self, packets: list[Packet]) -> bool:
        if not self.is_open:
            return False
        for packet in packets:
            self._packets.append(packet)
            self._waiting += packet.size
        self._wake.set()
        return True

    def backlog(self) -> int:
        if self._is_sending or self._waiting > HIGH:
            self._was_blocked = True
            return self._waiting
        return 0

    def set_reading(self, on: bool) -> None:
        if on:
            self._may_read.set()
        else:
            self._may_read.clear()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.is_open:
            self.is_open = False
            self.code = code
            self._reason = reason
            self._wake.set()
            self._end_by(self._config.close_timeout)

    # -- out

    async def run(self, endpoint: Endpoint, connection: Connection) -> None:
        """Send what is written, until one side closes.

        Where it is cancelled, for the server stops, it says 1012 and ends; at once if the
        server does not take what was sent last.
        """
        try:
            await self._run(endpoint, connection)
        except TimeoutError:
            pass  # its peer has left, or takes nothing any more
        except asyncio.CancelledError:
            self.close(1012, "service restart")
            if self._is_sending:
                raise
            with suppress(Exception):  # whatever becomes of it, this is the end
                async with asyncio.timeout(self._config.close_timeout):
                    await self._say_goodbye()
        except Exception as error:
            # What servers raise where the peer has left; not each has said so to the reader yet.
            text = "ws_send_failed client=%r: %r"
            endpoint.log_limit.info(log, text, connection.client_id[:8], error)
        finally:
            self.is_open = False

    async def _run(self, endpoint: Endpoint, connection: Connection) -> None:
        try:
            async with asyncio.timeout(None) as self._limit:
                if self._reason is not None:
                    self._end_by(self._config.close_timeout)
                await self._send_all(endpoint, connection)
        finally:
            self._limit = None

    async def _send_all(self, endpoint: Endpoint, connection: Connection) -> None:
        packets = self._packets
        while True:
            while packets:
                packet = packets.popleft()
                body = packet.body()
                self._is_sending = True
                if packet.binary:
                    await self._send({"type": "websocket.send", "bytes": body})
                else:
                    await self._send({"type": "websocket.send", "text": body.decode()})
                self._is_sending = False
                self._waiting -= packet.size
            if self._reason is not None:
                await self._say_goodbye()
                return
            if self._was_blocked:
                self._was_blocked = False
                endpoint.drained(connection)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _say_goodbye(self) -> None:
        close = {"type": "websocket.close", "code": self.code, "reason": self._reason or ""}
        try:
            await self._send(close)
        except Exception:
            if self.code == 1000 or self.code >= 3000:
                raise
            # daphne knows these codes alone, and leaves the socket open at another.
            await self._send({"type": "websocket.close", "code": 1000})

    def _end_by(self, delay: float) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + delay)

    # -- in

    async def read(self, receive: Receive, endpoint: Endpoint, connection: Connection) -> None:
        """Pass on to the channel what the peer sends, until either side closes."""
        try:
            while True:
                if not self._may_read.is_set():
                    await self._may_read.wait()
                message = await receive()
                if message["type"] == "websocket.receive":
                    if self.is_open:
                        await self._take(message, endpoint, connection)
                elif message["type"] == "websocket.disconnect":
                    self._lost(message)
                    return
        except Exception:
            endpoint.log_limit.exception(log, "ws_error client=%r", connection.client_id[:8])
            self.close(1011, "internal error")

    async def _take(self, message: Any, endpoint: Endpoint, connection: Connection) -> None:
        text = message.get("text")
        data: bytes = message["bytes"] if text is None else text.encode()
        limit = self._config.max_message_bytes
        if len(data) > limit:
            why = f"expected at most {limit} bytes in a message"
            text = "ws_frame_error client=%r: %s"
            endpoint.log_limit.warning(log, text, connection.client_id[:8], why)
            self.close(1009, why)
            return
        while not endpoint.receive(connection, data, is_text=text is not None):
            self.set_reading(False)
            await self._may_read.wait()
        connection.corked()

    def _lost(self, message: Any) -> None:
        code = message.get("code", NO_STATUS)
        if code == NO_STATUS and "reason" not in message:
            # So uvicorn tells of one that ended without a close frame, too: better to count a
            # break too many than to miss one.
            code = ABNORMAL
        if self.is_open:
            self.is_open = False
            self.code = code
        self._packets.clear()
        self._end_by(0)
