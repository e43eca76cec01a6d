"""The closing table of the benches: each question, implementation by implementation.

Times are microseconds for each answer; ratios say how many times chansock's a value is. Of
questions of one kind there is the geometric mean of the ratios, too.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import geometric_mean

# implementation, wall, spread of it, CPU: seconds; no CPU where no server is asked
Row = tuple[str, float, float, float | None]


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
            times = f"{wall / base[1]:.2f}" if base else "-"
            spent = "-" if cpu is None else f"{cpu * 1e6:.2f}"
            cpu_times = f"{cpu / base[3]:.1f}" if base and base[3] and cpu else "-"
            yield (
                f"  {name:<42}{wall * 1e6:>9.2f}{spread:>8.0%}{times:>7}"
                f"{spent:>10}{cpu_times:>7}{1 / wall:>13,.0f}"
            )


def means(kinds: Mapping[str, Sequence[Sequence[Row]]], ours: str) -> Iterator[str]:
    """Tell, for each kind of question, how many times ours each other's time is on the mean."""
    for kind, groups in kinds.items():
        ratios: dict[str, list[float]] = {}
        for found in groups:
            base = next((row[1] for row in found if row[0] == ours), None)
            for row in found if base else ():
                ratios.setdefault(row[0], []).append(row[1] / base)
        yield ""
        yield f"{kind:<60}{'x':>7}{'least':>9}{'most':>9}"
        for name, each in sorted(ratios.items(), key=lambda item: geometric_mean(item[1])):
            mean, least, most = geometric_mean(each), min(each), max(each)
            yield f"  {name:<58}{mean:>7.2f}{least:>9.2f}{most:>9.2f}"


CODECS = ("edn_format", "orjson", "msgspec")


def _versions() -> Iterator[str]:
    for name in ("chansock", "uvloop", "websockets", "python-socketio", "aiohttp", *CODECS):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} from the source tree"
