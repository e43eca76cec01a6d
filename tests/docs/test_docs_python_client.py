"""docs/python-client.md: its programs print what the page says they print."""

from __future__ import annotations

import re

import pytest
from dist_content import ROOT
from readme_pair import programs, run_pair

PAGE = ROOT / "docs" / "python-client.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
PRINTED = [text for language, text in BLOCKS if not language]
CLIENTS = ["client.py", "board.py", "patient.py", "script.py", "cells.py"]


def test_every_block_is_a_program_or_what_one_prints() -> None:
    assert list(programs(TEXT)) == ["server.py", *CLIENTS]
    assert len(BLOCKS) == len(programs(TEXT)) + len(PRINTED)


@pytest.mark.slow
@pytest.mark.parametrize(("client", "printed"), list(zip(CLIENTS, PRINTED, strict=True)))
def test_a_program_prints_what_the_page_says(
    client: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert run_pair(PAGE, client=client) == (printed, 0)
