"""Connections that are taken over from another server's transports: nothing is lost on the way,
and their peers notice nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import pytest
import uvloop
from echoing import client
from raw_listener import TEXT, TLS, UPGRADE, server_tls

from chansock._edge.sockets import UNSENT, ServerProtocol, Takeover
from chansock._fast.events.server_protocol import Service
from chansock._fast.io.epoll import IS_AVAILABLE
from chansock.config import Config
from chansock.testing.echo import service

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
ON_EPOLL = pytest.mark.skipif(not IS_AVAILABLE, reason="there is no epoll on this system")


class Elsewhere(asyncio.Protocol):
    """Somebody else's connection: reads a head, and whatever comes with it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if b"\r\n\r\n" in self.data:
            place, protocol = self.place, Kept(self.place.shared)
            place.protocols.append(protocol)
            place.before(self.transport)
            with nullcontext() if place.left is None else few_descriptors(place.left):
                place.took.append(place.takeover.take(self.transport, protocol, self.data))
            if not place.took[-1]:
                self.transport.set_protocol(protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        self.place.ended += 1


class Kept(ServerProtocol):
    __slots__ = ("given",)

    def connection_made(self, transport: Any) -> None:
        self.given = transport
        super().connection_made(transport)


class Place:
    def __init__(self, shared: Service) -> None:
        self.shared = shared
        self.takeover = Takeover(asyncio.get_running_loop())
        self.protocols: list[Kept] = []
        self.took: list[bool] = []
        self.ended = 0  # transports of the server that accepted
        self.left: int | None = None  # descriptors, if they are few
        self.before: Callable[[Any], object] = lambda transport: None


@contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def elsewhere(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Place, Any]]:
    loop = asyncio.get_running_loop()
    place = Place(service(loop, Config()))
    server = await loop.create_server(lambda: Elsewhere(place), "127.0.0.1", 0, ssl=tls)
    try:
        yield place, server.sockets[0].getsockname()
    finally:
        server.close()
        place.shared.abort()
        while len(place.shared):
            await asyncio.sleep(0)
        await server.wait_closed()


def limited(factory: Any, coro: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await coro

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@ON_EPOLL
@LOOPS
def test_a_connection_goes_on_with_the_bytes_that_came_behind_its_head(factory: Any) -> None:
    async def main() -> None:
        async with elsewhere() as (place, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(UPGRADE + client(TEXT, b"at once") + client(TEXT, b"later")[:3])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(9) == b"\x81\x07at once"
            writer.write(client(TEXT, b"later")[3:])
            assert await reader.readexactly(7) == b"\x81\x05later"
            assert place.took == [True]
            (protocol,) = place.protocols
            assert protocol.peer() == writer.get_extra_info("sockname")
            while not place.ended:
                await asyncio.sleep(0)
            # Only now has the transport closed its own descriptor.
            big = b"b" * (1 << 20)
            writer.write(client(TEXT, big))
            assert (await reader.readexactly(len(big) + 10))[10:] == big
            writer.write(client(8, b"\x03\xe8"))
            assert await reader.read() == b"\x88\x02\x03\xe8"
            writer.close()

    limited(factory, main())


@ON_EPOLL
@LOOPS
def test_it_leaves_no_descriptor(factory: Any) -> None:
    def descriptors() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    async def visit(address: Any) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with elsewhere() as (place, address):
            await visit(address)
            while len(place.shared) or place.ended < 1:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            before = descriptors()
            await asyncio.gather(*(visit(address) for _ in range(20)))
            while len(place.shared) or place.ended < 21:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert place.took == [True] * 21
            assert descriptors() == before

    limited(factory, main())


@ON_EPOLL
@LOOPS
def test_its_socket_sends_at_once_and_holds_little(factory: Any) -> None:
    async def main() -> None:
        async with elsewhere() as (place, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            fd = os.dup(place.protocols[0].given.fileno())
            with socket.socket(fileno=fd) as twin:
                assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                option = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # from Python 3.12 on
                assert twin.getsockopt(socket.IPPROTO_TCP, option) == UNSENT
            writer.close()

    limited(factory, main())


@LOOPS
def test_tls_keeps_its_transport(factory: Any) -> None:
    async def main() -> None:
        trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
        trusting.check_hostname = False
        async with elsewhere(server_tls()) as (place, address):
            reader, writer = await asyncio.open_connection(*address, ssl=trusting)
            writer.write(UPGRADE + client(TEXT, b"hello"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x81\x05hello"
            writer.write(client(TEXT, b"again"))
            assert await reader.readexactly(7) == b"\x81\x05again"
            assert place.took == [False]
            assert place.ended == 0
            writer.close()

    limited(factory, main())


@ON_EPOLL
@LOOPS
@pytest.mark.parametrize("left", [0, 1])  # with one there is an epoll, and nothing to watch
def test_without_a_descriptor_it_keeps_its_transport(factory: Any, left: int) -> None:
    async def main() -> None:
        async with elsewhere() as (place, address):
            place.left = left
            before = len(os.listdir("/proc/self/fd"))
            reader, writer = await asyncio.open_connection(*address)
            writer.write(UPGRADE + client(TEXT, b"hello"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x81\x05hello"
            assert place.took == [False]
            writer.write(client(TEXT, b"again"))
            assert await reader.readexactly(7) == b"\x81\x05again"
            assert len(os.listdir("/proc/self/fd")) == before + 2, "one of each side"
            writer.close()

    limited(factory, main())


@LOOPS
def test_what_the_transport_still_holds_of_an_earlier_answer_goes_first(factory: Any) -> None:
    earlier = b"e" * (8 << 20)

    async def main() -> None:
        async with elsewhere() as (place, address):
            with socket.create_connection(address, timeout=60) as peer:
                got, has_room = bytearray(), asyncio.Event()

                def before(transport: Any) -> None:
                    transport.write(earlier)
                    while len(got) < 1 << 20:
                        got.extend(peer.recv(1 << 16))
                    has_room.set()  # in the kernel, again

                def rest() -> None:
                    while b"HTTP/1.1 101 " not in got[-1000:] and (more := peer.recv(1 << 20)):
                        got.extend(more)

                place.before = before
                peer.sendall(UPGRADE)
                await has_room.wait()
                await asyncio.to_thread(rest)
                assert place.took == [False]
                assert got.startswith(earlier + b"HTTP/1.1 101 ")

    limited(factory, main())
