"""Connect a TCP socket to a host: all of its addresses, and through a proxy if there is one.

Returns a connected socket that both transports use. Only a proxy's own dialog is sent here.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from chansock.client.proxy import Proxy, open_tunnel, socks_connector

__all__ = ["dial"]

# RFC 8305 section 5 and 8: how long an address may be silent before the next is tried beside it.
ATTEMPT_DELAY: Final = 0.25
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

    An attempt that is not over after ATTEMPT_DELAY goes on while the next one begins.
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
