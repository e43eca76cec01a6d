"""What of `_fast/io/epoll` the other suites do not see: they run on it as on the loops' own
transports (conftest's `loop_kind`). Here is what only a system that runs short shows."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import resource
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import uvloop
from echoing import client
from raw import Run
from raw_listener import TEXT, UPGRADE

from chansock import ALL, ChannelSocket, Config, Request, Response, serve
from chansock._edge.sockets import ServerProtocol
from chansock._fast.io.epoll import IS_AVAILABLE
from chansock.server import EpollServer, create_server
from chansock.testing.echo import service

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="there is no epoll on this system")

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


@asynccontextmanager
async def serving(host: str = "127.0.0.1", made: Any = ServerProtocol) -> AsyncIterator[Any]:
    loop = asyncio.get_running_loop()
    shared = service(loop, Config())
    server = await create_server(loop, lambda: made(shared), host, 0)
    assert isinstance(server, EpollServer)
    try:
        yield server.sockets[0].getsockname(), shared
    finally:
        server.close()
        shared.abort()
        while len(shared):
            await asyncio.sleep(0)


async def upgraded(address: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


@LOOPS
def test_it_serves_on_every_loop_and_leaves_no_descriptor(factory: Any) -> None:
    async def main() -> None:
        async with serving() as (address, _):
            for _ in range(3):
                reader, writer = await upgraded(address)
                writer.write(client(TEXT, b"hello"))
                assert await reader.readexactly(7) == b"\x81\x05hello"
                writer.close()
                await writer.wait_closed()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
        before = set(os.listdir("/proc/self/fd"))
        runner.run(main())
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_peer_has_its_address(host: str) -> None:
    seen = []

    def fallback(request: Request) -> Response:
        seen.append(request.client)
        return Response(200, "")

    async def main() -> None:
        async with serve(ChannelSocket(), host, 0, fallback=fallback) as listener:
            reader, writer = await asyncio.open_connection(host, listener.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            assert seen == [writer.get_extra_info("sockname")[:2]]
            writer.close()

    if host == "::1" and not has_ipv6():
        pytest.skip("there is no IPv6 on this system")
    asyncio.run(main())


def test_what_a_protocol_raises_ends_its_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty(ServerProtocol):
        __slots__ = ()

        def eof_received(self) -> bool:
            raise KeyError("ours")

    async def main() -> None:
        async with serving(made=Faulty) as (address, shared):
            reader, writer = await upgraded(address)
            other_reader, other_writer = await upgraded(address)
            writer.write_eof()
            assert await reader.read() == b""
            other_writer.write(client(TEXT, b"still"))
            assert await other_reader.readexactly(7) == b"\x81\x05still"
            assert len(shared) == 1
            writer.close()
            other_writer.close()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["epoll_error"]


def test_one_that_cannot_begin_is_closed_and_the_next_one_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = []

    def faulty(shared: Any) -> ServerProtocol:
        made.append(1)
        if len(made) == 1:
            raise KeyError("ours")
        return ServerProtocol(shared)

    async def main() -> None:
        async with serving(made=faulty) as (address, _):
            reader, writer = await asyncio.open_connection(*address[:2])
            assert await reader.read() == b""
            writer.close()
            _, writer = await upgraded(address)
            writer.close()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["accept_error"]


def test_what_is_written_behind_a_backlog_comes_before_the_end() -> None:
    kept: list[Any] = []

    class Kept(ServerProtocol):
        __slots__ = ()

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            kept.append(transport)

    async def main() -> None:
        async with serving(made=Kept) as (address, _):
            reader, writer = await asyncio.open_connection(*address[:2])
            while not kept:
                await asyncio.sleep(0)
            kept[0].write(b"x" * (32 << 20))
            assert kept[0].get_write_buffer_size() > 0
            kept[0].close()
            kept[0].write(b"last")
            got = await reader.read()
            assert (len(got), got[-5:]) == ((32 << 20) + 4, b"xlast")
            writer.close()

    asyncio.run(main())


def test_who_was_aborted_is_not_heard_any_more() -> None:
    # Both have sent before the loop looks.
    heard: list[bytes] = []

    async def main() -> None:
        async with serving() as (address, shared):
            pairs = [await upgraded(address) for _ in range(2)]
            for _, writer in pairs:
                os.write(writer.get_extra_info("socket").fileno(), client(TEXT, b"x"))
            shared.abort()
            for reader, writer in pairs:
                with suppress(ConnectionResetError):
                    heard.append(await reader.read())
                writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert b"".join(heard) == b""


def test_without_descriptors_it_waits_and_then_accepts_again() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "chansock.testing.echo", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None and program.stderr is not None
        port = int(re.search(r":(\d+)/", program.stdout.readline())[1])  # type: ignore[index]
        used = len(os.listdir(f"/proc/{program.pid}/fd"))
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (used + 5, used + 5))
        peers = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(8)]
        for peer in peers:
            peer.sendall(UPGRADE)
        assert all(peer.recv(12) == b"HTTP/1.1 101" for peer in peers[:5])
        assert "accept_error" in program.stderr.readline()
        before = cpu_of(program.pid)
        peers[7].settimeout(0.3)
        with pytest.raises(TimeoutError):
            peers[7].recv(12)
        assert cpu_of(program.pid) - before < 0.2, "it does not spin meanwhile"
        for peer in peers[:5]:
            peer.close()
        peers[7].settimeout(60)
        assert peers[7].recv(12) == b"HTTP/1.1 101"
        for peer in peers:
            peer.close()
    finally:
        program.kill()
        program.communicate()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def cpu_of(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_what_a_connection_sets_in_its_context_no_other_one_sees(run: Run, loop_kind: str) -> None:
    if loop_kind == "uvloop":
        pytest.skip("all of its own transports share one context")
    seen: list[str] = []

    def fallback(request: Request) -> Response:
        seen.append(VAR.get())
        VAR.set(request.path)
        return Response(200, "")

    async def main() -> None:
        async with serve(ChannelSocket(), port=0, fallback=fallback) as listener:
            pairs = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
            for path in (b"/one", b"/two"):
                for number, (reader, writer) in enumerate(pairs):
                    writer.write(b"GET %s/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path, number))
                    await reader.readuntil(b"\r\n\r\n")
            for _, writer in pairs:
                writer.close()

    run(main())
    assert seen == ["unset", "unset", "/one/0", "/one/1"]


def test_a_peer_of_a_socket_for_both_families_is_named_as_the_system_does() -> None:
    seen = []

    def fallback(request: Request) -> Response:
        seen.append(request.client)
        return Response(200, "")

    async def main() -> None:
        bound = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        port = bound.getsockname()[1]
        with socket.socket(fileno=os.dup(bound.fileno())) as twin:
            peer = socket.create_connection(("127.0.0.1", port))
            accepted, name = twin.accept()
            accepted.close()
            peer.close()
        async with serve(ChannelSocket(), sock=bound, fallback=fallback):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            assert seen == [(name[0], seen[0][1])]

    if not has_ipv6():
        pytest.skip("there is no IPv6 on this system")
    asyncio.run(main())


@LOOPS
@pytest.mark.parametrize("is_given", [True, False])
def test_a_start_that_fails_leaves_nobody_who_listens(factory: Any, is_given: bool) -> None:
    async def started(left: int) -> bool:
        given = socket.create_server(("127.0.0.1", 0)) if is_given else None
        with without_descriptors(left):
            starting = serve(ChannelSocket(), port=0, sock=given)
            try:
                await starting.__aenter__()
            except OSError:
                if given is not None:
                    given.close()
                return False
        await starting.__aexit__(None, None, None)
        return True

    async def main() -> None:
        assert await started(20)
        await asyncio.sleep(0.0)
        before = set(os.listdir("/proc/self/fd"))
        faults = 0
        while not await started(faults):
            faults += 1
            await asyncio.sleep(0)
            assert set(os.listdir("/proc/self/fd")) == before
        assert faults > 2

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@contextmanager
def without_descriptors(left: int) -> Iterator[None]:
    """Leave the process no more than these."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64 + len(os.listdir("/proc/self/fd")), limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_who_do_not_read_wait_for_one_frame_and_have_no_copies() -> None:
    size = 512 << 10
    peers = 40

    async def main() -> int:
        chsk = ChannelSocket(user_id=lambda request: request.params["client-id"])
        async with serve(chsk, port=0) as listener:
            wires = []
            for number in range(peers):
                wire = socket.socket()
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                wire.connect(("127.0.0.1", listener.port))
                head = UPGRADE.replace(b"=a ", b"=%d " % number)
                wire.sendall(head.replace(b"Host: h", b"Host: localhost"))
                wires.append(wire)
            while len(chsk.connected.ws) < peers:
                await asyncio.sleep(0)
            tracemalloc.start()
            chsk.send(ALL, "test/large", "x" * size, flush=True)
            grown = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            for wire in wires:
                assert await asyncio.to_thread(length_until, wire, b'"]] nil]') > size
                wire.close()
        return grown

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) < 5 * size


def length_until(wire: socket.socket, end: bytes) -> int:
    wire.settimeout(60)
    got = b""
    while not got.endswith(end):
        got += wire.recv(1 << 16)
    return len(got)
