"""How long the slowest requests take: p99 and p99.9 beside other work, and at saturation.

The pace of the first question is fixed: a request is sent when it is due, whether or not earlier
ones are answered, and its latency counts from then. So a server that stops for a moment pays for
every request that was due meanwhile. The server also pushes to all of these clients ten times a
second. In the second question each client sends its next request when it has its answer, which
keeps the server busy all the time. Compare latencies; the wall time of the first is the pace.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bench_request_reply import DIALECTS
from conftest import FLOOR, OURS, PER_ANSWER, Measure

RATE = 75_000  # requests a second, from all clients
PICOWS = "picows"
PUSHING = {name: replace(DIALECTS[name], server=f"{name}, pushing") for name in (OURS, PICOWS)}


@PER_ANSWER
@pytest.mark.parametrize("implementation", PUSHING)
def test_latency_beside_pushes(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = f"{RATE:,} requests/s of 200 clients, pushes to all of them"
    measure(PUSHING, clients=200, in_flight=4096, mode=f"pace:{RATE}", length=4)


@PER_ANSWER
@pytest.mark.parametrize("implementation", [OURS, PICOWS, FLOOR])
def test_latency_at_saturation(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = "as many requests as are answered, 100 clients x 1"
    measure(DIALECTS, clients=100, length=2)
