"""The interface of a browser that scenarios drive, and how its program is run.

An engine opens pages, each in a window of its own and all with one profile, and can be
stopped as a whole. A page loads a URL, evaluates JavaScript, goes back, and closes. Networks
are blocked by the server or by proxy.py, never by a switch of the browser, and everything
else that a scenario wants to know is in the log of page.js. engines.py has the browsers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import ViewportSize

ANSWER = 60.0  # seconds that a browser may take to answer; it may have been stopped for 30
SIZE: ViewportSize = {"width": 1024, "height": 768}  # of each window; MiniBrowser's own
POLL = 0.05  # seconds between two looks at a page


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


class Group:
    """A program and its children, a process group that is stopped and killed as one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)


@asynccontextmanager
async def running(
    *command: str, said: Callable[[bytes], str | None], **environment: str
) -> AsyncIterator[tuple[Group, str]]:
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
        yield Group(process), found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if drain is not None:
            await drain


def find_program(*names: str) -> str:
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
