"""Pages of Chromium that are reloaded: the JavaScript client resumes by its record in the tab.

    python -m soak.resume.pages URL NAMES...

What goes in and out is in `children`. A page that reloads loses the promises of its requests, and
nothing else. Playwright drives Chromium; `is_available` tells whether both are there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

HERE = Path(__file__).parent
JS = HERE.parents[2] / "js"
FILES = {
    "/page": (HERE / "page.html", "text/html"),
    "/driver.mjs": (HERE / "driver.mjs", "text/javascript"),
    "/chansock.js": (JS / "chansock.js", "text/javascript"),
}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TRANSPORTS = ("ws", "ajax")
EACH = 0.25  # seconds between two looks


def chromium() -> str | None:
    given = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, (given,) if given else NAMES)), None)


def is_available() -> bool:
    return importlib.util.find_spec("playwright") is not None and chromium() is not None


async def answer(route: Any) -> None:
    """Answer a request for a file, in place of the server: the page is of its origin."""
    file, kind = FILES[urlsplit(route.request.url).path]
    await route.fulfill(path=file, content_type=kind)


class Tab:
    """One page, and how far its reports were read."""

    def __init__(self, page: Any, name: str) -> None:
        self.page = page
        self.name = name
        self.random = random.Random(name)
        self.read_to = 0
        self.is_held = False

    async def run(self, url: str) -> None:
        await self.page.goto(url)
        loop = asyncio.get_running_loop()
        reload_at = loop.time() + self.random.uniform(2, 8)
        while True:
            await asyncio.sleep(EACH)
            await self.look()
            if loop.time() > reload_at and not self.is_held:
                await self.page.reload()
                reload_at = loop.time() + self.random.uniform(2, 8)

    async def look(self) -> None:
        script = "([after, hold]) => globalThis.take ? take(after, hold) : null"
        found = await self.page.evaluate(script, [self.read_to, self.is_held])
        if found is None:
            return  # not loaded yet
        items = [item for number, item in found["items"] if number > self.read_to]
        if found["items"]:
            self.read_to = found["items"][-1][0]
        items.append(["q", found["isQuiet"]])
        print(json.dumps([self.name, items]), flush=True)


async def main(url: str, *names: str) -> None:
    from playwright.async_api import async_playwright  # is_available was asked

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with async_playwright() as playwright:
        # A page that comes from nowhere may else open no socket to this machine.
        off = "LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
        flags = [f"--disable-features={off}", "--no-sandbox", "--disable-gpu"]
        browser = await playwright.chromium.launch(executable_path=chromium(), args=flags)
        tabs, tasks = [], []
        for number, name in enumerate(names):
            context = await browser.new_context()
            for path in FILES:
                await context.route(lambda found, path=path: urlsplit(found).path == path, answer)
            tab = Tab(await context.new_page(), name)
            tabs.append(tab)
            query = {"url": url, "name": name, "transport": TRANSPORTS[number % 2]}
            where = urljoin(url, f"/page?{urlencode(query)}")
            tasks.append(asyncio.create_task(tab.run(where)))
        hold = asyncio.create_task(reader.readline())
        while not (hold.done() and not hold.result()):
            done, _ = await asyncio.wait([*tasks, hold], return_when=asyncio.FIRST_COMPLETED)
            for task in done & set(tasks):
                task.result()
            if hold.done() and hold.result():
                for tab in tabs:
                    tab.is_held = True
                hold = asyncio.create_task(reader.readline())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
