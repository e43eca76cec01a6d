"""What pages live through in every browser, played and measured: a row of a table for each.

Used by test_engines.py, which says what must hold, and by bench/browsers.py, which prints the
table. A page sends a number every quarter of a second all the while, also while its client is
closed (`offline: "queue"`), and each number asks for a reply; so a page counts as connected
once a number that it sent is answered. Times are the page's own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from breaks import doubled
from engine import Engine, Page, until
from engines import ENGINES
from proxy import Proxy
from pulse import keep_measuring, lag
from server import App

EVERY = 0.25  # seconds from one number to the next
SHORT = 30.0  # seconds of an outage
LONG = 200.0  # after which Firefox holds WebSockets back for the longest
ASLEEP = 30.0
AWAY = 2.0
WINDOWS = 4  # that live through an outage of their server together
PATIENCE = 90.0  # seconds until a page that is not connected is given up
# Whether the page knows what became of each number that was queued, or sent since it is open.
SETTLED = """(() => {
  const settled = log.filter((line) => line.kind === 'mark').map((line) => line.what);
  const numbers = new Set(settled.map((mark) => mark.number));
  const opened = log.findLast((line) => line.kind === 'state' && line.what.open)?.at ?? 0;
  const since = settled.filter((mark) => mark.sentAt > opened).map((mark) => mark.number);
  const due = [...marks.whileClosed];
  for (let number = Math.min(...since, marks.next); number < marks.next; number++) due.push(number);
  return due.every((number) => numbers.has(number));
})()"""


@dataclass(frozen=True)
class Row:
    """One scenario in one browser; of several windows, the slowest. Seconds.

    `connected` runs from the end of the outage to the answer to a number, `socket` to the
    state that is open by WebSocket; None: not within PATIENCE. `slowest` is the longest wait
    for an answer where nothing is out. A number that was on its way on a connection as it
    broke is not counted as lost: the closed state says that.
    """

    connected: float | None
    socket: float | None
    lost: int
    doubled: int
    slowest: float | None = None
    note: str = ""
    lag: float = 0.0  # that a busy machine may add to what is due


class Window:
    """A window with the page of page_app.py in it."""

    def __init__(self, page: Page, server: App) -> None:
        self.page = page
        self._server = server
        self._client_id = ""

    async def go(self, port: int, host: str = "127.0.0.1", **options: Any) -> None:
        query = {"options": json.dumps({"offline": "queue", "maxQueuedEvents": 2000, **options})}
        await self.page.go(f"http://{host}:{port}/?{urlencode(query)}")
        await until(self.page, "globalThis.client?.state.open", PATIENCE)
        self._client_id = await self.page.eval("client.clientId")

    async def keep_sending(self, patience: float) -> None:
        await self.page.eval(f"marks.keep({EVERY}, {{always: true, timeout: {patience}}})")
        await until(self.page, "log.some((line) => line.kind === 'mark')")

    async def receive(self, every: float) -> None:
        """Have the server push numbers to this page."""
        stream = json.dumps({"count": 100_000, "every": every})
        await self.page.eval(f"client.send('test/stream', {stream})")
        await until(self.page, "log.some((line) => line.kind === 'number')")

    async def answered_after(self, start: float) -> float | None:
        """Return when a number was answered at `start` or later; None if that takes too long."""
        is_answer = f"line.kind === 'mark' && line.what.outcome === 'ok' && line.at >= {start}"
        return await self._when(is_answer)

    async def open_after(self, start: float, transport: str) -> float | None:
        """Return when the client said that it is open by a transport, at `start` or later.

        That may be `start` itself, where it has been so all the while.
        """
        by = f"globalThis.client?.state.open && client.state.type === '{transport}'"
        with_state = f"line.kind === 'state' && line.what.open && line.what.type === '{transport}'"
        try:
            await until(self.page, by, PATIENCE)
        except TimeoutError:
            return None
        lines = await self.page.eval(f"log.filter((line) => {with_state}).map((line) => line.at)")
        return next((at for at in lines if at >= start), start)

    async def _when(self, is_meant: str) -> float | None:
        find = f"globalThis.log?.find((line) => {is_meant})?.at"
        try:
            return float(await until(self.page, find, PATIENCE))
        except TimeoutError:
            return None

    async def faults(self) -> tuple[int, int]:
        """Stop sending; return how many numbers were lost and how many doubled, both ways."""
        await self.page.eval("marks.stop()")
        sent = await self.page.eval("marks.next")
        try:
            # What was queued goes out event by event, and each is answered.
            await until(self.page, SETTLED, 2 * PATIENCE)
        except TimeoutError:
            pass  # what is missing is counted
        pushed, in_flight = await self._pushed()
        unseen = set(range(max(pushed, default=-1) + 1)) - set(pushed) - in_flight
        lost = await self._lost(sent) + len(unseen)
        return lost, len(doubled(self._arrived())) + len(doubled(pushed))

    async def _pushed(self) -> tuple[list[int], set[int]]:
        """Return the numbers pushed, and those that may have been on their way as it broke."""
        lines = await self.page.eval(
            "log.filter((line) => line.kind === 'number' || line.kind === 'state')"
            ".map((line) => line.kind === 'number' ? line.what : line.what.open)"
        )
        pushed: list[int] = []
        in_flight = set()
        for line in lines:
            if line is False and pushed:
                in_flight.add(pushed[-1] + 1)
            elif not isinstance(line, bool):
                pushed.append(line)
        return pushed, in_flight

    async def _lost(self, sent: int) -> int:
        missing = set(range(sent)) - set(self._arrived())
        if not missing:
            return 0
        # What a page sends while it takes a broken connection for open may be lost with it.
        closed = await self.page.eval("marks.whileClosed")
        last_open = await self.page.eval(
            "log.findLast((line) => line.kind === 'state' && line.what.open)?.at ?? 0"
        )
        marks = await self.page.eval(
            "log.filter((line) => line.kind === 'mark').map((line) => line.what)"
        )
        since = {mark["number"] for mark in marks if mark["sentAt"] > last_open}
        return len(missing & (set(closed) | since))

    def _arrived(self) -> list[int]:
        return self._server.marks(self._client_id)


async def _windows(engine: Engine, exit: AsyncExitStack, server: App, count: int) -> list[Window]:
    windows = []
    for _ in range(count):
        page = await engine.open()
        exit.push_async_callback(page.close)
        windows.append(Window(page, server))
    return windows


async def _row(windows: list[Window], start: float, note: str = "") -> Row:
    """Measure from `start` on, in milliseconds."""
    answers = await asyncio.gather(*(window.answered_after(start) for window in windows))
    sockets = await asyncio.gather(*(window.open_after(start, "ws") for window in windows))
    faults = await asyncio.gather(*(window.faults() for window in windows))
    return Row(
        _slowest(answers, start),
        _slowest(sockets, start),
        sum(lost for lost, _ in faults),
        sum(twice for _, twice in faults),
        note=note,
    )


def _slowest(times: list[float | None], start: float) -> float | None:
    found = [at for at in times if at is not None]
    return None if len(found) < len(times) else round((max(found) - start) / 1000, 2)


def _now() -> float:
    return time.time() * 1000


async def _down(engine: Engine, seconds: float, host: str = "127.0.0.1") -> Row:
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App(host=host, allowed_hosts=[host]))
        windows = await _windows(engine, exit, server, WINDOWS)
        for window in windows:
            await window.go(server.port, host=host)
            await window.keep_sending(seconds + 2 * PATIENCE)
        await server.kill()
        await asyncio.sleep(seconds)
        await server.start()
        return await _row(windows, _now())


async def short_outage(engine: Engine) -> Row:
    """The server is killed, and starts again after 30 s."""
    return await _down(engine, SHORT)


async def long_outage(engine: Engine) -> Row:
    """The server is killed, and starts again after 200 s."""
    # On an address of its own: Firefox opens WebSockets to one address by turns, so what it holds
    # back here would hold back the other scenarios, which go on meanwhile.
    return await _down(engine, LONG, "127.0.0.2")


async def restart(engine: Engine) -> Row:
    """The server closes its connections, ends, and starts again as soon as it can."""
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App())
        windows = await _windows(engine, exit, server, WINDOWS)
        for window in windows:
            await window.go(server.port)
            await window.keep_sending(2 * PATIENCE)
        await server.stop()
        await server.start()
        return await _row(windows, _now())


async def blocked(engine: Engine) -> Row:
    """A proxy cuts the WebSocket and refuses others; once the page is open by Ajax, it stops to.

    `connected` is the time to Ajax, `socket` that from the end of the block to a WebSocket.
    """
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App())
        proxy = await exit.enter_async_context(Proxy(server.port))
        (window,) = await _windows(engine, exit, server, 1)
        await window.go(proxy.port, upgradeInterval=2)
        await window.receive(0.1)
        await window.keep_sending(PATIENCE)
        proxy.websockets = "403"
        proxy.cut_websockets()
        start = _now()
        await until(window.page, "client.state.open && client.state.type === 'ajax'", PATIENCE)
        answered = await window.answered_after(
            (await window.open_after(start, "ajax")) or start,
        )
        proxy.websockets = "pass"
        allowed = _now()
        socket = await window.open_after(allowed, "ws")
        # Nothing that was pushed on the way may be missing.
        seen = await window.page.eval("log.filter((line) => line.kind === 'number').length")
        await until(
            window.page, f"log.filter((line) => line.kind === 'number').length > {seen + 20}"
        )
        lost, twice = await window.faults()
        return Row(_slowest([answered], start), _slowest([socket], allowed), lost, twice)


async def _ajax_tabs(engine: Engine, count: int) -> Row:
    """Load pages that use Ajax, one after the other; each sends, and hears what each other says.

    `connected` is the longest time from the load of a page to its open channel.
    """
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App())
        windows = await _windows(engine, exit, server, count)
        times: list[float | None] = []
        for window in windows:
            start = time.monotonic()
            await window.go(server.port, transport="ajax")
            times.append((time.monotonic() - start) * 1000)
        waits = await asyncio.gather(*(_answer(window.page) for window in windows))
        for number, window in enumerate(windows):
            # One that is refused is not heard, and counted so.
            await window.page.eval(f"client.send('test/say', '{number}').catch(() => {{}})")
        heard = await asyncio.gather(*(_heard(window.page, count) for window in windows))
        faults = [await window.faults() for window in windows]
        missing = sum(count - len(set(said)) for said in heard)
        unanswered = waits.count(None)
        answers = [wait for wait in waits if wait is not None]
        return Row(
            _slowest(times, 0),
            None,
            missing + unanswered + sum(lost for lost, _ in faults),
            sum(len(doubled(said)) for said in heard) + sum(twice for _, twice in faults),
            slowest=round(max(answers, default=0.0) / 1000, 2),
        )


async def _answer(page: Page) -> float | None:
    """Send one number; return the milliseconds until its answer, None if there is none."""
    await page.eval("void marks.send(60)")
    line = "log.find((line) => line.kind === 'mark')"
    await until(page, line, PATIENCE)
    mark = await page.eval(line)
    return mark["at"] - mark["what"]["sentAt"] if mark["what"]["outcome"] == "ok" else None


async def _heard(page: Page, count: int) -> list[str]:
    said = "log.filter((line) => line.kind === 'said').map((line) => line.what)"
    try:
        await until(page, f"{said}.length >= {count}", PATIENCE)
    except TimeoutError:
        pass  # what is missing is counted
    return list(await page.eval(said))


async def six_ajax_tabs(engine: Engine) -> Row:
    """Six pages use Ajax: as many as a browser has connections to a host."""
    return await _ajax_tabs(engine, 6)


async def eight_ajax_tabs(engine: Engine) -> Row:
    """Eight pages use Ajax: more than a browser has connections to a host."""
    return await _ajax_tabs(engine, 8)


async def page_cache(engine: Engine) -> Row:
    """The user follows a link, and comes back: to the page as it was left, or to a new one."""
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App())
        (window,) = await _windows(engine, exit, server, 1)
        page = window.page
        await window.go(server.port)
        await window.keep_sending(PATIENCE)
        await page.go(f"http://127.0.0.1:{server.port}/elsewhere")
        await asyncio.sleep(AWAY)
        await page.back()
        await until(page, "globalThis.client?.state.open", PATIENCE)
        shown = "log.find((line) => line.what === 'pageshow')?.at"
        at = await page.eval(shown)
        if at is None:
            start = await page.eval("performance.timeOrigin")
            opened = await window.open_after(start, "ws")
            return Row(
                _slowest([opened], start), _slowest([opened], start), 0, 0, note="loaded anew"
            )
        return await _row([window], at)


async def asleep(engine: Engine) -> Row:
    """All of the browser stands still for 30 s, and its connections are lost meanwhile."""
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(App())
        proxy = await exit.enter_async_context(Proxy(server.port))
        (window,) = await _windows(engine, exit, server, 1)
        await window.go(proxy.port)
        await window.keep_sending(2 * PATIENCE)
        engine.stop()
        try:
            proxy.hole()
            await asyncio.sleep(ASLEEP)
            proxy.lose()
            proxy.release()
        finally:
            engine.go_on()
        return await _row([window], _now())


# In this order, but the long one beside the others; the last stops all of the browser, alone.
SCENARIOS: dict[str, Callable[[Engine], Awaitable[Row]]] = {
    "restart": restart,
    "30 s down": short_outage,
    "200 s down": long_outage,
    "WebSocket blocked": blocked,
    "6 Ajax tabs": six_ajax_tabs,
    "8 Ajax tabs": eight_ajax_tabs,
    "page cache": page_cache,
    "asleep": asleep,
}


async def play(browser: str, names: list[str]) -> dict[str, Row | Exception]:
    """Play these scenarios in one browser; return the row of each, or why there is none."""
    async with ENGINES[browser]() as engine:
        rows: dict[str, Row | Exception] = {}
        idle = await engine.open()
        pulse = asyncio.create_task(keep_measuring(lambda: idle.eval("1")))
        long = None
        if "200 s down" in names:
            long = asyncio.create_task(_guarded(engine, "200 s down"))
        for name in SCENARIOS:
            if name == "asleep":
                pulse.cancel()  # it would measure the sleep
                if long is not None:
                    await long
            if name in names and name != "200 s down":
                rows[name] = await _guarded(engine, name)
        if long is not None:
            rows["200 s down"] = await long
        pulse.cancel()
        return {name: rows[name] for name in SCENARIOS if name in names}


async def _guarded(engine: Engine, name: str) -> Row | Exception:
    try:
        began = _now()
        async with asyncio.timeout(LONG + 3 * PATIENCE):
            row = await SCENARIOS[name](engine)
            return replace(row, lag=lag(began) / 1000)
    except Exception as error:
        return error
