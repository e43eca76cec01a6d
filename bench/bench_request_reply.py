"""How long a request takes: a number goes out, its double comes back, 100 clients.

One handler in Python, called once for each message, on every server; edn for chansock,
JSON by orjson for those who have no events of their own. With 16 in flight, what a server
saves by gathering shows. C answers the same text with itself: what it costs to carry.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from load import Dialect, text_frame
from rivals import EVENTS, PEERS

EDN = '[[:math/double 21] "2c4461"]'
TEXTS = {  # what each is asked, and answers
    "chansock": (EDN, '[42 "2c4461"]'),
    **dict.fromkeys(PEERS, ('["math/double",21,"2c4461"]', '[42,"2c4461"]')),
    "python-socketio": ('4217["math/double",21]', "4317[42]"),
}
DIALECTS = {FLOOR: Dialect(text_frame(EDN, masked=True), text_frame(EDN))} | {
    name: replace(EVENTS[name], request=text_frame(ask, masked=True), answer=text_frame(answer))
    for name, (ask, answer) in TEXTS.items()
}
TARGETS = {1: 1.47, 16: 4.0}  # requests in flight, and what chansock may take of the floor's CPU


@PER_ANSWER
@pytest.mark.parametrize("implementation", DIALECTS)
@pytest.mark.parametrize("in_flight", TARGETS)
def test_request_reply(
    measure: Measure, benchmark: Any, implementation: str, in_flight: int
) -> None:
    benchmark.group = f"request/reply, 100 clients x {in_flight} in flight"
    if implementation == OURS:
        benchmark.extra_info["target"] = ("cpu", TARGETS[in_flight])
    measure(DIALECTS, clients=100, in_flight=in_flight)
