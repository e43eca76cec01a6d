"""Clients that run in processes of their own: chansock's for Python, for Node, and for browsers.

A child gets the URL and the names of its clients as arguments, and `hold` on stdin when nothing
more is to be sent. It prints what happens, as lines of JSON `[name, [item, ...]]`; the items are

    ["h", was, data]    a handshake           ["e", kind, g, n]   an event
    ["u", k]            did not send k    ["n", text]         for the text of a fault
    ["s", k]            sent up to k          ["a", k, x]         asked for a reply
    ["r", k, value]     a reply               ["x", k, why]       none came
    ["f", kind, text]   a fault               ["q", is_quiet]     nothing is waited for
    ["l"]               loaded anew: replies that were waited for are lost

All of an item's facts are in the order in which the client had them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soak.resume import USERS, pages

if TYPE_CHECKING:
    from soak.resume.run import Soak

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
JS = TESTS.parent / "js"
CHILDREN: dict[str, list[str]] = {
    "py": [sys.executable, "-P", "-m", "soak.resume.clients"],
    "js": ["node", str(HERE / "clients.mjs")],
    "page": [sys.executable, "-P", "-m", "soak.resume.pages"],
}
COUNTS = {"py": 6, "js": 6, "page": 2}


def is_available(kind: str) -> bool:
    """Whether the programs are there that clients of this kind need."""
    if kind == "page":
        return pages.is_available()
    if kind == "js":
        return shutil.which("node") is not None and (JS / "test" / "node_modules" / "ws").exists()
    return True


def environment() -> dict[str, str]:
    places = (TESTS.parent, TESTS, TESTS / "support")
    paths = [*map(str, places), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class Child:
    """One such process."""

    def __init__(self, soak: Soak, process: asyncio.subprocess.Process, names: list[str]) -> None:
        self.soak = soak
        self.process = process
        self.sent = dict.fromkeys(names, 0)
        self.quiet = dict.fromkeys(names, False)
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def make(cls, kind: str, command: list[str], port: int, soak: Soak) -> Child | None:
        """Start it, with clients for some users; None: a program that it needs is not there."""
        if not is_available(kind):
            soak.done[f"no {kind}, for want of a program"] += 1
            return None
        names = [f"u{number % USERS}.{kind}-{number}" for number in range(COUNTS[kind])]
        for name in names:
            soak.account(name)
        process = await asyncio.create_subprocess_exec(
            *command,
            f"http://127.0.0.1:{port}/chsk",
            *names,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
            limit=1 << 24,
        )
        return cls(soak, process, names)

    @property
    def is_quiet(self) -> bool:
        return all(self.quiet.values())

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            name, items = json.loads(line)
            for item in items:
                self._take(name, *item)

    def _take(self, name: str, what: str, *facts: Any) -> None:
        account = self.soak.accounts[name]
        if what == "e":
            account.event(*facts)
        elif what == "h":
            account.handshake(*facts)
        elif what == "s":
            self.sent[name] = facts[0]
        elif what == "a":
            account.ask(*facts)
        elif what == "r":
            account.reply(*facts)
        elif what == "x":
            account.no_reply(*facts)
        elif what == "u":
            account.refused(*facts)
        elif what == "n":
            account.note(*facts)
        elif what == "l":
            account.loaded_anew()
        elif what == "q":
            self.quiet[name] = facts[0]
        else:
            account.fault(*facts)

    async def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.process.wait()
                await self.reading
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
