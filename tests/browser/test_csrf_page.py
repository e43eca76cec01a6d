"""A token that a page shows: in the URL, or where no access log shows it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from stage import Scene, scenario

TOKEN = "tok/123 = \u00e9"  # with what no subprotocol may have in it


@dataclass
class Shown:
    place: str
    state: dict[str, Any]
    websockets: list[str]  # their targets
    targets: list[str]  # of all requests


@scenario(*itertools.product(("auto", "ws", "ajax"), ("param", "subprotocol")))
async def shown(scene: Scene, param: tuple[str, str]) -> Shown:
    """A page opens its channel with a token, sends, and comes back after a break."""
    transport, place = param
    server = await scene.server(csrf_token=TOKEN)
    proxy = await scene.proxy(server)
    options = {"transport": transport, "csrfToken": TOKEN, "csrfTokenIn": place}
    tab = await scene.tab(proxy.port, "ada", **options)
    await tab.state(open=True)
    await tab.eval("marks.send(60)")
    start = tab.here()
    await tab.do("client.breakConnection()")
    await tab.state(start, open=False)
    state = await tab.state(start, open=True)
    await tab.eval("marks.send(60)")
    assert server.marks(await tab.eval("client.clientId")) == [0, 1]
    targets = [head.target for head in proxy.heads if head.target.startswith("/chsk?")]
    websockets = [head.target for head in proxy.upgrades]
    return Shown(place, state, websockets, targets)


def test_a_page_with_the_token_gets_in_by_the_transport_that_it_asked_for(shown: Shown) -> None:
    assert shown.state["csrfToken"] == TOKEN
    assert shown.state["lastWsError"] is None


def test_the_token_stands_in_the_url_of_a_websocket_unless_told_otherwise(shown: Shown) -> None:
    assert {"csrf-token" in target for target in shown.websockets} <= {shown.place == "param"}
    assert shown.place == "param" or "csrf-token" not in "".join(shown.targets)
    assert bool(shown.websockets) == (shown.state["type"] == "ws")
