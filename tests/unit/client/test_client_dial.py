"""Sockets that the client hands over to the loop."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from chansock.client.dial import hand_over

LINGER_0 = struct.pack("ii", 1, 0)
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


class Hasty(asyncio.Protocol):
    """Writes as soon as it can, like a WebSocket client; the peer has reset the connection."""

    def __init__(self) -> None:
        self.is_lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost.set_result(True)


def connected() -> tuple[socket.socket, socket.socket]:
    """Return a connected socket, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    return ours, theirs


def reset_by_peer() -> socket.socket:
    """Return a connected socket to which a reset has come."""
    sock, peer = connected()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    peer.close()
    poll = select.poll()
    poll.register(sock, 0)
    assert poll.poll(5000)
    return sock


@LOOPS
def test_a_lost_socket_does_not_close_the_descriptor_of_the_next(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        sock = reset_by_peer()
        descriptor = sock.fileno()
        protocol = Hasty()
        await hand_over(sock, lambda: protocol, None, None)
        await protocol.is_lost
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        reader, writer = os.pipe()
        try:
            assert descriptor in (reader, writer)
            del sock  # a socket that is freed closes its descriptor
            assert os.fstat(descriptor)
        finally:
            os.close(reader)
            os.close(writer)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_a_socket_that_is_closed_at_once_is_let_go(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    class Closing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    async def main() -> None:
        ours, theirs = connected()
        await hand_over(ours, Closing, None, None)
        await asyncio.sleep(0)
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
        theirs.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_a_socket_that_lives_stays_the_loops(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        ours, theirs = connected()
        transport = await hand_over(ours, asyncio.Protocol, None, None)
        assert ours.fileno() != -1
        transport.write(b"x")
        assert await asyncio.to_thread(theirs.recv, 1) == b"x"
        transport.close()
        assert await asyncio.to_thread(theirs.recv, 1) == b""
        theirs.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
