"""What every engine does that joins several processes: the contract of `_core/engine`.

A new engine gets a row in ENGINES: a context manager that yields a function which makes an
engine, for one channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from typing import Any, Final

import pytest
from heard import Heard, kept, until
from redis_server import KINDS, Server

from chansock._core.backplane import Position
from chansock._core.engine import Engine, Item
from chansock.backplanes.redis import Redis

Make = Callable[..., Engine]


@contextmanager
def _server(kind: str) -> Iterator[Make]:
    with Server(kind) as server:
        yield partial(Redis, server.url)


ENGINES: Final = {kind: partial(_server, kind) for kind in KINDS}
_names = count(1)


@pytest.fixture(scope="module", params=ENGINES)
def make_any(request: pytest.FixtureRequest) -> Iterator[Make]:
    with ENGINES[request.param]() as make:
        yield make


@pytest.fixture
def make(make_any: Make) -> Make:
    return partial(make_any, name=f"c{next(_names)}")


@asynccontextmanager
async def nodes(
    make: Make, number: int = 2, *, keep_events: int = 5, keep_seconds: float = 60.0
) -> AsyncIterator[list[tuple[Engine, Heard]]]:
    found: list[tuple[Engine, Heard]] = []
    try:
        for _ in range(number):
            engine, heard = make(), Heard()
            await engine.open(heard, keep_events=keep_events, keep_seconds=keep_seconds)
            found.append((engine, heard))
        yield found
    finally:
        for engine, _ in found:
            await engine.close(5.0)


Drive = Callable[[Awaitable[Any]], Any]


def test_entries_come_to_all_that_subscribed_in_one_order(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 3) as found:
            for engine, _ in found:
                engine.subscribe("a")
                engine.subscribe("b")
                await engine.home("anyone")
            for turn in range(20):
                for at, (engine, _) in enumerate(found):
                    engine.append(
                        [*kept("a", f"{at} a{turn}"), Item("b", 2, False, f"{at} b{turn}".encode())]
                    )
                await asyncio.sleep(0)
            for _, heard in found:
                await until(lambda heard=heard: len(heard.entries) == 120)
            first = found[0][1].entries
            assert all(heard.entries == first for _, heard in found)
            positions = [entry.position.seq for entry in first]
            assert positions == sorted(set(positions))
            for engine, _ in found:
                mine = [one.envelope for one in first if one.origin == engine.node_id]
                assert len(mine) == 40
                turns = [int(text.split(b" ")[1][1:]) for text in mine]
                assert turns == sorted(turns)

    run(main())


def test_a_position_is_that_of_the_last_event_of_an_entry(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1) as [(engine, heard)]:
            engine.subscribe("a")
            engine.append([Item("a", 3, True, b"x"), Item("a", 2, False, b"y")])
            await until(lambda: len(heard.entries) == 2)
            one, two = heard.entries
            assert two.position.seq == one.position.seq + 2

    run(main())


def test_returned_comes_after_what_was_delivered_here(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1) as [(engine, heard)]:
            engine.subscribe("a")
            assert engine.append(kept("a", "1")) == 1
            assert engine.append([]) == 2
            assert engine.append(kept("other", "2")) == 3
            assert engine.unstored_bytes > 0
            await engine.stored()
            assert (heard.number, heard.texts()) == (3, ["1"])
            assert engine.unstored_bytes == 0
            engine.append([])
            await until(lambda: heard.number == 4)

    run(main())


def test_a_turn_of_many_megabytes_is_stored_whole(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make) as [(one, _), (other, heard)]:
            other.subscribe("a")
            await other.home("anyone")
            big = b"x" * 300_000
            number = one.append([Item("a", 1, True, b"%d" % at + big) for at in range(12)])
            await one.stored()
            assert number == 1
            await until(lambda: len(heard.entries) == 12)
            assert [one.envelope[:-300_000] for one in heard.entries] == [
                b"%d" % at for at in range(12)
            ]

    run(main())


def test_what_is_subscribed_begins_and_ends_in_the_order_of_the_calls(
    make: Make, run: Drive
) -> None:
    async def main() -> None:
        async with nodes(make, 1) as [(engine, heard)]:
            engine.append(kept("a", "before"))
            engine.subscribe("a")
            engine.append(kept("a", "in"))
            await engine.stored()
            engine.unsubscribe("a")
            engine.append(kept("a", "after"))
            await engine.stored()
            assert heard.texts() == ["in"]

    run(main())


def test_a_claim_reads_what_came_after_a_position(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make) as [(one, _), (other, _)]:
            start = (await one.claim("c", [], None)).read.position
            one.append([*kept("a", "1"), *kept("b", "2"), *kept("c", "x"), *kept("a", "3")])
            one.append([Item("a", 1, False, b"not kept")])
            await one.stored()
            other.subscribe("a")
            other.subscribe("b")
            claimed = await other.claim("c", ["a", "b"], start)
            assert claimed.before == one.node_id
            read = claimed.read
            assert read.is_whole
            assert [(e.key, e.envelope) for e in read.entries] == [
                ("a", b"1"),
                ("b", b"2"),
                ("a", b"3"),
            ]
            assert read.position.seq == start.seq + 5
            assert [e.origin for e in read.entries] == [one.node_id] * 3
            middle = read.entries[1].position
            later = (await one.claim("c", ["a", "b"], middle)).read
            assert [e.envelope for e in later.entries] == [b"3"]
            assert (await one.claim("c", ["a"], later.position)).read.entries == []
            assert await other.home("c") == one.node_id
            assert await other.home("nobody") is None

    run(main())


def test_a_read_is_not_whole_past_keep_events(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1, keep_events=3) as [(engine, _)]:
            start = (await engine.claim("c", [], None)).read.position
            engine.append(kept("a", "1", "2", "3"))
            assert len((await engine.claim("c", ["a"], start)).read.entries) == 3
            engine.append(kept("a", "4"))
            read = (await engine.claim("c", ["a"], start)).read
            assert (read.is_whole, read.entries) == (False, [])
            after = Position(start.epoch, start.seq + 1)
            assert len((await engine.claim("c", ["a"], after)).read.entries) == 3
            assert (await engine.claim("c", ["b"], start)).read.is_whole

    run(main())


def test_a_read_is_not_whole_past_keep_seconds(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1, keep_seconds=0.3) as [(engine, _)]:
            start = (await engine.claim("c", [], None)).read.position
            engine.append(kept("a", "1"))
            assert (await engine.claim("c", ["a"], start)).read.is_whole
            loop = asyncio.get_running_loop()
            end = loop.time() + 30
            while (await engine.claim("c", ["a"], start)).read.is_whole:
                assert loop.time() < end
                await asyncio.sleep(0.02)
            top = (await engine.claim("c", ["a"], None)).read.position
            assert (await engine.claim("c", ["a"], top)).read.is_whole

    run(main())


def test_a_position_that_the_engine_never_had_is_not_whole(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1) as [(engine, _)]:
            top = (await engine.claim("c", [], None)).read.position
            for since in (Position(top.epoch, top.seq + 1), Position(top.epoch - 1, 0)):
                assert not (await engine.claim("c", ["a"], since)).read.is_whole

    run(main())


def test_what_a_home_left_is_found_until_the_next_has_opened_it(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make) as [(one, _), (other, _)]:
            await one.claim("c", [], None)
            one.release("c", b"left")
            assert await one.home("c") is None
            claimed = await other.claim("c", [], None)
            assert (claimed.before, claimed.state) == (None, b"left")
            assert claimed.has_moved
            assert not (await other.claim("c", [], None)).has_moved
            one.release("c", b"not mine any more")
            one.opened("c")  # nor this
            await one.home("c")
            third = await one.claim("c", [], None)
            assert (third.before, third.state) == (other.node_id, b"left")  # nobody has opened it
            one.opened("c")
            again = await other.claim("c", [], None)
            assert (again.before, again.state) == (one.node_id, b"")

    run(main())


def test_a_message_comes_to_one_node(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make) as [(one, heard), (other, others)]:
            one.call(other.node_id, b"a:b\x00")
            await until(lambda: others.calls)
            assert others.calls == [(one.node_id, b"a:b\x00")]
            assert heard.calls == []

    run(main())


def test_a_member_of_two_nodes_enters_and_leaves_once(make: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 3) as [(one, _), (other, _), (_, heard)]:
            one.enter("ada")
            one.enter("ada")
            await one.stored()
            other.enter("ada")
            await other.stored()
            one.leave("ada")
            await one.stored()
            other.enter("ben")
            await until(lambda: "ben" in heard.members)
            other.leave("ada")
            await until(lambda: len(heard.changes) == 3)
            assert heard.changes == [
                ("+", "ada", one.node_id),
                ("+", "ben", other.node_id),
                ("-", "ada", other.node_id),
            ]
            late, lately = make(), Heard()
            await late.open(lately, keep_events=1, keep_seconds=1)
            assert lately.members == {"ben"}
            await other.close(5.0)
            await until(lambda: not lately.members)
            assert heard.changes[-1] == ("-", "ben", other.node_id)
            await late.close(5.0)

    run(main())


def test_channels_of_other_names_are_apart(make: Make, make_any: Make, run: Drive) -> None:
    async def main() -> None:
        async with nodes(make, 1) as [(one, heard)]:
            async with nodes(partial(make_any, name="elsewhere"), 1) as [(other, _)]:
                one.subscribe("a")
                await one.home("x")
                other.append(kept("a", "1"))
                await other.stored()
                one.append(kept("a", "2"))
                await one.stored()
                assert heard.texts() == ["2"]

    run(main())
