"""Prints how pages fare in each browser when the server or the network fails them.

    ci/bench.sh browsers                     all, about seven minutes for each browser
    ci/bench.sh browsers firefox             one browser
    ci/bench.sh browsers firefox "restart"   one scenario

tests/browser/outages.py plays what this prints, and says what each figure is.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "support")]

from engines import ENGINES  # noqa: E402
from outages import SCENARIOS, Row, play  # noqa: E402

HEAD = ("browser", "scenario", "connected", "WebSocket", "lost", "doubled", "longest answer")


def cells(row: Row | Exception) -> tuple[str, ...]:
    if isinstance(row, Exception):
        return (f"failed: {row!r}", "", "", "", "")
    times = [_seconds(time) for time in (row.connected, row.socket)]
    slowest = "" if row.slowest is None else _seconds(row.slowest)
    return (*times, str(row.lost), str(row.doubled), slowest or row.note)


def _seconds(time: float | None) -> str:
    return "-" if time is None else f"{time:.2f} s"


def main(words: list[str]) -> None:
    browsers = [word for word in words if word in ENGINES] or list(ENGINES)
    scenarios = [word for word in words if word in SCENARIOS] or list(SCENARIOS)
    unknown = [word for word in words if word not in ENGINES and word not in SCENARIOS]
    if unknown:
        known = ", ".join((*ENGINES, *SCENARIOS))
        raise SystemExit(f"expected some of {known}; got {unknown[0]!r}")
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for browser in browsers:
        for name, row in asyncio.run(play(browser, scenarios)).items():
            print("| " + " | ".join((browser, name, *cells(row))) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
