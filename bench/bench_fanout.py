"""What it costs to tell everybody: time and the server's CPU for each event and client.

One client asks, the server makes all the events of a burst and sends them to everyone, and
the next burst begins when the last client has read the last byte of this one. An event is
counted once for each client that gets it; chansock's packet of a single one has the payload
named. "of N": a burst of N in place of the one asked, since this server writes each event by
itself, so that a longer one takes more time and tells no more. C sends each client all
bytes of a burst at once: what cannot be saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from bench_wire import sized
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from fan_rivals import BY_USER, CHANNELS, KINDS, dialect
from table import Target

HEAVY = ("python-socketio", CHANNELS)
MOST, MOST_OF_HEAVY = 250_000, 5_000  # events times clients of one burst: a second or less
TARGETS = {  # clients, payload, events: what chansock may take
    (1000, 128, 1): [Target(0.92, "picows"), Target(0.58, "websockets")],
    (1000, 128, 50): [Target(0.05, "picows"), Target(0.08, "websockets")],
    (1000, 128, 200): [Target(0.02, "picows"), Target(0.03, "websockets")],
}
TARGET_BY_USER = Target(1.3, OURS)


def burst_of(implementation: str, clients: int, events: int) -> int:
    """Cut the burst to what this server sends within reasonable time."""
    if implementation in (FLOOR, OURS):
        return events
    most = MOST_OF_HEAVY if implementation in HEAVY else MOST
    return min(events, most // clients)


def questions() -> Iterator[tuple[int, int, int, str]]:
    for clients in (1000, 5000):
        for payload in (128, 1024):
            for events in (1, 50, 200):
                for name in (FLOOR, *KINDS):
                    burst = burst_of(name, clients, events)
                    cut = f", of {burst}" if burst < events else ""
                    yield clients, payload, events, name + cut
                if (clients, payload, events) == (1000, 128, 1):
                    for name in KINDS:
                        yield clients, payload, events, name + BY_USER


@PER_ANSWER
@pytest.mark.parametrize(("clients", "payload", "events", "implementation"), questions())
def test_fanout(
    measure: Measure,
    benchmark: Any,
    pytestconfig: pytest.Config,
    clients: int,
    payload: int,
    events: int,
    implementation: str,
) -> None:
    if pytestconfig.getoption("quick") and clients > 1000 and (events > 1 or payload > 128):
        pytest.skip("takes too long to be quick")
    burst = "an event" if events == 1 else f"bursts of {events}"
    benchmark.group = f"{burst}, {sized(payload)}, to {clients:,} clients"
    if implementation == OURS:
        benchmark.extra_info["targets"] = TARGETS.get((clients, payload, events), [])
    elif implementation == OURS + BY_USER:
        benchmark.extra_info["targets"] = [TARGET_BY_USER]
    dialects = {}
    for *question, name in questions():
        if question == [clients, payload, events]:
            cut = re.fullmatch(r"(.*), of (\d+)", name)
            server, count = (cut[1], int(cut[2])) if cut else (name, events)
            dialects[name] = dialect(server, count, payload)
    measure(dialects, clients=clients, mode="fan")
