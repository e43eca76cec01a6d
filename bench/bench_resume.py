"""What it costs that clients can resume: CPU, memory, and the return of 10,000 at once.

chansock alone, with clients that resume, without them, and with `Config(resume=False)`. With
BASELINE=FOLDER, an older checkout that is built in place is measured beside them.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from bench_memory import FEW, Ground, cpu_seconds, ground, private_bytes
from bench_request_reply import TEXTS
from conftest import BEFORE, OURS, PER_ANSWER, Measure
from load import BARE_HEAD, Dialect, text_frame
from rivals import EVENTS, NEWS, POSITION, RESUMING

__all__ = ["ground"]

OPEN = f"{OURS}, open to all"
ON, OFF = f"{OURS}, resuming", f"{OURS}, not resuming"
BASE = [BEFORE + OURS] if "BASELINE" in os.environ else []
NAMES = [OFF, *BASE, OURS, ON]  # ratios are of the first
IDLE, QUICK_IDLE = 10_000, 3_000
RETURNING, QUICK_RETURNING = 10_000, 2_000
MISSED = 5  # events that each of them has missed
ANY = "\0"  # load.c: any byte


def dialect(name: str, request: str = "", answer: str = "") -> Dialect:
    path = RESUMING + "0" if name == ON else EVENTS[OURS].path
    return replace(
        EVENTS[OURS],
        path=path,
        request=text_frame(request, masked=True),
        answer=text_frame(answer),
        server=name,
    )


@PER_ANSWER
@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("implementation", NAMES)
def test_request_reply(
    measure: Measure, benchmark: Any, in_flight: int, implementation: str
) -> None:
    benchmark.group = f"request/reply, 100 clients x {in_flight} in flight"
    dialects = {name: dialect(name, *TEXTS[OURS]) for name in NAMES}
    measure(dialects, clients=100, in_flight=in_flight, mode="resume")


def batch(name: str, events: int) -> str:
    items = [f'[:news/item "{number:02} {NEWS}"]' for number in range(events)]
    if name == ON:
        epoch, seq = POSITION.split("-")
        items.append(f'[:chsk/pos "{epoch}-{ANY * len(seq)}"]')
    return f"[[{' '.join(items)}] nil]"


@PER_ANSWER
@pytest.mark.parametrize("events", [1, 50])
@pytest.mark.parametrize("implementation", NAMES)
def test_broadcast(measure: Measure, benchmark: Any, events: int, implementation: str) -> None:
    what = "an event" if events == 1 else f"bursts of {events}"
    benchmark.group = f"{what} to 1,000 clients"
    asked = f"[[:news/post {events}] nil]"
    dialects = {
        name: replace(dialect(name, asked, batch(name, events)), events=events) for name in NAMES
    }
    measure(dialects, clients=1000, mode="fan")


def test_memory_of_an_idle_connection(ground: Ground, printed: list[str]) -> None:
    clients = QUICK_IDLE if ground.is_quick else IDLE
    printed.append(f"{'an idle connection':48}{'KiB for each':>14}{'more':>8}")
    first = 0.0
    for name in NAMES:
        with ground.fresh(name.replace(OURS, OPEN) if name.endswith(OURS) else name) as at:
            few = replace(dialect(name), head=BARE_HEAD)
            with ground.connected(few, at, FEW):
                before = private_bytes(at[1])
                rest = replace(few, path=few.path.replace("c{n}", "d{n}"))
                with ground.connected(rest, at, clients):
                    each = (private_bytes(at[1]) - before) / clients / 1024
        first = first or each
        printed.append(f"{name:48}{each:14.2f}{each - first:+8.2f}")


def test_many_that_return_at_once(ground: Ground, printed: list[str]) -> None:
    clients = QUICK_RETURNING if ground.is_quick else RETURNING
    printed.append(f"{f'{clients:,} clients that return':48}{'CPU seconds':>14}{'wall':>8}")
    with ground.fresh(ON) as at:
        first = replace(dialect(ON), head=BARE_HEAD, greetings=1)
        with ground.connected(first, at, 100, mode="connect") as load:
            load.run(clients)
        assert ask(at[0], MISSED) == 0
        back = replace(first, path=RESUMING + POSITION, greetings=2)
        with ground.connected(back, at, 100, mode="connect") as load:
            before = cpu_seconds(at[1])
            wall = load.run(clients).wall
            cpu = cpu_seconds(at[1]) - before
        assert ask(at[0], 0) == clients  # none was told a gap
    printed.append(f"{ON:48}{cpu:14.2f}{wall:8.2f}")


def ask(port: int, events: int) -> int:
    """Have the server send events to all; return how many clients have resumed so far."""
    from chansock.client import connect

    async def ask() -> int:
        url = f"http://127.0.0.1:{port}/chsk"
        async with connect(url) as client:
            return int(await client.send("news/post", events, timeout=10.0))

    return asyncio.run(ask())
