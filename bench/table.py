"""The closing table of the benches: each question, implementation by implementation.

Times are microseconds for each answer, or for each event of an answer that holds several;
ratios say how many times chansock's a value is, and how many times the CPU of the floor. Under
a question stands whether the generator kept up and the targets were met. Of questions of one
kind there is the geometric mean of the ratios, too.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import geometric_mean
from typing import Any

NOISE = 1.04  # what a run cannot tell from equal


@dataclass(frozen=True, slots=True)
class Target:
    """What an implementation may take at most, as a multiple of what another one takes."""

    most: float
    of: str  # the name of a row of the same question
    what: str = "cpu"  # or "wall"


def verdict(name: str, what: str, most: str, got: str, is_met: bool) -> str:
    return f"  target of {name}: {what} at most {most}; {got}, {'met' if is_met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Row:
    """One implementation's answer to one question, in seconds."""

    name: str
    wall: float
    spread: float  # of wall: standard deviation by mean
    payload: int = 0
    cpu: float | None = None  # None where no server is asked
    latency: tuple[float, float, float] | None = None  # p50, p99, p99.9
    busy: float = 0.0  # share of the wall time that the server's CPU was in use
    generator_busy: float = 0.0
    targets: Sequence[Target] = ()

    @classmethod
    def of(cls, stats: Any, info: Mapping[str, Any]) -> Row:
        """Take it from what pytest-benchmark keeps."""
        return cls(
            name=info["implementation"],
            wall=stats.min if info.get("is_least") else stats.median,
            spread=stats.stddev / stats.mean if stats.mean else 0.0,
            payload=info["payload"],
            cpu=info.get("cpu"),
            latency=info.get("latency"),
            busy=info.get("busy", 0.0),
            generator_busy=info.get("generator_busy", 0.0),
            targets=info.get("targets", ()),
        )


def rows(groups: Mapping[str, Sequence[Row]], ours: str, floor: str) -> Iterator[str]:
    yield ground((*SERVERS, *CODECS))
    yield "us for each answer, or each event of a burst; CPU is the server's; 'x' is against"
    yield f"{ours}, 'x {floor}' against plain C; p50, p99, p99.9: from request to answer, or to a"
    yield "burst's last byte; busy: how much of the wall time the server's core was in use, and"
    yield "the load generator's"
    for group, found in groups.items():
        base = next((row for row in found if row.name == ours), None)
        least = next((row for row in found if row.name == floor), None)
        columns = _columns(found, base, least, floor)
        yield ""
        yield f"{group:<48}" + "".join(title.rjust(width) for title, width, _ in columns)
        for row in sorted(found, key=lambda row: row.wall):
            texts = (write(row).rjust(width) for _, width, write in columns)
            yield f"  {row.name:<46}" + "".join(texts)
        yield from _verdicts(found, least)


def ground(names: Sequence[str]) -> str:
    """Name the machine, and the versions of chansock and of these packages."""
    return f"CPython {platform.python_version()}, {platform.system()} {platform.release()}, " + (
        f"{platform.machine()}; " + ", ".join(_versions(names))
    )


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}" if seconds > 1e-6 else f"{seconds * 1e6:.3f}"


def _columns(
    found: Sequence[Row], base: Row | None, least: Row | None, floor: str
) -> list[tuple[str, int, Callable[[Row], str]]]:
    def times(value: float | None, of: float | None) -> str:
        if not value or not of:
            return "-"
        return f"{value / of:.2f}" if value < 100 * of else f"{value / of:,.0f}"

    columns: list[tuple[str, int, Callable[[Row], str]]] = [
        ("wall", 10, lambda row: _us(row.wall)),
        ("spread", 8, lambda row: f"{row.spread:.0%}"),
        ("x", 7, lambda row: times(row.wall, base and base.wall)),
    ]
    if any(row.cpu is not None for row in found):
        columns += [
            ("cpu", 10, lambda row: "-" if row.cpu is None else _us(row.cpu)),
            ("x", 7, lambda row: times(row.cpu, base and base.cpu)),
        ]
    if least:
        columns.append((f"x {floor}", 7, lambda row: times(row.cpu, least.cpu)))
    columns.append(("per second", 13, lambda row: f"{1 / row.wall:,.0f}"))
    if any(row.payload >= 1 << 20 for row in found):
        columns.append(("GB/s", 7, lambda row: f"{row.payload / row.wall / 1e9:.2f}"))
    if all(row.latency for row in found):
        for i, title in enumerate(("p50", "p99", "p99.9")):
            columns.append((title, 9, lambda row, i=i: f"{row.latency[i] * 1e6:.0f}"))
        columns += [
            ("busy", 7, lambda row: f"{row.busy:.0%}"),
            ("load's", 8, lambda row: f"{row.generator_busy:.0%}"),
        ]
    return columns


def _verdicts(found: Sequence[Row], least: Row | None) -> Iterator[str]:
    """Say whether the generator kept up with everybody, and which targets were met."""
    if least:
        quicker = [row.name for row in found if row.wall * NOISE < least.wall]
        yield f"  the generator and {least.name}: " + (
            f"HELD BACK {', '.join(quicker)}" if quicker else "no server is quicker"
        )
    named = {row.name: row for row in found}
    for row in found:
        for target in row.targets:
            if target.of in named:
                got = getattr(row, target.what) / getattr(named[target.of], target.what)
                most = f"{target.most} x {target.of}"
                figure = f"{got:.3f}" if target.most < 0.1 else f"{got:.2f}"
                yield verdict(row.name, target.what, most, figure, got <= target.most)


def means(kinds: Mapping[str, Sequence[Sequence[Row]]], ours: str) -> Iterator[str]:
    """Return, for each kind of question, how many times ours each other's time is on the mean."""
    for kind, groups in kinds.items():
        ratios: dict[str, list[float]] = {}
        for found in groups:
            base = next((row.wall for row in found if row.name == ours), None)
            for row in found if base else ():
                ratios.setdefault(row.name, []).append(row.wall / base)
        yield ""
        yield f"{kind:<60}{'x':>7}{'least':>9}{'most':>9}"
        for name, each in sorted(ratios.items(), key=lambda item: geometric_mean(item[1])):
            mean, least, most = geometric_mean(each), min(each), max(each)
            yield f"  {name:<58}{mean:>7.2f}{least:>9.2f}{most:>9.2f}"


SERVERS = (
    "uvloop",
    "picows",
    "websockets",
    "aiohttp",
    "uvicorn",
    "starlette",
    "python-socketio",
    "channels",
)
CLUSTER = ("redis", "hiredis", "channels_redis", "python-socketio", "channels", "uvloop")
CODECS = ("edn_format", "orjson", "msgspec")


def _versions(names: Sequence[str]) -> Iterator[str]:
    for name in ("chansock", *names):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} from the source tree"
