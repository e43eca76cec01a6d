"""A channel served by a thread on a real port."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from sample_channel import channel

import chansock
from chansock import Response
from chansock.testing import World, serve_in_thread


def ask(url: str, transport: Any = "auto") -> Any:
    async def main() -> Any:
        async with chansock.connect(url, transport=transport) as client:
            return await client.send("test/req", 7, timeout=60)

    return asyncio.run(main())


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_a_real_client_talks_to_it(transport: str) -> None:
    with serve_in_thread(channel()) as served:
        assert served.url == f"http://127.0.0.1:{served.port}/chsk"
        assert ask(served.url, transport) == 7


def test_a_push_from_the_test_reaches_a_client() -> None:
    chsk = channel()
    with serve_in_thread(chsk, path="/talk") as served:

        async def main() -> Any:
            async with chansock.connect(served.url) as client:
                await asyncio.to_thread(chsk.send, chansock.ALL, "test/note", 1)
                async for msg in client:
                    return msg.data
            return None

        assert served.url.endswith("/talk")
        assert asyncio.run(main()) == 1


def test_what_belongs_to_the_loop_is_called_there() -> None:
    chsk = channel()
    before = threading.active_count()
    with serve_in_thread(chsk) as served:
        names = {threading.current_thread().name, served.call(threading.current_thread).name}
        assert len(names) == 2

        async def main() -> Any:
            await asyncio.sleep(0)
            return asyncio.get_running_loop().time()

        assert served.run(main()) > 0

        def fail() -> None:
            raise KeyError("x")

        with pytest.raises(KeyError):
            served.call(fail)
    assert threading.active_count() == before
    assert not chsk.is_started


def test_one_channel_is_served_again_and_lives_in_a_world_between() -> None:
    chsk = channel()
    for _ in range(2):
        with serve_in_thread(chsk) as served:
            assert ask(served.url) == 7
        with World(chsk) as world:
            assert world.connect("alice").send("test/req", 1, timeout=60) == 1


def test_other_paths_are_the_fallbacks() -> None:
    with serve_in_thread(channel(), fallback=lambda request: Response(200, "page")) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with sock.makefile("rb") as answer:
                assert answer.read().endswith(b"page")


def test_a_start_that_fails_raises_where_it_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="in use"):
            with serve_in_thread(channel(), port=taken.getsockname()[1]):
                pytest.fail("expected no server")


def test_an_error_of_the_test_itself_passes_through_and_ends_the_server() -> None:
    chsk = channel()
    with pytest.raises(ZeroDivisionError), serve_in_thread(chsk):
        _ = 1 / 0
    assert not chsk.is_started
