"""Chromium without the tamed defaults of a test tool, and tabs in it.

Playwright keeps each page visible and awake, for tests of pages that do not mind. Here
sleep, hiding and the page cache are the point, so the browser is started by hand and
each tab has a profile and a window of its own, in which nothing is overridden.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode, urljoin

from log import Log
from playwright.async_api import BrowserContext, CDPSession, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",  # 64 MB in a container
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--use-mock-keychain",
    "--remote-debugging-port=0",
)
PATIENCE = 120.0  # seconds until a page that does nothing is given up: a busy machine is slow
OFFLINE = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
# What Chromium itself says of a request that fails.
NETWORK = ("error: Failed to load resource: net::", "error: WebSocket connection to ")
LIMIT = 120_000  # ms; a step of a browser that hangs fails by itself
LISTENING = re.compile(rb"DevTools listening on (ws://\S+)")


def find(playwright: Playwright) -> str:
    """Return the path of a Chromium: CHROMIUM, the first on PATH, or Playwright's own.

    Raises FileNotFoundError if there is none.
    """
    given = os.environ.get("CHROMIUM")
    names = (given,) if given else (*NAMES, playwright.chromium.executable_path)
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise FileNotFoundError(
        f"expected a Chromium, got none at {', '.join(names)}; "
        "ci/test.sh installs one on Debian, CHROMIUM=path names another"
    )


@asynccontextmanager
async def launch(playwright: Playwright) -> AsyncIterator[Chromium]:
    """Run a browser while the `async with` does."""
    path = find(playwright)
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a group of its own, to be stopped and killed as one
        )
        assert process.stderr is not None
        try:
            address = await _find_address(process.stderr)
            drain = asyncio.create_task(process.stderr.read())
            browser = await playwright.chromium.connect_over_cdp(
                address, no_defaults=True, timeout=LIMIT
            )
            browser.contexts[0].set_default_timeout(LIMIT)
            session = await browser.new_browser_cdp_session()
            yield Chromium(process.pid, browser.contexts[0], session)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await drain


async def _find_address(stderr: asyncio.StreamReader) -> str:
    said = b""
    while line := await stderr.readline():
        said += line
        found = LISTENING.search(line)
        if found:
            return found[1].decode()
    raise RuntimeError(f"Chromium did not start: {said.decode('utf-8', 'replace')}")


class Chromium:
    """One browser process with its children."""

    def __init__(self, group: int, context: BrowserContext, session: CDPSession) -> None:
        self._group = group
        context.set_default_timeout(PATIENCE * 1000)
        self._context = context
        self._session = session
        self._opening = asyncio.Lock()  # one at a time, so that a page is the one asked for

    def stop(self) -> None:
        """Put it to sleep, with all its tabs, as a lid that closes does."""
        os.killpg(self._group, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._group, signal.SIGCONT)

    async def open(self) -> Tab:
        """Open an empty tab in a window and with a profile of its own."""
        profile = await self._session.send("Target.createBrowserContext")
        return await self._open_in(profile["browserContextId"])

    async def _open_in(self, profile: str) -> Tab:
        async with self._opening:
            async with self._context.expect_page() as opened:
                await self._session.send(
                    "Target.createTarget",
                    {"url": "about:blank", "browserContextId": profile, "newWindow": True},
                )
            page = await opened.value
        session = await self._context.new_cdp_session(page)
        tab = Tab(self, profile, page, session)
        await tab.listen()
        return tab

    async def forget(self, profile: str) -> None:
        """Close the tabs of a profile, and all that it stored."""
        await self._session.send("Target.disposeBrowserContext", {"browserContextId": profile})


class Tab:
    """One tab: its page, what the page told, and what the browser does to it.

    `log` holds the lines of page.js, `{"at": milliseconds, "kind": ..., "what": ...}`;
    `complaints` what stood in the console as a warning or an error, and what was thrown.
    """

    def __init__(self, chromium: Chromium, profile: str, page: Page, session: Any) -> None:
        self.page = page
        self.session = session
        self.log = Log()
        self.complaints: list[str] = []
        self.profile = profile
        self._chromium = chromium
        self._window = 0

    async def listen(self) -> None:
        page = self.page
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._on_console)
        self.session.on("Runtime.bindingCalled", self._on_told)
        await self.session.send("Runtime.enable")
        await self.session.send("Runtime.addBinding", {"name": "tell"})
        window = await self.session.send("Browser.getWindowForTarget")
        self._window = window["windowId"]

    def _on_console(self, message: Any) -> None:
        # What Chromium says of each socket that is given up while it connects: a choice of another
        # transport does that, on a slow machine.
        is_given_up = "closed before the connection is established" in message.text
        if message.type in ("warning", "error") and not is_given_up:
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_told(self, call: dict[str, Any]) -> None:
        if call["name"] == "tell":
            self.log.add(json.loads(call["payload"]))

    async def open_beside(self) -> Tab:
        """Open another tab of the same user, in a window of its own."""
        return await self._chromium._open_in(self.profile)

    async def open_popup(self) -> Page:
        """Open the page's own address in a new window, which gets a copy of its sessionStorage."""
        click = {"expression": "void window.open(location.href)", "userGesture": True}
        # `Chromium.open` waits for any new page: it must not run at the same time.
        async with self._chromium._opening, self.page.expect_popup() as opened:
            await self.session.send("Runtime.evaluate", click)
        return await opened.value

    async def go(self, port: int, user: str | None = None, **options: Any) -> None:
        """Load the page of page_app.py at `port`, with these options for its client."""
        query = {"options": json.dumps(options)} | ({"user": user} if user else {})
        await self.page.goto(f"http://127.0.0.1:{port}/?{urlencode(query)}")

    async def eval(self, expression: str) -> Any:
        """Return the value of an expression; if it is a promise, what it settles with."""
        answer = await self.session.send(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def do(self, expression: str) -> None:
        """Start something in the page, without waiting for what it gives."""
        await self.session.send("Runtime.evaluate", {"expression": f"void ({expression})"})

    async def of_each(self, kind: str, name: str) -> list[Any]:
        """Return a property of each object of a class that is alive in the page."""
        session = self.session
        prototype = await session.send("Runtime.evaluate", {"expression": f"{kind}.prototype"})
        found = await session.send(
            "Runtime.queryObjects", {"prototypeObjectId": prototype["result"]["objectId"]}
        )
        answer = await session.send(
            "Runtime.callFunctionOn",
            {
                "functionDeclaration": f"function () {{ return this.map((x) => x.{name}); }}",
                "objectId": found["objects"]["objectId"],
                "returnByValue": True,
            },
        )
        return list(answer["result"]["value"])

    # -- what the browser does to it

    async def set_offline(self, is_offline: bool) -> None:
        """Cut the tab off, or not; it hears of it by an event."""
        await self.session.send(
            "Network.emulateNetworkConditions", {"offline": is_offline, **OFFLINE}
        )

    async def focus(self) -> None:
        """Have it behave as if the user were in it, whatever other windows there are."""
        await self.session.send("Emulation.setFocusEmulationEnabled", {"enabled": True})

    async def hide(self) -> None:
        """Minimise its window: the page is hidden then, as another tab's would be."""
        await self._set_window("minimized")

    async def show(self) -> None:
        await self._set_window("normal")

    async def _set_window(self, state: str) -> None:
        await self.session.send(
            "Browser.setWindowBounds",
            {"windowId": self._window, "bounds": {"windowState": state}},
        )

    async def freeze(self) -> None:
        """Freeze it, as a browser does with a tab long hidden: no timer runs."""
        await self.session.send("Page.setWebLifecycleState", {"state": "frozen"})

    async def thaw(self) -> None:
        """Unfreeze it; it is hidden still."""
        await self.session.send("Page.setWebLifecycleState", {"state": "active"})

    async def leave(self) -> None:
        """Go to another page, so that this one is put into the page cache."""
        await self.page.goto(urljoin(self.page.url, "/elsewhere"))

    async def back(self) -> None:
        """Come back from there."""
        history = await self.session.send("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        await self.session.send("Page.navigateToHistoryEntry", {"entryId": entry["id"]})

    async def close(self) -> None:
        """Close it, as a user does."""
        await self.page.close()

    # -- what it told

    def states(self, start: int = 0) -> list[dict[str, Any]]:
        """Each state that its client was in from the `start`th line on, with `at`."""
        lines = [line for line in self.log[start:] if line["kind"] == "state"]
        return [line["what"] | {"at": line["at"]} for line in lines]

    def told(self, kind: str) -> list[Any]:
        """What was told of this kind, first to last."""
        return [line["what"] for line in self.log if line["kind"] == kind]

    async def state(self, start: int = 0, **wanted: Any) -> dict[str, Any]:
        """Return the first state with these fields, of those from the `start`th line on."""

        def is_meant(line: dict[str, Any]) -> bool:
            if line["kind"] != "state":
                return False
            return all(line["what"][name] == value for name, value in wanted.items())

        line = await self.log.until(is_meant, start)
        return line["what"] | {"at": line["at"]}

    async def hear(self, kind: str, what: Any, start: int = 0) -> float:
        """Wait until this was told; give when."""
        line = await self.log.until(
            lambda line: line["kind"] == kind and line["what"] == what, start
        )
        return float(line["at"])

    def here(self) -> int:
        """The place in the log from which on to wait for what comes next."""
        return len(self.log)


def now() -> float:
    """The time as pages count it, in milliseconds."""
    return time.time() * 1000
