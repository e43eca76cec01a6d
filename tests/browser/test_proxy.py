"""What the proxy does to connections, seen from both of its sides: no browser yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from proxy import HEAD_END, Proxy, Rule
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from chansock import ChannelSocket, EventMsg, serve

POLL = "GET /chsk?client-id=a&handshake%%3F=1&n=%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"
PING = '[[:chsk/ws-ping] "1"]'
PONG = '["pong" "1"]'


@asynccontextmanager
async def proxied(chsk: ChannelSocket | None = None) -> AsyncIterator[Proxy]:
    async with serve(chsk or ChannelSocket(), port=0) as listener, Proxy(listener.port) as proxy:
        yield proxy


def websocket(proxy: Proxy) -> Any:
    return connect(f"ws://127.0.0.1:{proxy.port}/chsk?client-id=a", proxy=None, open_timeout=60)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> str:
    """Request a handshake by Ajax; return the body of the answer."""
    writer.write((POLL % number).encode())
    head = await reader.readuntil(HEAD_END)
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return (await reader.readexactly(length)).decode()


async def read_end(reader: asyncio.StreamReader) -> str:
    try:
        return "end" if await reader.read(1) == b"" else "data"
    except ConnectionResetError:
        return "reset"


def test_requests_of_one_connection_are_noted_each(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, 1) == HANDSHAKE
            assert await ask(reader, writer, 2) == HANDSHAKE
            assert [head.target[-4:] for head in proxy.heads] == ["&n=1", "&n=2"]
            assert {head.connection for head in proxy.heads} == {1}
            writer.close()

    run(main())


SAY = b'client-id=a&ppstr=[[:t/say "x\r\n\r\ny"] nil]'
POST = b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(SAY)
POST += b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + SAY


def listening() -> tuple[ChannelSocket, list[Any]]:
    told: list[Any] = []
    chsk = ChannelSocket()

    @chsk.on("t/say")
    def say(msg: EventMsg[Any]) -> None:
        told.append(msg.data)

    return chsk, told


def test_the_body_of_a_post_is_no_head(run: Any) -> None:
    chsk, told = listening()

    async def main() -> None:
        async with proxied(chsk) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(POST)
            assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"nil]")
            assert await ask(reader, writer, 2) == HANDSHAKE
            assert [head.method for head in proxy.heads] == ["POST", "GET"]
            assert told == ["x\r\n\r\ny"]
            writer.close()

    run(main())


def test_the_answer_to_a_post_can_be_lost(run: Any) -> None:
    chsk, told = listening()

    async def main() -> None:
        async with proxied(chsk) as proxy:
            proxy.answer_to_lose = "POST"
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(POST)
            assert await read_end(reader) == "reset"
            assert len(told) == 1
            assert proxy.lost == ["POST"]
            writer.close()

    run(main())


def test_a_websocket_passes(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy, websocket(proxy) as ws:
            assert await ws.recv() == HANDSHAKE
            await ws.send(PING)
            assert await ws.recv() == PONG
            assert len(proxy.upgrades) == 1

    run(main())


@pytest.mark.parametrize("rule", ["403", "reset", "close"])
def test_a_websocket_can_be_refused_while_ajax_passes(run: Any, rule: Rule) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            proxy.websockets = rule
            expected = InvalidStatus if rule == "403" else (InvalidMessage, ConnectionError)
            with pytest.raises(expected):
                async with websocket(proxy):
                    pass
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, 1) == HANDSHAKE
            writer.close()

    run(main())


def test_a_websocket_can_be_cut_before_its_first_frame(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            proxy.websockets = "cut"
            async with websocket(proxy) as ws:
                with pytest.raises(ConnectionClosed):
                    await ws.recv()

    run(main())


def test_a_websocket_can_be_cut_after_its_first_frame(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            proxy.websockets = "cut-after-handshake"
            async with websocket(proxy) as ws:
                assert await ws.recv() == HANDSHAKE
                with pytest.raises(ConnectionClosed):
                    await ws.recv()

    run(main())


def test_a_silent_websocket_opens_and_says_nothing_and_the_server_sees_no_end(run: Any) -> None:
    chsk = ChannelSocket()

    async def main() -> None:
        async with proxied(chsk) as proxy:
            proxy.websockets = "silent"
            ws = await websocket(proxy)
            reader = asyncio.ensure_future(ws.recv())
            proxy.websockets = "pass"
            async with websocket(proxy) as other:
                assert await other.recv() == HANDSHAKE
            assert not reader.done()
            ws.transport.abort()
            with pytest.raises(ConnectionClosed):
                await reader
            assert len(chsk.connected.ws) == 1

    run(main())


def test_a_hole_swallows_and_a_release_gives_back(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy, websocket(proxy) as ws:
            await ws.recv()
            proxy.hole()
            await ws.send(PING)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            answer = asyncio.ensure_future(ask(reader, writer, 1))
            pong = asyncio.ensure_future(ws.recv())
            straight = await asyncio.open_connection("127.0.0.1", proxy.target_port)
            assert await ask(*straight, 2) == HANDSHAKE
            assert not answer.done()
            assert not pong.done()
            proxy.release()
            assert await pong == PONG
            assert await answer == HANDSHAKE
            writer.close()
            straight[1].close()

    run(main())


def test_lost_connections_stay_silent_and_new_ones_work(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy, websocket(proxy) as ws:
            await ws.recv()
            proxy.hole()
            await ws.send(PING)
            pong = asyncio.ensure_future(ws.recv())
            proxy.lose()
            proxy.release()
            async with websocket(proxy) as other:
                await other.recv()
                await other.send(PING)
                assert await other.recv() == PONG
            assert not pong.done()
            ws.transport.abort()
            with pytest.raises(ConnectionClosed):
                await pong

    run(main())


def test_down_resets_what_is_there_and_refuses_what_comes(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, 1) == HANDSHAKE
            await proxy.down()
            assert await read_end(reader) == "reset"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            await proxy.up()
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, 2) == HANDSHAKE
            writer.close()

    run(main())


def test_websockets_can_be_cut_alone(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy, websocket(proxy) as ws:
            await ws.recv()
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, 1) == HANDSHAKE
            proxy.cut_websockets()
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert await ask(reader, writer, 2) == HANDSHAKE
            writer.close()

    run(main())


def test_without_a_server_a_connection_is_reset_and_counted(run: Any) -> None:
    async def main() -> None:
        async with proxied() as proxy:
            with_server, proxy.target_port = proxy.target_port, 1
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await read_end(reader) == "reset"
            assert len(proxy.accepted) == 1
            writer.close()
            proxy.target_port = with_server

    run(main())
