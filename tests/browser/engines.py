"""Chromium, Firefox, and WebKit behind one small interface, for scenarios that all three play.

An engine opens pages, each in a window of its own and all with one profile, and can be
stopped as a whole. A page loads a URL, evaluates JavaScript, goes back, and closes. Networks
are blocked by the server or by proxy.py, never by a switch of the browser, and everything
else that a scenario wants to know is in the log of page.js.

Firefox is driven over WebDriver BiDi, WebKit (Debian's webkit2gtk-driver with its
MiniBrowser) by plain WebDriver on a display of Xvfb, Chromium as chromium.py starts it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import chromium
from playwright.async_api import ViewportSize, async_playwright
from server import free_port
from websockets.asyncio.client import ClientConnection, connect

MINI_BROWSER = "/usr/lib/*/webkit2gtk-4.*/MiniBrowser"
ANSWER = 60.0  # seconds that a browser may take to answer; it may have been stopped for 30
SIZE: ViewportSize = {"width": 1024, "height": 768}  # of each window; MiniBrowser's own
POLL = 0.05  # seconds between two looks at a page

# What Firefox would do besides showing pages. The Remote Agent's own defaults are off: they
# change how pages are throttled and kept.
PREFERENCES = {
    "remote.prefs.recommended": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Page(Protocol):
    """One window of a browser with the page in it."""

    async def go(self, url: str) -> None: ...

    async def eval(self, expression: str) -> Any:
        """Return the value of an expression; if it is a promise, what it settles with."""
        ...

    async def back(self) -> None: ...

    async def close(self) -> None: ...


class Engine(Protocol):
    """One running browser."""

    name: str

    async def open(self) -> Page: ...

    def stop(self) -> None:
        """Stop all its processes, as a lid that closes does."""
        ...

    def go_on(self) -> None: ...


async def until(page: Page, condition: str, limit: float = ANSWER) -> Any:
    """Evaluate a condition in the page until it holds; return its value."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = await page.eval(condition)
        if value:
            return value
        await asyncio.sleep(POLL)
    raise TimeoutError(f"expected {condition} within {limit} s, got {value!r}")


def wrapped(expression: str) -> str:
    """Spell an expression so that each driver returns its value in the same way, as JSON."""
    return f"(async () => JSON.stringify((await ({expression})) ?? null))()"


class _Group:
    """A program and its children, a process group that is stopped and killed as one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)


@asynccontextmanager
async def _running(
    *command: str, said: Callable[[bytes], str | None], **environment: str
) -> AsyncIterator[tuple[_Group, str]]:
    """Run a program; yield its group, and what `said` found in a line of its stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    stderr = process.stderr
    assert stderr is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        lines = b""
        found = said(b"")
        while found is None:
            line = await stderr.readline()
            if not line:
                raise RuntimeError(f"{command[0]} did not start: {lines.decode(errors='replace')}")
            lines += line
            found = said(line)
        drain = asyncio.create_task(stderr.read())
        yield _Group(process), found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if drain is not None:
            await drain


def _program(*names: str) -> str:
    """Return the path of the first of these programs; a name may be a pattern of a path."""
    for name in names:
        paths = [str(path) for path in Path("/").glob(name[1:])] if "*" in name else [name]
        for path in paths:
            found = shutil.which(path)
            if found is not None:
                return found
    raise FileNotFoundError(
        f"expected {' or '.join(names)}, got none; ci/test.sh --full installs it on Debian"
    )


# -- Chromium


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
        tab = await self._first.second()
        await tab.page.set_viewport_size(SIZE)
        return _ChromiumPage(tab)


@asynccontextmanager
async def _chromium() -> AsyncIterator[Engine]:
    async with async_playwright() as playwright, chromium.launch(playwright) as browser:
        yield _Chromium(browser, await browser.open())


# -- Firefox


class _Bidi:
    """A session of WebDriver BiDi: commands by number, and their answers."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        async for text in self._socket:
            answer = json.loads(text)
            future = self._waiting.pop(answer.get("id"), None)
            if future is None or future.done():
                continue
            if answer["type"] == "error":
                future.set_exception(RuntimeError(f"{answer['error']}: {answer['message']}"))
            else:
                future.set_result(answer["result"])

    async def ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(ANSWER):
            return await future


class _FirefoxPage:
    def __init__(self, bidi: _Bidi, context: str) -> None:
        self._bidi = bidi
        self._context = context

    async def go(self, url: str) -> None:
        await self._bidi.ask(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    async def eval(self, expression: str) -> Any:
        answer = await self._bidi.ask(
            "script.evaluate",
            expression=wrapped(expression),
            target={"context": self._context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    async def back(self) -> None:
        await self._bidi.ask("browsingContext.traverseHistory", context=self._context, delta=-1)

    async def close(self) -> None:
        await self._bidi.ask("browsingContext.close", context=self._context)


class _Firefox:
    name = "firefox"

    def __init__(self, group: _Group, bidi: _Bidi) -> None:
        self._bidi = bidi
        self.stop = group.stop
        self.go_on = group.go_on

    async def open(self) -> Page:
        made = await self._bidi.ask("browsingContext.create", type="window")
        return _FirefoxPage(self._bidi, made["context"])


@asynccontextmanager
async def _firefox() -> AsyncIterator[Engine]:
    program = _program("firefox-esr", "firefox")
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items()]
        Path(profile, "user.js").write_text("\n".join(lines), encoding="utf-8")
        listening = b"WebDriver BiDi listening on "

        def said(line: bytes) -> str | None:
            return line[len(listening) :].decode().strip() if line.startswith(listening) else None

        options = ("--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0")
        environment = {
            "HOME": profile,
            "MOZ_HEADLESS_WIDTH": str(SIZE["width"]),
            "MOZ_HEADLESS_HEIGHT": str(SIZE["height"]),
        }
        async with _running(program, *options, "about:blank", said=said, **environment) as (
            group,
            address,
        ):
            # Firefox answers no ping of a WebSocket.
            async with connect(f"{address}/session", max_size=None, ping_interval=None) as socket:
                bidi = _Bidi(socket)
                reader = asyncio.create_task(bidi.read())
                try:
                    await bidi.ask("session.new", capabilities={})
                    yield _Firefox(group, bidi)
                finally:
                    reader.cancel()
                    await asyncio.gather(reader, return_exceptions=True)


# -- WebKit


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

    def __init__(self, group: _Group, driver: _WebDriver, first: str) -> None:
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
        _program("Xvfb"),
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
async def _webkit() -> AsyncIterator[Engine]:
    port = free_port()
    browser = _program(MINI_BROWSER)
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as home:
        async with (
            _display() as display,
            _running(
                _program("WebKitWebDriver"),
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


ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[Engine]]] = {
    "chromium": _chromium,
    "firefox": _firefox,
    "webkit": _webkit,
}
