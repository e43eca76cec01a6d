"""A page that resumes over its reload, by what it keeps in sessionStorage."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from stage import Scene, scenario

RELOADS = 6
BURST = 15  # marks right before a reload


@dataclass
class Reloads:
    client_ids: set[str] = field(default_factory=set)
    resumed: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@scenario("ws", "ajax", lasts=10)
async def reloads(scene: Scene, transport: str) -> Reloads:
    """A page sends and is reloaded in the same task, while the server pushes numbers to it."""
    seen = Reloads()
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport, resume="reload")
    count = 60
    await tab.state(open=True)
    await tab.eval(f"client.send('test/stream', {{ count: {count}, every: 0.05 }})")
    for turn in range(RELOADS):
        seen.client_ids.add(await tab.eval("client.clientId"))
        await tab.eval(f"marks.next = {turn * BURST}")
        start = tab.here()
        await tab.do(f"marks.burst({BURST}), location.reload()")
        seen.resumed.append((await tab.state(start, open=True, everOpened=True))["resumed"])
        while (await tab.eval("globalThis.client?.state.open")) is not True:
            await asyncio.sleep(0.05)
    while f" {count - 1} " not in await tab.eval("` ${sessionStorage.numbers}`"):
        await asyncio.sleep(0.05)
    await tab.eval(f"marks.next = {RELOADS * BURST}")
    await tab.eval("marks.send(60)")
    (client_id,) = seen.client_ids
    seen.marks = server.marks(client_id)
    numbers = await tab.eval("sessionStorage.numbers")
    seen.numbers = [int(number) for number in numbers.split()]
    seen.complaints = tab.complaints
    return seen


def test_every_connection_of_a_reloaded_page_is_resumed(reloads: Reloads) -> None:
    assert reloads.resumed == ["resumed"] * RELOADS


def test_what_was_sent_right_before_a_reload_arrives_once(reloads: Reloads) -> None:
    assert reloads.marks == list(range(RELOADS * BURST + 1))


def test_what_was_pushed_over_reloads_arrives_once(reloads: Reloads) -> None:
    assert reloads.numbers == list(range(60))


@scenario(lasts=6)
async def copied(scene: Scene) -> dict[str, Any]:
    """A page opens another one, which gets a copy of its sessionStorage; both send."""
    server = await scene.server()
    tab = await scene.tab(server.port, resume="reload")
    await tab.state(open=True)
    await tab.eval("marks.send(60)")
    other = await tab.open_popup()
    await other.wait_for_function("() => globalThis.client?.state.open")
    storage = await other.evaluate("() => Object.keys(sessionStorage).length")
    await other.evaluate("() => marks.send(60)")
    await tab.eval("marks.send(60)")
    ids = [await tab.eval("client.clientId"), await other.evaluate("() => client.clientId")]
    return {
        "ids": ids,
        "marks": [server.marks(client_id) for client_id in ids],
        "resumed": await other.evaluate("() => client.state.resumed"),
        "closed": await tab.eval("client.state.lastClose"),
        "storage": storage,
    }


def test_a_page_with_a_copy_of_the_storage_is_a_client_of_its_own(copied: dict[str, Any]) -> None:
    assert copied["storage"] > 0
    assert len(set(copied["ids"])) == 2
    assert copied["marks"] == [[0, 1], [0]]
    assert copied["resumed"] == "fresh"


def test_the_page_that_was_copied_notices_nothing(copied: dict[str, Any]) -> None:
    assert copied["closed"] is None


@scenario("ws", "ajax", lasts=6)
async def left_and_back(scene: Scene, transport: str) -> dict[str, Any]:
    """A page goes into the back-forward cache, and comes back."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport, resume="reload")
    await tab.state(open=True)
    await tab.eval("marks.send(60)")
    client_id = await tab.eval("client.clientId")
    start = tab.here()
    await tab.leave()
    await tab.back()
    await tab.hear("browser", "pageshow", start)
    state = await tab.state(start, open=True)
    await tab.eval("marks.send(60)")
    return {"resumed": state["resumed"], "marks": server.marks(client_id)}


def test_a_page_out_of_the_page_cache_is_resumed(left_and_back: dict[str, Any]) -> None:
    assert left_and_back == {"resumed": "resumed", "marks": [0, 1]}
