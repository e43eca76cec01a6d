"""What it costs to tell everybody: time and the server's CPU for each event and client.

One client asks, the server makes all the events of a burst and sends them to everyone, and
the next burst begins when the last client has read the last byte of this one. An event is
counted once for each client that gets it; chansock's packet of a single one has the payload
named. "of N": a burst of N in place of the one asked; such a server writes each event by
itself, so that a longer one tells no more. C sends each client all bytes of a burst at once:
what cannot be saved. Django Channels has a task and a copy of the message for each client,
and walks all channels at each of them: to 5,000 an event takes it longer than 20 s.
"""

from __future__ import annotations

from typing import Any

import pytest
from bench_wire import sized
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from fan_rivals import BY_USER, CHANNELS, KINDS, dialect
from load import Dialect
from table import Target

Question = tuple[int, int, int]  # clients, payload, events
QUESTIONS: list[Question] = [
    (clients, payload, events)
    for clients in (1000, 5000)
    for payload in (128, 1024)
    for events in (1, 50, 200)
]
BESIDE_BY_USER = 1000, 128, 1
TARGETS = {
    (1000, 128, 1): [Target(0.92, "picows"), Target(0.58, "websockets")],
    (1000, 128, 50): [Target(0.05, "picows"), Target(0.08, "websockets")],
    (1000, 128, 200): [Target(0.02, "picows"), Target(0.03, "websockets")],
}
TARGET_BY_USER = Target(1.3, OURS)
SOCKET_IO = "python-socketio"
BURST, BURST_IF_HEAVY = 10, 5  # events, of servers that write each by itself


def burst_of(name: str, question: Question) -> int:
    """Say how many events at a time this server is asked for; 0: it would take too long."""
    clients, _, events = question
    if name in (FLOOR, OURS) or name in {target.of for target in TARGETS.get(question, ())}:
        return events
    if name == CHANNELS and clients > 1000:
        return 0
    if name in (SOCKET_IO, CHANNELS):
        is_asked = events == 1 or question == (1000, 128, 50)
        return min(events, BURST_IF_HEAVY) if is_asked else 0
    return min(events, BURST)


def dialects(question: Question) -> dict[str, Dialect]:
    _, payload, events = question
    found: dict[str, Dialect] = {}
    for name in (FLOOR, *KINDS):
        if burst := burst_of(name, question):
            cut = f", of {burst}" if burst < events else ""
            found[name + cut] = dialect(name, burst, payload)
    if question == BESIDE_BY_USER:
        found |= {name + BY_USER: dialect(name + BY_USER, events, payload) for name in KINDS}
    return found


DIALECTS = {question: dialects(question) for question in QUESTIONS}


@PER_ANSWER
@pytest.mark.parametrize(
    ("clients", "payload", "events", "implementation"),
    [(*question, name) for question, asked in DIALECTS.items() for name in asked],
)
def test_fanout(
    measure: Measure,
    benchmark: Any,
    pytestconfig: pytest.Config,
    clients: int,
    payload: int,
    events: int,
    implementation: str,
) -> None:
    if pytestconfig.getoption("quick") and (payload > 128 or (clients > 1000 and events > 1)):
        pytest.skip("takes too long to be quick")
    burst = "an event" if events == 1 else f"bursts of {events}"
    benchmark.group = f"{burst}, {sized(payload)}, to {clients:,} clients"
    question = clients, payload, events
    if implementation == OURS:
        benchmark.extra_info["targets"] = TARGETS.get(question, [])
    elif implementation == OURS + BY_USER:
        benchmark.extra_info["targets"] = [TARGET_BY_USER]
    measure(DIALECTS[question], clients=clients, mode="fan")
