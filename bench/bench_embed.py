"""What a channel costs in an application under uvicorn, beside chansock's server of its own.

The same channel and the same clients each time: a request answered by a plain handler, and
events told to everybody, once for each client. With chansock's class for `ws=` uvicorn hands
the connection over; with one of its own every message is carried through the application.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import OURS, PER_ANSWER, Measure
from embed_servers import ALONE, FAST, LEGACY, NAMES
from fan_rivals import dialect
from load import Dialect, text_frame
from table import Target

assert OURS == ALONE  # what the others are compared with
TARGETS = [Target(1.08, ALONE), Target(0.333, LEGACY)]
PATH = "/chsk?client-id=c{n}"
REQUEST = Dialect(
    text_frame('[[:math/double 21] "2c4461"]', masked=True),
    text_frame('[42 "2c4461"]'),
    path=PATH,
    greetings=1,
)


def asked(of: Dialect) -> dict[str, Dialect]:
    return {
        name: Dialect(
            of.request, of.answer, of.path, of.greetings,
            server=f"embed_servers/{name}", events=of.events,
        )
        for name in NAMES
    }  # fmt: skip


EACH = pytest.mark.parametrize("implementation", NAMES)


@PER_ANSWER
@EACH
@pytest.mark.parametrize("in_flight", [1, 16])
def test_request_reply(
    measure: Measure, benchmark: Any, in_flight: int, implementation: str
) -> None:
    benchmark.group = f"request/reply, 100 clients x {in_flight} in flight"
    if implementation == FAST:
        benchmark.extra_info["targets"] = TARGETS
    measure(asked(REQUEST), clients=100, in_flight=in_flight)


@PER_ANSWER
@EACH
@pytest.mark.parametrize("events", [1, 50])
def test_fanout(measure: Measure, benchmark: Any, events: int, implementation: str) -> None:
    burst = "an event" if events == 1 else f"bursts of {events}"
    benchmark.group = f"{burst}, 128 B, to 1,000 clients"
    if implementation == FAST:
        benchmark.extra_info["targets"] = TARGETS
    measure(asked(dialect("chansock", events, 128)), clients=1000, mode="fan")
