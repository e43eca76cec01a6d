"""chansock.asgi by itself: lifespans, paths, and what it says. The servers are in test_served_*."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dist_content import ROOT
from hypothesis import given
from hypothesis import strategies as st
from raw import Run

import chansock
from chansock import ChannelClosed, ChannelSocket, Config, ConfigError
from chansock.asgi import Middleware, app, routes

Words = list[str]


class Server:
    """The ASGI server that a test is: what it says is put into `heard`, what it hears stands
    in `said`."""

    def __init__(self, scope: dict[str, Any], *words: dict[str, Any]) -> None:
        self.scope = scope
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        for word in words:
            self.heard.put_nowait(word)

    async def run(self, application: Any) -> None:
        await application(self.scope, self.heard.get, self.said.put)

    def all_said(self) -> list[Any]:
        return [self.said.get_nowait() for _ in range(self.said.qsize())]


@asynccontextmanager
async def lifespan(application: Any, **more: Any) -> AsyncIterator[dict[str, Any]]:
    """Run a lifespan around a block; give its state."""
    server = Server({"type": "lifespan", "asgi": {}, **more}, {"type": "lifespan.startup"})
    task = asyncio.create_task(server.run(application))
    assert await server.said.get() == {"type": "lifespan.startup.complete"}
    yield more.get("state", {})
    server.heard.put_nowait({"type": "lifespan.shutdown"})
    assert await server.said.get() == {"type": "lifespan.shutdown.complete"}
    await task


def http(path: str, query: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost")],
        **more,
    }


async def get(application: Any, path: str, query: str = "", **more: Any) -> tuple[int, str]:
    """Return status and body of a GET."""
    request = {"type": "http.request", "body": b""}
    server = Server(http(path, query, **more), request)
    await server.run(application)
    start, body = server.all_said()
    return start["status"], body["body"].decode()


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that is asked for nothing."""
    raise AssertionError(scope)


def recording(chsk: ChannelSocket, told: Words) -> Callable[..., Awaitable[None]]:
    """An application that notes at its start and end whether the channel is there."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            told.append(f"{word} {chsk.is_started}")
            await send({"type": f"lifespan.{word}.complete"})

    return application


def test_it_imports_no_framework() -> None:
    code = (
        "import sys, chansock.asgi; print([name for name in ('starlette', 'uvicorn', 'fastapi')"
        " if name in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- lifespan


def test_channel_is_there_before_the_application_starts_and_after_it_ends(run: Run) -> None:
    async def main() -> None:
        chsk, told = ChannelSocket(), []
        async with lifespan(Middleware(recording(chsk, told), chsk)):
            assert chsk.is_started
        assert not chsk.is_started
        assert told == ["startup True", "shutdown True"]

    run(main())


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no lifespan here")


async def raises_late(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise ValueError("no lifespan here")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    pass


async def returns_early(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


@pytest.mark.parametrize("application", [raises, raises_late, returns, returns_early])
def test_application_without_a_lifespan_needs_none(application: Any, run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        async with lifespan(Middleware(application, chsk)):
            assert chsk.is_started
        assert not chsk.is_started

    run(main())


def test_application_that_cannot_start_stops_the_channel_first(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        states = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        async def send(message: Any) -> None:
            states.append((message, chsk.is_started))

        server = Server({"type": "lifespan"}, {"type": "lifespan.startup"})
        await Middleware(application, chsk)(server.scope, server.heard.get, send)
        failed = {"type": "lifespan.startup.failed", "message": "no database"}
        assert states == [(failed, False)]

    run(main())


def test_fault_of_a_running_application_stops_the_channel_and_is_told(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await returns_early(scope, receive, send)
            raise ZeroDivisionError

        server = Server({"type": "lifespan"}, {"type": "lifespan.startup"})
        with pytest.raises(ZeroDivisionError):
            await server.run(Middleware(application, chsk))
        assert not chsk.is_started

    run(main())


def test_state_of_the_lifespan_tells_of_every_channel(run: Run) -> None:
    async def main() -> None:
        one, two = ChannelSocket(), ChannelSocket()
        application = Middleware(Middleware(returns, one, "/one"), two, "/two")
        async with lifespan(application, state={"own": 1}) as state:
            assert state == {"own": 1, "chansock": [("/two", two), ("/one", one)]}

    run(main())


def test_channel_lives_again_in_the_next_lifespan(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        application = app(chsk)
        for _ in range(2):
            async with lifespan(application):
                status, text = await get(application, "/chsk", "client-id=a&handshake%3F=1")
                assert (status, text[:18]) == (200, "[[:chsk/handshake ")

    run(main())


def test_channel_that_somebody_else_started_is_not_stopped(run: Run) -> None:
    async def main() -> None:
        async with ChannelSocket() as chsk:
            async with lifespan(Middleware(returns, chsk)):
                pass
            assert chsk.is_started

    run(main())


def test_without_a_lifespan_the_first_request_starts_the_channel(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        application = app(chsk)
        assert (await get(application, "/"))[0] == 404  # of any path: the application may `send`
        assert chsk.is_started
        assert (await get(application, "/chsk", "client-id=a&handshake%3F=1"))[0] == 200
        chsk.stop()
        assert (await get(application, "/chsk", "client-id=a&handshake%3F=1"))[0] == 503
        await chsk._finish(1)

    run(main())


def test_signal_ends_what_is_open_and_then_comes_to_the_server(run: Run) -> None:
    async def main() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        chsk = ChannelSocket()
        application = Middleware(returns, chsk)

        def handler(number: int, frame: Any) -> None:
            told.put_nowait(f"signal, poll done: {poll.done()}")

        former = signal.signal(signal.SIGTERM, handler)
        try:
            async with lifespan(application):
                assert signal.getsignal(signal.SIGTERM) is not handler
                await get(application, "/chsk", "client-id=a&handshake%3F=1")
                poll = asyncio.create_task(get(application, "/chsk", "client-id=a"))
                while not chsk.connected.any:
                    await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
                assert await told.get() == "signal, poll done: True"
                assert await poll == (503, "service restart")
                # The application may still do what it does at its end.
                chsk.send(chansock.ALL, "app/goes", None)
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, former)

    run(main())


def test_second_signal_comes_to_the_server_at_once(run: Run) -> None:
    async def main() -> None:
        told: list[int] = []
        former = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        try:
            async with lifespan(app(ChannelSocket())):
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
                assert told
        finally:
            signal.signal(signal.SIGTERM, former)

    run(main())


def test_request_that_the_server_cancels_gets_the_answer_of_a_stop(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        application = app(chsk)
        async with lifespan(application):
            await get(application, "/chsk", "client-id=a&handshake%3F=1")
            poll = asyncio.create_task(get(application, "/chsk", "client-id=a"))
            while not chsk.connected.any:
                await asyncio.sleep(0)
            poll.cancel()
            assert await poll == (503, "service restart")

    run(main())


def test_poll_is_waited_for_in_each_life_and_on_each_loop(run: Run) -> None:
    application = app(ChannelSocket())

    async def main() -> None:
        told: asyncio.Queue[int] = asyncio.Queue()
        former = signal.signal(signal.SIGTERM, lambda number, _: told.put_nowait(number))
        try:
            async with lifespan(application):
                await get(application, "/chsk", "client-id=a&handshake%3F=1")
                poll = asyncio.create_task(get(application, "/chsk", "client-id=a"))
                await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
                assert await told.get() == signal.SIGTERM
                assert poll.done()
        finally:
            signal.signal(signal.SIGTERM, former)

    run(main())
    run(main())


# -- paths


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/chsk", "", 200),
        ("/api/chsk", "/api", 200),  # as uvicorn and Starlette have it
        ("/chsk", "/api", 200),  # as hypercorn has it
        ("/api/chsk", "/api/", 200),
        ("/apichsk", "/api", 404),
        ("/api/chsk", "", 404),
        ("/chsk/", "", 404),
        ("/chsk2", "", 404),
    ],
)
def test_path_is_looked_for_below_the_root(path: str, root: str, status: int, run: Run) -> None:
    async def main() -> None:
        application = app(ChannelSocket())
        async with lifespan(application):
            query = "client-id=a&handshake%3F=1"
            assert (await get(application, path, query, root_path=root))[0] == status
            found, text = await get(application, f"{path}/chansock.js", root_path=root)
            assert found == status
            assert ("export const connect" in text) == (status == 200)

    run(main())


def test_application_alone_refuses_other_sockets(run: Run) -> None:
    async def main() -> None:
        server = Server({**http("/other"), "type": "websocket"}, {"type": "websocket.connect"})
        await server.run(app(ChannelSocket()))
        assert server.all_said() == [{"type": "websocket.close"}]

    run(main())


@pytest.mark.parametrize("make", [app, routes, lambda *args: Middleware(nothing, *args)])
@pytest.mark.parametrize("path", ["chsk", "/chsk?x", "/chsk#x", ""])
def test_path_that_is_none_is_refused(make: Any, path: str) -> None:
    with pytest.raises(ConfigError, match="path: expected a path like '/chsk'"):
        make(ChannelSocket(), path)


def test_routes_of_a_channel_that_is_not_started_say_what_is_missing(run: Run) -> None:
    async def main() -> None:
        from starlette.applications import Starlette

        application = Starlette(routes=routes(ChannelSocket()))
        with pytest.raises(ChannelClosed, match="expected `async with chsk` in the application"):
            await get(application, "/chsk", "client-id=a")

    run(main())


# -- requests


def test_client_scheme_and_proxies_are_those_of_the_scope(run: Run) -> None:
    async def main() -> None:
        found: list[Any] = []

        def user_id(request: chansock.Request) -> None:
            found.append((request.client, request.scheme, request.host, request.scope))

        async def ask(config: Config, **more: Any) -> Any:
            application = app(ChannelSocket(config, user_id=user_id))
            async with lifespan(application):
                await get(application, "/chsk", "client-id=a&handshake%3F=1", **more)
            client, scheme, host, scope = found.pop()
            assert scope["path"] == "/chsk"
            return client, scheme, host

        fields = [
            (b"host", b"inner"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"chat.example"),
        ]
        proxied: dict[str, Any] = {"client": ["10.0.0.1", 5], "headers": fields}
        believed = (("1.2.3.4", 0), "https", "chat.example")
        with_host = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
        settings = Config(trusted_proxies=("10.0.0.0/8",), trusted_headers=with_host)
        assert await ask(Config(), **proxied) == (("10.0.0.1", 5), "http", "inner")
        assert await ask(settings, **proxied) == believed
        unix: dict[str, Any] = {"client": None, "server": ["/run/app", None], "headers": fields}
        assert await ask(Config(), **unix) == (("1.2.3.4", 0), "https", "inner")
        assert await ask(Config(), scheme="https") == (None, "https", "localhost")

    run(main())


def test_upgrade_that_the_server_cannot_make_is_no_poll(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        application = app(ChannelSocket())
        async with lifespan(application):
            fields = [(b"host", b"localhost"), (b"connection", b"Upgrade")]
            fields.append((b"upgrade", b"websocket"))
            found = await get(application, "/chsk", "client-id=a", headers=fields)
            assert found == (501, "expected no WebSocket here")

    run(main())
    assert 'pip install "uvicorn[standard]"' in caplog.text
    assert "--ws chansock.uvicorn:WebSocketProtocol" in caplog.text


def test_hook_that_waits_too_long_is_503(run: Run) -> None:
    async def main() -> None:
        async def authorize(_: chansock.Request) -> bool:
            await asyncio.Event().wait()
            return True

        application = app(ChannelSocket(Config(handshake_timeout=0.01), authorize=authorize))
        async with lifespan(application):
            found = await get(application, "/chsk", "client-id=a&handshake%3F=1")
            assert found == (503, "the server took too long")

    run(main())


def test_body_that_does_not_come_is_408(run: Run) -> None:
    async def main() -> None:
        application = app(ChannelSocket(Config(body_timeout=0.01)))
        async with lifespan(application):
            server = Server(
                {**http("/chsk"), "method": "POST"},
                {"type": "http.request", "body": b"client-id=a", "more_body": True},
            )
            await server.run(application)
            assert server.all_said()[0]["status"] == 408

    run(main())


# -- sockets


def socket(*words: dict[str, Any], **more: Any) -> Server:
    scope = {**http("/chsk", "client-id=a"), "type": "websocket", **more}
    return Server(scope, {"type": "websocket.connect"}, *words)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ({"code": 1000}, 1000),
        ({"code": 1005, "reason": ""}, 1005),
        ({"code": 1005}, 1006),  # uvicorn, of a break
        ({"code": 1006}, 1006),
        ({}, 1006),
    ],
)
def test_end_of_a_socket_is_counted_by_its_code(word: Any, code: int, run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        application = app(chsk)
        async with lifespan(application):
            await socket({"type": "websocket.disconnect", **word}).run(application)
            assert chsk.stats.closed == {code: 1}
            assert chsk.stats.cut == (code == 1006)

    run(main())


def test_server_that_does_not_take_what_is_sent_makes_events_wait(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(max_backlog_events=3, close_timeout=0.05))
        application = app(chsk)

        async def push(count: int) -> None:
            for number in range(count):
                chsk.send(chansock.ALL, "test/note", number)
                for _ in range(3):  # turns, until the server has it
                    await asyncio.sleep(0)

        async with lifespan(application):
            server = socket()
            server.said = asyncio.Queue(maxsize=2)  # accept, and the handshake
            task = asyncio.create_task(server.run(application))
            while not server.said.full():
                await asyncio.sleep(0)
            await push(4)  # the first is on its way, the second stands behind it, two wait
            assert (chsk.stats.written, chsk.stats.lost.too_slow) == (2, 0)
            for _ in range(2):
                await server.said.get()
            for events in ("[:test/note 0]", "[:test/note 1]", "[:test/note 2] [:test/note 3]"):
                assert (await server.said.get())["text"] == f"[[{events}] nil]"
            assert chsk.stats.written == 4
            # And one that never takes any more is let go after close_timeout.
            server.said.put_nowait({})
            server.said.put_nowait({})
            await push(6)
            await task
            assert chsk.stats.lost.too_slow == 4
            assert chsk.stats.closed == {1013: 1}

    run(main())


def test_server_that_says_so_where_it_gives_up_a_peer_is_no_error(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(close_timeout=0.01))
        server = socket()

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                try:
                    chsk.disconnect(chansock.ALL)  # its close is never taken either
                    await asyncio.Event().wait()
                finally:
                    server.heard.put_nowait({"type": "websocket.disconnect", "code": 1006})
                    for _ in range(3):  # turns, in which that is heard
                        await asyncio.sleep(0)

        application = app(chsk)
        async with lifespan(application):
            await application(server.scope, server.heard.get, send)
            assert chsk.stats.closed == {1000: 1}

    run(main())
    assert not caplog.records


def test_fault_of_the_receiving_side_closes_1011(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        application = app(chsk)
        async with lifespan(application):
            server = socket({"type": "websocket.receive"})
            await server.run(application)
            last = server.all_said()[-1]
            assert (last["type"], last["code"]) == ("websocket.close", 1011)

    with caplog.at_level(logging.CRITICAL, "chansock.asgi"):
        run(main())


# -- what peers and proxies write


async def opened(application: Any, scope: dict[str, Any]) -> list[Any]:
    """What is said to a WebSocket that asks and leaves again."""
    server = Server(
        {**http("/chsk", "client-id=a"), "type": "websocket", "subprotocols": [], **scope},
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1001},
    )
    await server.run(application)
    return server.all_said()


@pytest.mark.parametrize(
    ("client", "seen"),
    [
        (("unknown", 0), ("unknown", 0)),
        (["_hidden", 5], ("_hidden", 5)),
        (("010.0.0.1", 0), ("010.0.0.1", 0)),
        (("", 0), ("", 0)),
        (("/run/server.sock", None), ("/run/server.sock", 0)),
        (("10.0.0.7",), ("1.2.3.4", 0)),
        (("10.0.0.7", 1), ("1.2.3.4", 0)),
        (None, None),
        ((), None),
    ],
)
def test_a_client_that_is_no_address_is_served(client: Any, seen: Any, run: Run) -> None:
    asked: list[Any] = []

    async def main() -> None:
        config = Config(trusted_proxies=("10.0.0.0/8",))
        chsk = ChannelSocket(config, user_id=lambda request: asked.append(request.client))
        application = app(chsk)
        headers = [(b"host", b"localhost"), (b"x-forwarded-for", b"1.2.3.4")]
        scope = {"client": client, "headers": headers}
        async with lifespan(application):
            status, _ = await get(application, "/chsk", "client-id=a&handshake%3F=1", **scope)
            assert status == 200
            assert (await opened(application, scope))[0]["type"] == "websocket.accept"

    run(main())
    assert asked == [seen, seen]


BYTES = st.lists(
    st.sampled_from([b"http://", b"[::1]", b":", b"%", b"%00", b",", b'"', b"\\", b"unknown", b"="])
    | st.binary(max_size=3),
    max_size=6,
).map(b"".join)
FIELD_NAMES = st.sampled_from(
    [
        *(b"host", b"origin", b"referer", b"cookie", b"forwarded", b"x-forwarded-for", b"upgrade"),
        *(b"x-forwarded-proto", b"x-forwarded-host", b"content-length", b"content-type"),
        *(b"sec-fetch-site", b"sec-websocket-protocol", b"transfer-encoding", b"connection"),
    ]
)
SCOPES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "websocket"]),
        "method": st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "P\xe4"]),
        "query_string": BYTES.map(lambda text: b"client-id=a&" + text),
        "headers": st.lists(st.tuples(FIELD_NAMES, BYTES), max_size=6),
        "client": st.none() | st.tuples(st.text(max_size=5), st.integers(0, 65535) | st.none()),
        "scheme": st.sampled_from(["http", "https", "ws", "wss", "", "gopher", "\ud800"]),
        "server": st.none() | st.tuples(st.text(max_size=5), st.integers(0, 65535) | st.none()),
        "root_path": st.sampled_from(["", "/", "/\ud800"]),
    }
)


@pytest.mark.slow
@given(scope=SCOPES, allowed=st.sampled_from([None, ("*",), ("self", "http://a.example")]))
def test_no_text_of_a_scope_raises(scope: dict[str, Any], allowed: Any) -> None:
    async def main() -> None:
        config = Config(allowed_origins=allowed, trusted_proxies=("10.0.0.0/8",))
        chsk = ChannelSocket(config)
        routed = Middleware(app(ChannelSocket()), chsk)
        words = [{"type": "http.request", "body": b"client-id=a"}, {"type": "http.disconnect"}]
        if scope["type"] == "websocket":
            words = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]
        path = f"{scope['root_path'].rstrip('/')}/chsk"
        server = Server({**scope, "path": path}, *words)
        async with chsk:
            await server.run(routed)
            said = server.all_said()
            assert said
            assert said[0].get("status", 0) < 500

    asyncio.run(main())


@pytest.mark.parametrize("length", ["9" * 5000, "5" + "0" * 20])
def test_a_length_of_many_digits_is_413(length: str, run: Run) -> None:
    async def main() -> None:
        application = app(ChannelSocket())
        async with lifespan(application):
            headers = [(b"host", b"localhost"), (b"content-length", length.encode())]
            status, _ = await get(application, "/chsk", method="POST", headers=headers)
            assert status == 413

    run(main())


@pytest.mark.parametrize(
    "field",
    [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
    ids=["length", "chunks"],
)
def test_a_websocket_with_a_body_is_refused(field: tuple[bytes, bytes], run: Run) -> None:
    async def main() -> None:
        application = app(ChannelSocket())
        headers = [(b"host", b"localhost"), field]
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        async with lifespan(application):
            said = await opened(application, {"headers": headers})
            assert said == [{"type": "websocket.close"}]
            start, body = await opened(application, {"headers": headers, "extensions": extensions})
            assert (start["status"], body["body"]) == (
                400,
                b"expected no body in the request for a WebSocket",
            )
            empty = [(b"host", b"localhost"), (b"content-length", b"0")]
            assert (await opened(application, {"headers": empty}))[0]["type"] == "websocket.accept"

    run(main())


# -- a peer that leaves before it has an answer


def left_early(what: str) -> tuple[dict[str, Any], list[Any]]:
    """A request whose peer leaves, and what the server says of it."""
    if what == "poll":
        return http("/chsk", "client-id=a"), [{"type": "http.request"}, {"type": "http.disconnect"}]
    form = [(b"host", b"localhost"), (b"content-type", b"application/x-www-form-urlencoded")]
    body = b"client-id=a&ppstr=%5B%5B%3Atest%2Fnever%201%5D%20%3Aajax%5D"
    words = [
        {"type": "http.request", "body": body, "more_body": what == "half a body"},
        {"type": "http.disconnect"},
    ]
    return http("/chsk", method="POST", headers=form), words[what == "no body" :]


def never(chsk: ChannelSocket) -> ChannelSocket:
    chsk.on("test/never")(lambda msg: chansock.LATER)
    return chsk


@pytest.mark.parametrize("what", ["poll", "POST", "half a body", "no body"])
def test_a_request_whose_peer_left_ends_with_an_answer_that_nobody_reads(
    what: str, run: Run
) -> None:
    async def main() -> None:
        application = app(never(ChannelSocket()))
        async with lifespan(application):
            await get(application, "/chsk", "client-id=a&handshake%3F=1")
            scope, words = left_early(what)
            server = Server(scope, *words)
            await server.run(application)
            start, body = server.all_said()
            assert (start["status"], body["body"]) == (499, b"")

            async def raises(message: Any) -> None:
                raise OSError  # as ASGI 2.4 lets servers do then

            server = Server(scope, *words)
            await application(scope, server.heard.get, raises)

    run(main())


@pytest.mark.parametrize("what", ["poll", "POST", "half a body", "no body"])
def test_starlettes_http_middleware_has_an_answer_when_the_peer_leaves(what: str, run: Run) -> None:
    pytest.importorskip("starlette")
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    async def main() -> None:
        inner = app(never(ChannelSocket()))
        outer = BaseHTTPMiddleware(BaseHTTPMiddleware(inner, dispatch), dispatch)
        async with lifespan(inner):
            await get(inner, "/chsk", "client-id=a&handshake%3F=1")
            scope, words = left_early(what)
            # A server says again and again that its peer has left.
            server = Server(scope, *words, *words[1:] * 5)
            await server.run(outer)
            assert server.all_said()[0]["status"] == 499

    run(main())
