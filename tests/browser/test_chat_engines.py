"""examples/chat in every browser: what one of them showed, and Chromium did not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from engine import Page, until
from engines import ENGINES
from server import Server
from stage import EXAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.full]

MESSAGES = 5  # as many as the server allows at once
LONG = "some words that fill a line and break where the log is narrow " * 7
OVERLONG = 31.0  # seconds; a message waits for its reply for 30


@asynccontextmanager
async def lobby(browser: str) -> AsyncIterator[tuple[Page, Server]]:
    """Open the chat in a browser and join it; yield its page and its server."""
    async with AsyncExitStack() as exit:
        server = await exit.enter_async_context(Server(EXAMPLES / "chat" / "server.py"))
        engine = await exit.enter_async_context(ENGINES[browser]())
        page = await engine.open()
        await page.go(f"http://127.0.0.1:{server.port}/")
        await until(page, "document.getElementById('state').dataset.open === 'true'")
        await submit(page, "name", "ada")
        await until(page, "!document.getElementById('compose').hidden")
        yield page, server


async def submit(page: Page, field: str, text: str) -> None:
    await page.eval(
        f"(() => {{ const input = document.getElementById('{field}');"
        f" input.value = {json.dumps(text)}; input.form.requestSubmit(); }})()"
    )


def run(coro: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await coro

    asyncio.run(limited())


@pytest.fixture(params=ENGINES)
def browser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


AT_END = "log.scrollHeight - log.scrollTop - log.clientHeight"
NARROWER = "document.getElementById('log').clientWidth < "


def test_log_stays_at_its_end_when_the_drawer_opens(browser: str) -> None:
    async def main() -> None:
        async with lobby(browser) as (page, _):
            for number in range(MESSAGES):
                await submit(page, "text", f"{number} {LONG}")
            said = "document.querySelectorAll('#messages li[data-at]').length"
            await until(page, f"{said} === {MESSAGES}")
            log = "const log = document.getElementById('log');"
            assert await page.eval(
                f"(() => {{ {log} return log.scrollHeight - log.clientHeight; }})()"
            )
            width = await page.eval("document.getElementById('log').clientWidth")
            await page.eval("document.getElementById('drawer-toggle').click()")
            await until(page, f"{NARROWER}{width}")
            # Three frames, in which the page reacts to its new size.
            await page.eval(
                "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame("
                "() => requestAnimationFrame(go))))"
            )
            assert await page.eval(f"(() => {{ {log} return {AT_END}; }})()") < 2

    run(main())


def test_message_written_while_the_server_is_down_is_sent_when_it_is_back(browser: str) -> None:
    async def main() -> None:
        async with lobby(browser) as (page, server):
            await server.kill()
            await until(page, "document.getElementById('state').dataset.open === 'false'")
            await submit(page, "text", "meanwhile")
            await asyncio.sleep(OVERLONG)
            fate = "document.querySelector('#messages li .fate').textContent"
            assert await page.eval(fate) == "Waits for a connection"
            await server.start()
            await until(page, "!!document.querySelector('#messages li[data-at]')")
            assert await page.eval("document.querySelectorAll('#messages li').length") == 1

    run(main())
