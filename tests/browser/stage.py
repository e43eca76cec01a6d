"""Scenarios: what is played with browser, server and proxy, and then looked at.

A scenario takes long where it waits for networks to come back, and little of anything
else; so all that the chosen tests need are played at the same time, each once. What it
gives is a fixture of its name, and each test of it states one fact.

    @scenario(lasts=40)
    async def network_down(scene: Scene) -> Tab: ...

    def test_the_page_is_back(network_down: Tab) -> None: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from chromium import PATIENCE, Chromium, Tab, launch, now
from playwright.async_api import Playwright, async_playwright, expect
from proxy import Proxy
from pulse import keep_measuring, worst
from server import App, Example, Server

AT_ONCE = 8  # more would have two cores do too much in the moments that count
STALL = 2500.0  # ms of a round trip: half of the JavaScript client's connectTimeout and pingTimeout
PLAYS = 3  # at most, of a scenario during which a round trip took longer; the last one counts
LIMIT = 600.0  # a scenario that hangs fails by itself, and says where it stood
STEP_LIMIT = 120_000  # ms for one step of the browser
LINES_SHOWN = 60
EXAMPLES = Path(__file__).parent.parent.parent / "examples"

Key = tuple[str, Any]
_plays: dict[str, tuple[Callable[..., Awaitable[Any]], float]] = {}


class Scene:
    """What one scenario has, ended with it."""

    def __init__(self, playwright: Playwright, chromium: Chromium, exit: AsyncExitStack) -> None:
        self.playwright = playwright
        self.chromium = chromium
        self.exit = exit
        self.tabs: list[Tab] = []

    async def server(self, **config: Any) -> App:
        """Start page_app.py with these fields of Config."""
        return await self.exit.enter_async_context(App(**config))

    async def example(self, name: str) -> Server:
        """Start the server of examples/`name`."""
        return await self.exit.enter_async_context(Server(EXAMPLES / name / "server.py"))

    async def chat(self, framework: str) -> Server:
        """Start the chat of examples/`framework`, as its README says."""
        return await self.exit.enter_async_context(Example(EXAMPLES / framework))

    async def proxy(self, server: Server) -> Proxy:
        """Put a proxy before the server."""
        return await self.exit.enter_async_context(Proxy(server.port))

    async def blank(self) -> Tab:
        """Open an empty tab, with cookies of its own."""
        tab = await self.chromium.open()
        self.exit.push_async_callback(self.chromium.forget, tab.profile)
        self.tabs.append(tab)
        return tab

    async def beside(self, tab: Tab) -> Tab:
        """Open another empty tab, with the cookies of this one."""
        second = await tab.open_beside()
        self.tabs.append(second)
        return second

    async def tab(self, port: int, user: str | None = None, **options: Any) -> Tab:
        """Open the page of page_app.py, with these options for its client."""
        tab = await self.blank()
        await tab.go(port, user, **options)
        return tab

    async def alone(self) -> None:
        """Have a browser of one's own: what happens to it happens to nobody else."""
        self.chromium = await self.exit.enter_async_context(launch(self.playwright))

    def report(self) -> str:
        """Say what each tab told last."""
        lines: list[str] = []
        for number, tab in enumerate(self.tabs):
            lines.append(f"-- tab {number}: {tab.page.url}")
            start = tab.log[0]["at"] if tab.log else 0
            lines += [
                f"{(line['at'] - start) / 1000:8.3f} {line['kind']} {line['what']}"
                for line in tab.log[-LINES_SHOWN:]
            ]
            lines += [f"complaint: {text}" for text in tab.complaints]
        return "\n".join(lines)


def scenario(*params: Any, lasts: float = 5.0) -> Callable[[Callable[..., Any]], Any]:
    """Make a fixture of `async def name(scene)`, or of `name(scene, param)` for each param.

    `lasts` says about how many seconds it takes: the longest begin first.
    """

    def make(play: Callable[..., Awaitable[Any]]) -> Any:
        name = play.__name__
        if name in _plays and _plays[name][0].__module__ != play.__module__:
            raise ValueError(f"expected one scenario {name}, got another in {play.__module__}")
        _plays[name] = play, lasts

        @pytest.fixture(scope="session", name=name, params=params or None)
        def played(stage: Stage, request: pytest.FixtureRequest) -> Any:
            return stage.outcome((name, getattr(request, "param", None)))

        return played

    return make


class Stage:
    """One loop and one browser for all scenarios of a session."""

    def __init__(self, items: Iterable[pytest.Item]) -> None:
        self._wanted: dict[Key, None] = {}
        for item in items:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            for name in getattr(item, "fixturenames", ()):
                if name in _plays:
                    self._wanted[name, params.get(name)] = None
        self._runner = asyncio.Runner()
        self._exit = AsyncExitStack()
        self._played: dict[Key, asyncio.Task[Any]] = {}
        self._pulse: asyncio.Task[None] | None = None

    def __enter__(self) -> Stage:
        expect.set_options(timeout=PATIENCE * 1000)
        self._runner.__enter__()
        try:
            self._runner.run(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._close())
        self._runner.__exit__(None, None, None)

    async def _open(self) -> None:
        playwright = await self._exit.enter_async_context(async_playwright())
        chromium = await self._exit.enter_async_context(launch(playwright))
        expect.set_options(timeout=STEP_LIMIT)
        idle = await chromium.open()
        self._pulse = asyncio.create_task(keep_measuring(lambda: idle.eval("1")))
        room = asyncio.Semaphore(AT_ONCE)
        for key in sorted(self._wanted, key=lambda key: -_plays[key[0]][1]):
            self._played[key] = asyncio.create_task(_play(key, playwright, chromium, room))

    async def _close(self) -> None:
        tasks = [*self._played.values(), *([self._pulse] if self._pulse else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._exit.aclose()

    def outcome(self, key: Key) -> Any:
        """Return what a scenario gave, or raise what it raised; the others go on meanwhile."""
        return self._runner.run(_wait(self._played[key]))


async def _wait(task: asyncio.Task[Any]) -> Any:
    return await asyncio.shield(task)


async def _play(
    key: Key, playwright: Playwright, chromium: Chromium, room: asyncio.Semaphore
) -> Any:
    """Play a scenario; repeat it if the machine stalled.

    A stall makes the client's timeouts close connections that the scenario relies on.
    """
    for _ in range(PLAYS - 1):
        began = now()
        try:
            outcome = await _play_once(key, playwright, chromium, room)
        except Exception:
            if worst(began) <= STALL:
                raise
        else:
            if worst(began) <= STALL:
                return outcome
    return await _play_once(key, playwright, chromium, room)


async def _play_once(
    key: Key, playwright: Playwright, chromium: Chromium, room: asyncio.Semaphore
) -> Any:
    name, param = key
    async with room, AsyncExitStack() as exit:
        scene = Scene(playwright, chromium, exit)
        try:
            async with asyncio.timeout(LIMIT):
                return await _plays[name][0](scene, *(() if param is None else (param,)))
        except Exception as error:
            error.add_note(scene.report())
            raise
