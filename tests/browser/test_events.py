"""What a page sends and gets, where the connection gives no trouble."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

from breaks import missing
from chromium import Tab, now
from server import App
from stage import Scene, scenario

BURST = 300
EVERY, MANY = 0.01, 1_000_000  # seconds between numbers that come for as long as the page does


@scenario("ws", "ajax")
async def burst(scene: Scene, transport: str) -> list[int]:
    """A page sends many events in one turn; the server notes them."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport)
    await tab.state(open=True)
    await tab.eval(f"marks.burst({BURST})")
    await tab.eval("marks.send(60)")
    return server.marks(await tab.eval("client.clientId"))


def test_a_burst_arrives_in_order_each_event_once(burst: list[int]) -> None:
    assert burst == list(range(BURST + 1))


@scenario("ws", "ajax")
async def stream(scene: Scene, transport: str) -> list[int]:
    """The server pushes many events as fast as it can."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport)
    await tab.state(open=True)
    await tab.eval(f"client.send('test/stream', {{ count: {BURST}, every: 0 }})")
    await tab.hear("number", BURST - 1)
    return tab.told("number")


def test_pushes_arrive_in_order_each_once(stream: list[int]) -> None:
    assert stream == list(range(BURST))


@scenario("ws", "ajax", lasts=8)
async def queued(scene: Scene, transport: str) -> list[int]:
    """A page sends while the server is down, and as it comes back, with a queue."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport, offline="queue")
    await tab.state(open=True)
    start = tab.here()
    await server.kill()
    await tab.state(start, open=False)
    await tab.do("marks.burst(50)")
    start = tab.here()
    await server.start()
    await tab.do("marks.burst(20)")
    await tab.state(start, open=True)
    await tab.eval("marks.burst(20)")
    await tab.eval("marks.send(60)")
    return server.marks(await tab.eval("client.clientId"))


def test_a_queue_keeps_the_order_of_what_was_sent_before_and_after(queued: list[int]) -> None:
    assert queued == list(range(91))


@scenario("ws", "ajax")
async def refused_while_closed(scene: Scene, transport: str) -> list[Any]:
    """A page sends while the server is down, and wants no queue."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport, offline="refuse")
    await tab.state(open=True)
    start = tab.here()
    await server.kill()
    await tab.state(start, open=False)
    await tab.eval("marks.send()")
    return tab.told("mark")


def test_without_a_queue_a_send_while_closed_is_refused(refused_while_closed: list[Any]) -> None:
    assert [mark["outcome"] for mark in refused_while_closed] == ["ChannelClosed"]


@scenario()
async def answer_lost(scene: Scene) -> list[int]:
    """A POST arrives, and its connection breaks before the answer; then the page goes on.

    Chromium sends a request once more by itself if a connection that it used before
    breaks off: its page knows nothing of that.
    """
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport="ajax")
    await tab.state(open=True)
    await tab.eval("marks.send(60)")
    await tab.eval("marks.send(60)")
    proxy.answer_to_lose = "POST"
    await tab.eval("marks.send()")
    await tab.state(open=True)
    await tab.eval("marks.send()")
    await tab.eval("marks.send(60)")
    return server.marks(await tab.eval("client.clientId"))


def test_an_event_whose_answer_was_lost_is_not_doubled(answer_lost: list[int]) -> None:
    assert answer_lost == list(range(5))


@dataclass
class PollLost:
    numbers: list[int]
    closed: list[dict[str, Any]]


@scenario()
async def poll_lost(scene: Scene) -> PollLost:
    """The answer to a poll is lost on its way, and the browser asks once more by itself."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, transport="ajax")
    await tab.state(open=True)
    began = now()
    await tab.eval(f"client.send('test/stream', {{ count: {MANY}, every: {EVERY} }})")
    await tab.hear("number", BURST // 3)
    proxy.answer_to_lose = "GET"
    await proxy.lost.until(lambda method: method == "GET")
    # Pushed after the loss. Which number comes first depends on how long the client is away.
    later = (now() - began) / 1000 / EVERY + 1
    await tab.log.until(lambda line: line["kind"] == "number" and line["what"] > later)
    opened = next(index for index, state in enumerate(tab.states()) if state["open"])
    closed = [state for state in tab.states()[opened:] if not state["open"]]
    return PollLost(tab.told("number"), closed)


def test_pushes_lost_with_the_answer_to_a_poll_are_told_by_a_close(poll_lost: PollLost) -> None:
    assert not missing(poll_lost.numbers, poll_lost.numbers[-1]) or poll_lost.closed


REASONS = {"stranger": (401, "Unauthorized request"), "banned": (403, "banned until Monday")}


@dataclass
class Refused:
    """`asked` counts the requests to the channel until the page was told, `asked_later` all."""

    user: str
    tab: Tab
    state: dict[str, Any]
    asked: int
    asked_later: int
    reopened: dict[str, Any]


@scenario(*itertools.product(("auto", "ws", "ajax"), REASONS), lasts=10)
async def refused(scene: Scene, param: tuple[str, str]) -> Refused:
    """A page whose user may not come in; later it is told to try as another user."""
    transport, user = param
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, user, transport=transport)
    await tab.log.until(lambda line: line["kind"] == "ready")

    def count() -> int:
        return sum(head.target.startswith("/chsk?") for head in proxy.heads)

    state, asked = tab.states()[-1], count()
    await asyncio.sleep(5.0)  # a backoff would have had its second step
    asked_later = count()
    await tab.do("document.cookie = 'user=ada'")
    await tab.do("client.reconnect()")
    reopened = await tab.state(open=True)
    return Refused(user, tab, state, asked, asked_later, reopened)


def test_a_refused_page_shows_the_reason_of_the_server(refused: Refused) -> None:
    code, text = REASONS[refused.user]
    assert refused.state["reason"] == {"kind": "refused", "code": code, "text": text}


def test_a_refused_page_tries_no_more(refused: Refused) -> None:
    assert refused.state["retryAt"] is None
    assert refused.asked_later == refused.asked


def test_ready_rejects_if_the_page_is_refused(refused: Refused) -> None:
    assert refused.tab.told("ready") == ["ChannelClosed"]


def test_a_refused_page_comes_in_with_other_credentials(refused: Refused) -> None:
    assert refused.reopened["uid"] == "ada"


@scenario("ws", "ajax", lasts=10)
async def left(scene: Scene, transport: str) -> App:
    """A user has two tabs open and closes one, then the other."""
    server = await scene.server(grace_ws=1.0, grace_ajax=1.0)
    tab = await scene.tab(server.port, "ada", transport=transport)
    await tab.state(open=True)
    second = await scene.beside(tab)
    await second.go(server.port, transport=transport)
    await second.state(open=True)
    await server.facts.until(lambda fact: fact == ["came", "ada"])
    await tab.close()
    await asyncio.sleep(2.0)  # more than the grace: nobody may be said to have left
    await second.eval("marks.send(60)")
    await second.close()
    await server.facts.until(lambda fact: fact == ["went", "ada"])
    return server


def test_a_user_leaves_with_the_last_tab_that_is_closed(left: App) -> None:
    facts = [fact[0] for fact in left.facts if fact[0] in ("came", "mark", "went")]
    assert facts == ["came", "mark", "went"]


@scenario("ws", "ajax")
async def quiet(scene: Scene, transport: str) -> Tab:
    """A page connects, sends, gets, reconnects and disconnects."""
    server = await scene.server()
    tab = await scene.tab(server.port, "ada", transport=transport)
    await tab.state(open=True)
    await tab.eval("marks.send(60)")
    await tab.eval("client.send('test/say', 'hello')")
    await tab.hear("said", "hello")
    start = tab.here()
    await tab.do("client.reconnect()")
    await tab.state(start, open=False)
    await tab.state(start, open=True)
    start = tab.here()
    await tab.do("client.disconnect()")
    await tab.state(start, open=False)
    return tab


def test_a_page_in_peace_leaves_nothing_in_the_console(quiet: Tab) -> None:
    assert quiet.complaints == []


def test_a_reconnect_and_a_disconnect_are_told_with_their_reasons(quiet: Tab) -> None:
    kinds = [state["reason"]["kind"] for state in quiet.states() if state["reason"]]
    assert list(dict.fromkeys(kinds)) == ["requested-reconnect", "requested-disconnect"]
