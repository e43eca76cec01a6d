"""server: listening, the order of a stop, and `run` as a process with signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chansock._fast.events.dispatch import LATER, EventMsg
from chansock.channel import ChannelSocket
from chansock.config import Config
from chansock.errors import ConfigError
from chansock.request import Request, Response
from chansock.server import serve
from chansock.target import ALL, ANONYMOUS

Run = Callable[[Any], Any]
TLS = Path(__file__).parents[1] / "data" / "tls"
UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSE_1012 = b"\x88\x11\x03\xf4service restart"


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket whose handshake has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    first = await reader.readexactly(2)
    assert b"chsk/handshake" in await reader.readexactly(first[1])
    return reader, writer


def test_a_listener_tells_where_it_is(run: Run) -> None:
    async def main() -> None:
        async with serve(ChannelSocket(), port=0, path="/events") as listener:
            assert listener.port == listener.sockets[0].getsockname()[1]
            assert listener.url == f"http://127.0.0.1:{listener.port}/events"

    run(main())


def test_serve_starts_and_stops_a_channel_that_is_not_started(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        async with serve(chsk, port=0):
            assert chsk.is_started
        assert not chsk.is_started

    run(main())


def test_serve_leaves_a_channel_running_that_was_started(run: Run) -> None:
    async def main() -> None:
        async with ChannelSocket() as chsk:
            async with serve(chsk, port=0) as listener:
                reader, writer = await opened(listener.port)
                closing = asyncio.create_task(reader.readexactly(len(CLOSE_1012)))
                closing.add_done_callback(lambda _: writer.close())
            assert await closing == CLOSE_1012
            assert chsk.is_started

    run(main())


def test_a_stop_closes_sockets_1012_and_waits_for_them(run: Run) -> None:
    async def main() -> None:
        order = []
        async with serve(ChannelSocket(), port=0) as listener:
            reader, writer = await opened(listener.port)

            async def leave() -> None:
                assert await reader.readexactly(len(CLOSE_1012)) == CLOSE_1012
                with pytest.raises(OSError, match=r"refused|Connect call failed"):
                    await asyncio.open_connection("127.0.0.1", listener.port)
                order.append("left")
                writer.close()

            leaving = asyncio.create_task(leave())
        order.append("stopped")
        await leaving
        assert order == ["left", "stopped"]

    run(main())


def test_a_stop_cuts_off_who_does_not_leave(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(stop_timeout=0.05))
        async with serve(chsk, port=0) as listener:
            reader, writer = await opened(listener.port)
        try:
            data = await reader.read()
        except ConnectionResetError:
            data = CLOSE_1012  # the RST overtook it
        assert data == CLOSE_1012
        writer.close()

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["stop_timeout connections=1"]


def test_a_socket_that_is_bound_can_be_given(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with serve(ChannelSocket(), sock=sock) as listener:
            assert listener.port == port
            _, writer = await opened(port)
            writer.close()

    run(main())


def test_a_unix_socket_serves_too(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[Request] = []

        def fallback(request: Request) -> Response:
            seen.append(request)
            return Response(200, "over unix")

        path = tmp_path / "chsk.sock"
        async with serve(ChannelSocket(), unix=path, fallback=fallback) as listener:
            assert listener.url == f"http+unix://{path}:/chsk"
            assert listener.port == 0
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"over unix")
            writer.close()
        assert seen[0].client is None

    run(main())


def test_tls_makes_the_url_and_the_requests_https(run: Run) -> None:
    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))

        def fallback(request: Request) -> Response:
            return Response(200, request.scheme)

        async with serve(ChannelSocket(), port=0, ssl=context, fallback=fallback) as listener:
            assert listener.url.startswith("https://127.0.0.1:")
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trust)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"\r\n\r\nhttps")
            writer.close()

    run(main())


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the kernel has no bound")
def test_what_a_client_does_not_read_waits_with_us_and_not_in_the_kernel(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_backlog_bytes=100_000))
        async with serve(chsk, port=0) as listener:
            reader, writer = await opened(listener.port)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                chsk.send(ALL, "test/big", "x" * 10_000, flush=True)
            assert chsk.stats.lost.too_slow > 0
            assert chsk.stats.written * 10_000 < 1_000_000
            writer.close()

    run(main())


def test_what_cannot_be_listened_on_raises_before_anything_starts(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        with pytest.raises(ConfigError, match="path"):
            serve(chsk, path="chsk")
        with socket.socket() as sock, pytest.raises(ConfigError, match="sock and unix"):
            serve(chsk, sock=sock, unix="/tmp/x")
        assert not chsk.is_started
        async with serve(chsk, port=0) as listener:
            with pytest.raises(OSError, match="address"):
                async with serve(ChannelSocket(), port=listener.port):
                    pass

    run(main())


PROGRAM = """
import chansock
from chansock.request import Response
chsk = chansock.ChannelSocket()
chansock.run(chsk, port=0, fallback=lambda request: Response(200, "up"))
print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_a_signal(number: signal.Signals) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line.startswith("chansock: serving http://127.0.0.1:")
        url = line.split()[2].removesuffix("/chsk")
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"up"
        program.send_signal(number)
        assert program.stdout.read() == "ended\n"
    assert program.returncode == 0


@pytest.mark.slow
def test_a_second_signal_ends_run_at_once() -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout is not None
        port = int(program.stdout.readline().split(":")[3].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(UPGRADE)
            data = b""
            while b"handshake" not in data:
                data += sock.recv(4096)
            program.send_signal(signal.SIGTERM)
            while CLOSE_1012 not in data:  # it stops, and waits 10 s for us
                data += sock.recv(4096)
            program.send_signal(signal.SIGTERM)
            assert program.stdout.read() == "ended\n"
    assert program.returncode == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_tls_connection_carries_many_requests(run: Run, version: ssl.TLSVersion) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    trust.minimum_version = trust.maximum_version = version

    async def main() -> None:
        async with serve(ChannelSocket(), port=0, ssl=server_side) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trust)
            for _ in range(7):
                writer.write(GET % b"&handshake%3F=1")
                await reader.readuntil(b"] nil]")
            writer.close()

    run(main())


@pytest.mark.slow
def test_a_stop_waits_for_a_client_that_lags_longer_than_for_one_that_is_silent(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_backlog_bytes=8 << 20, close_timeout=0.05))
        async with serve(chsk, port=0) as listener:
            reader, writer = await opened(listener.port)
            sent = 0
            while chsk.stats.waiting_bytes == 0:
                chsk.send(ALL, "t/e", "x" * 50_000)
                sent += 1
                await asyncio.sleep(0)

            async def read_late() -> bytes:
                await asyncio.sleep(0.2)  # past close_timeout: the lag is the point here
                return await reader.read()

            task = asyncio.create_task(read_late())
        data = await task
        assert data.count(b":t/e") == sent
        assert data.endswith(CLOSE_1012)
        writer.close()

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_client_that_pauses_gets_everything_once_it_reads_again(run: Run, is_tls: bool) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))

    async def main() -> None:
        chsk = ChannelSocket(Config(max_backlog_bytes=8 << 20))
        context = server_side if is_tls else None
        async with serve(chsk, port=0, ssl=context) as listener:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", listener.port, ssl=trust if is_tls else None
            )
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            sent = 0
            while chsk.stats.waiting_bytes == 0:  # until nobody takes any more
                chsk.send(ALL, "t/e", "x" * 50_000)
                sent += 1
                await asyncio.sleep(0)
            chsk.send(ALL, "t/last")
            read = await read_to(reader, b":t/last")
            assert read.count(b":t/e") == sent
            chsk.send(ALL, "t/mark")
            await read_to(reader, b":t/mark")
            writer.close()

    run(main())


async def read_to(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    read = b""
    while mark not in read[-200_000:]:
        read += await reader.read(100_000)
    return read


GET = b"GET /chsk?client-id=a%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LATER_POST = (
    b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 49\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    b"client-id=a&ppstr=%5B%5B%3At%2Flater%5D%201%5D   "
)


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():
        await asyncio.sleep(0)


def asked(port: int, request: bytes) -> socket.socket:
    """A socket on which a request was sent; whoever closes it breaks the connection."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(request)
    return sock


def test_a_push_into_a_poll_that_broke_in_the_same_turn_goes_to_the_next(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        async with serve(chsk, port=0) as listener:
            shaken = asked(listener.port, GET % b"&handshake%3F=1")
            await until(lambda: chsk._endpoint._hub.table.away)
            poll = asked(listener.port, GET % b"")
            await until(lambda: chsk.connected.ajax)
            poll.close()  # an RST, which the loop has not read yet
            chsk.send(ANONYMOUS, "t/e", 1, flush=True)
            assert chsk.stats.written == 0
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(GET % b"")
            await reader.readuntil(b"[[[:t/e 1]] nil]")
            writer.close()
            shaken.close()

    run(main())


def test_a_reply_to_a_post_that_broke_in_the_same_turn_is_lost_once(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        kept: list[EventMsg[Any]] = []
        chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
        async with serve(chsk, port=0) as listener:
            post = asked(listener.port, LATER_POST)
            await until(lambda: kept)
            post.close()
            assert kept[0].reply(1) is False
            assert chsk.stats.reply_lost == 1

    run(main())


HEAD = b"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
INCOMPLETE = {
    "half a head": b"GET /chsk HTT",
    "half a body": b"POST /chsk?client-id=a HTTP/1.1\r\n%sContent-Length: 500\r\n\r\nabc" % HEAD,
    "half a chunk": b"POST /chsk?client-id=a HTTP/1.1\r\n%s"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nab" % HEAD,
}
PATIENT = Config(handshake_timeout=60, body_timeout=60, close_timeout=60, stop_timeout=60)


async def settled(port: int) -> None:
    """Make the server read what was sent before on other connections."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(10):
        writer.write(b"HEAD /other HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_stop_answers_an_incomplete_request_503_at_once(name: str, run: Run) -> None:
    async def main() -> None:
        async with serve(ChannelSocket(PATIENT), port=0) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(INCOMPLETE[name])
            await settled(listener.port)

            async def leave() -> bytes:
                answer = await reader.read()
                writer.close()
                return answer

            leaving = asyncio.create_task(leave())
            began = asyncio.get_running_loop().time()
        answer = await leaving
        assert asyncio.get_running_loop().time() - began < 30
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"the server is stopping")

    run(main())


@pytest.mark.slow  # a stop waits half a second for a peer to close
@pytest.mark.parametrize(
    "data", [*INCOMPLETE.values(), b"GET / HTTP/1.1\r\n\r\n"], ids=[*INCOMPLETE, "refused"]
)
def test_a_stop_waits_for_no_peer_that_was_answered_and_stays(data: bytes, run: Run) -> None:
    async def main() -> None:
        async with serve(ChannelSocket(PATIENT), port=0) as listener:
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.transport.pause_reading()  # so it sees no end of the stream
            writer.write(data)
            await settled(listener.port)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 30
        writer.close()

    run(main())


@pytest.mark.slow
def test_a_stop_waits_for_no_tls_peer_that_asked_for_nothing(run: Run) -> None:
    async def main() -> None:
        context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        context.check_hostname = False

        def peer(port: int) -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port))
            return context.wrap_socket(plain)  # and reads no close_notify

        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        async with serve(ChannelSocket(PATIENT), port=0, ssl=server) as listener:
            wire = await asyncio.to_thread(peer, listener.port)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 30
        wire.close()

    run(main())


# -- max_connections, from accept on


def test_past_max_connections_no_body_is_waited_for(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_connections=2, handshake_timeout=60))
        async with serve(chsk, port=0) as listener:
            begun = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
            for _, writer in begun:
                writer.write(INCOMPLETE["half a head"])
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(INCOMPLETE["half a body"])
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"max_connections" in answer
            assert chsk.stats.refused == {"full": 1}
            for _, each in [*begun, (reader, writer)]:
                each.close()

    run(main())


def test_far_past_max_connections_a_connection_is_closed_at_once(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_connections=1, handshake_timeout=60))
        async with serve(chsk, port=0) as listener:
            idle = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(65)]
            for _, writer in idle:
                writer.write(INCOMPLETE["half a head"])
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert chsk.stats.refused == {"full": 1}
            for _, each in [*idle, (reader, writer)]:
                each.close()

    run(main())


def test_idle_connections_leave_the_last_quarter_of_max_connections(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_connections=4))
        async with serve(chsk, port=0) as listener:
            kept = []
            for number in range(6):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(b"HEAD /other HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert (b"connection: close" in head) == (number >= 3)
                kept.append(writer)
            for writer in kept:
                writer.close()

    run(main())


# -- what all hold together


def test_past_max_total_incoming_bytes_the_largest_body_gets_503(run: Run) -> None:
    async def main() -> None:
        config = Config(max_message_bytes=100_000, max_total_incoming_bytes=200_000)
        chsk = ChannelSocket(config)
        async with serve(chsk, port=0) as listener:

            async def post(size: int, sent: int) -> tuple[Any, Any]:
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                head = b"POST /chsk?client-id=a HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n"
                body = b"ppstr=" + b"x" * (size - 6)
                writer.write(head % (HEAD, size) + body[:sent])
                return reader, writer

            large = await post(95_000, 90_000)
            small = await post(1000, 900)
            middle = await post(60_000, 50_000)
            await settled(listener.port)
            last = await post(80_000, 70_000)
            assert (await large[0].read()).startswith(b"HTTP/1.1 503 ")
            assert chsk.stats.refused == {"incoming_full": 1}
            for (_, writer), rest in ((small, 100), (middle, 10_000), (last, 10_000)):
                writer.write(b"x" * rest)
            for reader, _ in (small, middle, last):
                # No packet, but a whole body, which was read.
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            for _, writer in (large, small, middle, last):
                writer.close()

    run(main())


def test_past_max_total_incoming_bytes_the_largest_message_closes_1013(run: Run) -> None:
    fragment = struct.pack("!BBH4x", 1, 0x80 | 126, 60_000) + b"x" * 60_000

    async def main() -> None:
        config = Config(max_message_bytes=100_000, max_total_incoming_bytes=150_000)
        async with serve(ChannelSocket(config), port=0) as listener:
            many = [await opened(listener.port) for _ in range(3)]
            many[0][1].write(fragment + struct.pack("!BB4x", 0, 0x81) + b"x")
            await settled(listener.port)
            for _, writer in many[1:]:
                writer.write(fragment)
            first, size = await many[0][0].readexactly(2)
            assert first == 0x88
            assert (await many[0][0].readexactly(size))[:2] == struct.pack("!H", 1013)
            for _, writer in many:
                writer.close()

    run(main())


def test_a_post_that_is_cut_is_refused_by_that_reason(run: Run) -> None:
    """Its packet waits for an earlier one; what its client pipelined behind it is too much."""

    async def main() -> None:
        config = Config(max_message_bytes=40_000, max_total_incoming_bytes=64_000)
        chsk = ChannelSocket(config)
        async with serve(chsk, port=0) as listener:
            many = []
            for client_id in "ab":
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                get = b"GET /chsk?client-id=%s&udt=7&handshake%%3F=1 HTTP/1.1\r\n%s\r\n"
                writer.write(get % (client_id.encode(), HEAD))
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                await reader.readuntil(b"\r\n\r\n")
                post = b"POST /chsk?client-id=%s&n=7-2 HTTP/1.1\r\n%sContent-Length: 22\r\n\r\n"
                writer.write(post % (client_id.encode(), HEAD) + b"ppstr=%5B%5B:t/x%5D%5D")
                writer.write(b"x" * 40_000)
                many.append((reader, writer))
            answers = [asyncio.create_task(reader.read()) for reader, _ in many]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [b"max_total_incoming_bytes" in task.result() for task in done] == [True]
            assert chsk.stats.refused == {"incoming_full": 1}
            for _, writer in many:
                writer.close()
            await asyncio.wait(answers)

    run(main())


def test_requests_whose_hooks_wait_count_with_their_bodies(run: Run) -> None:
    async def main() -> None:
        config = Config(max_message_bytes=100_000, max_total_incoming_bytes=150_000)
        waiting = asyncio.Event()

        async def user_id(request: Request) -> None:
            await waiting.wait()

        async with serve(ChannelSocket(config, user_id=user_id), port=0) as listener:
            made = []
            for size in (90_000, 80_000):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                head = b"POST /chsk?client-id=a HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n"
                writer.write(head % (HEAD, size) + b'ppstr=[[:t/x+"'.ljust(size - 3, b"x") + b'"]]')
                made.append((reader, writer))
            assert (await made[0][0].read()).startswith(b"HTTP/1.1 503 ")
            waiting.set()
            assert (await made[1][0].readline()).startswith(b"HTTP/1.1 200 ")
            for _, writer in made:
                writer.close()

    run(main())
