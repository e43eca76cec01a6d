"""A page of docs/ followed from an empty folder to two tabs that chat, with a clock running.

    python quickstart.py PAGE WHEEL

Run by ci/quickstart.sh with the interpreter that has Playwright, and with tests/ and
tests/browser/ on its path; the page's own commands run in an environment that is made on the
way. `chansock` is installed from WHEEL, all else as the page says. Prints a line for each step
with the seconds that it took, and fails past 120 in all.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from chromium import Chromium, Tab, launch
from playwright.async_api import Locator, async_playwright, expect
from readme_pair import free_port, wait_for

LIMIT = 120.0  # seconds in all
STEP_LIMIT = 300.0  # of a command that hangs


def files(page: str) -> dict[str, str]:
    """Map names to texts: the blocks that open with their file's name in a comment."""
    blocks = re.findall(r"^```\w+\n((?:# |<!-- )(\S+\.\w+)(?: -->)?\n.*?)^```$", page, re.M | re.S)
    return {name: text for text, name in blocks}


def commands(page: str, first_word: str) -> list[list[str]]:
    """Return the words of each line of the page's shell blocks that begins so."""
    blocks = re.findall(r"^```(?:sh|shell|bash|console)\n(.*?)^```$", page, re.M | re.S)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line[:1] == [first_word]]


class Stopwatch:
    """Prints what each step took, and keeps the sum."""

    def __init__(self) -> None:
        self.total = 0.0
        self._since = time.monotonic()

    def lap(self, step: str) -> None:
        now = time.monotonic()
        took, self._since = now - self._since, now
        self.total += took
        print(f"{took:7.1f} s  {step}", flush=True)


async def follow(page: str, wheel: Path, folder: Path, chromium: Chromium) -> float:
    """Do what a page says in an empty folder; give the seconds that it took."""
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=env, check=True, timeout=STEP_LIMIT)

    watch = Stopwatch()
    run(sys.executable, "-m", "venv", ".venv")
    watch.lap("python -m venv .venv")
    for command in commands(page, "pip"):
        run(*(str(wheel) if word == "chansock" else word for word in command), "-q")
        watch.lap(shlex.join(command))
    programs = files(page)
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
    watch.lap(f"{', '.join(programs)} written")
    command = commands(page, "uvicorn")[0]
    port = free_port()
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=folder, env=env, stdout=output, stderr=output
        )
    try:
        wait_for(port, server)
        watch.lap(shlex.join(command))
        await chat([await chromium.open(), await chromium.open()], port)
        watch.lap("two browsers chat")
    except BaseException:
        print(log.read_text(encoding="utf-8"), file=sys.stderr)
        raise
    finally:
        server.terminate()
        server.wait(STEP_LIMIT)
    return watch.total


async def chat(tabs: list[Tab], port: int) -> None:
    """Say something in each tab, and see it in both, by WebSocket."""
    heard: set[Tab] = set()
    for tab in tabs:
        mark = partial(heard.add, tab)
        tab.page.on("websocket", lambda ws, m=mark: ws.on("framereceived", lambda _: m()))
        await tab.page.goto(f"http://127.0.0.1:{port}/")
    for number, tab in enumerate(tabs):
        *others, field = await tab.page.get_by_role("textbox").all()
        for other in others:
            await other.fill(f"user {number}")
        text = f"hello from tab {number}"
        await field.fill(text)
        await say(tab, text)
        for each in tabs:
            await expect(item(each, text)).to_be_visible()
    if len(heard) < len(tabs):
        raise RuntimeError(f"expected {len(tabs)} tabs on a WebSocket, got {len(heard)}")


async def say(tab: Tab, text: str) -> None:
    """Press Enter; once more if it was too early, as a person would."""
    while True:
        await tab.page.keyboard.press("Enter")
        try:
            return await expect(item(tab, text)).to_be_visible(timeout=2000)
        except AssertionError:
            if await tab.page.evaluate("document.activeElement.value") != text:
                raise


def item(tab: Tab, text: str) -> Locator:
    return tab.page.locator("li", has_text=text)


async def main(page: Path, wheel: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with async_playwright() as playwright, launch(playwright) as chromium:
            text = page.read_text(encoding="utf-8")
            total = await follow(text, wheel.resolve(), Path(folder), chromium)
    print(f"{total:7.1f} s  in all, of {LIMIT:g}")
    return total > LIMIT


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]))))
