"""How long a message takes on real sockets, beside plain C and other servers.

A binary message comes back as it was sent, by chansock's frames without anything above
them; python-socketio, which has no messages but events, echoes a text event of that size.
C is floor.c: what cannot be saved, and the proof that the generator keeps up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import FLOOR, OURS, PER_ANSWER, Measure
from load import BINARY, Dialect, frame, text_frame
from rivals import EVENTS, PEERS
from table import Target

PICOWS, SOCKET_IO = "picows", "python-socketio"
NAMES = (FLOOR, OURS, *PEERS, SOCKET_IO)
# payload, clients, in flight, and what chansock may take
ECHOES: list[tuple[int, int, int, list[Target]]] = [
    (64, 1, 1, []),
    (64, 100, 1, [Target(1.17, FLOOR), Target(0.82, PICOWS)]),
    (64, 100, 16, [Target(1.45, FLOOR), Target(0.085, PICOWS)]),
    (1024, 1, 1, []),
    (1024, 100, 1, []),
    (1024, 100, 16, []),
    (16 << 10, 1, 1, []),
    (16 << 10, 100, 1, [Target(0.6, PICOWS)]),
    (16 << 10, 100, 16, [Target(0.4, PICOWS)]),
    (1 << 20, 1, 1, []),
    # of C: not slower, as far as a run can tell
    (1 << 20, 4, 1, [Target(1.04, FLOOR, "wall"), Target(0.87, PICOWS, "wall")]),
]


def sized(count: int, space: str = " ") -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if count >> shift:
            return f"{count >> shift}{space}{unit}"
    return f"{count}{space}B"


def echo_dialects(payload: int) -> dict[str, Dialect]:
    data = bytes(i * 7 & 255 for i in range(payload))
    raw = Dialect(frame(BINARY, data, masked=True), frame(BINARY, data), path="/echo")
    start, end = '42["echo","', '"]'
    event = start + "a" * (payload - len(start + end)) + end
    return {
        **dict.fromkeys(PEERS, raw),
        FLOOR: raw,
        OURS: replace(raw, server="chansock-echo"),
        SOCKET_IO: replace(
            EVENTS[SOCKET_IO], request=text_frame(event, masked=True), answer=text_frame(event)
        ),
    }


@PER_ANSWER
@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize(
    ("payload", "clients", "in_flight", "targets"),
    ECHOES,
    ids=[f"{sized(size, '')}-{clients}x{in_flight}" for size, clients, in_flight, _ in ECHOES],
)
def test_echo(
    measure: Measure,
    benchmark: Any,
    implementation: str,
    payload: int,
    clients: int,
    in_flight: int,
    targets: list[Target],
) -> None:
    benchmark.group = f"echo, {sized(payload)}, {clients} x {in_flight}"
    if implementation == OURS:
        benchmark.extra_info["targets"] = targets
    measure(echo_dialects(payload), clients=clients, in_flight=in_flight)
