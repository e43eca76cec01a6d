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
# How it is handled: who is asked, and what chansock may take of C's CPU and of picows', by
# requests in flight.
KINDS: dict[str, tuple[dict[str, Dialect], dict[int, tuple[float, float]]]] = {
    "request/reply": (DIALECTS, {1: (1.47, 0.55), 16: (4.0, 0.13)}),
    "request/reply by a coroutine": (BY_COROUTINE, {1: (1.94, 0.7), 16: (6.4, 0.2)}),
}


@PER_ANSWER
@pytest.mark.parametrize(
    ("kind", "in_flight", "implementation"),
    [
        (kind, in_flight, implementation)
        for kind, (dialects, targets) in KINDS.items()
        for in_flight in targets
        for implementation in dialects
    ],
)
def test_request_reply(
    measure: Measure, benchmark: Any, kind: str, in_flight: int, implementation: str
) -> None:
    dialects, targets = KINDS[kind]
    benchmark.group = f"{kind}, 100 clients x {in_flight} in flight"
    if implementation == OURS:
        of_floor, of_picows = targets[in_flight]
        benchmark.extra_info["targets"] = [Target(of_floor, FLOOR), Target(of_picows, PEERS[0])]
    measure(dialects, clients=100, in_flight=in_flight)
