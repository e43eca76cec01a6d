"""README's server and page: two tabs talk."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from playwright.async_api import expect
from readme_pair import PORT, programs
from server import ROOT, Server
from stage import Scene, scenario


@scenario()
async def readme_page(scene: Scene) -> list[list[str]]:
    """Say something in one tab; return what each tab shows."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = re.search(r"^```html\n(<!-- index.html -->\n.*?)^```$", readme, re.M | re.S)
    assert page is not None
    folder = Path(scene.exit.enter_context(tempfile.TemporaryDirectory()))
    (folder / "index.html").write_text(page[1], encoding="utf-8")
    server = programs(readme)["server.py"].replace(f"port={PORT}", 'port=int(os.environ["PORT"])')
    program = folder / "server.py"
    program.write_text(f"import os\nos.chdir({str(folder)!r})\n{server}", encoding="utf-8")
    served = await scene.exit.enter_async_context(Server(program))
    tabs = [await scene.blank(), await scene.blank()]
    for tab in tabs:
        shook = asyncio.Event()
        tab.page.on("websocket", lambda ws, e=shook: ws.on("framereceived", lambda _: e.set()))
        await tab.page.goto(f"http://localhost:{served.port}/")
        await shook.wait()
    field = tabs[0].page.get_by_label("Message")
    await field.fill("hello <b>there</b>")
    await field.press("Enter")
    for tab in tabs:
        await expect(tab.page.locator("li")).to_have_count(1)
    await expect(field).to_have_value("")
    return [await tab.page.locator("li").all_text_contents() for tab in tabs]


def test_what_is_said_in_one_tab_appears_in_both(readme_page: list[list[str]]) -> None:
    assert readme_page == [["somebody: hello <b>there</b>"]] * 2
