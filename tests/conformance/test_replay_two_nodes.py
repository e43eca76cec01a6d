"""Recorded Sente clients against two processes' channels, each request to one by chance.

The two channels share a real Redis and run in the loop of the test, each with a server of its own.
What may differ from the recordings is what may differ with one channel: MAY_DIFFER of `replay`.

A replay waits for no recorded time. A poll that another node lends takes two turns through the
engine, in which a later poll of the same client-id could overtake it: so each waits for the one
before to be parked, as it was when the recorded client sent the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sente_app
from chance_balancer import ChanceBalancer
from recorded_servers import HOOKS, PACKERS, SETTINGS, scenario
from recording import NAMES, Record, packer
from recording_order import is_poll
from redis_server import Server
from replay import Replay
from test_replay import PACKED, SCENARIOS

import chansock
from chansock.backplanes.redis import Redis

pytestmark = pytest.mark.slow

UNTIMED = [name for name in NAMES if scenario(name) in {*SCENARIOS, *PACKED}]


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with Server() as server:
        yield server


def channel(name: str, redis: Server) -> chansock.ChannelSocket:
    """Make a recorded server's application as one of two nodes: `recorded_servers.channel`."""
    what = scenario(name)
    return sente_app.make(
        # A tenth of the recorded delay: a poll may be answered with fewer events in any case.
        replace(sente_app.RECORDED, flush_delay_ajax=0.01, **SETTINGS.get(what, {})),
        packer=PACKERS[packer(name)](),
        backplane=Redis(redis.url, name=name),
        **HOOKS.get(what, {}),
    )


class SettledReplay(Replay):
    """A replay whose polls are parked at their home, or answered, before it goes on."""

    def __init__(self, name: str, port: int, nodes: list[chansock.ChannelSocket]) -> None:
        super().__init__(name, port)
        self.nodes = nodes

    async def _ask(self, record: Record) -> None:
        # One whose recorded answer came early is not sent: its chain has one that still waits.
        is_sent = is_poll(record) and not self._chain(record).is_carried
        await super()._ask(record)
        if is_sent:
            line = self.lines[record.conn]
            async with asyncio.timeout(self.patience):
                while not (line.answers or line.at_end or self._is_parked(record)):
                    await asyncio.sleep(0.001)

    def _is_parked(self, record: Record) -> bool:
        return any(
            connection.request.target == record.target
            for node in self.nodes
            for connection in node._endpoint._hub.connections
        )


async def play(name: str, redis: Server, seed: int) -> None:
    one, two = channel(name, redis), channel(name, redis)
    async with chansock.serve(one, port=0) as first, chansock.serve(two, port=0) as second:
        balancer = ChanceBalancer([first.port, second.port], seed)
        async with balancer.listening() as port:
            await SettledReplay(name, port, [one, two]).play()
    assert one.stats.bad_packet == one.stats.bad_event == 0
    assert two.stats.bad_packet == two.stats.bad_event == 0


@pytest.mark.parametrize("name", UNTIMED)
def test_recorded_client_of_two_nodes_gets_what_sente_gave_it(name: str, redis: Server) -> None:
    asyncio.run(play(name, redis, seed=len(name)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [name for name in NAMES if scenario(name) == "same-id"])
def test_two_recorded_clients_of_one_client_id_stay_wherever_they_come_to(
    name: str, seed: int, redis: Server
) -> None:
    asyncio.run(play(name, redis, seed))
