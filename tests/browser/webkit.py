"""WebKit: Debian's webkit2gtk-driver with its MiniBrowser, on a display of Xvfb, by WebDriver."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from engine import ANSWER, POLL, Engine, Group, Page, find_program, running, wrapped
from readme_pair import free_port

MINI_BROWSER = "/usr/lib/*/webkit2gtk-4.*/MiniBrowser"


class _WebDriver:
    """A session of WebDriver. One command at a time: each is about the window chosen last."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address
        self._lock = asyncio.Lock()
        self.session = ""

    async def ask(self, method: str, path: str, **fields: Any) -> Any:
        url = f"{self._address}/session{self.session}{path}"
        body = fields if method == "POST" else None
        async with self._http.request(method, url, json=body) as answer:
            value = (await answer.json(content_type=None))["value"]
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {value['error']}: {value['message']}")
        return value

    async def ask_in(self, window: str, method: str, path: str, **fields: Any) -> Any:
        async with self._lock:
            await self.ask("POST", "/window", handle=window)
            return await self.ask(method, path, **fields)


class _WebKitPage:
    def __init__(self, driver: _WebDriver, window: str) -> None:
        self._driver = driver
        self._window = window

    async def go(self, url: str) -> None:
        await self._driver.ask_in(self._window, "POST", "/url", url=url)

    async def eval(self, expression: str) -> Any:
        script = (
            f"const done = arguments[0]; {wrapped(expression)}"
            ".then((value) => done([value]), (error) => done([null, String(error)]));"
        )
        value, *error = await self._driver.ask_in(
            self._window, "POST", "/execute/async", script=script, args=[]
        )
        if error:
            raise RuntimeError(f"{expression}: {error[0]}")
        return json.loads(value)

    async def back(self) -> None:
        await self._driver.ask_in(self._window, "POST", "/back")

    async def close(self) -> None:
        await self._driver.ask_in(self._window, "DELETE", "/window")


class _WebKit:
    name = "webkit"

    def __init__(self, group: Group, driver: _WebDriver, first: str) -> None:
        self._driver = driver
        self._first = first  # never closed, so there is always one from which to open another
        self.stop = group.stop
        self.go_on = group.go_on

    async def open(self) -> Page:
        made = await self._driver.ask_in(self._first, "POST", "/window/new", type="window")
        return _WebKitPage(self._driver, made["handle"])


@asynccontextmanager
async def _display() -> AsyncIterator[str]:
    """Run an X server without a screen; yield the name of its display."""
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        find_program("Xvfb"),
        *("-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"),
        pass_fds=(writing,),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        os.close(writing)
        with os.fdopen(reading) as number:
            name = (await asyncio.to_thread(number.readline)).strip()
        if not name:
            raise RuntimeError("Xvfb did not start")
        yield f":{name}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def webkit() -> AsyncIterator[Engine]:
    port = free_port()
    browser = find_program(MINI_BROWSER)
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as home:
        async with (
            _display() as display,
            running(
                find_program("WebKitWebDriver"),
                f"--port={port}",
                said=lambda _: "",
                DISPLAY=display,
                HOME=home,
                XDG_RUNTIME_DIR=home,
                GDK_BACKEND="x11",
                LIBGL_ALWAYS_SOFTWARE="1",
                NO_AT_BRIDGE="1",  # there is no accessibility bus to look for
            ) as (group, _),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * ANSWER)) as http,
        ):
            driver = _WebDriver(http, f"http://127.0.0.1:{port}")
            options = {"binary": browser, "args": ["--automation"]}
            wanted = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
            made = await _started(driver, wanted)
            driver.session = f"/{made['sessionId']}"
            await driver.ask("POST", "/timeouts", script=ANSWER * 1000)
            yield _WebKit(group, driver, await driver.ask("GET", "/window"))


async def _started(driver: _WebDriver, wanted: dict[str, Any]) -> Any:
    """Begin a session as soon as the driver listens, which it does not say."""
    async with asyncio.timeout(ANSWER):
        while True:
            try:
                return await driver.ask("POST", "", capabilities={"alwaysMatch": wanted})
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(POLL)
