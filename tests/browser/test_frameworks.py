"""The chat of each framework's folder in examples/: two users, one by WebSocket, one by Ajax."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromium import NETWORK
from playwright.async_api import Page, expect
from stage import Scene, scenario

FRAMEWORKS = ("aiohttp", "alone", "fastapi", "litestar", "starlette")
WAYS = {"ada": "ws", "bob": "ajax"}


@dataclass
class Seen:
    """What Ada and Bob saw, in this order."""

    here: list[list[str]] = field(default_factory=list)
    log: list[list[str]] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    log_since: list[list[str]] = field(default_factory=list)
    complaints_since: list[str] = field(default_factory=list)


async def _is_open(page: Page, name: str) -> None:
    await expect(page.locator("#state")).to_have_text(f"Connected by {WAYS[name]}", timeout=60_000)


async def _say(page: Page, text: str) -> None:
    await page.locator("#text").fill(text)
    await page.locator("#text").press("Enter")
    await expect(page.locator("#text")).to_have_value("")


async def _texts(page: Page, what: str, count: int) -> list[str]:
    items = page.locator(what)
    await expect(items).to_have_count(count, timeout=60_000)
    return await items.all_text_contents()


@scenario(*FRAMEWORKS, lasts=12)
async def example(scene: Scene, framework: str) -> Seen:
    """Sign in, look who is here, talk, wave; then the server is killed, and is back."""
    seen = Seen()
    server = await scene.chat(framework)
    tabs = [await scene.blank() for _ in WAYS]
    pages = {name: tab.page for name, tab in zip(WAYS, tabs, strict=True)}
    for name, page in pages.items():
        await page.goto(f"http://127.0.0.1:{server.port}/")
        await expect(page.locator("#sign-in")).to_be_visible()
        await expect(page.locator("#say")).to_be_hidden()
        await page.locator("[name=name]").fill(name)
        await page.locator("[name=name]").press("Enter")
        await expect(page.locator("#say")).to_be_visible()
        await expect(page.locator("#sign-in")).to_be_hidden()
        await page.goto(f"http://127.0.0.1:{server.port}/?transport={WAYS[name]}")
        await _is_open(page, name)
    for page in pages.values():
        seen.here.append(await _texts(page, "#here li", 2))

    for name, page in pages.items():
        await _say(page, f"hello from {name}")
        seen.notes.append(await page.locator("#note").text_content())
    await pages["bob"].locator("#wave").click()
    for page in pages.values():
        seen.log.append(await _texts(page, "#log li", 3))
    seen.complaints = [text for tab in tabs for text in tab.complaints]

    await server.kill()
    for page in pages.values():
        await expect(page.locator("#state")).to_have_text("Connecting")
    await server.start()
    for name, page in pages.items():
        await _is_open(page, name)
    for page in pages.values():
        await _texts(page, "#here li", 2)
    for page in pages.values():
        await _say(page, "still here")
    for page in pages.values():
        seen.log_since.append(await _texts(page, "#log li", 2))
    seen.complaints_since = [text for tab in tabs for text in tab.complaints]
    return seen


def test_each_sees_the_other(example: Seen) -> None:
    assert example.here == [["ada", "bob"]] * 2


def test_each_gets_what_both_say_and_what_an_ordinary_route_pushes(example: Seen) -> None:
    said = ["ada: hello from ada", "bob: hello from bob", "bob waves 👋"]
    assert example.log == [said] * 2


def test_a_request_is_answered_on_either_transport(example: Seen) -> None:
    assert example.notes == ["Read by 2"] * 2


def test_the_console_stays_empty(example: Seen) -> None:
    assert example.complaints == []


def test_a_server_that_starts_anew_has_both_back_under_their_names(example: Seen) -> None:
    assert example.log_since == [["ada: still here", "bob: still here"]] * 2


def test_a_restart_leaves_only_network_errors_in_the_console(example: Seen) -> None:
    assert [text for text in example.complaints_since if not text.startswith(NETWORK)] == []
