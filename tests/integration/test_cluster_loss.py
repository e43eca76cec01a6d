"""An engine that lost its end, whose events are sent again while clients come and go.

The sender is behind a proxy that keeps it away from the engine until the clients are back: then
what it sends again meets clients that had it before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from front import Front
from redis_server import Server
from test_cluster import LIMIT, Balancer, until

import chansock
from chansock import ALL, ChannelSocket, ClientConfig, connect
from chansock._core.homes import YIELD_TIMEOUT, State

SOON = ClientConfig(max_backoff=0.1)
RESTORE = """
redis.call('HSET', KEYS[1], 'st', redis.call('HGET', KEYS[2], 'st'), 'n', ARGV[1], 'o', ARGV[2])
return 1
"""


def node(url: str, handled: list[tuple[int, bool]]) -> ChannelSocket:
    chsk = ChannelSocket(user_id=lambda request: request.params.get("user"), backplane=url)

    @chsk.on("t/note")
    def note(msg: Any) -> None:
        handled.append((msg.data, msg.is_redelivered))

    return chsk


class Scene:
    """Three nodes at the engine, and a sender that may be kept away from it."""

    def __init__(
        self,
        redis: Server,
        front: Front,
        nodes: list[ChannelSocket],
        balancer: Balancer,
        handled: list[tuple[int, bool]],
    ) -> None:
        self.redis, self.front, self.nodes, self.balancer = redis, front, nodes, balancer
        self.sender = nodes[-1]
        self.number = 0
        self.handled = handled  # by any node: what, and whether it was marked

    def sender_id(self) -> str:
        """Return the name of the node that is cut off: it alone has no subscription."""
        names = self.redis.ask("ZRANGE", "chsk:{chansock}:nodes", 0, -1)
        heard = {each.rpartition(":")[2] for each in self.redis.ask("PUBSUB", "CHANNELS", "*:n:*")}
        (found,) = set(names) - heard
        return str(found)

    async def send(self, count: int) -> None:
        for _ in range(count):
            self.sender.send("ann", "t/news", self.number)
            self.number += 1
        await self.sender.stored()

    async def lose_all(self) -> None:
        """The engine starts with what it saved, or empty; all but the sender find it."""
        self.front.turn_to(None)
        self.redis.kill()
        await until(lambda: not any(node.is_ready for node in self.nodes))
        self.redis.start()
        async with asyncio.timeout(LIMIT):
            for node in self.nodes[:-1]:
                await node.ready()

    async def sender_is_back(self) -> None:
        self.front.turn_to(self.redis)
        async with asyncio.timeout(LIMIT):
            await self.sender.ready()
            await self.sender.stored()


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Scene, str]]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(Server())
        front = await stack.enter_async_context(Front(redis))
        handled: list[tuple[int, bool]] = []
        nodes = [*(node(redis.url, handled) for _ in range(3)), node(front.url, handled)]
        ports = []
        for one in nodes:
            listener = await stack.enter_async_context(chansock.serve(one, port=0))
            ports.append(listener.port)
        balancer = Balancer(ports)
        url = await stack.enter_async_context(balancer.listening())
        yield Scene(redis, front, nodes, balancer, handled), url


class Ann:
    """A client, what it got, and how it came back."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.got: list[int] = []
        self.ways: list[str] = []
        client.on("t/news", lambda event: self.got.append(event.data))
        client.on("chsk/state", self.changed)

    def changed(self, event: Any) -> None:
        _, state, is_open_changed = event.data
        if is_open_changed and state.open:
            self.ways.append(state.resumed)

    async def move(self, scene: Scene, to: int) -> None:
        count = len(self.ways)
        scene.balancer.chosen = to
        scene.balancer.cut()
        await until(lambda: len(self.ways) > count)


@asynccontextmanager
async def loss(transport: str) -> AsyncIterator[tuple[Scene, Ann]]:
    """Ann had five events, and the engine has lost them; their sender is still away."""
    async with scene() as (at, url):
        at.balancer.chosen = 0
        async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
            ann = Ann(client)
            await at.send(5)
            await until(lambda: len(ann.got) == 5)
            await at.lose_all()
            yield at, ann


@pytest.fixture(params=["ws", "ajax"])
def transport(request):
    return request.param


def test_who_was_told_a_gap_does_not_get_again_what_was_lost(run, transport):
    async def main():
        async with loss(transport) as (at, ann):
            await ann.move(at, 1)
            await at.sender_is_back()
            await at.send(1)
            await until(lambda: 5 in ann.got)
            assert ann.got == [0, 1, 2, 3, 4, 5]
            assert ann.ways == ["gap"]

    run(main())


def test_who_may_have_had_what_is_sent_again_is_told_a_gap(run, transport):
    async def main():
        async with loss(transport) as (at, ann):
            await ann.move(at, 1)
            await ann.move(at, 2)  # with a position of the new epoch
            assert ann.ways == ["gap", "resumed"]
            await at.sender_is_back()
            await until(lambda: ann.ways == ["gap", "resumed", "gap"])
            await at.send(1)
            await until(lambda: 5 in ann.got)
            assert ann.got == [0, 1, 2, 3, 4, 5]

    run(main())


def test_who_stays_gets_what_is_sent_again_once(run, transport):
    async def main():
        async with loss(transport) as (at, ann):
            at.sender.send("ann", "t/news", 5)  # waits
            at.number = 6
            await at.sender_is_back()
            await at.send(1)
            await until(lambda: 6 in ann.got)
            assert ann.got == [0, 1, 2, 3, 4, 5, 6]
            assert ann.ways == []

    run(main())


def test_a_home_of_long_ago_is_not_asked_after_a_loss(run):
    """The sender is the home when the engine loses all, and cannot be asked."""

    async def main():
        async with scene() as (at, url):
            held = asyncio.Event()

            @at.sender.on("t/held")
            async def hold(msg: Any) -> None:
                at.handled.append((msg.data, msg.is_redelivered))
                await held.wait()  # not acknowledged until then

            for chsk in at.nodes[:-1]:
                chsk.on("t/held", lambda msg: at.handled.append((msg.data, msg.is_redelivered)))
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport="ws", config=SOON) as client:
                ann = Ann(client)
                await client.send("t/note", 0)
                await until(lambda: len(at.handled) == 1)
                await ann.move(at, 3)
                await client.send("t/held", 1)
                await client.send("t/held", 2)
                await until(lambda: len(at.handled) == 2)
                await at.lose_all()
                await ann.move(at, 1)
                await client.send("t/note", 3)
                await until(lambda: (3, False) in at.handled)
                unmarked = [number for number, is_marked in at.handled if not is_marked]
                assert unmarked == [0, 1, 3]
                count = len(at.handled)
                # The old home serves the client no longer: what waits there is not its own.
                await at.sender_is_back()
                await at.send(1)
                await until(lambda: ann.got == [0])
                held.set()
                await client.send("t/note", 4)
                await until(lambda: (4, False) in at.handled)
                assert at.handled[count:] == [(4, False)]

    run(main())


def test_who_was_away_gets_what_its_node_had_and_the_engine_lost(run, transport):
    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                await at.send(3)
                await until(lambda: len(ann.got) == 3)
                at.redis.ask("SAVE")
                at.balancer.is_open = False
                at.balancer.cut()
                await at.send(2)  # to the node where she was, and the engine loses it
                await at.lose_all()
                at.balancer.is_open = True
                await until(lambda: ann.ways)
                assert ann.ways == ["resumed"]
                await at.sender_is_back()
                await at.send(1)
                await until(lambda: 5 in ann.got)
                assert ann.got == [0, 1, 2, 3, 4, 5]
                assert ann.ways == ["resumed"]

    run(main())


def test_who_moves_to_a_node_that_heard_less_of_the_last_epoch_misses_nothing(run, transport):
    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 1
            async with connect(f"{url}?user=bob", transport="ws", config=SOON):
                at.balancer.chosen = 0
                async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                    ann = Ann(client)
                    for _ in range(50):
                        at.sender.send("nobody", "t/news", None)
                    await at.send(1)
                    await until(lambda: len(ann.got) == 1)
                    at.redis.ask("SAVE")
                    at.balancer.is_open = False
                    at.balancer.cut()
                    await at.lose_all()
                    await at.sender_is_back()
                    await at.send(1)
                    at.balancer.chosen = 1
                    at.balancer.is_open = True
                    await until(lambda: ann.ways)
                    await at.send(1)
                    await until(lambda: 2 in ann.got)
                    assert ann.got == [0, 1, 2]
                    assert ann.ways == ["resumed"]

    run(main())


def test_who_comes_from_before_a_restart_to_a_node_that_began_after_it_misses_nothing(
    run, transport
):
    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                for _ in range(2):  # two epochs end
                    await at.send(1)
                    await until(lambda: len(ann.got) == at.number)
                    at.balancer.is_open = False
                    at.balancer.cut()
                    await at.send(1)
                    at.redis.ask("SAVE")
                    await at.lose_all()
                    await at.sender_is_back()
                    await at.send(1)
                    new = node(at.redis.url, at.handled)
                    async with chansock.serve(new, port=0) as listener:
                        at.balancer.ports.append(listener.port)
                        at.balancer.chosen = len(at.balancer.ports) - 1
                        at.balancer.is_open = True
                        await until(lambda: len(ann.got) == at.number)
                        at.balancer.chosen = 0
                assert ann.got == list(range(at.number))
                assert set(ann.ways) == {"resumed"}

    run(main())


def test_a_client_that_another_node_claimed_in_vain_comes_back_as_itself(run, transport):
    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                await at.send(1)
                await until(lambda: ann.got == [0])
                (record,) = at.redis.ask("KEYS", "chsk:{chansock}:s:*")
                home = at.redis.ask("HGET", record, "n")
                others = set(at.redis.ask("ZRANGE", "chsk:{chansock}:nodes", 0, -1)) - {home}
                at.redis.ask("HSET", record, "n", min(others))
                at.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda: ann.ways)
                await at.send(1)
                await until(lambda: 1 in ann.got)
                assert ann.got == [0, 1]
                assert ann.ways == ["resumed"]
                assert at.redis.ask("HGET", record, "n") == home

    run(main())


def test_a_home_that_was_taken_for_dead_begins_anew_with_its_clients(run, transport):
    """The sender is the home, and cut off until its lease has ended."""

    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 3
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                for number in range(3):
                    await client.send("t/note", number)
                await until(lambda: len(at.handled) == 3)
                at.front.turn_to(None)
                await ann.move(at, 0)
                for number in range(3, 6):
                    await client.send("t/note", number)
                await until(lambda: (5, False) in at.handled)
                # As if the lease had ended: the test does not wait that long.
                dead = at.sender_id()
                at.redis.ask("SET", f"chsk:{{chansock}}:d:{dead}", 1)
                await at.sender_is_back()
                await ann.move(at, 3)
                await client.send("t/note", 6)
                await until(lambda: (6, False) in at.handled)
                unmarked = [number for number, is_marked in at.handled if not is_marked]
                assert unmarked == [*range(7)]
                assert ann.ways == ["resumed", "resumed"]

    run(main())


async def shake(port: int, attempt: int) -> str:
    """Send a handshake of Ann's; return the status line of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    query = f"user=ann&client-id=a1&udt=1&handshake?=1&pos=0&acked=0&sent=0&try={attempt}"
    writer.write(f"GET /chsk?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    async with asyncio.timeout(LIMIT):
        line = (await reader.readline()).decode()
    writer.close()
    return line.split()[1]


def test_a_handshake_that_comes_late_to_any_node_leaves_the_home_as_it_is(run):
    async def main():
        async with scene() as (at, _):
            first, second = at.balancer.ports[:2]
            assert await shake(first, 5) == "200"
            (record,) = at.redis.ask("KEYS", "chsk:{chansock}:s:*")
            home = at.redis.ask("HGET", record, "n")
            assert await shake(second, 4) == "409"
            await until(lambda: at.redis.ask("HGETALL", record) == {"n": home})
            assert await shake(first, 4) == "409"
            assert at.redis.ask("HGETALL", record) == {"n": home}
            assert await shake(second, 6) == "200"
            assert at.redis.ask("HGET", record, "n") != home

    run(main())


def test_what_the_old_home_says_goes_on_to_the_node_that_has_become_the_home_meanwhile(run):
    """The old home is slow; two nodes ask for the client, and only the first one asks it."""

    async def main():
        async with scene() as (at, _):
            first, second, _, old = at.balancer.ports
            assert await shake(old, 5) == "200"
            (record,) = at.redis.ask("KEYS", "chsk:{chansock}:s:*")
            homes = [at.redis.ask("HGET", record, "n")]
            at.front.passes.clear()
            asking = []
            for port, attempt in ((first, 6), (second, 4)):
                asking.append(asyncio.create_task(shake(port, attempt)))
                await until(lambda: at.redis.ask("HGET", record, "n") not in homes)
                homes.append(at.redis.ask("HGET", record, "n"))
            at.front.passes.set()
            assert await asyncio.gather(*asking) == ["409", "409"]
            assert await shake(first, 7) == "200"

    run(main())


def test_of_two_nodes_that_ask_each_other_for_a_client_the_home_answers_at_once(run, monkeypatch):
    """The client goes to another node and comes back before its home was asked."""

    async def main():
        async with scene() as (at, _):
            other, home = at.balancer.ports[:2]
            engine, calls = at.nodes[0]._endpoint.homes.engine, []
            assert await shake(home, 1) == "200"
            (record,) = at.redis.ask("KEYS", "chsk:{chansock}:s:*")
            name = at.redis.ask("HGET", record, "n")
            with monkeypatch.context() as patch:
                patch.setattr(engine, "call", lambda *call: calls.append(call))
                going = asyncio.create_task(shake(other, 2))
                await until(lambda: calls)
                coming = asyncio.create_task(shake(home, 3))
                await until(lambda: at.redis.ask("HGET", record, "n") == name)
                await asyncio.sleep(0.1)
            began = time.monotonic()
            engine.call(*calls[0])
            assert await coming == "200"
            assert time.monotonic() - began < YIELD_TIMEOUT
            await going
            assert at.redis.ask("HGET", record, "n") == name

    run(main())


def test_what_is_left_with_the_engine_too_late_the_old_home_still_knows(run, monkeypatch):
    """Another node claims the client just before its home leaves its state with the engine."""

    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport="ws", config=SOON) as client:
                for n in range(6):
                    await client.send("t/note", n)
                await until(lambda: len(at.handled) == 6)
                endpoint = at.nodes[0]._endpoint
                (session,) = endpoint._hub.table.meant(ALL)
                monkeypatch.setattr(endpoint.homes.engine, "release", lambda *_: None)
                endpoint.homes.keep(session.target, session.inbox)
                state = State.decode(endpoint.homes.give_up(session.target, 9))
                assert state is not None
                assert state.received == session.inbox.numbers.received >= 6

    run(main())


def test_a_home_is_asked_though_another_node_claimed_its_client_in_vain_since(run, transport):
    """The claim came before the engine heard of the opening, and it has what was left before."""

    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                for number in range(3):
                    await client.send("t/note", number)
                await until(lambda: len(at.handled) == 3)
                (record,) = at.redis.ask("KEYS", "chsk:{chansock}:s:*")
                at.balancer.is_open = False
                at.balancer.cut()
                await until(lambda: at.redis.ask("HEXISTS", record, "st"))
                at.redis.ask("COPY", record, "left")
                at.balancer.chosen, at.balancer.is_open = 1, True
                await until(lambda: ann.ways)
                for number in range(3, 6):
                    await client.send("t/note", number)
                await until(lambda: len(at.handled) == 6)
                home = at.redis.ask("HGET", record, "n")
                in_vain = at.sender._engine.node_id
                at.redis.ask("EVAL", RESTORE, 2, record, "left", in_vain, home)
                await ann.move(at, 2)
                await client.send("t/note", 6)
                await until(lambda: len(at.handled) == 7)
                assert at.handled == [(number, False) for number in range(7)]
                assert not at.redis.ask("HEXISTS", record, "o")

    run(main())


def test_what_the_engine_never_stored_is_no_gap_for_who_moves_meanwhile(run, transport):
    """The sender wrote it to the engine, which died before it took it."""

    async def main():
        async with scene() as (at, url):
            at.balancer.chosen = 0
            async with connect(f"{url}?user=ann", transport=transport, config=SOON) as client:
                ann = Ann(client)
                await at.send(3)
                await until(lambda: len(ann.got) == 3)
                at.redis.ask("SAVE")
                at.redis.pause()
                for number in (3, 4):
                    at.sender.send("ann", "t/news", number)
                for _ in range(10):
                    await asyncio.sleep(0)
                at.number = 5
                await at.lose_all()
                await ann.move(at, 1)
                await ann.move(at, 2)
                await at.sender_is_back()
                await at.send(1)
                await until(lambda: 5 in ann.got)
                assert ann.got == [0, 1, 2, 3, 4, 5]
                assert ann.ways == ["resumed", "resumed"]

    run(main())


def test_a_position_in_doubt_stays_so_in_the_next_epoch(run, transport):
    async def main():
        async with loss(transport) as (at, ann):
            await ann.move(at, 1)
            at.balancer.is_open = False
            at.balancer.cut()
            await at.sender_is_back()
            await at.send(1)  # behind what ann had, which comes again while she is away
            at.redis.ask("SAVE")
            await at.lose_all()
            at.balancer.is_open = True
            await until(lambda: len(ann.ways) == 2)
            assert ann.ways == ["gap", "gap"]
            await at.sender_is_back()
            await at.send(1)
            await until(lambda: 6 in ann.got)
            assert ann.got == [0, 1, 2, 3, 4, 6]

    run(main())
