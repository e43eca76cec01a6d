"""Several connections that are ready at once: `_fast/io/epoll` reads all of them, then serves them,
then sends what they made. To each of them that must look as if it were alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from echoing import client, echoing, frames_of
from raw_listener import CLOSE, PING, PONG, TEXT, UPGRADE

from chansock import ChannelSocket, Config, EventMsg, serve
from chansock._fast.io.epoll import IS_AVAILABLE

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="there is no epoll on this system")


class Tab:
    """One client, whose frames the loop finds only when the test awaits something."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, name: str) -> Tab:
        tab = cls(*await asyncio.open_connection("127.0.0.1", port))
        tab.writer.write(UPGRADE.replace(b"=a ", b"=%s " % name.encode()))
        assert (await tab.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return tab

    def put(self, data: bytes) -> None:
        """Send at once, past the loop."""
        assert os.write(self.writer.get_extra_info("socket").fileno(), data) == len(data)

    async def frames(self, count: int) -> list[tuple[int, bytes]]:
        """Take so many short frames."""
        found = b""
        for _ in range(count):
            head = await self.reader.readexactly(2)
            found += head + await self.reader.readexactly(head[1])
        return frames_of(found)

    async def rest(self) -> list[tuple[int, bytes]]:
        return frames_of(await self.reader.read())


def on_both(main: Callable[[], Any]) -> None:
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())


@asynccontextmanager
async def tabs(chsk: ChannelSocket, *names: str) -> AsyncIterator[list[Tab]]:
    """Serve, with a tab of each user."""
    async with serve(chsk, port=0) as listener:
        opened = []
        for name in names:
            opened.append(await Tab.open(listener.port, name))
            await opened[-1].frames(1)
        yield opened
        for tab in opened:
            tab.writer.close()


def channel() -> ChannelSocket:
    return ChannelSocket(
        Config(allowed_origins=("*",), allowed_hosts=("*",)),
        user_id=lambda request: request.params["client-id"],
    )


def ask(event: str, data: str, cb_id: str) -> bytes:
    return client(TEXT, f'[[:{event} {data}] "{cb_id}"]'.encode())


def test_each_gets_its_own_back_however_it_was_cut() -> None:
    # Sizes on both sides of what is read ahead, of what is copied, and of a frame's lengths.
    sizes = [0, 1, 125, 126, 2000, 17_000, 70_000, 300_000]

    async def main() -> None:
        chance = random.Random(20)
        async with echoing(max_message_bytes=1 << 20) as place:
            wires = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(40)]
            for reader, writer in wires:
                writer.write(UPGRADE)
                await reader.readuntil(b"\r\n\r\n")
            sent: list[list[bytes]] = [[] for _ in wires]
            flows = []
            for number in range(len(wires)):
                for _ in range(6):
                    size = chance.choice(sizes[: 6 if number % 8 else 8])
                    sent[number].append(bytes([97 + number % 26]) * size)
                flows.append(b"".join(client(TEXT, text) for text in sent[number]))
            while any(flows):
                for number, (_, writer) in enumerate(wires):
                    step = chance.choice([1, 7, 50, 900, 20_000, 400_000])
                    part, flows[number] = flows[number][:step], flows[number][step:]
                    writer.write(part)
                await asyncio.sleep(0)
            for (reader, writer), texts in zip(wires, sent, strict=True):
                writer.write(client(CLOSE, b"\x03\xe8"))
                got = frames_of(await reader.read())
                assert got == [*((TEXT, text) for text in texts), (CLOSE, b"\x03\xe8")]
                writer.close()

    on_both(main)


def test_a_reply_goes_before_what_another_one_has_sent_there_since() -> None:
    async def main() -> None:
        chsk = channel()
        chsk.on("test/ask")(lambda msg: msg.data)

        @chsk.on("test/push")
        def push(msg: EventMsg) -> None:
            chsk.send("asker", "test/pushed", msg.data, flush=True)

        async with tabs(chsk, "asker", "pusher") as (asker, pusher):
            asker.put(ask("test/ask", "1", "a") + client(PING, b"p") + ask("test/ask", "2", "b"))
            pusher.put(ask("test/push", "3", "c"))
            assert await asker.frames(4) == [
                (TEXT, b'[1 "a"]'),
                (PONG, b"p"),
                (TEXT, b'[2 "b"]'),
                (TEXT, b"[[[:test/pushed 3]] nil]"),
            ]

    on_both(main)


def test_a_reply_goes_before_the_close_that_another_one_asks_for() -> None:
    async def main() -> None:
        chsk = channel()
        chsk.on("test/ask")(lambda msg: msg.data)
        chsk.on("test/cut")(lambda msg: chsk.disconnect("asker", code=4001, reason="bye"))
        async with tabs(chsk, "asker", "cutter") as (asker, cutter):
            asker.put(ask("test/ask", "1", "a"))
            cutter.put(ask("test/cut", "nil", "c"))
            assert await asker.frames(2) == [(TEXT, b'[1 "a"]'), (CLOSE, b"\x0f\xa1bye")]

    on_both(main)


def test_who_says_goodbye_gets_his_reply_first() -> None:
    async def main() -> None:
        chsk = channel()
        chsk.on("test/ask")(lambda msg: msg.data)
        async with tabs(chsk, "one", "two") as both:
            for number, tab in enumerate(both):
                tab.put(ask("test/ask", str(number), "a") + client(CLOSE, b"\x03\xe8"))
            for number, tab in enumerate(both):
                assert await tab.rest() == [(TEXT, b'[%d "a"]' % number), (CLOSE, b"\x03\xe8")]

    on_both(main)


def test_what_one_breaks_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        chsk = channel()

        @chsk.on("test/ask")
        def double(msg: EventMsg) -> int:
            return 2 * int(msg.data)

        async with tabs(chsk, "one", "two", "three", "four") as (one, two, three, four):
            one.put(ask("test/ask", "1", "a"))
            two.put(client(TEXT, b"\xff"))
            three.put(ask("test/ask", "{}", "b"))
            four.put(ask("test/ask", "4", "c"))
            assert await one.frames(1) == [(TEXT, b'[2 "a"]')]
            assert (await two.frames(1))[0][1][:2] == b"\x03\xef"
            assert await three.frames(1) == [(TEXT, b'[:chsk/error "b"]')]
            assert await four.frames(1) == [(TEXT, b'[8 "c"]')]

    on_both(main)


class Full(logging.Handler):
    """A log that cannot be written to, and says so to whoever tries."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left")


def test_a_log_that_raises_costs_the_others_nothing() -> None:
    async def main() -> None:
        chsk = channel()
        chsk.on("test/ask")(lambda msg: msg.data)
        chsk.on("test/bad")(lambda msg: 1 / 0)
        # what leaves the turn in the end is for the loop to tell
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: left.append(told))
        async with tabs(chsk, "one", "two", "three") as (one, two, three):
            one.put(ask("test/ask", "1", "a"))
            two.put(ask("test/bad", "2", "b"))
            three.put(ask("test/ask", "3", "c"))
            assert await three.frames(1) == [(TEXT, b'[3 "c"]')]
            assert await one.frames(1) == [(TEXT, b'[1 "a"]')]
            with contextlib.suppress(ConnectionError):
                assert await two.reader.read() == b""
            two.writer.close()
            one.put(ask("test/ask", "4", "d"))
            three.put(ask("test/ask", "5", "e"))
            assert await three.frames(1) == [(TEXT, b'[5 "e"]')]
            assert await one.frames(1) == [(TEXT, b'[4 "d"]')]

    left: list[Any] = []
    log, full = logging.getLogger("chansock"), Full()
    log.addHandler(full)
    try:
        on_both(main)
    finally:
        log.removeHandler(full)
    assert left


def test_what_no_handler_may_catch_stops_the_loop_behind_the_others() -> None:
    class Stop(SystemExit):
        pass

    async def main() -> None:
        chsk = channel()
        loop = asyncio.get_running_loop()
        chsk.on("test/ask")(lambda msg: msg.data)

        @chsk.on("test/stop")
        def stop(msg: EventMsg) -> None:
            raise Stop

        async with tabs(chsk, "one", "two", "three") as (one, two, three):
            one.put(ask("test/ask", "1", "a"))
            two.put(ask("test/stop", "nil", "b"))
            three.put(ask("test/ask", "3", "c"))
            seen.append(loop.create_task(one.frames(1)))
            seen.append(loop.create_task(three.frames(1)))
            await asyncio.gather(*seen)

    seen: list[asyncio.Task[list[tuple[int, bytes]]]] = []
    loop = uvloop.new_event_loop()
    task = loop.create_task(main())
    with pytest.raises(Stop):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    assert [each.result() for each in seen] == [[(TEXT, b'[1 "a"]')], [(TEXT, b'[3 "c"]')]]
    loop.close()


def test_behind_a_slow_handler_the_replies_before_it_are_not_held_any_longer() -> None:
    async def main() -> None:
        chsk = channel()
        chsk.on("test/ask")(lambda msg: msg.data)

        @chsk.on("test/slow")
        def slow(msg: EventMsg) -> bool:
            return is_readable(three, 0.05)  # nothing ever comes there: it takes its time

        @chsk.on("test/look")
        def look(msg: EventMsg) -> list[bool]:
            return [is_readable(one, 0), is_readable(two, 0)]

        async with tabs(chsk, "one", "two", "three") as (one, two, three):
            one.put(ask("test/ask", "1", "a"))
            two.put(ask("test/slow", "nil", "b"))
            three.put(ask("test/look", "nil", "c"))
            assert await three.frames(1) == [(TEXT, b'[[true true] "c"]')]
            assert await two.frames(1) == [(TEXT, b'[false "b"]')]

    on_both(main)


def is_readable(tab: Tab, within: float) -> bool:
    ready, _, _ = select.select([tab.writer.get_extra_info("socket")], [], [], within)
    return bool(ready)
