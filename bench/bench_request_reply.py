"""How long a request takes: a number goes out, its double comes back, 100 clients.

One handler in Python, called once for each message, on every server; edn for chansock,
JSON for the others. With 16 in flight, what a server saves by gathering shows.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import PER_ANSWER, Dialect, Measure, text_frame

DIALECTS = {
    "chansock": Dialect(
        path="/chsk?client-id=c{n}",
        greetings=1,  # [[:chsk/handshake [:sente/nil-uid nil nil]] nil]
        request=text_frame('[[:math/double 21] "2c4461"]', masked=True),
        answer=text_frame('[42 "2c4461"]'),
    ),
    "websockets": Dialect(
        request=text_frame('["math/double", 21, "2c4461"]', masked=True),
        answer=text_frame('[42, "2c4461"]'),
    ),
    "python-socketio": Dialect(
        path="/socket.io/?EIO=4&transport=websocket",
        greetings=2,  # 0{"sid": ...} of engine.io, and after our 40 its 40{"sid": ...}
        hello=text_frame("40", masked=True),
        request=text_frame('4217["math/double",21]', masked=True),
        answer=text_frame("4317[42]"),
    ),
}


@PER_ANSWER
@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("implementation", DIALECTS)
def test_request_reply(
    measure: Measure, benchmark: Any, implementation: str, in_flight: int
) -> None:
    benchmark.group = f"request/reply, 100 clients x {in_flight} in flight"
    measure(implementation, DIALECTS[implementation], clients=100, in_flight=in_flight)
