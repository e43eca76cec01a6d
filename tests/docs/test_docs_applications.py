"""docs/applications.md: its programs print what the page says; its tables hold."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dist_content import ROOT
from readme_pair import programs, run_pair

from chansock import ChannelSocket, InvalidEvent, Request, Router

PAGE = ROOT / "docs" / "applications.md"
TEXT = PAGE.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Section:
    title: str
    text: str

    @property
    def programs(self) -> dict[str, str]:
        return programs(self.text)

    @property
    def printed(self) -> list[str]:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.M | re.S)
        return [text for language, text in blocks if not language]


SECTIONS = [
    Section(part.partition("\n")[0], part) for part in re.split(r"^## ", TEXT, flags=re.M)[1:]
]


def test_every_block_is_a_program_or_what_one_prints() -> None:
    for section in SECTIONS:
        assert {"server.py", "client.py"} <= set(section.programs)
        assert len(section.printed) == 1
        assert section.text.count("```python\n") == len(section.programs)
    assert TEXT.count("```js\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_sections_client_prints_what_the_page_says(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("starlette", "itsdangerous", "uvicorn", "jwt"):
        if f"import {needed}" in section.text or f"from {needed}" in section.text:
            pytest.importorskip(needed)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    page = tmp_path / "section.md"
    page.write_text(section.text, encoding="utf-8")
    printed, status = run_pair(page)
    assert printed == section.printed[0]
    assert status in (0, -15)  # uvicorn ends by the signal that it was given


def rows(title: str) -> list[list[str]]:
    (section,) = (one for one in SECTIONS if one.title == title)
    lines = [line for line in section.text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize(("prefix", "event_id", "expected"), rows("Handlers in modules"))
def test_prefixes_join_as_the_table_says(prefix: str, event_id: str, expected: str) -> None:
    router = Router()
    router.on(event_id.strip("`"), lambda msg: None)
    for one in reversed([""] if prefix == "none" else re.findall("`(.*?)`", prefix) or ["any"]):
        around = Router(prefix=one)
        around.include(router)
        router = around
    chsk = ChannelSocket()
    if expected.startswith("an error"):
        with pytest.raises(InvalidEvent):
            chsk.include(router)
        chsk.include(router, prefix="chat")
        return
    chsk.include(router)
    named = event_id if expected.startswith("itself") else expected
    with pytest.raises(InvalidEvent, match="got a second"):
        chsk.on(named.strip("`"), lambda msg: None)


def session_of(cookie: str) -> Any:
    (section,) = (one for one in SECTIONS if one.title == "Starlette's sessions")
    names: dict[str, Any] = {}
    exec(section.programs["session.py"], names)
    return names["current_user"](Request.from_fields("GET", "/", [("Cookie", cookie)]))


def test_the_session_is_read_from_its_cookie_alone() -> None:
    itsdangerous = pytest.importorskip("itsdangerous")
    secret = "yours: from the environment, the same for every process"
    data = b64encode(json.dumps({"user": "ada"}).encode())
    signed = itsdangerous.TimestampSigner(secret).sign(data).decode()
    assert session_of(f"session={signed}") == "ada"
    for other in (signed[:-1], data.decode(), "", "x" * 40):
        assert session_of(f"session={other}") is None
    assert session_of("") is None
