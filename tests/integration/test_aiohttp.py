"""The channel in an aiohttp application: what is particular there. What it shares with other
servers is asked of it by tests/test_served_*.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import peer
import pytest
from dist_content import ROOT
from peer import CLOSE, TEXT, Peer
from raw import Run
from raw_listener import TLS, server_tls
from readme_pair import free_port, wait_for

import chansock

pytest.importorskip("aiohttp")

from aiohttp import ClientSession, CookieJar, UnixConnector, web
from aiohttp.test_utils import TestClient, TestServer

import chansock.aiohttp


@pytest.fixture(autouse=True)
def kept_transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Without epoll, connections that are taken over keep their transport."""
    found = "run" in request.fixturenames and request.getfixturevalue("loop_kind") != "epoll"
    if found:
        monkeypatch.setattr("chansock._edge.sockets.IS_AVAILABLE", False)
    return found


ALICE = "/chsk?client-id=alice"
NO_BODY = "expected no body in the request for a WebSocket"
SHAKEN = "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"


def channel(config: chansock.Config = chansock.Config(), **hooks: Any) -> chansock.ChannelSocket:  # noqa: B008
    chsk = chansock.ChannelSocket(config, **hooks)

    @chsk.on("test/req")
    def req(msg: chansock.EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("test/never")
    def never(msg: chansock.EventMsg[Any]) -> Any:
        return chansock.LATER

    @chsk.on("test/request")
    def request(msg: chansock.EventMsg[Any]) -> Any:
        asked = msg.request
        return [asked.client and asked.client[0], asked.scheme, asked.host, asked.path]

    return chsk


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def running(
    app: web.Application, site: Callable[[web.AppRunner], Any] | None = None, **options: Any
) -> AsyncIterator[tuple[int, web.AppRunner]]:
    """Run an application, on a free port if `site` says nothing else."""
    app.router.add_get("/hello", hello)
    runner = web.AppRunner(app, access_log=options.pop("access_log", None), **options)
    await runner.setup()
    try:
        await (web.TCPSite(runner, "127.0.0.1", 0) if site is None else site(runner)).start()
        name = runner.addresses[0]
        yield name[1] if isinstance(name, tuple) else 0, runner
    finally:
        await runner.cleanup()


async def shake(wire: Peer, target: str = ALICE) -> None:
    assert (await wire.upgrade(target)).status == 101
    assert await wire.text() == SHAKEN


async def post(wire: Peer, packet: str, target: str = "/chsk") -> peer.Answer:
    return await wire.post_form(target, [("client-id", "alice"), ("ppstr", packet)])


def app_with(chsk: chansock.ChannelSocket, path: str = "/chsk", **options: Any) -> web.Application:
    app = web.Application(**options)
    chansock.aiohttp.setup(app, chsk, path)
    return app


# -- as other routes


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
def test_middlewares_run_before_the_channel_and_hooks_find_what_they_leave(run: Run) -> None:
    @web.middleware
    async def users(request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(0)
        if request.headers.get("X-User") == "mallory":
            raise web.HTTPForbidden(text="not you")
        request["user"] = request.headers.get("X-User")
        return await handler(request)

    def user_id(request: chansock.Request) -> Any:
        asked: web.Request = request.state["aiohttp"]
        assert not hasattr(request, "scope")
        assert asked.app is app
        return asked["user"]

    app = app_with(channel(user_id=user_id), middlewares=[users])

    async def main() -> None:
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            ada, mallory = [("X-User", "ada")], [("X-User", "mallory")]
            answer = await wire.ask("GET", f"{ALICE}&handshake%3F=1", ada)
            assert answer.text == '[[:chsk/handshake ["ada" nil nil]] nil]'
            assert (await wire.ask("GET", ALICE, mallory)).text == "not you"
            assert (await wire.upgrade(ALICE, mallory)).text == "not you"
            assert (await wire.upgrade(ALICE, ada)).status == 101
            assert await wire.text() == '[[:chsk/handshake ["ada" nil nil]] nil]'

    run(main())


def test_a_part_of_another_application_serves_below_its_prefix(run: Run) -> None:
    async def main() -> None:
        part, app = app_with(channel(), "/live/"), web.Application()
        app.add_subapp("/api", part)
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            answer = await wire.ask("GET", "/api/live/chansock.js")
            assert (answer.status, answer.header("content-type")) == (
                200,
                "text/javascript; charset=utf-8",
            )
            head = await wire.ask("HEAD", "/api/live/chansock.js")
            assert head.header("content-length") == str(len(answer.body))
            assert (await wire.ask("GET", "/live/")).status == 404
            assert (await post(wire, "[[:test/req 1] :ajax]", "/api/live/")).text == "[1 nil]"
            await shake(wire, "/api/live/?client-id=alice")
            await wire.say('[[:test/request] "r"]')
            assert (await wire.text()).endswith(' "/api/live/"] "r"]')

    run(main())


def test_who_asks_is_whom_a_middleware_says(run: Run) -> None:
    @web.middleware
    async def behind_a_proxy(request: web.Request, handler: Any) -> web.StreamResponse:
        return await handler(request.clone(remote="192.0.2.7", scheme="https", host="example.com"))

    async def main() -> None:
        app = app_with(channel(), middlewares=[behind_a_proxy])
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            said = '[["192.0.2.7" "https" "example.com" "/chsk"] '
            assert (await post(wire, "[[:test/request] :ajax]")).text == said + "nil]"
            await shake(wire)
            await wire.say('[[:test/request] "r"]')
            assert await wire.text() == said + '"r"]'

    run(main())


def test_a_trusted_proxy_is_believed(run: Run) -> None:
    async def main() -> None:
        app = app_with(channel(chansock.Config(trusted_proxies=("127.0.0.1",))))
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            fields = [("X-Forwarded-For", "192.0.2.8"), ("X-Forwarded-Proto", "https")]
            assert (await wire.upgrade(ALICE, fields)).status == 101
            await wire.text()
            await wire.say('[[:test/request] "r"]')
            assert (await wire.text()).startswith('[["192.0.2.8" "https" ')

    run(main())


def test_a_peer_that_has_left_is_not_believed_as_a_proxy(run: Run) -> None:
    @web.middleware
    async def waits(request: web.Request, handler: Any) -> web.StreamResponse:
        while request.transport is not None:
            await asyncio.sleep(0)
        return await handler(request)

    async def main() -> None:
        asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        chsk = channel(user_id=lambda request: asked.set_result(request.client))
        async with running(app_with(chsk, middlewares=[waits])) as (port, _):
            wire = await Peer.connect(port)
            fields = [("X-Forwarded-For", "192.0.2.9")]
            target = f"{ALICE}&handshake%3F=1"
            await wire.send(peer.request("GET", target, fields, host=wire.host))
            wire.reset()
            assert (await asked)[0] == "127.0.0.1"

    run(main())


def test_a_body_that_a_middleware_has_read_is_taken(run: Run) -> None:
    @web.middleware
    async def reads(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method == "POST":
            assert (await request.post())["client-id"] == "alice"
        return await handler(request)

    async def main() -> None:
        app = app_with(channel(), middlewares=[reads])
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            assert (await post(wire, "[[:test/req 5] :ajax]")).text == "[5 nil]"

    run(main())


def test_the_limit_of_a_body_is_the_channels_and_not_the_applications(run: Run) -> None:
    async def main() -> None:
        app = app_with(channel(), client_max_size=1024)
        async with running(app) as (port, _), await Peer.connect(port) as wire:
            text = "x" * 100_000
            assert (await post(wire, f'[[:test/req "{text}"] :ajax]')).text == f'["{text}" nil]'

    run(main())


def test_a_connection_is_kept_between_the_channel_and_other_routes(run: Run) -> None:
    async def main() -> None:
        async with running(app_with(channel())) as (port, _), await Peer.connect(port) as wire:
            for _ in (1, 2):
                assert (await wire.ask("GET", "/hello")).text == "hello"
                assert (await wire.ask("GET", "/chsk")).status == 400
                assert (await post(wire, "[[:test/req 5] :ajax]")).text == "[5 nil]"
                assert (await wire.ask("GET", f"{ALICE}&handshake%3F=1")).status == 200

    run(main())


@pytest.mark.parametrize("kind", [TestServer])
def test_aiohttps_own_client_for_tests_is_served(kind: Any, run: Run) -> None:
    async def main() -> None:
        async with TestClient(kind(app_with(channel()))) as client:
            async with client.ws_connect(ALICE) as socket:
                assert (await socket.receive()).data == SHAKEN
                await socket.send_str('[[:test/req 1] "a"]')
                assert (await socket.receive()).data == '[1 "a"]'
            assert (await client.get("/chsk/chansock.d.ts")).status == 200

    run(main())


@pytest.mark.parametrize("path", ["chsk", "/chsk?a", "/chsk#a"])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(chansock.ConfigError, match=r"^path: expected a path like '/chsk', got"):
        chansock.aiohttp.setup(web.Application(), channel(), path)


# -- a connection that is taken over


def test_what_came_behind_the_head_is_taken_too(run: Run) -> None:
    async def main() -> None:
        async with running(app_with(channel())) as (port, _), await Peer.connect(port) as wire:
            fields = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ]
            early = peer.frame(TEXT, '[[:test/req 1] "a"]')
            await wire.send(peer.request("GET", ALICE, fields, host=wire.host) + early)
            assert (await wire.answer()).status == 101
            assert await wire.text() == SHAKEN
            assert await wire.text() == '[1 "a"]'

    run(main())


@pytest.mark.parametrize(
    ("field", "frame"),
    [
        (("Content-Length", "{size}"), b"{body}"),
        (("Transfer-Encoding", "chunked"), b"{size:x}\r\n{body}\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("is_split", [False, True], ids=["whole", "split"])
def test_an_upgrade_with_a_body_is_refused_and_none_of_it_is_read_as_frames(
    field: tuple[str, str],
    frame: bytes,
    is_split: bool,
    run: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handled = []
    chsk = channel()
    chsk.on("test/smuggled")(handled.append)

    async def main() -> None:
        async with running(app_with(chsk)) as (port, _), await Peer.connect(port) as wire:
            body = peer.frame(TEXT, "[[:test/smuggled 1] nil]")
            size = f"{len(body):x}" if field[0] == "Transfer-Encoding" else str(len(body))
            framed = frame.replace(b"{size:x}", size.encode()).replace(b"{body}", body)
            fields = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                (field[0], field[1].format(size=size)),
            ]
            await wire.send(peer.request("GET", ALICE, fields, host=wire.host) + framed[:3])
            if is_split:
                await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                await wire.send(framed[3:] + body * 2)
            answer = await wire.answer()
            assert (answer.status, answer.text) == (400, NO_BODY)
            assert await wire.rest() == b""

    run(main())
    assert handled == []
    assert "Traceback" not in caplog.text


def test_an_upgrade_with_an_empty_body_is_taken(run: Run) -> None:
    async def main() -> None:
        async with running(app_with(channel())) as (port, _), await Peer.connect(port) as wire:
            assert (await wire.upgrade(ALICE, [("Content-Length", "0")])).status == 101
            assert await wire.text() == SHAKEN

    run(main())


def test_a_client_that_is_no_address_is_served(run: Run) -> None:
    @web.middleware
    async def behind_a_proxy(request: web.Request, handler: Any) -> web.StreamResponse:
        said = request.headers.get("X-Said", "")
        return await handler(request.clone(remote=said, scheme="gopher"))

    async def main() -> None:
        config = chansock.Config(trusted_proxies=("127.0.0.1",))
        app = app_with(channel(config), middlewares=[behind_a_proxy])
        async with running(app) as (port, _):
            for name in ("unknown", "_hidden", "010.0.0.1"):
                fields = [("X-Said", name), ("X-Forwarded-For", "192.0.2.8")]
                async with await Peer.connect(port) as wire:
                    assert (await wire.upgrade(ALICE, fields)).status == 101
                    assert await wire.text() == SHAKEN
                    await wire.say('[[:test/request] "r"]')
                    assert (await wire.text()).startswith(f'[["{name}" "http" ')

    run(main())


def test_aiohttp_keeps_nothing_of_a_connection_that_is_taken_over(
    run: Run, kept_transports: bool
) -> None:
    async def main() -> None:
        async with running(app_with(channel())) as (port, runner), await Peer.connect(port) as wire:
            await shake(wire)
            if not kept_transports:
                while runner.server.connections:
                    await asyncio.sleep(0)
            big = "x" * 500_000
            await wire.say(f'[[:test/req "{big}"] "a"]')
            assert await wire.text() == f'["{big}" "a"]'
            assert (await wire.bye()).code == 1000
            assert await wire.rest() == b""
            while runner.server.connections:
                await asyncio.sleep(0)

    run(main())


def test_a_refusal_is_answered_and_logged_by_aiohttp(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def authorize(request: chansock.Request) -> bool:
            await asyncio.sleep(0)
            return "let" in request.params

        app = app_with(channel(authorize=authorize))
        log = logging.getLogger("aiohttp.access")
        async with running(app, access_log=log) as (port, _):
            async with await Peer.connect(port) as wire:
                assert (await wire.upgrade(ALICE)).status == 401
                assert await wire.rest() == b""
            async with await Peer.connect(port) as wire:
                await shake(wire, f"{ALICE}&let=1")
                await wire.bye()

    with caplog.at_level(logging.INFO, "aiohttp.access"):
        run(main())
    lines = [record.args for record in caplog.records if record.name == "aiohttp.access"]
    assert len(lines) == 2
    assert '" 401 ' in caplog.text
    assert '" 101 ' in caplog.text
    assert "Traceback" not in caplog.text


def test_a_peer_that_leaves_while_hooks_wait_costs_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def authorize(request: chansock.Request) -> bool:
            asked.set()
            await go.wait()
            return True

        chsk = channel(authorize=authorize)
        async with running(app_with(chsk)) as (port, runner):
            wire = await Peer.connect(port)
            upgrading = asyncio.create_task(wire.upgrade(ALICE))
            await asked.wait()
            wire.reset()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await upgrading
            while runner.server.connections:
                await asyncio.sleep(0)
            go.set()
            await asyncio.sleep(0)
            assert len(chsk.connected.ws) == 0

    run(main())
    assert "Traceback" not in caplog.text


def test_messages_are_deflated_where_the_channel_says_so(run: Run) -> None:
    async def main() -> None:
        config = chansock.Config(compression=chansock.Compression())
        async with TestClient(TestServer(app_with(channel(config)))) as client:
            async with client.ws_connect(ALICE, compress=15) as socket:
                assert socket.compress
                assert (await socket.receive()).data == SHAKEN
                text = "x" * 5000
                await socket.send_str(f'[[:test/req "{text}"] "a"]')
                assert (await socket.receive()).data == f'["{text}" "a"]'

    run(main())


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=TLS / "cert.pem")
    context.check_hostname = False
    return context


def test_tls_keeps_the_connections_transport(run: Run) -> None:
    chsk = channel()

    def site(runner: web.AppRunner) -> web.TCPSite:
        return web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls())

    async def main() -> None:
        async with running(app_with(chsk), site) as (port, _):
            url = f"https://127.0.0.1:{port}"
            async with ClientSession() as session:
                async with session.get(f"{url}{ALICE}&handshake%3F=1", ssl=trusting()) as answer:
                    assert await answer.text() == SHAKEN
                async with session.ws_connect(url + ALICE, ssl=trusting()) as socket:
                    assert (await socket.receive()).data == SHAKEN
                    for text in ("x", "y" * 300_000):
                        await socket.send_str(f'[[:test/req "{text}"] "a"]')
                        assert (await socket.receive()).data == f'["{text}" "a"]'
                    await socket.send_str('[[:test/request] "r"]')
                    assert '"https"' in (await socket.receive()).data
                async with session.ws_connect(url + "/chsk", ssl=trusting()) as socket:
                    pytest.fail("expected a refusal")

    with pytest.raises(Exception, match="400"):
        run(main())


def test_a_tls_connection_is_forgotten_at_its_end_and_told_of_the_stop(run: Run) -> None:
    def site(runner: web.AppRunner) -> web.TCPSite:
        return web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls())

    async def main() -> None:
        async with ClientSession() as session, contextlib.AsyncExitStack() as stack:
            port, runner = await stack.enter_async_context(running(app_with(channel()), site))
            url = f"https://127.0.0.1:{port}{ALICE}"
            async with session.ws_connect(url, ssl=trusting()) as socket:
                assert (await socket.receive()).data == SHAKEN
            while runner.server.connections:
                await asyncio.sleep(0)
            socket = await session.ws_connect(url, ssl=trusting())
            assert (await socket.receive()).data == SHAKEN
            ending = asyncio.create_task(stack.aclose())
            await socket.receive()
            assert socket.close_code == 1012
            await ending

    run(main())


def test_a_unix_socket_is_served(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        where = str(tmp_path / "s")
        async with running(app_with(channel()), lambda runner: web.UnixSite(runner, where)):
            async with ClientSession(
                connector=UnixConnector(where), cookie_jar=CookieJar()
            ) as session:
                fields = {"X-Forwarded-For": "192.0.2.9"}
                async with session.ws_connect(f"http://a{ALICE}", headers=fields) as socket:
                    assert (await socket.receive()).data == SHAKEN
                    await socket.send_str('[[:test/request] "r"]')
                    assert (await socket.receive()).data.startswith('[["192.0.2.9" "http" ')
                async with session.get(f"http://a{ALICE}&handshake%3F=1") as answer:
                    assert await answer.text() == SHAKEN

    run(main())


# -- life


async def park(wire: Peer, chsk: chansock.ChannelSocket) -> asyncio.Task[peer.Answer]:
    assert (await wire.ask("GET", f"{ALICE}&handshake%3F=1")).status == 200
    await wire.send(peer.request("GET", ALICE, host=wire.host))
    while not len(chsk.connected.ajax):
        await asyncio.sleep(0)
    return asyncio.create_task(wire.answer())


@pytest.mark.parametrize("is_cancelling", [False, True])
def test_a_dropped_poll_is_noticed_at_once(is_cancelling: bool, run: Run) -> None:
    async def main() -> None:
        chsk = channel(chansock.Config(grace_ajax=0.2))
        options = {"handler_cancellation": is_cancelling}
        async with running(app_with(chsk), **options) as (port, _):
            wire = await Peer.connect(port)
            answer = await park(wire, chsk)
            answer.cancel()
            wire.fin()
            while len(chsk.connected.ajax):
                await asyncio.sleep(0)
            await wire.close()

    run(main())


def test_a_poll_parks_and_is_answered_again_and_again_on_one_connection(run: Run) -> None:
    async def main() -> None:
        chsk = channel()
        async with running(app_with(chsk)) as (port, _), await Peer.connect(port) as wire:
            answer = await park(wire, chsk)
            for number in range(5):
                chsk.send(chansock.ANONYMOUS, "test/push", number)
                assert (await answer).text == f"[[[:test/push {number}]] nil]"
                assert (await wire.ask("GET", "/hello")).text == "hello"
                await wire.send(peer.request("GET", ALICE, host=wire.host))
                answer = asyncio.create_task(wire.answer())
            answer.cancel()

    run(main())


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_stop_ends_sockets_with_1012_and_polls_with_503(is_ours: bool, run: Run) -> None:
    async def main() -> None:
        chsk = channel()
        async with contextlib.AsyncExitStack() as outer:
            if not is_ours:
                await outer.enter_async_context(chsk)
            stack = contextlib.AsyncExitStack()
            port, _ = await stack.enter_async_context(running(app_with(chsk)))
            async with await Peer.connect(port) as wire, await Peer.connect(port) as polling:
                await shake(wire, "/chsk?client-id=bob")
                answer = await park(polling, chsk)
                ending = asyncio.create_task(stack.aclose())
                last = await wire.frame()
                assert (last.opcode, last.code) == (CLOSE, 1012)
                await wire.send(peer.frame(CLOSE, last.payload))
                assert (await answer).status == 503
                await ending
            assert chsk.is_started is not is_ours

    run(main())


@pytest.mark.parametrize("is_refused_before", [False, True])
def test_a_stop_does_not_wait_for_the_rest_of_a_body(is_refused_before: bool, run: Run) -> None:
    """aiohttp reads for ten seconds what follows an answer, and the stop has to wait for it."""

    async def main() -> None:
        chsk = channel(chansock.Config(body_timeout=0.01 if is_refused_before else 60.0))
        begun = asyncio.Event()

        @chsk.on("test/slow")
        async def slow(msg: chansock.EventMsg[Any]) -> int:
            begun.set()
            while not chsk._endpoint.is_stopping:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)  # else aiohttp stops before it begins to wait
            return 1

        runner = web.AppRunner(app_with(chsk))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        loop = asyncio.get_running_loop()
        async with await Peer.connect(port) as wire, await Peer.connect(port) as other:
            length = [("Content-Length", "100")]
            await wire.send(peer.request("POST", ALICE, length, b"half", host=wire.host))
            while not (chsk._endpoint.incoming.reading or is_refused_before):
                await asyncio.sleep(0)
            if is_refused_before:
                assert (await wire.answer()).status == 408
            asked = asyncio.create_task(post(other, "[[:test/slow 5] :ajax]"))
            await begun.wait()
            began = loop.time()
            await runner.cleanup()
            assert loop.time() - began < 8
            assert (await asked).text == "[1 nil]"
            if not is_refused_before:
                assert (await wire.answer()).status == 503

    run(main())


def test_a_body_that_breaks_off_or_is_none_costs_its_connection_alone(run: Run) -> None:
    async def main() -> None:
        async with running(app_with(channel())) as (port, _):
            chunked = [("Transfer-Encoding", "chunked")]
            async with await Peer.connect(port) as wire:
                await wire.send(peer.request("POST", ALICE, chunked, b"zz\r\n", host=wire.host))
                assert b" 400 Bad Request\r\n" in await wire.reader.readline()  # aiohttp's own
            async with await Peer.connect(port) as wire:
                length = [("Content-Length", "100")]
                await wire.send(peer.request("POST", ALICE, length, b"half", host=wire.host))
                wire.reset()
            async with await Peer.connect(port) as wire:
                assert (await post(wire, "[[:test/req 5] :ajax]")).text == "[5 nil]"

    run(main())


def gunicorn(folder: Path, *options: str) -> subprocess.Popen[str]:
    pytest.importorskip("gunicorn")
    command = "gunicorn servers.in_aiohttp:for_gunicorn --worker-class aiohttp.GunicornWebWorker"
    return subprocess.Popen(
        [sys.executable, "-m", *command.split(), *options],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
            "HOME": str(folder),  # where it keeps a socket to control it by
        },
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_several_workers_of_gunicorn_are_refused(tmp_path: Path) -> None:
    process = gunicorn(tmp_path, "--workers", "2", "--bind", "127.0.0.1:0")
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "ConfigError: expected 1 worker process, got 2" in said


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_aiohttps_worker_for_gunicorn_serves_and_stops(transport: Any, tmp_path: Path) -> None:
    port = free_port()
    bind = ["--bind", f"127.0.0.1:{port}"]
    process = gunicorn(tmp_path, *bind, "--graceful-timeout=300")
    try:
        wait_for(port, process)
        with chansock.connect_sync(f"http://127.0.0.1:{port}/chsk", transport=transport) as client:
            states: SimpleQueue[chansock.State] = SimpleQueue()
            client.on_state(states.put)
            assert client.send("test/req", 5, timeout=60) == 5
            process.terminate()
            assert states.get(timeout=60).reason.code == (1012 if transport == "ws" else 503)
            assert "Traceback" not in process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
