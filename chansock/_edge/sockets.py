"""What edges share that own the sockets which they serve, or take them from another server.

Makes the Service of a channel, sets what a socket needs, and goes on with a connection that
somebody else has accepted. No framework is known here, nothing listens, and what a request
means is the endpoint's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from chansock._edge import http1
from chansock._edge.extensions import Extensions
from chansock._edge.forwarded import Proxies
from chansock._fast.events.server_protocol import Protocol, Service
from chansock._fast.io.epoll import IS_AVAILABLE, Poller
from chansock._fast.io.socket import is_direct
from chansock.channel import ChannelSocket
from chansock.request import Request, Response

__all__ = [
    "Fallback",
    "ServerProtocol",
    "Takeover",
    "bound_unsent",
    "end",
    "forwarded",
    "protocol_factory",
    "service_of",
]

log = logging.getLogger("chansock.sockets")

Fallback: TypeAlias = Callable[[Request], Response | Awaitable[Response | None] | None]

# Bytes unsent in the kernel before it takes no more. By itself it took 4 MB for a client that
# does not read, where no limit of ours and no `latest` sees them; now 0.3 MB, at no cost.
UNSENT: Final = 128 * 1024
PLAIN: Final = {socket.AF_INET, socket.AF_INET6}


class ServerProtocol(Protocol, asyncio.BufferedProtocol):
    """Protocol as every loop wants it; uvloop, which goes by its methods, takes it as it is."""

    __slots__ = ()


def protocol_factory(loop: asyncio.AbstractEventLoop, service: Service) -> Callable[[], Any]:
    """Return what makes the protocol of each connection that a loop accepts."""
    # One class less in each connection is one less that collections walk through.
    return partial(Protocol if type(loop).__module__ == "uvloop" else ServerProtocol, service)


def service_of(
    chsk: ChannelSocket,
    path: str | None,
    *,
    fallback: Fallback | None = None,
    forwarded: Callable[[Request, Protocol], object] | None = None,
    answered: Callable[[Request, int], object] | None = None,
    is_single: bool = False,
    gone: Callable[[Protocol], object] | None = None,
) -> Service:
    """Make what all connections to a channel share; it must have been started.

    `path` None: whatever is asked for is the channel's.
    """
    return Service(
        chsk._endpoint,
        chsk._clock,
        chsk._timers,
        chsk.config,
        path=path,
        fallback=fallback,
        http1=http1,
        forwarded=forwarded,
        extensions=Extensions(chsk.config) if chsk.config.compression else None,
        answered=answered,
        is_single=is_single,
        gone=gone,
        incoming=chsk._endpoint.incoming,
    )


def forwarded(chsk: ChannelSocket, *, is_unix: bool) -> Callable[[Request], object] | None:
    """Return what is done with each request before anything else sees it; None: nothing."""
    trusted, fields = chsk.config.trusted_proxies, chsk.config.trusted_headers
    if not (trusted or is_unix):
        return None
    return Proxies(trusted, fields, lambda: chsk._timers.log_limit, is_unix=is_unix).apply


def bound_unsent(fd: int) -> None:
    """Set UNSENT on a TCP socket; what a listening one accepts inherits it."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        # By a twin, since uvloop's own sockets take no options.
        with socket.socket(fileno=os.dup(fd)) as twin:
            twin.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


class Takeover:
    """Takes connections over from other servers' transports, all of one loop.

    A plain TCP connection leaves its transport where there is epoll: the descriptor is
    duplicated and watched by a Poller, and the transport is ended, which closes its own without
    a word to the peer. Everything else goes on with the transport that it has.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._poller: Poller | None = None

    def take(self, transport: Any, protocol: Protocol, data: bytes) -> bool:
        """Hand a connection to protocol, of which `data` was read already.

        True: on epoll; what the transport still says to the protocol that it has is of no
        meaning. False: the transport is protocol's from now on, and its `set_protocol` is up
        to the caller.
        """
        fd = -1
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in PLAIN:
            fd = sock.fileno()
        # What waits there, of an earlier answer, would go out behind ours.
        if fd >= 0 and is_direct(transport) and IS_AVAILABLE and self._is_idle(transport):
            try:
                self._adopt(fd, protocol, data)
            except OSError:
                pass  # no descriptor is left, or no room to watch one more
            else:
                transport.abort()
                return True
        if fd >= 0:
            with suppress(OSError):  # no descriptor, again
                bound_unsent(fd)
        protocol.connection_made(transport)
        if is_direct(transport) and not self._is_idle(transport):
            self._wait_for_earlier(transport, protocol)
        protocol.feed(data)
        return False

    @staticmethod
    def _wait_for_earlier(transport: Any, protocol: Protocol) -> None:
        """Have the engine, which writes past the transport, wait for what that still holds."""
        if not transport.is_closing():
            transport.set_write_buffer_limits(0)  # and tells when it holds nothing any more
            protocol.pause_writing()

    @staticmethod
    def _is_idle(transport: Any) -> bool:
        return not (transport.is_closing() or transport.get_write_buffer_size())

    def _adopt(self, fd: int, protocol: Protocol, data: bytes) -> None:
        if self._poller is None or self._poller.fileno() < 0:
            self._poller = Poller(self._loop)
        try:
            self._poller.adopt(os.dup(fd), protocol, data, unsent=UNSENT)
        finally:
            self._poller.close()  # with its last connection; nobody else knows when that is


async def end(service: Service, timeout: float) -> None:
    """Close every connection within timeout seconds, and abort those that are left."""
    gone = asyncio.Event()
    service.stop(gone.set)
    try:
        async with asyncio.timeout(timeout):
            await gone.wait()
    except TimeoutError:
        log.warning("stop_timeout connections=%d", len(service))
    finally:
        service.abort()
    await asyncio.sleep(0)  # a transport that was aborted says so in the next turn
