"""Firefox, headless, driven over WebDriver BiDi."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine import ANSWER, SIZE, Engine, Group, Page, find_program, running, wrapped
from websockets.asyncio.client import ClientConnection, connect

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

    def __init__(self, group: Group, bidi: _Bidi) -> None:
        self._bidi = bidi
        self.stop = group.stop
        self.go_on = group.go_on

    async def open(self) -> Page:
        made = await self._bidi.ask("browsingContext.create", type="window")
        return _FirefoxPage(self._bidi, made["context"])


@asynccontextmanager
async def firefox() -> AsyncIterator[Engine]:
    program = find_program("firefox-esr", "firefox")
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
        async with running(program, *options, "about:blank", said=said, **environment) as (
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
