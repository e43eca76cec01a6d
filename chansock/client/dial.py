"""Connecting a TCP socket that stays in our hands, whoever speaks over it.

Nothing is sent here.
"""

from __future__ import annotations

import asyncio
import socket

__all__ = ["dial"]


async def dial(host: str, port: int) -> socket.socket:
    """Connect to the first address of host that answers. Raises OSError if none does."""
    loop = asyncio.get_running_loop()
    errors: list[OSError] = []
    for family, kind, proto, _name, where in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
        except OSError as exc:
            sock.close()
            errors.append(exc)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise errors[0] if errors else OSError(f"no address found for {host!r}")
