"""HTTP/1.1 as a client of it: connections dialed, through a proxy if need be, and responses parsed.

`ResponseReader` is fed bytes and returns responses; `HttpConnection` is that over asyncio's
streams, one request at a time; `dial` connects the socket, for WebSockets, too. Nothing of
channels or packets here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import itertools
import socket
import ssl as ssl_module
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import httptools

from chansock.client.arguments import Address, Proxy, socks_connector

__all__ = ["BadResponse", "HttpConnection", "Response", "ResponseReader", "dial", "open_tunnel"]

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
        try:
            reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        except BaseException:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # the transport sees the end and closes
            raise
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


# -- connecting: all addresses of a host, and through a proxy if there is one

# RFC 8305 section 5 and 8: how long an address may be silent before the next is tried beside it.
ATTEMPT_DELAY: Final = 0.25
MAX_ANSWER: Final = 16 * 1024  # bytes: a proxy's answer to CONNECT
SOCKS_TIMEOUT: Final = 3600.0  # the attempt's own time-out comes before

_Info: TypeAlias = tuple[Any, Any, int, str, tuple[Any, ...]]


async def dial(host: str, port: int, proxy: Proxy | None = None) -> socket.socket:
    """Return a socket that is connected to host and port, through the proxy if there is one.

    Raises OSError if no address answers, or if the proxy refuses.
    """
    if proxy is None:
        return await _connect(host, port)
    if proxy.is_socks:
        return await _connect_by_socks(host, port, proxy)
    sock = await _connect(proxy.host, proxy.port)
    try:
        await open_tunnel(sock, host, port, proxy)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(host: str, port: int) -> socket.socket:
    """Connect to the first address that answers (RFC 8305, "Happy Eyeballs").

    An attempt that is not over after ATTEMPT_DELAY goes on while the next one begins. Not by
    `create_connection(happy_eyeballs_delay=...)`, which uvloop does not take.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    left = iter(_by_turns(found))
    tasks: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    has_more = True
    try:
        while has_more or tasks:
            if (info := next(left, None)) is not None:
                tasks.add(loop.create_task(_attempt(info)))
            has_more = info is not None
            if not tasks:
                break
            done, tasks = await asyncio.wait(
                tasks,
                timeout=ATTEMPT_DELAY if has_more else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            won = [task for task in done if task.exception() is None]
            if won:
                tasks.update(won[1:])
                return won[0].result()
            errors += [task.exception() or OSError() for task in done]
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_close_result)
    raise errors[0] if errors else OSError(f"expected an address for {host!r}, found none")


async def _attempt(info: _Info) -> socket.socket:
    family, kind, proto, _name, where = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _by_turns(found: Iterable[_Info]) -> list[_Info]:
    """Order addresses so that the families take turns (RFC 8305 section 4)."""
    families: dict[Any, list[_Info]] = {}
    for info in found:
        families.setdefault(info[0], []).append(info)
    rounds = itertools.zip_longest(*families.values())
    return [info for turn in rounds for info in turn if info is not None]


async def _connect_by_socks(host: str, port: int, proxy: Proxy) -> socket.socket:
    connector = socks_connector(proxy)
    try:
        sock: socket.socket = await connector.connect(host, port, timeout=SOCKS_TIMEOUT)
    except OSError:
        raise
    except Exception as exc:
        raise ConnectionError(f"SOCKS proxy {proxy}: {str(exc) or type(exc).__name__}") from exc
    sock.setblocking(False)
    return sock


async def open_tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy) -> None:
    """Request a tunnel from an HTTP proxy (RFC 9110 section 9.3.6).

    Raises ConnectionError unless it answers 2xx.
    """
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user is not None:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    await loop.sock_sendall(sock, "\r\n".join((*lines, "", "")).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(sock, 4096)
        answer += data
        if not data or len(answer) > MAX_ANSWER:
            raise ConnectionError(f"HTTP proxy {proxy}: expected an answer to CONNECT, got none")
    head, _, rest = answer.partition(b"\r\n\r\n")
    version, _, status = head.split(b"\r\n")[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise ConnectionError(f"HTTP proxy {proxy}: expected HTTP, got {head[:40]!r}")
    if not status.startswith("2"):
        raise ConnectionError(f"HTTP proxy {proxy}: expected 200 to CONNECT, got {status[:80]}")
    if rest:  # the server behind speaks only when it is spoken to
        raise ConnectionError(f"HTTP proxy {proxy}: expected a tunnel, got {rest[:40]!r}")
