"""A page of one origin and a server of another: what `allowed_origins` lets through."""

from __future__ import annotations

import json
from typing import Any

from chromium import Tab
from server import App
from stage import Scene, scenario

# The client of the page's own server, connected to another; `calls` are its requests.
CONNECT = """
import("/chsk/chansock.js").then(({ connect }) => {
  globalThis.statuses = [];
  const ask = async (url, init) => {
    const response = await fetch(url, { ...init, ...%(init)s });
    statuses.push(response.status);
    return response;
  };
  globalThis.other = connect(%(url)s, { transport: %(transport)s, fetch: ask });
  globalThis.heard = new Promise((resolve) => other.on("test/said", resolve));
  return new Promise((resolve) => {
    other.onState(({ open, uid, reason }) => {
      const why = reason?.kind;
      if (open || why === "refused" || why === "not-opened") resolve({ open, uid, reason });
    });
  });
})
"""


async def page(scene: Scene, user: str) -> tuple[Tab, str]:
    """Open a page of a server of its own, which may connect anywhere; give its origin too."""
    home = await scene.server()
    tab = await scene.blank()
    await tab.session.send("Page.enable")
    await tab.session.send("Page.setBypassCSP", {"enabled": True})
    await tab.go(home.port, user)
    await tab.state(open=True)
    return tab, f"http://127.0.0.1:{home.port}"


async def connect(tab: Tab, server: App, transport: str, **init: str) -> dict[str, Any]:
    """Connect to another server; give the first state that says something."""
    given = {
        "url": f"http://127.0.0.1:{server.port}/chsk",
        "transport": transport,
        "init": init,
    }
    script = CONNECT % {name: json.dumps(value) for name, value in given.items()}
    found: dict[str, Any] = await tab.eval(script)
    return found


@scenario("ws", "ajax")
async def allowed(scene: Scene, transport: str) -> dict[str, Any]:
    """The server names the page's origin."""
    tab, origin = await page(scene, "ada")
    server = await scene.server(allowed_origins=["https://www.example", origin])
    state = await connect(tab, server, transport)
    reply = await tab.eval("other.send('test/mark', 42, { timeout: 60 })")
    await tab.eval("other.send('test/say', 'hello')")
    heard = await tab.eval("heard")
    return {"state": state, "reply": reply, "heard": heard}


def test_a_page_of_an_allowed_origin_is_connected_by_each_transport(
    allowed: dict[str, Any],
) -> None:
    assert allowed["state"]["open"]
    assert allowed["reply"] == 42
    assert allowed["heard"] == "hello"


def test_its_cookies_travel(allowed: dict[str, Any]) -> None:
    assert allowed["state"]["uid"] == "ada"


@scenario("ws", "ajax")
async def not_allowed(scene: Scene, transport: str) -> dict[str, Any]:
    """The server says nothing of origins: its own alone may come."""
    tab, _ = await page(scene, "ada")
    server = await scene.server()
    state = await connect(tab, server, transport)
    statuses = await tab.eval("statuses")
    return {"state": state, "statuses": statuses, "facts": server.facts}


def test_without_allowed_origins_a_page_of_another_is_not_connected(
    not_allowed: dict[str, Any],
) -> None:
    assert not not_allowed["state"]["open"]
    assert not_allowed["state"]["reason"]["kind"] == "not-opened"
    assert not [fact for fact in not_allowed["facts"] if fact[0] == "came"]


def test_without_allowed_origins_a_page_of_another_reads_no_answer(
    not_allowed: dict[str, Any],
) -> None:
    # Of an opaque answer (0) a page learns that there is one, and no more.
    assert set(not_allowed["statuses"]) <= {0}


@scenario()
async def told_why(scene: Scene) -> dict[str, Any]:
    """The page's origin may come, its user may not."""
    tab, origin = await page(scene, "ada")
    server = await scene.server(allowed_origins=[origin])
    await tab.eval("document.cookie = 'user=banned'")
    return await connect(tab, server, "ajax")


def test_a_page_of_an_allowed_origin_can_read_why_it_is_refused(told_why: dict[str, Any]) -> None:
    reason = told_why["reason"]
    assert (reason["kind"], reason["code"], reason["text"]) == (
        "refused",
        403,
        "banned until Monday",
    )


@scenario("as it is", "without cookies")
async def any_origin(scene: Scene, how: str) -> dict[str, Any]:
    """The server lets every page connect."""
    tab, _ = await page(scene, "ada")
    server = await scene.server(allowed_origins=["*"])
    init = {"credentials": "omit"} if how == "without cookies" else {}
    state = await connect(tab, server, "ajax", **init)
    return {"how": how, "state": state}


def test_star_lets_a_page_come_by_ajax_without_its_cookies_alone(
    any_origin: dict[str, Any],
) -> None:
    is_open = any_origin["state"]["open"]
    assert is_open == (any_origin["how"] == "without cookies")
    assert any_origin["state"]["uid"] is None
