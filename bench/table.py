"""The closing table of the benches: each question, implementation by implementation.

Times are microseconds for each answer; ratios say how many times chansock's a value is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

Row = tuple[str, float, float, float]  # implementation, median wall, spread of it, CPU: seconds


def rows(groups: Mapping[str, Sequence[Row]], ours: str) -> Iterator[str]:
    yield f"CPython {platform.python_version()}, {platform.system()} {platform.release()}, " + (
        f"{platform.machine()}; " + ", ".join(_versions())
    )
    yield "us for each answer; CPU is the server's; 'x' is against " + ours
    for group, found in groups.items():
        base = next((row for row in found if row[0] == ours), None)
        yield ""
        yield f"{group:<44}{'wall':>9}{'spread':>8}{'x':>7}{'cpu':>10}{'x':>7}{'per second':>13}"
        for name, wall, spread, cpu in sorted(found, key=lambda row: row[1]):
            times = f"{wall / base[1]:.1f}" if base else "-"
            cpu_times = f"{cpu / base[3]:.1f}" if base else "-"
            yield (
                f"  {name:<42}{wall * 1e6:>9.2f}{spread:>8.0%}{times:>7}"
                f"{cpu * 1e6:>10.2f}{cpu_times:>7}{1 / wall:>13,.0f}"
            )


def _versions() -> Iterator[str]:
    for name in ("chansock", "uvloop", "websockets", "python-socketio", "aiohttp"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} from the source tree"
