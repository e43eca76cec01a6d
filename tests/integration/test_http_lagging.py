"""Peers that lag or leave: read slowly or never, end their half at some stage of a request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import peer
import pytest
from peer import Peer
from raw import SHAKE, Run, config, round_trip
from raw_listener import TLS, server_tls
from sente_app import Served, make

import chansock
from chansock import Config, Request, Response

LARGE = 4_000_000
PATHS = ["/a", "/chsk"]  # the fallback's, and the channel's


@asynccontextmanager
async def serving(
    settings: Config, answer: object, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Served]:
    """Serve where `answer(request)` answers both the channel's path and every other."""
    chsk = make(settings, reject=answer)
    async with chansock.serve(chsk, port=0, fallback=answer, ssl=tls) as listener:  # type: ignore[arg-type]
        yield Served(chsk, listener.port)


def small_window(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_slow_reader_of_a_last_answer_gets_all_of_it(path: str, is_tls: bool, run: Run) -> None:
    async def main() -> None:
        settings = config(close_timeout=0.01)
        context = server_tls() if is_tls else None
        async with serving(settings, lambda _: Response(200, b"x" * LARGE), tls=context) as served:
            trust = ssl.create_default_context(cafile=str(TLS / "cert.pem")) if is_tls else None
            reader, writer = await asyncio.open_connection(
                sock=small_window(served.port),
                ssl=trust,
                server_hostname="127.0.0.1" if is_tls else None,
                limit=1 << 14,
            )
            async with Peer(reader, writer) as wire:
                async with Peer(*await _another(served.port, trust)) as other:
                    await wire.send(peer.request("GET", path, [("Connection", "close")]))
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert b"Content-Length: %d\r\n" % LARGE in head
                    left = LARGE
                    while left:
                        piece = await reader.read(1 << 15)
                        assert piece, f"{left} bytes were cut off"
                        left -= len(piece)
                        await other.ask("HEAD", path)  # takes its time
                assert await wire.rest() == b""

    run(main())


async def _another(
    port: int, trust: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=trust)


@pytest.mark.parametrize("path", PATHS)
def test_peer_that_pipelines_and_never_reads_is_not_read_either(path: str, run: Run) -> None:
    count = 10_000
    asked = 0

    def answer(_: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(200, b"x" * 1000)

    async def main() -> None:
        async with serving(config(), answer) as served:
            reader, writer = await asyncio.open_connection(
                sock=small_window(served.port), limit=1 << 14
            )
            async with Peer(reader, writer) as wire:
                writer.write(peer.request("GET", path) * count)
                for _ in range(100):
                    await round_trip(served)
                assert asked < count // 2  # what the two kernels hold of answers
                for _ in range(count):
                    assert (await wire.answer()).status == 200

    run(main())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_async", [False, True])
def test_peer_that_ends_its_half_behind_its_requests_gets_the_answers(
    path: str, is_async: bool, run: Run
) -> None:
    async def later(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200, request.query)

    def answer(request: Request) -> object:
        return later(request) if is_async else Response(200, request.query)

    async def main() -> None:
        async with serving(config(), answer) as served, served.peer() as wire:
            wire.writer.write(b"".join(peer.request("GET", f"{path}?{k}") for k in range(9)))
            wire.fin()
            assert [(await wire.answer()).text for _ in range(9)] == [str(k) for k in range(9)]
            assert await wire.rest() == b""

    run(main())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "data",
    [
        "",
        "\r\n",
        "POST",
        "POST @ HTTP/1.1\r\nHost: h\r\n",
        "POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab",
        "POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        "POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a",
        "POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        "POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        "POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
    ],
)
def test_request_that_breaks_off_is_given_to_nobody(data: str, path: str, run: Run) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return Response(200)

    async def main() -> None:
        async with serving(config(), answer) as served, served.peer() as wire:
            await wire.send(data.replace("@", path).encode())
            wire.fin()
            assert (await wire.rest()).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == b""
        assert asked == []

    run(main())


@pytest.mark.parametrize("path", ["/a", SHAKE])
def test_slow_head_and_slow_body_are_answered_408(path: str, run: Run) -> None:
    whole = peer.request("POST", path, body=b"abc")

    async def main() -> None:
        settings = config(handshake_timeout=0.05, body_timeout=0.05)
        async with serving(settings, lambda _: Response(200)) as served:
            for data in (
                whole[:-10],
                whole[:-1],
                peer.request("POST", path, [("Transfer-Encoding", "chunked")], b"2\r\na"),
            ):
                async with served.peer() as wire:
                    await wire.send(data)
                    answer = await wire.answer()
                    assert (answer.status, answer.header("connection")) == (408, "close")
                    assert await wire.rest() == b""

    run(main())
