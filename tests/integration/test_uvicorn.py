"""What is particular to uvicorn with the channel's own WebSocket class: what it takes from
uvicorn, and what it leaves to it. What the channel does there is in the shared suite
(test_served_*)."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import IO, Any

import peer
import pytest
from dist_content import ROOT
from peer import CLOSE, TEXT, Peer
from raw import Run
from raw_listener import TLS
from readme_pair import free_port, wait_for
from redis_server import Server as Engine
from servers import SUPPORT, target, who
from uvicorn import Config, Server

import chansock
from chansock import ChannelSocket
from chansock._fast.io.epoll import IS_AVAILABLE
from chansock.uvicorn import WebSocketProtocol

pytestmark = pytest.mark.slow  # each test starts a server

WS = ["--ws", "chansock.uvicorn:WebSocketProtocol"]
APP = "servers.application:asgi"
SECRET = "sEcReT"
NO_BODY = "expected no body in the request for a WebSocket"


class Running:
    """A server, started as its users do."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self.port = port
        self.process = process
        self._output = output

    def log(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    async def until_logged(self, text: str) -> None:
        """Wait for a line; the test's own limit ends it."""
        while text not in self.log():
            await asyncio.sleep(0.01)

    async def peer(self) -> Peer:
        return await Peer.connect(self.port)


@contextmanager
def running(*command: str, port: int | None = None, **environment: str) -> Iterator[Running]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, cwd=SUPPORT,
            start_new_session=True,  # a group of its own, with the workers
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        found = Running(port or 0, process, output)
        try:
            if port is not None:
                wait_for(port, process)
            yield found
        except BaseException:
            print(found.log())
            raise
        finally:
            process.terminate()
            try:
                if command[0] == "granian":
                    end_granian(process)
                process.wait(60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, SIGKILL)
                process.wait()


def end_granian(process: subprocess.Popen[bytes]) -> None:
    """Repeat the signal: a worker that is starting can lose it, and Granian waits for that one."""
    for _ in range(6):
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return
        os.killpg(process.pid, SIGTERM)


@contextmanager
def fast(*options: str, app: str = APP, ws: list[str] = WS) -> Iterator[Running]:
    port = free_port()
    with running("uvicorn", app, "--port", str(port), *ws, *options, port=port) as found:
        yield found


def refused(*command: str) -> tuple[int, str]:
    """Start what must not start: its exit status, and what it said."""
    with running(*command) as found:
        return found.process.wait(60), found.log()


async def socket_of(place: Running, client_id: str, **params: str) -> Peer:
    found = await place.peer()
    assert (await found.upgrade(target(client_id, **params))).status == 101
    assert (await found.text()).startswith("[[:chsk/handshake [")
    return found


async def ask(found: Peer, event: str) -> str:
    await found.say(f'[[{event}] "cb"]')
    return (await found.text()).removesuffix(' "cb"]').removeprefix("[")


def _asking(found: Peer, *params: str) -> bytes:
    """The head of an upgrade that nobody waits for."""
    fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    return peer.request(
        "GET", target(who("alice"), **dict.fromkeys(params, "1")), fields, host=found.host
    )


@pytest.fixture(
    scope="module",
    params=[(loop, http) for loop in ("uvloop", "asyncio") for http in ("httptools", "h11")],
    ids="-".join,
)
def place(request: pytest.FixtureRequest) -> Iterator[Running]:
    """uvicorn on each of its loops, with each of its HTTP classes."""
    loop, http = request.param
    with fast("--loop", loop, "--http", http) as found:
        yield found


def test_the_channels_path_is_the_engines_and_others_are_uvicorns(
    place: Running, drive: Run
) -> None:
    async def main() -> None:
        async with await socket_of(place, who("alice")) as alice, await place.peer() as other:
            assert await ask(alice, ":test/req 1") == "1"
            if IS_AVAILABLE:
                kinds = Path(f"/proc/{place.process.pid}/fd").iterdir()
                found = [os.readlink(kind) for kind in kinds]
                assert found.count("anon_inode:[eventpoll]") == 2, "the loop's, and ours"
            assert (await other.upgrade("/echo")).status == 101
            for word in ("one", "two"):
                await other.say(word)
                assert await other.text() == f"the application: {word}"
            assert (await other.bye()).code == 1000

    drive(main())


def test_bytes_that_come_with_the_head_are_not_lost(place: Running, drive: Run) -> None:
    async def main() -> None:
        async with await place.peer() as alice:
            head = _asking(alice)
            first = peer.frame(TEXT, '[[:test/req 1] "a"]')
            second = peer.frame(TEXT, '[[:test/req 2] "b"]')
            await alice.send(head + first + second[:5])
            assert (await alice.answer()).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake [")
            assert await alice.text() == '[1 "a"]'
            await alice.send(second[5:])
            assert await alice.text() == '[2 "b"]'

    drive(main())


def test_a_keep_alive_connection_may_become_a_socket_and_a_refused_one_is_closed(
    place: Running, drive: Run
) -> None:
    async def main() -> None:
        async with await place.peer() as alice:
            assert (await alice.ask("GET", "/app")).status == 200
            assert (await alice.upgrade(target(who("alice")))).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake [")
        async with await place.peer() as mallory:
            answer = await mallory.upgrade(target(who("mallory"), let="no"))
            assert (answer.status, answer.header("connection")) == (401, "close")
            assert await mallory.rest() == b""

    drive(main())


def test_the_log_has_uvicorns_lines_without_the_query(place: Running, drive: Run) -> None:
    async def main() -> None:
        alice = await socket_of(place, f"alice/{SECRET}", token=SECRET)
        host, port = alice.writer.get_extra_info("sockname")
        await alice.close()
        await place.until_logged(f'{host}:{port} - "WebSocket /chsk" [accepted]')
        async with await place.peer() as mallory:
            await mallory.upgrade(target(f"mallory/{SECRET}", let="no"))
        await place.until_logged('"WebSocket /chsk" 401')

    drive(main())
    assert SECRET not in place.log()


def test_who_asked_is_what_uvicorn_believes_of_proxies(drive: Run) -> None:
    told = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]

    async def seen(place: Running) -> str:
        async with await place.peer() as alice:
            assert (await alice.upgrade(target(who("alice")), told)).status == 101
            await alice.text()
            return await ask(alice, ":served/request :ws")

    with fast() as place:  # 127.0.0.1 is believed
        assert drive(seen(place)).startswith('["GET" "/chsk" "https" "203.0.113.9"')
    with fast("--no-proxy-headers") as place:
        assert drive(seen(place)).startswith('["GET" "/chsk" "http" "127.0.0.1"')


def test_what_stands_around_the_channel_sees_the_handshake_and_may_refuse_it(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, "tab") as dora:
            assert await ask(dora, ":outer/session") == '{:user "dora"}'
        for how, status, text in (
            ("pay", 402, "pay"),
            ("shut", 403, ""),
            ("raise", 500, "internal server error"),
            ("accept", 500, "internal server error"),
        ):
            async with await place.peer() as mallory:
                answer = await mallory.upgrade(target("tab", **{how: "1"}))
                assert (answer.status, answer.text) == (status, text)
                assert answer.header("x-price") == ("5" if how == "pay" else None)
                assert await mallory.rest() == b""
            await place.until_logged(f'"WebSocket /chsk" {status}')
        assert "expected '/chsk' to be passed on to chansock.asgi" in place.log()
        async with await place.peer() as leaver:
            await leaver.send(_asking(leaver, "wait"))
            await place.until_logged("waits")
        async with await place.peer() as waiting:
            await waiting.send(_asking(waiting, "wait"))
            while place.log().count("waits") < 2:
                await asyncio.sleep(0.01)
            place.process.send_signal(SIGTERM)
            assert (await waiting.answer()).status == 503

    with fast(app="uvicorn_outer:app") as place:
        drive(main(place))
        assert place.process.wait(60) in (0, -SIGTERM)


def test_tls_goes_on_with_the_loops_transport(drive: Run) -> None:
    trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
    trusting.check_hostname = False

    async def main(place: Running) -> None:
        pair = await asyncio.open_connection("127.0.0.1", place.port, ssl=trusting)
        async with Peer(*pair) as alice:
            assert (await alice.upgrade(target(who("alice")))).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake [")
            for number in range(3):
                assert await ask(alice, f":test/req {number}") == str(number)
            assert (await ask(alice, ":served/request :ws")).split()[2] == '"https"'
            assert (await alice.bye()).code == 1000

    with fast(
        "--ssl-certfile", str(TLS / "cert.pem"), "--ssl-keyfile", str(TLS / "key.pem")
    ) as place:
        drive(main(place))


def test_a_unix_socket_goes_on_with_the_loops_transport(tmp_path: Path, drive: Run) -> None:
    path = tmp_path / "unix"

    async def main(place: Running) -> None:
        await place.until_logged("running on unix socket")
        async with Peer(*await asyncio.open_unix_connection(path)) as alice:
            assert (await alice.upgrade(target(who("alice")))).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake [")
            assert await ask(alice, ":test/req 1") == "1"
            assert (await alice.bye()).code == 1000

    with running("uvicorn", APP, "--uds", str(path), *WS) as place:
        drive(main(place))


def test_shutdown_closes_1012_and_waits_for_the_answer(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, who("alice")) as alice:
            place.process.send_signal(SIGTERM)
            found = await alice.frame()
            assert (found.opcode, found.code) == (CLOSE, 1012)
            await place.until_logged("Waiting for connections to close")
            assert place.process.poll() is None
            await alice.send(peer.frame(CLOSE, found.payload))
            assert await alice.rest() == b""

    with fast() as place:
        drive(main(place))
        assert place.process.wait(60) in (0, -SIGTERM)
        assert "Traceback" not in place.log()


@asynccontextmanager
async def beside(app: Any, **settings: Any) -> AsyncIterator[tuple[Server, int]]:
    """A server on the loop of the test, and its port. It ends without a signal."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(Config(app, ws=WebSocketProtocol, lifespan="on", log_config=None, **settings))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        async with asyncio.timeout(60):
            await serving
    assert not server.server_state.connections


def test_one_that_is_refused_at_once_is_let_go_of_by_tls_too(drive: Run) -> None:
    trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
    trusting.check_hostname = False

    async def main() -> None:
        app = chansock.asgi.app(ChannelSocket(authorize=lambda request: False))
        keys = {"ssl_certfile": TLS / "cert.pem", "ssl_keyfile": TLS / "key.pem"}
        async with beside(app, **keys) as (_, port):
            pair = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            async with Peer(*pair) as mallory:
                assert (await mallory.upgrade(target("mallory"))).status == 401
                assert await mallory.rest() == b""

    drive(main())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_answer_that_is_under_way_is_not_overtaken_by_that_of_an_upgrade(
    http: str, drive: Run
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown") if scope["type"] == "lifespan" else ():
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})
        if scope["type"] == "http":
            begun.set()
            await go_on.wait()
            head = [(b"content-length", b"4")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"slow"})

    async def main() -> None:
        app = chansock.asgi.Middleware(slow, ChannelSocket())
        async with beside(app, http=http) as (_, port), await Peer.connect(port) as alice:
            two = peer.request("GET", "/slow") * 2
            await alice.send(two + _asking(alice) + peer.frame(TEXT, "[[:test/req 1] nil]"))
            await begun.wait()
            go_on.set()
            for _ in range(2):
                answer = await alice.answer()
                assert (answer.status, answer.text) == (200, "slow")
            if http == "h11":
                assert (await alice.answer()).status == 101
                assert (await alice.text()).startswith("[[:chsk/handshake [")
            else:
                assert await alice.rest() == b""
                async with await Peer.connect(port) as again:
                    assert (await again.upgrade(target(who("alice")))).status == 101

    drive(main())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_upgrade_with_a_body_is_refused_and_none_of_it_is_read_as_frames(
    http: str, drive: Run
) -> None:
    handled: list[Any] = []
    chsk = ChannelSocket()
    chsk.on("test/smuggled")(handled.append)
    body = peer.frame(TEXT, "[[:test/smuggled 1] nil]")
    bodies = {
        f"Content-Length: {len(body)}\r\n\r\n".encode(): body,
        b"Transfer-Encoding: chunked\r\n\r\n": b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    }

    async def main() -> None:
        async with beside(chansock.asgi.app(chsk), http=http) as (_, port):
            for field, framed in bodies.items():
                async with await Peer.connect(port) as alice:
                    head = _asking(alice).removesuffix(b"\r\n") + field
                    await alice.send(head + framed + body)
                    answer = await alice.answer()
                    assert (answer.status, answer.text) == (400, NO_BODY)
            async with await Peer.connect(port) as alice:
                found = await alice.upgrade(target("alice"), [("Content-Length", "0")])
                assert found.status == 101
                assert (await alice.text()).startswith("[[:chsk/handshake [")

    drive(main())
    assert handled == []


@pytest.mark.parametrize("name", ["unknown", "_hidden", "010.0.0.1", "[::1", "1.2.3.4, unknown"])
def test_a_client_that_is_no_address_is_served(name: str, drive: Run) -> None:
    chsk = ChannelSocket(chansock.Config(trusted_proxies=("127.0.0.1", "10.0.0.0/8")))
    clients: list[Any] = []
    chsk.on("test/who")(lambda msg: clients.append(msg.request.client) or len(clients))

    async def main() -> None:
        # uvicorn itself trusts 127.0.0.1, and passes on what stands there as the client.
        async with beside(chansock.asgi.app(chsk)) as (_, port):
            fields = [("X-Forwarded-For", name)]
            async with await Peer.connect(port) as alice:
                assert (
                    await alice.ask("GET", f"{target('a')}&handshake%3F=1", fields)
                ).status == 200
                assert (await alice.upgrade(target("alice"), fields)).status == 101
                await alice.text()
                assert await ask(alice, ":test/who") == "1"

    drive(main())
    (client,) = clients
    assert client == (name.rpartition(" ")[2], 0)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_upgrade_whose_target_is_an_absolute_url_is_taken(http: str, drive: Run) -> None:
    async def main() -> None:
        async with beside(chansock.asgi.app(ChannelSocket()), http=http) as (_, port):
            async with await Peer.connect(port) as alice:
                url = f"http://{alice.host}{target('alice')}"
                assert (await alice.upgrade(url)).status == 101
                assert (await alice.text()).startswith("[[:chsk/handshake [")

    drive(main())


def test_of_two_channels_at_one_path_it_is_the_outer_one_that_is_served(drive: Run) -> None:
    inner, outer = (ChannelSocket(handshake_data=lambda request, n=n: n) for n in ("in", "out"))

    async def main() -> None:
        app = chansock.asgi.Middleware(chansock.asgi.app(inner), outer)
        async with beside(app) as (_, port), await Peer.connect(port) as alice:
            assert (await alice.upgrade(target("alice"))).status == 101
            assert '"out"' in await alice.text()

    drive(main())


def test_what_waits_for_a_socket_goes_before_its_1012(drive: Run) -> None:
    """Where no signal tells of the stop, uvicorn alone ends its connections."""
    chsk = ChannelSocket(user_id=lambda request: request.params["client-id"])

    async def main() -> None:
        async with beside(chansock.asgi.app(chsk)) as (server, port):
            await talk(server, port)
        assert chsk.stats.written == 1
        assert chsk.stats.lost.stopped == 1

    async def talk(server: Server, port: int) -> None:
        async with await Peer.connect(port) as alice:
            assert (await alice.upgrade(target("alice"))).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake [")
            (connection,) = server.server_state.connections
            chsk.send("alice", "test/pushed", 1)
            connection.shutdown()
            chsk.send("alice", "test/pushed", 2)  # too late for this one
            assert await alice.text() == "[[[:test/pushed 1]] nil]"
            assert (await alice.frame()).code == 1012
            server.should_exit = True
            await alice.send(peer.frame(CLOSE, peer.close_payload(1012)))
            assert await alice.rest() == b""

    drive(main())


def test_timeout_graceful_shutdown_ends_the_wait_for_one_that_does_not_answer(
    drive: Run,
) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, who("alice")) as alice:
            place.process.send_signal(SIGTERM)
            assert (await alice.frame()).code == 1012
            await place.until_logged("timeout graceful shutdown exceeded")
            while place.process.poll() is None:
                await asyncio.sleep(0.01)

    with fast("--timeout-graceful-shutdown", "1") as place:
        drive(main(place))


def test_sockets_count_among_uvicorns_connections(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, who("alice")), await place.peer() as other:
            assert (await other.ask("GET", "/app")).status == 503
        async with await place.peer() as other:
            answer = await other.ask("GET", "/app")
            while answer.status == 503:  # until the server has seen them go
                async with await place.peer() as another:
                    answer = await another.ask("GET", "/app")
            assert answer.status == 200

    with fast("--limit-concurrency", "2") as place:
        drive(main(place))


def test_without_a_channel_it_says_what_is_missing(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await place.peer() as other:
            assert (await other.upgrade("/echo")).status == 101
        await place.until_logged("no_channel expected one in the lifespan's state, got none")

    with fast(app="servers.application:plain") as place:
        drive(main(place))


def test_reload_serves(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, who("alice")) as alice:
            assert await ask(alice, ":test/req 1") == "1"

    with fast("--reload", "--workers", "2") as place:  # which uvicorn ignores then
        drive(main(place))


WORKERS = re.compile(r"expected 1 worker process, got 2: each would know only the clients")


def test_uvicorn_does_not_start_with_several_workers(drive: Run) -> None:
    command = ["uvicorn", APP, "--port", str(free_port()), *WS, "--workers", "2"]
    with running(*command) as place:  # an older uvicorn tries it again and again
        drive(place.until_logged("Application startup failed"))
        assert WORKERS.search(place.log())
        assert "Traceback" not in place.log()


def test_hypercorn_does_not_start_with_several_workers() -> None:
    pytest.importorskip("hypercorn")
    _, said = refused("hypercorn", APP, "--bind", f"127.0.0.1:{free_port()}", "--workers", "2")
    assert WORKERS.search(said), said


def gunicorn_of(*options: str, port: int | None = None) -> list[str]:
    pytest.importorskip("gunicorn")
    return ["gunicorn.app.wsgiapp", "-b", f"127.0.0.1:{port or free_port()}", *options]


def test_gunicorns_worker_serves(drive: Run) -> None:
    async def main(place: Running) -> None:
        async with await socket_of(place, who("alice")) as alice, await place.peer() as other:
            assert await ask(alice, ":test/req 1") == "1"
            assert (await other.ask("GET", "/app")).status == 200
            place.process.send_signal(SIGTERM)
            found = await alice.frame()
            assert (found.opcode, found.code) == (CLOSE, 1012)

    port = free_port()
    command = gunicorn_of("-k", "chansock.uvicorn.Worker", APP, port=port)
    with running(*command, port=port) as place:
        drive(main(place))


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "hypercorn", "granian"])
def test_several_workers_start_where_the_environment_names_a_backplane(
    server: str, drive: Run
) -> None:
    pytest.importorskip(server)
    port = free_port()
    command = {
        "uvicorn": ["uvicorn", APP, "--port", str(port), *WS, "--workers", "2"],
        "gunicorn": gunicorn_of("-k", "chansock.uvicorn.Worker", "-w", "2", APP, port=port),
        "hypercorn": ["hypercorn", APP, "--bind", f"127.0.0.1:{port}", "--workers", "2"],
        "granian": ["granian", "--interface=asgi", f"--port={port}", "--workers=2", APP],
    }[server]
    with Engine() as engine, running(*command, port=port, CHANSOCK_BACKPLANE=engine.url) as place:
        if server == "granian":  # which hears no signal before
            drive(place.until_logged("Started worker-1"))
            drive(place.until_logged("Started worker-2"))
        assert "expected 1 worker process" not in place.log()


def test_granians_second_worker_is_refused() -> None:
    pytest.importorskip("granian")
    port = f"--port={free_port()}"
    with running("granian", "--interface=asgi", port, "--workers=2", APP) as place:
        # Granian ends then, but its signal is lost on a first worker that is still starting, and
        # Granian waits for that one.
        pid = place.process.pid
        while place.process.poll() is None:
            if "Shutting down" in place.log():
                with suppress(OSError):
                    for worker in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                        os.kill(int(worker), SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                place.process.wait(1)
        said, status = place.log(), place.process.returncode
    assert WORKERS.search(said), said
    assert "Started worker-2" not in said
    assert status != 0


@pytest.mark.parametrize("worker", ["chansock.uvicorn.Worker", "uvicorn_own.Own"])
def test_gunicorn_does_not_start_with_several_workers(worker: str) -> None:
    status, said = refused(*gunicorn_of("-k", worker, "-w", "2", APP))
    assert WORKERS.search(said), said
    assert status != 0
