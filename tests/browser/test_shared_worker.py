"""examples/shared_worker: many tabs of a browser, one connection at the server."""

from __future__ import annotations

from dataclasses import dataclass

from chromium import Tab
from playwright.async_api import Page, expect
from stage import Scene, scenario


@dataclass
class Shared:
    websockets: int  # asked for in all
    polls: int
    said: list[list[str]]  # in each tab
    tabs_after: list[str]  # what the tabs that stay say, once one has gone
    complaints: list[str]


async def _open(tab: Tab, port: int) -> Page:
    await tab.page.goto(f"http://127.0.0.1:{port}/")
    await expect(tab.page.locator("#state")).to_have_attribute("data-open", "true")
    return tab.page


@scenario()
async def shared(scene: Scene) -> Shared:
    """Three tabs; each says something, then one is closed and another speaks."""
    server = await scene.example("shared_worker")
    proxy = await scene.proxy(server)
    first = await scene.blank()
    tabs = [first, await scene.beside(first), await scene.beside(first)]
    pages = [await _open(tab, proxy.port) for tab in tabs]
    for page in pages:
        await expect(page.locator("#tabs")).to_have_text("3 tabs")
    for number, page in enumerate(pages):
        await page.locator("#text").fill(f"tab {number}")
        await page.locator("#text").press("Enter")
        for other in pages:
            await expect(other.locator("#said li")).to_have_count(number + 1)
    said = [await page.locator("#said li").all_text_contents() for page in pages]
    await tabs[0].close()
    after = []
    for page in pages[1:]:
        await expect(page.locator("#tabs")).to_have_text("2 tabs")
        after.append(await page.locator("#tabs").text_content())
    await pages[2].locator("#text").fill("still here")
    await pages[2].locator("#text").press("Enter")
    await expect(pages[1].locator("#said li")).to_have_count(4)
    polls = [head for head in proxy.heads if head.target.startswith("/chsk?")]
    return Shared(
        websockets=len(proxy.upgrades),
        polls=len(polls) - len(proxy.upgrades),
        said=said,
        tabs_after=after,
        complaints=[text for tab in tabs for text in tab.complaints],
    )


def test_three_tabs_make_one_connection(shared: Shared) -> None:
    assert (shared.websockets, shared.polls) == (1, 0)


def test_each_tab_gets_every_event(shared: Shared) -> None:
    assert shared.said == [["tab 0", "tab 1", "tab 2"]] * 3


def test_a_tab_that_is_closed_is_forgotten_and_the_others_go_on(shared: Shared) -> None:
    assert shared.tabs_after == ["2 tabs", "2 tabs"]


def test_the_page_and_its_worker_leave_nothing_in_the_console(shared: Shared) -> None:
    assert shared.complaints == []
