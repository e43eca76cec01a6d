"""examples/django: two users of Django's own, one by WebSocket, one by Ajax; then both sign out."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.async_api import Page, expect
from server import ROOT, Server
from stage import EXAMPLES, Scene, scenario

WAYS = {"ada": "ws", "bob": "ajax"}
PASSWORD = "a long enough one"


@dataclass
class Seen:
    here: list[list[str]] = field(default_factory=list)
    log: list[list[str]] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # what tabs say whose user signed out elsewhere


class Project(Server):
    """A copy of the example, with a database of its own."""

    async def _run(self, *arguments: str, **environment: str) -> Any:
        await (await self._python("manage.py", "migrate", "--verbosity", "0")).wait()
        command = ("-m", "uvicorn", "mysite.asgi:application", "--port", str(self.port))
        return await self._spawn(sys.executable, *command, cwd=self.program)

    async def _python(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=self.program, env=environment
        )


async def _texts(page: Page, what: str, count: int) -> list[str]:
    items = page.locator(what)
    await expect(items).to_have_count(count, timeout=90_000)
    return await items.all_text_contents()


@scenario(lasts=15)
async def signed_up(scene: Scene) -> Seen:
    seen = Seen()
    copy = Path(scene.exit.enter_context(TemporaryDirectory()), "django")
    shutil.copytree(EXAMPLES / "django", copy, ignore=shutil.ignore_patterns("db.sqlite3"))
    server = await scene.exit.enter_async_context(Project(copy))
    at = f"http://127.0.0.1:{server.port}"
    tabs = {name: await scene.blank() for name in WAYS}
    for name, tab in tabs.items():
        page = tab.page
        await page.goto(f"{at}/")
        await page.get_by_role("link", name="sign up").click()
        await page.locator("[name=username]").fill(name)
        await page.locator("[name=password1]").fill(PASSWORD)
        await page.locator("[name=password2]").fill(PASSWORD)
        await page.get_by_role("button", name="Go on").click()
        await expect(page.locator("h1")).to_contain_text(name)
        await page.goto(f"{at}/?transport={WAYS[name]}")
        await expect(page.locator("#state")).to_have_text(f"Connected by {WAYS[name]}")
    pages = {name: tab.page for name, tab in tabs.items()}
    for page in pages.values():
        seen.here.append(await _texts(page, "#here li", 2))
    for name, page in pages.items():
        await page.locator("#text").fill(f"hello from {name}")
        await page.locator("#text").press("Enter")
        await expect(page.locator("#text")).to_have_value("")
        seen.notes.append(await page.locator("#note").text_content())
    await pages["bob"].locator("#wave").click()
    for page in pages.values():
        seen.log.append(await _texts(page, "#log li", 3))
    seen.complaints = [text for tab in tabs.values() for text in tab.complaints]

    for name, tab in tabs.items():
        other = await scene.beside(tab)
        await other.page.goto(f"{at}/?transport={WAYS[name]}")
        await expect(other.page.locator("#state")).to_have_text(f"Connected by {WAYS[name]}")
        await tab.page.locator("#logout").click()
        await expect(other.page.locator("#state")).to_have_text("Signed out", timeout=90_000)
        seen.others.append(await other.page.locator("#state").text_content() or "")
    return seen


def test_each_sees_the_other(signed_up: Seen) -> None:
    assert signed_up.here == [["ada", "bob"]] * 2


def test_each_gets_what_both_say_and_what_a_view_sends(signed_up: Seen) -> None:
    assert signed_up.log == [["ada: hello from ada", "bob: hello from bob", "bob waves"]] * 2


def test_a_request_is_answered_on_either_transport(signed_up: Seen) -> None:
    assert signed_up.notes == ["Read by 2"] * 2


def test_whoever_signs_out_is_signed_out_in_the_other_tab(signed_up: Seen) -> None:
    assert signed_up.others == ["Signed out"] * 2


def test_the_console_stays_empty(signed_up: Seen) -> None:
    assert signed_up.complaints == []
