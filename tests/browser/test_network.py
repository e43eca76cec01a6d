"""The network goes down for 30 s: refused, with a word of the browser; or silent, without."""

from __future__ import annotations

import asyncio

from breaks import PROMISED, Break, record
from pulse import SLACK
from stage import Scene, scenario

OUTAGE = 30.0
NOTICED = (10 + 1 + 5) * 1000 + SLACK  # ms: pingInterval, a tick, pingTimeout


@scenario("ws", "ajax", "auto", lasts=OUTAGE + 10)
async def network_down(scene: Scene, transport: str) -> Break:
    """Every connection is reset, none is taken, and the browser says that it is offline."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport=transport)
    await tab.state(open=True)

    async def begin() -> None:
        await tab.set_offline(True)
        await proxy.down()

    async def end() -> float:
        await proxy.up()
        start = tab.here()
        await tab.set_offline(False)
        return await tab.hear("browser", "online", start)

    return await record(tab, server, begin, lambda: asyncio.sleep(OUTAGE), end)


def test_the_page_is_connected_soon_after_the_browser_is_online(network_down: Break) -> None:
    assert network_down.back_at - network_down.ended < PROMISED + network_down.lag


def test_an_offline_page_says_that_it_is_closed_and_why(network_down: Break) -> None:
    assert network_down.reasons
    assert "none" not in network_down.reasons
    assert network_down.noticed_at < network_down.ended - OUTAGE * 1000 / 2


def test_after_an_outage_no_number_is_doubled_or_overtaken(network_down: Break) -> None:
    assert (network_down.doubled, network_down.late) == ([], [])


def test_after_an_outage_every_number_arrives(network_down: Break) -> None:
    assert network_down.missing_since == []


@scenario("ws", "ajax", lasts=OUTAGE + 15)
async def network_silent(scene: Scene, transport: str) -> Break:
    """No byte comes through and no end of a connection; then all that was held does."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport=transport)
    await tab.state(open=True)

    async def begin() -> None:
        proxy.hole()

    async def end() -> None:
        proxy.release()

    return await record(tab, server, begin, lambda: asyncio.sleep(OUTAGE), end)


def test_a_silent_network_is_noticed_by_a_ping_though_the_page_sends(
    network_silent: Break,
) -> None:
    if network_silent.transport == "ws":
        assert network_silent.reasons[0] == "ws-ping-timeout"
        assert network_silent.noticed_at - network_silent.began < NOTICED + network_silent.lag
    # Over Ajax a poll may be parked, and what is posted waits for its answer.


def test_once_bytes_flow_again_the_page_is_connected_by_the_next_step(
    network_silent: Break,
) -> None:
    assert network_silent.back_at <= network_silent.due + SLACK + network_silent.lag


def test_a_page_that_noticed_says_why(network_silent: Break) -> None:
    assert "none" not in network_silent.reasons


def test_what_was_held_back_is_not_doubled_or_overtaken(network_silent: Break) -> None:
    assert (network_silent.doubled, network_silent.late) == ([], [])


def test_after_silence_every_number_arrives(network_silent: Break) -> None:
    assert network_silent.missing_since == []


@scenario("ws", "ajax", lasts=OUTAGE + 15)
async def network_lost(scene: Scene, transport: str) -> Break:
    """No byte comes through; then connections of before are reset, and new ones work."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport=transport)
    await tab.state(open=True)

    async def begin() -> None:
        proxy.hole()

    async def end() -> None:
        proxy.cut()
        proxy.release()

    return await record(tab, server, begin, lambda: asyncio.sleep(OUTAGE), end)


def test_a_page_whose_connections_were_lost_is_connected_by_the_next_step(
    network_lost: Break,
) -> None:
    assert network_lost.back_at <= network_lost.due + SLACK + network_lost.lag


def test_a_page_whose_connections_were_lost_says_why(network_lost: Break) -> None:
    first = {"ws": "ws-ping-timeout", "ajax": "unexpected"}[network_lost.transport]
    assert network_lost.reasons[0] == first
    assert "none" not in network_lost.reasons


def test_after_a_loss_no_number_is_doubled_or_overtaken(network_lost: Break) -> None:
    assert (network_lost.doubled, network_lost.late) == ([], [])


def test_after_a_loss_every_number_arrives(network_lost: Break) -> None:
    assert network_lost.missing_since == []
