"""Something between lets no WebSocket through, in each of the ways that are met, then does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from breaks import Break, doubled, late, missing, record
from chromium import now
from proxy import Head, Rule
from pulse import SLACK, lag
from stage import Scene, scenario

RULES: tuple[Rule, ...] = (
    "403",
    "reset",
    "close",
    "no-answer",
    "cut",
    "cut-after-handshake",
    "silent",
)
UPGRADE_INTERVAL = 2.0
CONNECT_TIMEOUT = 5.0  # the client's default
MANY = 100_000


@dataclass
class Blocked:
    """`opened` by Ajax behind the block, `upgraded` once it was gone; numbers as they came."""

    states: list[dict[str, Any]]
    started_at: float
    opened: dict[str, Any]
    allowed_at: float
    upgraded: dict[str, Any]
    numbers: list[int]
    sent: int
    marks: list[int]
    lag: float  # ms that a busy machine may add to what is due


def is_poll(head: Head) -> bool:
    """Whether a request asks for what the server pushes: the client numbers those."""
    return head.method == "GET" and re.search(r"[?&]n=\d", head.target) is not None


@scenario(*RULES, lasts=25)
async def blocked(scene: Scene, rule: Rule) -> Blocked:
    """A page starts behind the block; it is lifted once the page looked for a WebSocket again.

    All the while the server pushes a number each 50 ms, and the page sends one.
    """
    server = await scene.server()
    proxy = await scene.proxy(server)
    proxy.websockets = rule
    tab = await scene.blank()
    started_at = now()
    await tab.go(proxy.port, upgradeInterval=UPGRADE_INTERVAL)
    opened = await tab.state(open=True, type="ajax")
    # The server pushes to what came last. That is a poll from here on, and not the WebSocket that
    # the page has given up: on a busy machine its request may come late.
    first = await proxy.heads.until(lambda head: head.is_upgrade)
    await proxy.heads.until(is_poll, proxy.heads.index(first))
    await tab.eval(f"client.send('test/stream', {{ count: {MANY}, every: 0.05 }})")
    await tab.do("marks.keep(0.05)")
    await proxy.heads.until(lambda head: head.is_upgrade, len(proxy.heads))
    start = tab.here()
    proxy.websockets = "pass"
    allowed_at = now()
    upgraded = await tab.state(start, open=True, type="ws")
    start = tab.here()
    some = tab.told("number")[-1] + 40
    await tab.hear("number", some, start)
    await tab.eval("marks.stop()")
    await tab.eval("marks.send(60)")
    return Blocked(
        tab.states(),
        started_at,
        opened,
        allowed_at,
        upgraded,
        tab.told("number"),
        await tab.eval("marks.next"),
        server.marks(await tab.eval("client.clientId")),
        lag(started_at),
    )


def test_behind_a_block_a_page_is_connected_by_ajax(blocked: Blocked) -> None:
    # What is silent is known by its silence alone.
    most = CONNECT_TIMEOUT * 1000 + 2 * SLACK + blocked.lag
    assert blocked.opened["at"] - blocked.started_at < most


def test_behind_a_block_a_page_says_why_it_has_no_websocket(blocked: Blocked) -> None:
    assert blocked.opened["reason"]["kind"] == "downgrading-ws-to-ajax"


def test_once_allowed_the_page_moves_to_a_websocket(blocked: Blocked) -> None:
    # The attempt that was under way fails first; the next comes after twice the interval.
    due = blocked.allowed_at + (CONNECT_TIMEOUT + 2 * UPGRADE_INTERVAL) * 1000
    assert blocked.upgraded["at"] < due + 2 * SLACK + blocked.lag


def test_the_move_is_told_with_its_reason(blocked: Blocked) -> None:
    assert blocked.upgraded["reason"]["kind"] == "upgrading-ajax-to-ws"


def test_the_move_is_quiet(blocked: Blocked) -> None:
    since = [
        state
        for state in blocked.states
        if blocked.opened["at"] <= state["at"] <= blocked.upgraded["at"]
    ]
    assert all(state["open"] for state in since)


def test_pushes_keep_their_order_through_the_move_and_none_is_lost(blocked: Blocked) -> None:
    assert (late(blocked.numbers), doubled(blocked.numbers)) == ([], [])
    assert missing(blocked.numbers, blocked.numbers[-1]) == []


def test_events_sent_keep_their_order_through_the_move_and_none_is_lost(
    blocked: Blocked,
) -> None:
    assert (late(blocked.marks), doubled(blocked.marks)) == ([], [])
    assert missing(blocked.marks, blocked.sent) == []


@scenario(*RULES, lasts=20)
async def blocked_midway(scene: Scene, rule: Rule) -> Break:
    """A page that is open by WebSocket loses it, and gets no other."""
    server = await scene.server()
    proxy = await scene.proxy(server)
    tab = await scene.tab(proxy.port, upgradeInterval=60)
    await tab.state(open=True, type="ws")
    start = tab.here()

    async def begin() -> None:
        proxy.websockets = rule
        proxy.cut_websockets()

    async def pause() -> None:
        await tab.state(start, open=False)

    async def end() -> None:
        """The block stays: what ends is the way to Ajax."""
        await tab.state(start, open=True, type="ajax")

    return await record(tab, server, begin, pause, end)


def test_a_page_whose_websocket_is_blocked_goes_on_by_ajax(blocked_midway: Break) -> None:
    last = blocked_midway.states[-1]
    assert (last["open"], last["type"]) == (True, "ajax")
    most = CONNECT_TIMEOUT * 1000 + 10_000 + SLACK + blocked_midway.lag
    assert last["at"] - blocked_midway.began < most


def test_a_page_whose_websocket_is_blocked_doubles_no_number(blocked_midway: Break) -> None:
    assert (blocked_midway.doubled, blocked_midway.late) == ([], [])
