"""docs/delivery.md: its programs do what the page says; its figures and names are the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from dist_content import ROOT
from readme_pair import programs, run_pair

from chansock import Config, State, Stats

PAGE = ROOT / "docs" / "delivery.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
FRAGMENTS = [text for kind, text in BLOCKS if kind == "python" and not text.startswith("# ")]


def test_every_block_is_known() -> None:
    assert list(programs(TEXT)) == ["server.py", "client.py", "orders.py", "test_orders.py"]
    assert {kind for kind, _ in BLOCKS} == {"", "python", "console", "mermaid", "js", "clojure"}


@pytest.mark.parametrize("code", FRAGMENTS)
def test_a_fragment_runs(code: str) -> None:
    exec(compile(code, "delivery.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.skipif("resumed" not in State.__slots__, reason="this Python client does not resume")
def test_the_client_prints_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (printed,) = (text for kind, text in BLOCKS if not kind)
    assert run_pair(PAGE) == (printed, 0)


@pytest.mark.slow
def test_an_order_is_placed_once(tmp_path: Path) -> None:
    for name, text in programs(TEXT).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = ["-q", "-p", "pytest_chansock", "-p", "no:warnings", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_orders.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
        check=True,
    )


def test_the_settings_have_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `(resume|keep_\w+)` \| ([^|]+) \|", TEXT, re.M))
    assert rows == {
        "resume": "True",
        "keep_events": "100",
        "keep_seconds": "120",
        "keep_bytes": "64 MiB",
    }
    config = Config()
    assert (config.resume, config.keep_events, config.keep_seconds) == (True, 100, 120)
    assert config.keep_bytes == 64 * 1024 * 1024


def test_the_counters_exist() -> None:
    assert {"fresh", "resumed", "gap", "reply_lost"} <= {field.name for field in fields(Stats)}


def test_the_figures_of_memory_are_those_of_the_code() -> None:
    fast = ROOT / "chansock" / "_fast" / "events"
    sources = "".join(
        (fast / name).read_text(encoding="utf-8")
        for name in ("fanout.pxd", "logs.pxi", "numbers.pxi")
    )
    found = {
        name: int(value) for name, value in re.findall(r"^ +([A-Z_]+) = (\d+)\b", sources, re.M)
    }
    kept = found["AROUND_EVENT"] - found["AROUND_NODE"] + found["AROUND_LOG"]
    assert f"its encoded bytes and {kept}." in TEXT
    assert f"its packet and {found['HEAD']} bytes" in TEXT
    assert found["ACK_EVENTS"] <= 256
    assert "at most 256 of them or 64 KiB" in TEXT
