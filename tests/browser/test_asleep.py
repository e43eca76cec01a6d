"""Tabs that are frozen, hidden, put into the page cache or asleep with their computer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from breaks import PROMISED, Break, record
from chromium import Tab
from pulse import SLACK, lag
from stage import Scene, scenario

FROZEN = 6.0


@scenario("ws", "ajax", lasts=FROZEN + 5)
async def frozen(scene: Scene, transport: str) -> Break:
    """The browser freezes the tab, and thaws it after a while."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport)
    await tab.state(open=True)
    return await record(tab, server, tab.freeze, lambda: asyncio.sleep(FROZEN), lambda: _thaw(tab))


async def _thaw(tab: Tab) -> float:
    start = tab.here()
    await tab.thaw()
    told_at = await tab.hear("browser", "resume", start)
    await tab.show()
    return told_at


def test_a_thawed_page_is_connected_soon(frozen: Break) -> None:
    assert frozen.back_at - frozen.ended < PROMISED + frozen.lag


def test_a_thawed_page_doubles_no_number_and_lets_none_overtake(frozen: Break) -> None:
    assert (frozen.doubled, frozen.late) == ([], [])


def test_a_thawed_page_sends_every_number(frozen: Break) -> None:
    assert frozen.missing_since == []


@scenario("ws", "ajax", lasts=FROZEN + 5)
async def frozen_over_a_restart(scene: Scene, transport: str) -> Break:
    """While the tab is frozen the server is killed and started again."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport)
    await tab.state(open=True)

    async def pause() -> None:
        await server.kill()
        await asyncio.sleep(FROZEN)
        await server.start()

    return await record(tab, server, tab.freeze, pause, lambda: _thaw(tab))


def test_a_page_thawed_after_a_restart_is_connected_soon(frozen_over_a_restart: Break) -> None:
    played = frozen_over_a_restart
    assert played.back_at - played.ended < PROMISED + played.lag


def test_a_page_thawed_after_a_restart_says_why_it_was_not(frozen_over_a_restart: Break) -> None:
    assert frozen_over_a_restart.reasons
    assert "none" not in frozen_over_a_restart.reasons


def test_a_page_thawed_after_a_restart_doubles_no_number(frozen_over_a_restart: Break) -> None:
    assert frozen_over_a_restart.doubled == []


@scenario("ws", "ajax", lasts=5)
async def page_cached(scene: Scene, transport: str) -> Break:
    """The user follows a link, is gone for others, and comes back to the page as it was left."""
    # With an interval as usual, a ping would find that nobody is there.
    server = await scene.server(grace_ws=1.0, grace_ajax=1.0, ws_ping_interval=600)
    tab = await scene.tab(server.port, transport=transport, user="ada")
    await tab.state(open=True)

    async def gone() -> None:
        await server.facts.until(lambda fact: fact == ["went", "ada"])

    async def back() -> float:
        start = tab.here()
        await tab.back()
        return await tab.hear("browser", "pageshow", start)

    return await record(tab, server, tab.leave, gone, back)


def test_a_page_out_of_the_cache_is_connected_soon(page_cached: Break) -> None:
    assert page_cached.back_at - page_cached.ended < PROMISED + page_cached.lag


def test_a_page_out_of_the_cache_doubles_no_number(page_cached: Break) -> None:
    assert page_cached.doubled == []


def test_a_page_out_of_the_cache_sends_every_number(page_cached: Break) -> None:
    assert page_cached.missing_since == []


HIDDEN = 30.0


@dataclass
class Attempts:
    """When connections were asked for while the network was down, and what came after."""

    at: list[float]
    shown_at: float
    opened_at: float
    lag: float


@scenario("ws", "ajax", lasts=HIDDEN + 5)
async def hidden(scene: Scene, transport: str) -> Attempts:
    """The server is down while the tab is hidden, and back just before it is shown."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport=transport)
    await tab.state(open=True)
    start = tab.here()
    await tab.hide()
    await tab.hear("browser", "hidden", start)
    await server.kill()
    await tab.state(start, open=False)
    known = len(proxy.heads)
    await asyncio.sleep(HIDDEN)
    attempts = [head.at for head in proxy.heads[known:]]
    await server.start()
    start = tab.here()
    await tab.show()
    shown_at = await tab.hear("browser", "visible", start)
    opened = await tab.state(start, open=True)
    return Attempts(attempts, shown_at, opened["at"], lag(shown_at))


def test_a_hidden_page_tries_rarely_while_the_server_is_down(hidden: Attempts) -> None:
    # At 0, 2 to 4, 6 to 12, 14 to 28 s: the backoff goes on doubling where none looks.
    assert len(hidden.at) <= 5


def test_a_page_that_is_shown_is_connected_soon(hidden: Attempts) -> None:
    assert hidden.opened_at - hidden.shown_at < PROMISED + hidden.lag


ASLEEP = 30.0


@scenario("ws", "ajax", lasts=ASLEEP + 15)
async def computer_asleep(scene: Scene, transport: str) -> Break:
    """All of a browser stands still, as with a closed lid, while its connections are lost.

    No event tells the page: its timer comes late, and that is all. A WebSocket is silent
    from then on; where HTTP would use its old connections again they are reset.
    """
    server = await scene.server()
    proxy = await scene.proxy(server)
    await scene.alone()
    tab = await scene.tab(proxy.port, transport=transport)
    await tab.state(open=True)

    async def begin() -> None:
        scene.chromium.stop()
        proxy.hole()

    async def end() -> None:
        if transport == "ws":
            proxy.lose()
        else:
            proxy.cut()
        proxy.release()
        scene.chromium.go_on()

    return await record(tab, server, begin, lambda: asyncio.sleep(ASLEEP), end)


def test_a_computer_that_wakes_up_checks_its_connection_at_once(computer_asleep: Break) -> None:
    assert computer_asleep.back_at - computer_asleep.ended < PROMISED + SLACK + computer_asleep.lag


def test_a_computer_that_wakes_up_says_why_it_is_not_connected(computer_asleep: Break) -> None:
    first = {"ws": "ws-ping-timeout", "ajax": "unexpected"}[computer_asleep.transport]
    assert computer_asleep.reasons[0] == first


def test_a_computer_that_wakes_up_doubles_no_number(computer_asleep: Break) -> None:
    assert (computer_asleep.doubled, computer_asleep.late) == ([], [])
