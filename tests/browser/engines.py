"""Chromium, Firefox, and WebKit behind the interface of engine.py, by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import chromium
from engine import SIZE, Engine, Page, wrapped
from firefox import firefox
from playwright.async_api import async_playwright
from webkit import webkit


class _ChromiumPage:
    def __init__(self, tab: chromium.Tab) -> None:
        self._tab = tab

    async def go(self, url: str) -> None:
        await self._tab.page.goto(url)

    async def eval(self, expression: str) -> Any:
        return json.loads(await self._tab.eval(wrapped(expression)))

    async def back(self) -> None:
        await self._tab.back()

    async def close(self) -> None:
        await self._tab.close()


class _Chromium:
    name = "chromium"

    def __init__(self, browser: chromium.Chromium, first: chromium.Tab) -> None:
        self._browser = browser
        self._first = first  # the others are its user's
        self.stop = browser.stop
        self.go_on = browser.go_on

    async def open(self) -> Page:
        tab = await self._first.open_beside()
        await tab.page.set_viewport_size(SIZE)
        return _ChromiumPage(tab)


@asynccontextmanager
async def _chromium() -> AsyncIterator[Engine]:
    async with async_playwright() as playwright, chromium.launch(playwright) as browser:
        yield _Chromium(browser, await browser.open())


ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[Engine]]] = {
    "chromium": _chromium,
    "firefox": firefox,
    "webkit": webkit,
}
