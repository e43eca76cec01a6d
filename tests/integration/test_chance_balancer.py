"""The balancer before the suite's two workers: what a client sees of it, and what they see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import peer
import pytest
from chance_balancer import ChanceBalancer, in_thread
from peer import Peer
from raw import Run

import chansock
from chansock import Request, Response


@asynccontextmanager
async def balanced() -> AsyncIterator[tuple[ChanceBalancer, int, list[chansock.ChannelSocket]]]:
    """Two servers whose pages say which one answers, behind a balancer."""
    async with AsyncExitStack() as stack:
        nodes = [chansock.ChannelSocket() for _ in range(2)]
        ports = []
        for name, chsk in zip(("one", "two"), nodes, strict=True):
            served = chansock.serve(
                chsk, port=0, fallback=lambda request, name=name: page(request, name)
            )
            ports.append((await stack.enter_async_context(served)).port)
        balancer = ChanceBalancer(ports, seed=1)
        yield balancer, await stack.enter_async_context(balancer.listening()), nodes


def page(request: Request, name: str) -> Response:
    return Response(200, f"{name} answers {request.method} {request.path}")


def test_each_request_of_one_connection_goes_to_a_server_by_chance(drive: Run) -> None:
    async def main() -> None:
        async with balanced() as (balancer, port, _), await Peer.connect(port) as page:
            found = [await page.ask("GET", f"/{n}") for n in range(30)]
            names = [answer.text.split()[0] for answer in found]
            assert [answer.text.split()[-1] for answer in found] == [f"/{n}" for n in range(30)]
            assert {*names} == {"one", "two"}
            counted = [balancer.taken[port] for port in balancer.ports]
            assert counted == [names.count("one"), names.count("two")]
            head = await page.ask("HEAD", "/app")
            assert (head.status, head.body) == (200, b"")
            assert "POST /app" in (await page.ask("POST", "/app", body=b"said")).text

    drive(main())


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_client_that_goes_away_does_so_behind_the_balancer_as_well(how: str, drive: Run) -> None:
    async def main() -> None:
        async with balanced() as (_, port, nodes), await Peer.connect(port) as alice:
            assert (await alice.upgrade("/chsk?client-id=a")).status == 101
            assert "chsk/handshake" in await alice.text()
            getattr(alice, how)()
            while sum(node.stats.cut for node in nodes) < 1:
                await asyncio.sleep(0.001)
            assert await alice.rest() == b""

    drive(main())


def test_a_server_that_is_gone_is_an_end_without_an_answer(drive: Run) -> None:
    async def main() -> None:
        async with chansock.serve(chansock.ChannelSocket(), port=0) as gone:
            pass
        with in_thread([ChanceBalancer([gone.port], seed=1)]) as (port,):
            async with await Peer.connect(port) as alice:
                await alice.send(peer.request("GET", "/"))
                assert await alice.rest() == b""

    drive(main())
