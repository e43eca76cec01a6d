"""Many connections that come to nothing: none of them leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import peer
import pytest
from raw import SHAKE, Run, config
from raw_listener import ground, server_tls
from sente_app import Served, make, serving

import chansock

HALVES = {
    "nothing": b"",
    "half a head": b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
    "half a body": b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
    "half a chunk": b"POST /chsk HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
}
HALF_A_HELLO = bytes.fromhex("16030100c4010000c00303")
MANY = 500


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
def test_half_open_handshakes_are_gone_after_their_time(half: str, run: Run) -> None:
    async def main() -> None:
        async with ground(
            handshake_timeout=0.2, body_timeout=0.2, close_timeout=0.2, max_message_bytes=1000
        ) as place:
            clients = [await place.client(HALVES[half]) for _ in range(MANY)]
            for client in clients:
                answer = await client.eof()
                assert answer.startswith(b"HTTP/1.1 408 ") if HALVES[half] else answer == b""
                client.writer.close()
            await place.gone()

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("hello", [b"", HALF_A_HELLO])
def test_half_open_tls_handshakes_are_gone_after_their_time(hello: bytes, run: Run) -> None:
    async def main() -> None:
        chsk = make(config(handshake_timeout=0.2))
        async with chansock.serve(chsk, port=0, ssl=server_tls()) as listener:
            socks = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(100)]
            for sock in socks:
                sock.setblocking(False)
                sock.sendall(hello)
            loop = asyncio.get_running_loop()
            for sock in socks:
                try:
                    assert await loop.sock_recv(sock, 100) == b""
                except ConnectionResetError:
                    pass
                sock.close()

    run(main())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Wire:
    """A blocking socket's work on a loop: as little as can be, since it is measured along."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.read = b""

    async def ask(self, data: bytes, end: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)
        self.read = b""
        while not self.read.endswith(end):
            piece = await self.loop.sock_recv(self.sock, 4096)
            assert piece
            self.read += piece


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection that ends with a reset."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    yield Wire(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


UPGRADE = (
    b"GET /chsk?client-id=alice%2F1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def by_ws(served: Served) -> None:
    async with wire(served.port) as one:
        await one.ask(UPGRADE, b"] nil]")
        await one.ask(peer.frame(peer.TEXT, '[[:test/req 7] "c"]'), b'[7 "c"]')


async def by_ajax(served: Served) -> None:
    form = peer.urlencoded([("client-id", "alice/1"), ("ppstr", "[[:test/req 7] :ajax]")])
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    async with wire(served.port) as one:
        await one.ask(peer.request("GET", SHAKE), b"] nil]")
        await one.ask(peer.request("POST", "/chsk", [kind], form.encode()), b"[7 nil]")


async def by_other(served: Served) -> None:
    async with wire(served.port) as one:
        await one.ask(peer.request("POST", "/a", body=b"abc"), b"not found")


async def by_malformed(served: Served) -> None:
    async with wire(served.port) as one:
        await one.ask(peer.request("GET", "/a#b"), b"the target")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
@pytest.mark.parametrize("cycle", [by_ws, by_ajax, by_other, by_malformed])
def test_connect_handshake_echo_and_reset_leave_nothing_behind(
    cycle: Callable[[Served], Awaitable[None]], run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """5,000 times: no descriptor and less than 1 MiB."""
    caplog.set_level(logging.CRITICAL, "chansock")  # pytest keeps each record

    async def main() -> None:
        async with serving(config(grace_ws=0, grace_ajax=0)) as served:

            async def cycles(count: int) -> None:
                for _ in range(count):
                    await cycle(served)
                while served.chsk.connected.any:
                    await asyncio.sleep(0)

            await cycles(1000)  # pools, caches and the heap take what they will
            fds, memory = descriptors(), resident()
            await cycles(5000)
            assert descriptors() <= fds
            assert resident() - memory < 1 << 20

    run(main())
