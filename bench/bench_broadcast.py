"""How long one broadcast to 1,000 clients takes, for each client; chansock's packet is 128 bytes.

One client asks, the server encodes the event once and sends it to everyone, and the
next broadcast begins when the last client has read the last byte of this one.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import PER_ANSWER, Dialect, Measure, text_frame
from rivals import NEWS

CLIENTS = 1000
DIALECTS = {
    "chansock": Dialect(
        path="/chsk?client-id=c{n}",
        greetings=1,
        request=text_frame("[[:news/post] nil]", masked=True),
        answer=text_frame(f'[[[:news/item {{:text "{NEWS}"}}]] nil]'),
    ),
    "websockets": Dialect(
        request=text_frame('["news/post", null, null]', masked=True),
        answer=text_frame(f'["news/item", {{"text": "{NEWS}"}}]'),
    ),
}


@PER_ANSWER
@pytest.mark.parametrize("implementation", DIALECTS)
def test_broadcast(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = f"one broadcast to {CLIENTS:,} clients, for each client"
    measure(implementation, DIALECTS[implementation], clients=CLIENTS, mode="fan")
