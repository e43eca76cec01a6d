"""answers: a body that a framework reads is bounded with all others, and ended by a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

from chansock import ChannelSocket, Config
from chansock._edge.answers import answer
from chansock.request import Request, Response

Run = Callable[[Any], Any]
HEAD = b"POST /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Body:
    """A body whose chunks come when the test says so."""

    def __init__(self, chsk: ChannelSocket) -> None:
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.task = asyncio.create_task(
            answer(Request(HEAD), chsk._endpoint, chsk.config, self._read(), self._leave)
        )

    async def _read(self) -> AsyncIterator[bytes]:
        while chunk := [await self.chunks.get()]:
            if chunk[0] is None:
                return
            yield chunk.pop()  # type: ignore[misc]

    async def _leave(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def send(self, *chunks: bytes | None) -> None:
        for chunk in chunks:
            self.chunks.put_nowait(chunk)
        while not self.chunks.empty():
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def status(self) -> int:
        response = await self.task
        assert isinstance(response, Response)
        return response.status


def test_a_stop_refuses_a_body_that_is_not_whole(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(body_timeout=60))
        async with chsk:
            body = Body(chsk)
            await body.send(b"ppstr=")
            chsk.stop()
            assert await body.status() == 503
            assert await Body(chsk).status() == 503  # nor is another begun
            assert chsk.stats.refused == {"stopping": 2}

    run(main())


def test_the_largest_body_is_refused_where_all_are_too_large(run: Run) -> None:
    async def main() -> None:
        config = Config(max_message_bytes=1000, max_total_incoming_bytes=1000)
        async with ChannelSocket(config) as chsk:
            large, small = Body(chsk), Body(chsk)
            await large.send(b"x" * 600)
            await small.send(b"x" * 300)
            await small.send(b"x" * 200)
            assert await large.status() == 503
            assert chsk.stats.refused == {"incoming_full": 1}
            await small.send(None)
            assert await small.status() == 200
            assert chsk._endpoint.incoming.held == 0

    run(main())


class Chunk(bytes):
    freed: ClassVar[list[int]] = []

    def __del__(self) -> None:
        self.freed.append(len(self))


def test_a_body_that_is_refused_is_dropped_before_its_task_goes_on(run: Run) -> None:
    async def main() -> None:
        config = Config(max_message_bytes=1000, max_total_incoming_bytes=1000)
        async with ChannelSocket(config) as chsk:
            large, incoming = Body(chsk), chsk._endpoint.incoming
            Chunk.freed.clear()
            await large.send(Chunk(b"x" * 300), Chunk(b"x" * 301))
            other = incoming.enter(lambda owner: None, None)
            incoming.resize(other, 500)
            assert sorted(Chunk.freed) == [300, 301]
            incoming.end(other)
            assert await large.status() == 503

    run(main())


def test_a_body_that_is_refused_is_read_no_further(run: Run) -> None:
    """Though all of it is there already, so that nothing is waited for."""

    async def main() -> None:
        config = Config(max_message_bytes=1000, max_total_incoming_bytes=1000)
        async with ChannelSocket(config) as chsk:
            body = Body(chsk)
            for chunk in (*[b"x" * 600] * 4, None):
                body.chunks.put_nowait(chunk)
            assert await body.status() == 503
            assert body.chunks.qsize() == 3

    run(main())


def test_nothing_is_held_of_a_body_after_its_answer(run: Run) -> None:
    async def main() -> None:
        async with ChannelSocket(Config(body_timeout=0.01)) as chsk:
            late = Body(chsk)
            await late.send(b"x" * 600)
            assert await late.status() == 408
            assert (chsk._endpoint.incoming.held, chsk._endpoint.incoming.reading) == (0, set())

    run(main())
