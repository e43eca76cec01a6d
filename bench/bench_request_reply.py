"""How long a request takes: a number goes out, its double comes back, 100 clients.

One handler in Python, called once for each message, on every server; edn for chansock,
JSON by orjson for those who have no events of their own. With 16 in flight, what a server
saves by gathering shows. C answers the same text with itself: what it costs to carry.
Beside that, chansock with a coroutine as its handler; picows has but functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from load import Dialect, text_frame
from rivals import EVENTS, PEERS
from table import Target

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
AWAITED = text_frame(EDN.replace("double", "awaited"), masked=True)
BY_COROUTINE = {
    FLOOR: DIALECTS[FLOOR],
    OURS: replace(DIALECTS[OURS], request=AWAITED),
    PEERS[0]: DIALECTS[PEERS[0]],
}
TARGETS = {1: 1.47, 16: 4.0}  # requests in flight, and what chansock may take of the floor's CPU
TARGETS_BY_COROUTINE = {1: 1.94, 16: 6.4}


@PER_ANSWER
@pytest.mark.parametrize("implementation", DIALECTS)
@pytest.mark.parametrize("in_flight", TARGETS)
def test_request_reply(
    measure: Measure, benchmark: Any, implementation: str, in_flight: int
) -> None:
    benchmark.group = f"request/reply, 100 clients x {in_flight} in flight"
    if implementation == OURS:
        benchmark.extra_info["targets"] = [Target(TARGETS[in_flight], FLOOR)]
    measure(DIALECTS, clients=100, in_flight=in_flight)


@PER_ANSWER
@pytest.mark.parametrize("implementation", BY_COROUTINE)
@pytest.mark.parametrize("in_flight", TARGETS_BY_COROUTINE)
def test_request_reply_by_coroutine(
    measure: Measure, benchmark: Any, implementation: str, in_flight: int
) -> None:
    benchmark.group = f"request/reply by a coroutine, 100 clients x {in_flight} in flight"
    if implementation == OURS:
        benchmark.extra_info["targets"] = [Target(TARGETS_BY_COROUTINE[in_flight], FLOOR)]
    measure(BY_COROUTINE, clients=100, in_flight=in_flight)
