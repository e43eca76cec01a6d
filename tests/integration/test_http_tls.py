"""`ssl=`: both transports over TLS, and what happens to those who do not speak it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import peer
import pytest
from http_cases import TLS_HELLO
from peer import Peer
from raw import POLL, SHAKE, Run, config, post
from raw_listener import TLS, server_tls
from sente_app import Served, make, serving

import chansock
from chansock import Config

ALICE = "/chsk?client-id=alice%2F1"


@asynccontextmanager
async def serving_tls(settings: Config | None = None) -> AsyncIterator[Served]:
    chsk = make(settings or config())
    async with chansock.serve(chsk, port=0, ssl=server_tls()) as listener:
        yield Served(chsk, listener.port)


def trust(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@asynccontextmanager
async def secure(served: Served, context: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer that speaks TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=context or trust(), limit=1 << 22
    )
    async with Peer(reader, writer) as found:
        yield found


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_websocket_over_tls_shakes_hands_echoes_and_closes(
    version: ssl.TLSVersion, run: Run
) -> None:
    async def main() -> None:
        async with serving_tls() as served, secure(served, trust(version)) as alice:
            assert (await alice.upgrade(ALICE)).status == 101
            assert await alice.text() == '[[:chsk/handshake ["alice" nil nil]] nil]'
            await alice.say('[[:test/req {:a 1}] "c"]')
            assert await alice.text() == '[{:a 1} "c"]'
            served.chsk.send("alice", "test/note", 1)
            assert await alice.text() == "[[[:test/note 1]] nil]"
            assert (await alice.bye()).code == 1000
            assert await alice.rest() == b""

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_ajax_over_tls_polls_and_posts(version: ssl.TLSVersion, run: Run) -> None:
    async def main() -> None:
        async with serving_tls() as served, secure(served, trust(version)) as alice:
            answer = await alice.ask("GET", SHAKE)
            assert answer.text == '[[:chsk/handshake ["alice" nil nil]] nil]'
            assert (await post(alice, "[[:test/req-slow 1] :ajax]")).text == "[1 nil]"
            async with secure(served) as wire:
                poll = asyncio.create_task(wire.ask("GET", POLL))
                while not served.chsk.connected.ajax:
                    await asyncio.sleep(0)
                served.chsk.send("alice", "test/note", 1)
                assert (await poll).text == "[[[:test/note 1]] nil]"
            assert (await alice.ask("GET", "/nowhere", [("Connection", "close")])).status == 404
            assert await alice.rest() == b""

    run(main())


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 403)])
def test_page_of_the_same_origin_came_by_tls_too(scheme: str, status: int, run: Run) -> None:
    async def main() -> None:
        async with serving_tls(Config()) as served, secure(served) as alice:
            origin = ("Origin", f"{scheme}://{alice.host}")
            assert (await alice.ask("GET", SHAKE, [origin])).status == status

    run(main())


def test_bytes_that_come_with_the_upgrade_are_not_lost_over_tls(run: Run) -> None:
    async def main() -> None:
        async with serving_tls() as served, secure(served) as alice:
            fields = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]
            said = peer.frame(peer.TEXT, '[[:test/req 1] "a"]')
            await alice.send(peer.request("GET", ALICE, fields) + said + said)
            assert (await alice.answer()).status == 101
            assert (await alice.text()).startswith("[[:chsk/handshake")
            assert [await alice.text(), await alice.text()] == ['[1 "a"]'] * 2

    run(main())


def test_other_paths_are_served_over_tls_too(run: Run) -> None:
    async def main() -> None:
        async with serving_tls() as served, secure(served) as alice:
            for _ in range(2):
                assert (await alice.ask("GET", "/nowhere")).status == 404
            await alice.send(peer.request("GET", "/nowhere", host="a b"))
            answer = await alice.answer()
            assert (answer.status, answer.header("connection")) == (400, "close")
            assert await alice.rest() == b""

    run(main())


@pytest.mark.parametrize("data", [b"GET /chsk HTTP/1.1\r\nHost: h\r\n\r\n", b"\0" * 100])
def test_who_speaks_no_tls_is_let_go_without_a_traceback(
    data: bytes, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving_tls() as served:
            async with served.peer() as wire:
                await wire.send(data)
                assert b"HTTP" not in await wire.rest()
            async with secure(served) as alice:
                assert (await alice.ask("GET", SHAKE)).status == 200

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_who_does_not_trust_us_is_let_go_without_a_traceback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving_tls() as served:
            with pytest.raises(ssl.SSLError):
                async with secure(served, ssl.create_default_context()):
                    pass
            async with secure(served) as alice:
                assert (await alice.ask("GET", SHAKE)).status == 200

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "data",
    [
        b"GET /chsk HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x17\x03\x03\x00\x20" + b"x" * 32,  # a record that nobody encrypted
        b"\x17\x03\x03\x00\x20xxx",  # the same, and then the end
        b"\x16\x03\x03\x00\x04\x01\x00\x00\x00",  # a second hello
    ],
)
def test_bytes_past_tls_end_their_connection_without_a_traceback(
    data: bytes, version: ssl.TLSVersion, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving_tls(config(grace_ws=0)) as served:
            gone = asyncio.Event()
            served.chsk.on("chsk/uidport-close", lambda _: gone.set())
            async with secure(served, trust(version)) as alice:
                assert (await alice.upgrade(ALICE)).status == 101
                await alice.text()
                with socket.socket(
                    fileno=os.dup(alice.writer.get_extra_info("socket").fileno())
                ) as raw:
                    raw.send(data)
                    raw.shutdown(socket.SHUT_WR)
                await gone.wait()
            async with secure(served) as bob:
                assert (await bob.ask("GET", SHAKE)).status == 200

    with caplog.at_level(logging.DEBUG):
        run(main())
    ours = [r for r in caplog.records if r.name.startswith("chansock")]
    assert [r for r in ours if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("how", ["reset", "cut in a handshake"])
def test_peer_that_breaks_off_is_noticed_without_a_traceback(
    how: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving_tls(config(grace_ws=0)) as served:
            if how == "reset":
                gone = asyncio.Event()
                served.chsk.on("chsk/uidport-close", lambda _: gone.set())
                async with secure(served) as alice:
                    assert (await alice.upgrade(ALICE)).status == 101
                    await alice.text()
                    alice.reset()
                    await gone.wait()
                assert served.chsk.stats.cut == 1
            else:
                async with served.peer() as wire:
                    await wire.send(TLS_HELLO[:20])
                    wire.reset()
            async with secure(served) as bob:
                assert (await bob.ask("GET", SHAKE)).status == 200

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_tls_on_a_plain_port_is_refused_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with secure(served):
                    pass

    run(main())


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_our_client_speaks_both_transports_over_tls(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving_tls() as served:
            url = f"wss://127.0.0.1:{served.port}/chsk"
            async with chansock.connect(url, transport=transport, ssl=trust()) as client:
                for size in (1, 70_000):
                    assert await client.send("test/req", "x" * size, timeout=60) == "x" * size

    run(main())
