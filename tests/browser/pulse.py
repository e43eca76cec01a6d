"""How long the machine takes for nothing: a round trip to an idle tab, measured all the while.

A time that a page needs is made of such round trips: between the page, the processes of the
browser, and ours. On an idle machine one takes some milliseconds; where other programs want the
processor too, what is due at a time may come later by a number of them, and by no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

EVERY = 0.1  # seconds
ROUND_TRIPS = 12  # from a sign of the browser to a connection and the first number over it
SLACK = 1500.0  # ms that a connection may take on an idle machine

_round_trips: list[tuple[float, float]] = []  # when one ended, and its milliseconds


async def keep_measuring(round_trip: Callable[[], Awaitable[object]]) -> None:
    """Measure a round trip every 100 ms, with what the loop itself is late."""
    while True:
        due = time.monotonic() + EVERY
        await asyncio.sleep(EVERY)
        await round_trip()
        _round_trips.append((time.time() * 1000, (time.monotonic() - due) * 1000))


def worst(began: float) -> float:
    """Return the ms that the longest round trip took since `began`; 0 if none has ended."""
    return max((took for at, took in _round_trips if at >= began), default=0.0)


def lag(began: float) -> float:
    """Return the ms that what was due since `began` may be late by because of the machine.

    0 on a machine that is not busy. `began` is a time as pages count it, in milliseconds.
    """
    return max(0.0, worst(began) * ROUND_TRIPS - SLACK)
