"""How long a connection takes on real sockets, beside plain C and other servers.

A browser's upgrade request, what the server says first, and an end from both sides; on
chansock with hooks in Python, and a session for each. C is floor.c: what cannot be saved,
and the proof that the generator keeps up.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from load import Dialect
from rivals import EVENTS
from table import Target

CONNECTS = {FLOOR: Dialect(), f"{OURS}, raw": Dialect(server="chansock-echo"), **EVENTS}


@PER_ANSWER
@pytest.mark.parametrize("implementation", CONNECTS)
def test_connect(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = "connect and greet, 16 at a time"
    if implementation == OURS:
        benchmark.extra_info["targets"] = [Target(1.75, FLOOR), Target(0.4, "picows")]
    measure(CONNECTS, clients=16, mode="connect")


@PER_ANSWER
@pytest.mark.parametrize("implementation", CONNECTS)
def test_visit(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = "connect, greet and close, 16 at a time"
    measure(CONNECTS, clients=16, mode="visit")
