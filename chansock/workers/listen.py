"""The sockets of all workers, bound once by their parent.

Each worker gets a listening TCP socket of its own for the same port (SO_REUSEPORT), so that the
kernel divides new connections evenly among them. The parent keeps all of them open: connections
that nobody has accepted yet wait for the worker that replaces one which was restarted or died. If
the workers bound the sockets, the kernel would reset these connections. A Unix socket, and one
that the caller has bound, are shared by all workers.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["BACKLOG", "listening"]

BACKLOG: Final = 2048  # of connections not yet accepted: a restart brings all clients at once


@contextmanager
def listening(
    number: int,
    host: str,
    port: int,
    *,
    sock: socket.socket | None = None,
    unix: str | os.PathLike[str] | None = None,
) -> Iterator[list[socket.socket]]:
    """Listen for so many workers: a socket for each, which may be the same one.

    Raises OSError if the address cannot be had.
    """
    if unix is not None:
        sockets = [_at_path(unix)] * number
    elif sock is not None:
        sock.listen(BACKLOG)
        sockets = [sock] * number
    else:
        sockets = _at_port(host, port, number)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()
        if unix is not None:
            with suppress(FileNotFoundError):
                os.unlink(unix)


def _at_port(host: str, port: int, number: int) -> list[socket.socket]:
    """Listen on one address by so many sockets; port 0 takes a free one.

    A name with several addresses means the first of them. Raises OSError if the address cannot
    be had, also if another program uses it with SO_REUSEPORT.
    """
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = info[0]
    if address[1]:
        # With SO_REUSEPORT a second server of the same user would be let in unnoticed.
        socket.create_server(address, family=family).close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            each = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True)
            sockets.append(each)
            address = each.getsockname()
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _at_path(path: str | os.PathLike[str]) -> socket.socket:
    """Listen on a Unix socket at a path; one that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        try:
            sock.bind(os.fspath(path))
        except OSError:
            if not _is_left_over(path):
                raise
            os.unlink(path)
            sock.bind(os.fspath(path))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _is_left_over(path: str | os.PathLike[str]) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
