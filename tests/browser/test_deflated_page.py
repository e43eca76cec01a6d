"""Chromium and a server that deflates: it offers that by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stage import Scene, scenario

LONG = "so long, élan, 𝄞, " * 2000


@dataclass
class Deflated:
    """`extensions` of the page's socket; what was `said` to it, and how its numbers fared."""

    extensions: list[str]
    said: list[Any]
    marks: list[int]
    complaints: list[str]


@scenario(True, False)
async def deflated(scene: Scene, compression: bool) -> tuple[bool, Deflated]:
    """A page sends long texts and short ones, and gets them back."""
    server = await scene.server(compression=compression)
    tab = await scene.tab(server.port, transport="ws")
    await tab.state(open=True)
    extensions = await tab.of_each("WebSocket", "extensions")
    for text in ("short", LONG, "end"):
        await tab.eval(f"client.send('test/say', {text!r})")
    await tab.hear("said", "end")
    await tab.eval("marks.burst(300)")
    await tab.eval("marks.send(60)")  # with a reply: those before it have been handled
    marks = server.marks(await tab.eval("client.clientId"))
    found = Deflated(extensions, tab.told("said"), marks, tab.complaints)
    return compression, found


def test_a_page_agrees_on_deflate_where_the_server_does(deflated: tuple[bool, Deflated]) -> None:
    wanted, found = deflated
    (extensions,) = found.extensions
    assert extensions.startswith("permessage-deflate; ") if wanted else extensions == ""


def test_a_page_says_and_hears_the_same_deflated_or_not(deflated: tuple[bool, Deflated]) -> None:
    _, found = deflated
    assert found.said == ["short", LONG, "end"]
    assert found.marks == list(range(301))
    assert found.complaints == []
