"""HTTP/1.1 as a client of it: requests written, and responses parsed.

`ResponseReader` is fed bytes and returns responses; `HttpConnection` is that over asyncio's
streams, one request at a time. Nothing of channels or packets here.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import ssl as ssl_module
import time
from dataclasses import dataclass
from typing import Final

import httptools

from chansock.client.arguments import Address, Proxy
from chansock.client.dial import dial, hand_over

__all__ = ["BadResponse", "HttpConnection", "Response", "ResponseReader"]

READ_SIZE: Final = 64 * 1024
# Of a response's head, and of what stands between and behind the bytes of a body (chunk
# extensions, trailers): four times what we take as a server.
MAX_HEAD_BYTES: Final = 64 * 1024

# A kept connection that was idle for longer takes no request: the server may be closing it at
# this moment, and whether a POST without an answer was handled cannot be known.
MAX_IDLE: Final = 30.0


class BadResponse(ConnectionError):
    """The connection ended, or gave bytes that are no response, before one was whole."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response; header names in lower case, in the order received."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool

    def getall(self, name: str) -> list[str]:
        """Return the values of all fields of that (lower case) name."""
        return [value for field, value in self.headers if field == name]

    @property
    def retry_after(self) -> float | None:
        """The seconds that Retry-After asks for (RFC 9110 section 10.2.3), None without it."""
        for value in self.getall("retry-after")[:1]:
            if value.isascii() and value.isdecimal():
                return float(value[:9])
            try:
                due = email.utils.parsedate_to_datetime(value).timestamp()
            except (ValueError, OverflowError):
                return None
            return max(0.0, due - time.time())
        return None


class ResponseReader:
    """Parses the responses of one connection, interim (1xx) ones left out."""

    __slots__ = (
        "_body",
        "_done",
        "_headers",
        "_in_body",
        "_max_body",
        "_parser",
        "_since_body",
        "started",
    )

    def __init__(self, max_body_bytes: int) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._max_body = max_body_bytes
        self._done: Response | None = None
        self.started: bool = False  # whether a byte of the next response has come
        self._in_body = False
        self._since_body = 0  # bytes that came since the last one of the body, or the beginning
        self.on_message_begin()

    def feed(self, data: bytes) -> Response | None:
        """Take bytes; return the response that they complete, if any.

        Raises BadResponse for what is no HTTP, and for more than was asked for.
        """
        self.started = True
        size = len(self._body)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            raise BadResponse("expected a response, got a switch of protocols") from exc
        except httptools.HttpParserError as exc:
            cause = exc.__context__
            if isinstance(cause, BadResponse):
                raise cause from None
            raise BadResponse(f"expected an HTTP response, got {data[:40]!r}") from exc
        if self._done is None:
            self._since_body = self._since_body + len(data) if len(self._body) == size else 0
            if self._since_body > MAX_HEAD_BYTES:
                part = "trailers" if self._in_body else "a head"
                raise BadResponse(f"expected {part} of at most {MAX_HEAD_BYTES} bytes, got more")
        return self._take()

    def feed_eof(self) -> Response:
        """Take the end of the connection: a body without a length ends here (RFC 9112 6.3).

        Raises BadResponse if no response, or only a part of one, has come.
        """
        lengths = {"content-length", "transfer-encoding"}
        if self._in_body and not lengths & {name for name, _ in self._headers}:
            self._finish(keep_alive=False)
            response = self._take()
            if response is not None:
                return response
        what = "in the middle of a response" if self.started else "before a response"
        raise BadResponse(f"connection closed {what}")

    def forget(self) -> None:
        """Free the body that has come so far; the error that ended it may live for a while."""
        self._body = bytearray()

    # httptools calls these

    def on_message_begin(self) -> None:
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._since_body = 0
        self._in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._max_body:
            self.forget()
            raise BadResponse(f"expected a body of at most {self._max_body} bytes, got more")
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._finish(keep_alive=self._parser.should_keep_alive())
        self._in_body = False

    def _finish(self, *, keep_alive: bool) -> None:
        if self._done is not None:
            raise BadResponse("expected one response, got two")
        self._done = Response(
            self._parser.get_status_code(), tuple(self._headers), bytes(self._body), keep_alive
        )

    def _take(self) -> Response | None:
        done, self._done = self._done, None
        if done is not None:
            self.started = False
        return done


class HttpConnection:
    """One kept connection: write a request, read its response, then the next."""

    __slots__ = (
        "_idle_since",
        "_is_waiting",
        "_keeps",
        "_loop",
        "_reader",
        "_responses",
        "_writer",
    )

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_body_bytes: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._responses = ResponseReader(max_body_bytes)
        self._keeps = True
        self._is_waiting = False  # for the response to a request that was written
        self._idle_since = self._loop.time()

    @classmethod
    async def open(
        cls,
        address: Address,
        proxy: Proxy | None,
        ssl: ssl_module.SSLContext | None,
        max_body_bytes: int,
    ) -> HttpConnection:
        """Connect. Raises OSError."""
        tls = (ssl or ssl_module.create_default_context()) if address.is_secure else None
        name = address.host if tls is not None else None
        sock = await dial(address.host, address.port, proxy)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport = await hand_over(sock, lambda: protocol, tls, name)
        except BaseException:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # the transport sees the end and closes
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return cls(reader, writer, max_body_bytes)

    @property
    def is_usable(self) -> bool:
        """Whether the next request may go out here: the other side has not closed it."""
        return (
            self._keeps
            and not self._is_waiting
            and self._loop.time() - self._idle_since < MAX_IDLE
            and not self._reader.at_eof()
            and self._reader.exception() is None
            and not self._writer.is_closing()
        )

    def write(self, request: bytes) -> None:
        """Send a request; its response must be read before the next."""
        self._is_waiting = True
        self._writer.write(request)

    async def read(self) -> Response:
        """Wait for the response to what was written.

        Raises BadResponse, or OSError. If it raises, or is cancelled, the connection is closed:
        a late response must not be taken for that of the next request.
        """
        try:
            await self._writer.drain()
            while True:
                data = await self._reader.read(READ_SIZE)
                if data:
                    response = self._responses.feed(data)
                else:
                    response = self._responses.feed_eof()
                if response is not None:
                    break
        except BaseException:
            self.close()
            raise
        self._is_waiting = False
        self._idle_since = self._loop.time()
        if not response.keep_alive:
            self.close()
        return response

    def close(self) -> None:
        """Close at once; whatever was not answered is lost."""
        self._keeps = False
        self._responses.forget()
        transport = self._writer.transport
        if self._is_waiting:
            transport.abort()
        else:
            transport.close()
