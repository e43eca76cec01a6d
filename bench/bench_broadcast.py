"""How long one broadcast to 1,000 clients takes, for each client; chansock's packet is 128 bytes.

One client asks, the server encodes the event once and sends it to everyone, and the
next broadcast begins when the last client has read the last byte of this one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import PER_ANSWER, Measure
from load import text_frame
from rivals import EVENTS, NEWS

CLIENTS = 1000
TEXTS = {  # what the first client says, and everybody hears
    "chansock": ("[[:news/post] nil]", f'[[[:news/item {{:text "{NEWS}"}}]] nil]'),
    "websockets": ('["news/post",null,null]', f'["news/item",{{"text":"{NEWS}"}}]'),
}
DIALECTS = {
    name: replace(EVENTS[name], request=text_frame(said, masked=True), answer=text_frame(heard))
    for name, (said, heard) in TEXTS.items()
}


@PER_ANSWER
@pytest.mark.parametrize("implementation", DIALECTS)
def test_broadcast(measure: Measure, benchmark: Any, implementation: str) -> None:
    benchmark.group = f"one broadcast to {CLIENTS:,} clients, for each client"
    measure(DIALECTS, clients=CLIENTS, mode="fan")
