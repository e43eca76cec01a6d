"""Two clients of one client-id at two nodes that do not resume, as Sente's: both stay open.

The newer connection gets the pushes; the older one stays open on the node that it came to, and gets
replies, as it would on one node. A client that resumes has given its older connections up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import peer
import pytest
from peer import CLOSE, Peer, urlencoded
from redis_server import Server
from test_cluster import LIMIT, Met, meeting, until

from chansock import Config
from chansock._core.cluster_keys import client_key
from chansock._core.homes import State

GRACE = Config(grace_ws=0.1, grace_ajax=0.2)


@pytest.fixture
def redis():
    with Server() as server:
        yield server


def target(**params: str) -> str:
    return "/chsk?" + urlencoded([("client-id", "one"), ("user", "ann"), *params.items()])


async def wire(met: Met, node: int) -> Peer:
    met.balancer.chosen = node
    count = met.balancer.count
    found = await Peer.connect(int(met.url.rpartition(":")[2].partition("/")[0]))
    await until(lambda: met.balancer.count > count)
    return found


@asynccontextmanager
async def socket(met: Met, node: int) -> AsyncIterator[Peer]:
    """A WebSocket by a node, whose handshake was read."""
    async with await wire(met, node) as found:
        assert (await found.upgrade(target())).status == 101
        assert (await found.text()).startswith("[[:chsk/handshake [")
        yield found


async def echoed(of: Peer, number: int) -> None:
    await of.say(f'[[:t/echo {number}] "{number}"]')
    assert await of.text() == f'[{number} "{number}"]'


def hubs(met: Met) -> list[Any]:
    return [node._endpoint._hub for node in met.nodes]


Run = Callable[[Any], None]


def test_two_sockets_at_two_nodes_stay_open_and_get_replies(redis: Server, run: Run) -> None:
    async def main() -> None:
        async with meeting(redis, GRACE) as met, socket(met, 0) as old, socket(met, 1) as new:
            for n in range(5):
                await echoed(old, n)
                await echoed(new, n)
                met.nodes[n % 2].send("ann", "t/news", n)
                assert await new.text() == f"[[[:t/news {n}]] nil]"
            assert [len(hub.connections) for hub in hubs(met)] == [1, 1]
            assert [node.stats.closed for node in met.nodes] == [{}, {}]
            assert met.cluster.ports == [("open", "ann")]

    run(main())


def test_what_waits_for_the_poll_of_an_older_client_goes_to_the_newer(
    redis: Server, run: Run
) -> None:
    async def main() -> None:
        async with meeting(redis) as met, await wire(met, 0) as old:
            assert (await old.ask("GET", target(**{"handshake?": "1"}))).status == 200
            met.nodes[1].send("ann", "t/news", 1)
            await until(lambda: hubs(met)[0].table.find("ann", "one").waiting_fragments())
            async with socket(met, 1) as new:
                assert await new.text() == "[[[:t/news 1]] nil]"
                met.nodes[0].send("ann", "t/news", 2)
                assert await new.text() == "[[[:t/news 2]] nil]"
            assert met.nodes[0].stats.lost.moved == 1  # by that session: another one has it

    run(main())


def test_two_clients_by_ajax_at_two_nodes_keep_their_polls(redis: Server, run: Run) -> None:
    async def main() -> None:
        config = Config(poll_timeout=0.5, flush_delay_ajax=0.01)
        async with meeting(redis, config) as met, AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(await wire(met, node)) for node in (0, 1)]
            parked = []
            for page in wires:
                answer = await page.ask("GET", target(**{"handshake?": "1"}))
                assert answer.status == 200
                await page.send(peer.request("GET", target(), host=page.host))
                parked.append(asyncio.create_task(page.answer()))
                count = len(parked)
                await until(lambda n=count: sum(len(hub.connections) for hub in hubs(met)) == n)
            met.nodes[0].send("ann", "t/news", 1)
            newer = await parked[1]
            assert (newer.status, newer.text) == (200, "[[[:t/news 1]] nil]")
            older = await parked[0]
            assert (older.status, older.text) == (200, "[:chsk/timeout nil]")

    run(main())


@pytest.mark.parametrize("by", [0, 1])
def test_disconnect_reaches_the_old_socket_of_a_client_that_moved(
    by: int, redis: Server, run: Run
) -> None:
    async def main() -> None:
        async with meeting(redis, GRACE) as met, socket(met, 0) as old, socket(met, 1) as new:
            met.nodes[by].disconnect("ann", code=4401)
            for each in (old, new):
                last = await each.frame()
                assert (last.opcode, last.code) == (CLOSE, 4401)

    run(main())


def test_of_a_client_that_moves_twice_the_oldest_socket_is_closed(redis: Server, run: Run) -> None:
    async def main() -> None:
        async with meeting(redis, GRACE) as met, AsyncExitStack() as stack:
            sockets = []
            for n in range(8):
                sockets.append(await stack.enter_async_context(socket(met, n % 2)))
                if n > 2:  # the node that it leaves had one of its sockets since a move before
                    left = sockets[n - 3]
                    last = await left.frame()
                    assert (last.opcode, last.code) == (CLOSE, 4409)
                    await left.send(peer.frame(CLOSE, last.payload))
                    assert await left.rest() == b""
                for each in sockets[max(0, n - 2) :]:
                    await echoed(each, n)
                assert sum(len(hub.connections) for hub in hubs(met)) <= 4
            assert met.cluster.ports == [("open", "ann")]

    run(main())


def test_nothing_is_left_of_a_client_that_moved_and_went(redis: Server, run: Run) -> None:
    async def main() -> None:
        async with meeting(redis, GRACE) as met:
            async with socket(met, 0), socket(met, 1), socket(met, 0):
                assert hubs(met)[0].moved.by_user
                assert hubs(met)[1].moved.by_user
            await until(lambda: not any(hub.moved.by_user for hub in hubs(met)))
            await until(lambda: met.cluster.ports == [("open", "ann"), ("close", "ann")])
            for hub in hubs(met):
                assert not hub.table.by_user
                assert not hub.connections
                assert hub.table.away == 0

    run(main())


def test_what_a_home_knew_survives_a_handshake_that_broke_off_while_another_claimed(redis, run):
    async def main():
        async with meeting(redis) as met:
            met.balancer.chosen = 0
            async with met.client("ann", transport="ws") as (client, _):
                for n in range(3):
                    assert await client.send("t/echo", n, timeout=LIMIT) == n
                (session,) = hubs(met)[0].table
                target = session.target
                first, second = (node._endpoint.homes for node in met.nodes)
                opening = await second.open(target, None)
                assert opening.state.received == 3
                await first.engine.claim(client_key(target), opening.keys, None)
                del opening  # its connection has broken: what it was told is left with the engine
                state = State.decode(await first._ask(second.engine.node_id, target, 0))
                assert state.received == 3

    run(main())


def test_a_session_that_ends_while_its_client_comes_back_passes_on_what_it_knew(redis, run):
    async def main():
        async with meeting(redis) as met:
            met.balancer.chosen = 0
            async with met.client("ann", transport="ws") as (client, _):
                for n in range(3):
                    assert await client.send("t/echo", n, timeout=LIMIT) == n
                (session,) = hubs(met)[0].table
                target, homes = session.target, met.nodes[0]._endpoint.homes
                coming = asyncio.create_task(homes.open(target, None, 9))
                await asyncio.sleep(0)  # it asks the engine
                homes.keep(target, session.inbox)  # its grace is over
                opening = await coming
                assert opening.state.received == 3
                assert await homes.engine.home(client_key(target)) == homes.engine.node_id

    run(main())
