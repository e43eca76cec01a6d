"""Make docs/chat-light.png and docs/chat-dark.png: examples/chat, as three people see it.

Needs playwright and a Chromium (CHROMIUM says which; else the first on PATH).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent
SIZE = {"width": 1280, "height": 800}
MEASURED = 30_000  # ms; so much of the plot of round trips is filled
TALK = (
    ("ada", "Morning! Is anybody else on the train?"),
    ("grace", "Me. There is a tunnel coming up."),
    ("grace", "And no WebSocket gets through this Wi-Fi, so I am here by Ajax"),
    ("ada", "What I write in the tunnel, where does it go?"),
    ("grace", "It waits, and goes out at the other end"),
    ("linus", "Open the drawer: all that travels is plain edn"),
)


def join(browser: Browser, url: str, name: str, scheme: str, transport: str) -> Page:
    """Open the page in a browser of its own, and take a name."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, locale="en-GB")
    page = context.new_page()
    page.goto(url)
    page.locator("#transport select").select_option(transport)
    page.locator("#name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#me")).to_have_text(name)
    return page


def take(browser: Browser, url: str) -> None:
    pages = {
        "ada": join(browser, url, "ada", "light", "auto"),
        "grace": join(browser, url, "grace", "dark", "ajax"),
        "linus": join(browser, url, "linus", "light", "ws"),
    }
    light, dark = pages["ada"], pages["grace"]
    for name, text in TALK:
        pages[name].locator("#text").fill(text)
        pages[name].keyboard.press("Enter")
        for page in pages.values():
            expect(page.locator("#messages li[data-at] .said", has_text=text)).to_be_visible()
        light.wait_for_timeout(1100)  # faster than that is refused, and is no talk
    light.wait_for_timeout(MEASURED)
    pages["linus"].locator("#text").press_sequentially("There")
    expect(dark.locator("#typing")).to_have_text("linus is typing")
    dark.screenshot(path=ROOT / "docs" / "chat-dark.png")
    light.locator("#drawer-toggle").click()
    light.locator("#wire li.out summary", has_text="chat/say").last.click()
    light.locator("#wire li").last.scroll_into_view_if_needed()
    light.locator("#text").focus()
    light.screenshot(path=ROOT / "docs" / "chat-light.png")


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"PORT": "0", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": cache}
        program = [sys.executable, ROOT / "examples" / "chat" / "server.py"]
        with (
            subprocess.Popen(program, env=env, stdout=subprocess.PIPE, text=True) as server,
            sync_playwright() as playwright,
        ):
            try:
                assert server.stdout is not None
                url = server.stdout.readline().split()[2].removesuffix("chsk")
                arguments = ["--no-sandbox", "--disable-gpu"]
                take(playwright.chromium.launch(executable_path=chromium, args=arguments), url)
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
