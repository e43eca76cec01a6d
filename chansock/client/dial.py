"""Sockets of a client: connected, through a proxy if need be, and handed over to the loop.

`dial` connects one, `hand_over` makes a transport of it. No HTTP here but the request to a proxy.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import socket
import ssl as ssl_module
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from chansock.client.arguments import Proxy, socks_connector

__all__ = ["dial", "hand_over", "open_tunnel"]

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


async def hand_over(
    sock: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    tls: ssl_module.SSLContext | None,
    server_hostname: str | None,
) -> asyncio.Transport:
    """Return a transport for a connected socket; the loop closes the socket from now on.

    uvloop (0.23) tells the socket object that its descriptor is closed, except when the connection
    is lost before `create_connection` returns. The object would then close that descriptor once
    more when it is freed, and another connection, of any thread, may have its number by then.
    """
    loop = asyncio.get_running_loop()
    inode = os.fstat(sock.fileno()).st_ino
    try:
        transport, _ = await loop.create_connection(
            protocol, sock=sock, ssl=tls, server_hostname=server_hostname
        )
        return transport
    finally:
        if not _is_open(sock.fileno(), inode):
            sock.detach()


def _is_open(descriptor: int, inode: int) -> bool:
    """Return whether a descriptor is still that of the socket with this inode."""
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False


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
