"""The channel behind nginx and HAProxy, configured well and as people configure them by mistake."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode

import page_app
import pytest
from engine import until
from engines import ENGINES
from peer import Peer
from reverse_proxies import HTTP_HOST, UPGRADE, documented_nginx, haproxy, nginx

import chansock
from chansock import ChannelSocket, ClientConfig, Config, Request, packers, serve

pytestmark = [pytest.mark.full, pytest.mark.slow]

Drive = Callable[[Coroutine[Any, Any, Any]], Any]
Front = Callable[[int], AbstractAsyncContextManager[int]]

TEXT = "\u5b57" * 120_000  # 360 kB, and 1.08 MB where each byte is percent-encoded


@asynccontextmanager
async def serving(**config: Any) -> AsyncIterator[int]:
    """Serve page_app.py's channel and page in this process; yield the port."""
    chsk = page_app.make(Config(**config), packers.EDN(), None)
    async with serve(chsk, port=0, fallback=page_app.page) as listener:
        yield listener.port


def right_nginx(target: int) -> AbstractAsyncContextManager[int]:
    return nginx(target, UPGRADE, HTTP_HOST)


FRONTS: dict[str, Front] = {
    "docs/security.md": partial(documented_nginx, page="security.md"),
    "docs/django.md": partial(documented_nginx, page="django.md"),
    "haproxy": haproxy,
}


@pytest.mark.parametrize("transport", ["ws", "ajax"])
@pytest.mark.parametrize("front", FRONTS)
def test_client_sends_and_receives_through(front: str, transport: Any, drive: Drive) -> None:
    async def main() -> None:
        async with (
            serving() as target,
            FRONTS[front](target) as port,
            chansock.connect(f"http://127.0.0.1:{port}/chsk", transport=transport) as client,
        ):
            assert client.state.type == transport
            assert await client.send("test/echo", [1, "\u00e9"], timeout=60) == [1, "\u00e9"]
            await client.send("test/say", "hello")
            async for event in client:
                assert event.data == "hello"
                break

    drive(main())


@pytest.mark.parametrize("transport", ["ws", "ajax"])
@pytest.mark.parametrize("front", FRONTS)
def test_page_sends_and_receives_through(front: str, transport: str, drive: Drive) -> None:
    async def main() -> None:
        async with page_behind(FRONTS[front], transport=transport) as evaluate:
            await evaluate("client.ready")
            assert await evaluate("client.state.type") == transport
            assert await evaluate("client.send('test/echo', 'a', {timeout: 60})") == "a"
            await evaluate("client.send('test/say', 'hello')")
            assert await evaluate(
                "new Promise((go) => setInterval(() => {"
                " const line = log.find((line) => line.kind === 'said');"
                " if (line) go(line.what); }, 50))"
            ) == ("hello")

    drive(main())


@asynccontextmanager
async def page_behind(
    front: Front, **options: Any
) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Open page_app.py's page in Chromium behind a proxy; yield what evaluates in it."""
    async with AsyncExitStack() as exit:
        target = await exit.enter_async_context(serving())
        port = await exit.enter_async_context(front(target))
        engine = await exit.enter_async_context(ENGINES["chromium"]())
        page = await engine.open()
        query = urlencode({"options": json.dumps(options)})
        await page.go(f"http://127.0.0.1:{port}/?{query}")
        await until(page, "globalThis.client")
        yield page.eval


# -- nginx without the lines for Upgrade


def without_upgrade(target: int) -> AbstractAsyncContextManager[int]:
    return nginx(target, HTTP_HOST)


WEBSOCKET = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def test_websocket_whose_upgrade_nginx_removed_is_426_and_the_log_has_the_lines(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as target, without_upgrade(target) as port:
            wire = await Peer.connect(port)
            answer = await wire.ask("GET", "/chsk?client-id=a&udt=1", WEBSOCKET)
            assert answer.status == 426
            await wire.close()

    drive(main())
    assert "proxy_set_header Upgrade $http_upgrade" in caplog.text


# A client that the server knows already is not answered at once, as a poll is that has to wait.
# It may try for longer than `drive` waits, so only an answer ends the attempt.


def test_client_whose_upgrade_nginx_removed_comes_back_by_ajax_at_once(drive: Drive) -> None:
    async def main() -> None:
        url = "http://127.0.0.1:{}/chsk"
        async with (
            serving() as target,
            without_upgrade(target) as port,
            chansock.connect(url.format(port), ClientConfig(connect_timeout=60)) as client,
        ):
            assert client.state.type == "ajax"
            opened = asyncio.Event()
            client.on_state(lambda state: opened.set() if state.open else opened.clear())
            client.reconnect()
            opened.clear()
            await opened.wait()
            assert client.state.type == "ajax"
            assert await client.send("test/echo", 1, timeout=60) == 1

    drive(main())


def test_page_whose_upgrade_nginx_removed_comes_back_by_ajax_at_once(drive: Drive) -> None:
    async def main() -> None:
        async with page_behind(without_upgrade, connectTimeout=60) as evaluate:
            await evaluate("client.ready")
            assert await evaluate("client.state.type") == "ajax"
            await evaluate(
                "new Promise((go) => {"
                " client.reconnect();"
                " client.onState((state) => state.open && go()); })"
            )
            assert await evaluate("client.state.type") == "ajax"
            assert await evaluate("client.state.reason.kind") == "downgrading-ws-to-ajax"

    drive(main())


# -- nginx with a Host that lacks the port


def host_without_port(target: int) -> AbstractAsyncContextManager[int]:
    return nginx(target, UPGRADE, "proxy_set_header Host $host;")


@pytest.mark.parametrize("transport", ["ws", "ajax", "auto"])
def test_page_whose_host_lost_its_port_does_not_open_and_the_log_names_host(
    transport: str, drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with page_behind(host_without_port, transport=transport) as evaluate:
            # Open would promise that the page can send.
            with pytest.raises(RuntimeError):
                await evaluate("client.ready")
            assert await evaluate("client.state.reason.kind") == "refused"
            assert await evaluate("client.state.reason.code") == 403
            assert not await evaluate("client.state.everOpened")

    drive(main())
    assert "Host" in caplog.text


# -- nginx with its default limit of 1 MB for a body


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_client_sends_360_kb_of_chinese_through_nginx(transport: Any, drive: Drive) -> None:
    async def main() -> None:
        url = "http://127.0.0.1:{}/chsk"
        async with (
            serving() as target,
            right_nginx(target) as port,
            chansock.connect(url.format(port), transport=transport) as client,
        ):
            assert await client.send("test/echo", TEXT, timeout=60) == TEXT

    drive(main())


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_page_sends_360_kb_of_chinese_through_nginx(transport: str, drive: Drive) -> None:
    async def main() -> None:
        async with page_behind(right_nginx, transport=transport) as evaluate:
            await evaluate("client.ready")
            sent = f"'\u5b57'.repeat({len(TEXT)})"
            reply = await evaluate(
                f"client.send('test/echo', {sent}, {{timeout: 60}}).then((x) => x.length)"
            )
            assert reply == len(TEXT)

    drive(main())


# -- HAProxy, which by `option forwardfor` writes X-Forwarded-For alone

CLAIMED = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "example.org"),
    ("Forwarded", "for=203.0.113.9;proto=https;host=example.org"),
]


def told_behind_haproxy(drive: Drive, **config: Any) -> tuple[str, str, str]:
    """Return the client, the scheme, and the host of a request whose client claims others."""
    requests: list[Request] = []

    def user_id(request: Request) -> None:
        requests.append(request)

    async def main() -> int:
        chsk = ChannelSocket(Config(trusted_proxies=("127.0.0.1",), **config), user_id=user_id)
        async with (
            serve(chsk, port=0) as listener,
            haproxy(listener.port, lines="option forwardfor") as port,
        ):
            wire = await Peer.connect(port)
            answer = await wire.ask("GET", "/chsk?client-id=a&udt=1&handshake%3F=1", CLAIMED)
            assert answer.status == 200
            await wire.close()
            return port

    drive(main())
    (request,) = requests
    assert request.client is not None
    return request.client[0], request.scheme, request.host.partition(":")[0]


def test_what_haproxy_does_not_write_is_not_believed(drive: Drive) -> None:
    told = told_behind_haproxy(drive, trusted_headers=("X-Forwarded-For",))
    assert told == ("127.0.0.1", "http", "127.0.0.1")


def test_a_host_that_a_client_claims_is_not_believed_by_default(drive: Drive) -> None:
    assert told_behind_haproxy(drive)[2] == "127.0.0.1"


# -- HAProxy that passes requests to two processes by turns


def test_round_robin_over_two_processes_is_named_in_the_log(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as first, serving() as second, haproxy(first, second) as port:
            wire = await Peer.connect(port)
            shaken = await wire.ask("GET", "/chsk?client-id=a&udt=7&handshake%3F=1")
            assert shaken.status == 200
            fields = [
                ("udt", "8"),
                ("client-id", "a"),
                ("n", "7-1"),
                ("ppstr", "[[:test/mark 1] nil]"),
            ]
            answers = [(await wire.post_form("/chsk", fields)).status for _ in range(2)]
            assert 410 in answers
            await wire.close()

    with caplog.at_level(logging.INFO):
        drive(main())
    assert "several processes" in caplog.text
