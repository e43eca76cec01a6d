"""docs/limits.md: every limit is in its tables, with the default that holds."""

from __future__ import annotations

import re
from dataclasses import fields

from dist_content import ROOT

from chansock import ClientConfig, Config
from chansock._core import log_limit

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
SERVER, CLIENTS = TEXT.split("## In the clients")
ROWS, CLIENT_ROWS = (
    dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", text, re.MULTILINE))
    for text in (SERVER, CLIENTS)
)
UNITS = {"": 1, " KiB": 1024, " MiB": 1024 * 1024}
# No limits: how messages travel, how long they are gathered, whom to believe, and what is kept.
OTHERS = {
    "allowed_hosts",
    "allowed_origins",
    "compression",
    "flush_delay_ajax",
    "flush_delay_ws",
    "resume",
    "trusted_headers",
    "trusted_proxies",
}


def value_of(text: str) -> float | None:
    """Read `None`, `12.5`, `1,000`, or `16 KiB`."""
    if text == "None":
        return None
    number, unit = re.fullmatch(r"([\d.,]+)( [KM]iB)?", text).groups(default="")
    return float(number.replace(",", "")) * UNITS[unit]


def test_every_limit_has_a_row() -> None:
    assert set(ROWS) == {field.name for field in fields(Config)} - OTHERS


def test_each_row_has_the_default() -> None:
    config = Config()
    assert {name: value_of(text) for name, text in ROWS.items()} == {
        name: getattr(config, name) for name in ROWS
    }


def test_each_row_of_the_clients_has_the_default() -> None:
    limits = {field.name for field in fields(ClientConfig) if field.name.startswith("max_")}
    assert set(CLIENT_ROWS) == limits - {"max_backoff"}
    assert {name: value_of(text) for name, text in CLIENT_ROWS.items()} == {
        name: getattr(ClientConfig(), name) for name in CLIENT_ROWS
    }


def test_the_figures_of_the_log_are_those_of_the_code() -> None:
    assert f"{log_limit.BURST} lines of each kind" in TEXT
    assert f"{log_limit.MAX_LINE:,} characters" in TEXT
    assert f"tracebacks {log_limit.MAX_TRACEBACK:,}" in TEXT


def test_the_program_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "limits.md", "exec"), {})
