"""A soak on real sockets: one server, 500 clients that come and go, and rules for what they see.

`run` starts the server (`server`, a process of its own on chansock) and drives the clients
(`client`, on `ws`, `ajax` and tests/support/peer.py), which know bytes alone; those of a packer
other than edn by way of `packed`. `account` holds the rules: what one client got, against what the
server says it sent. Times are short, so that a minute sees every kind of end many times. What
both sides must agree on stands here.
"""

from __future__ import annotations

import asyncio
import time

STEADY = 50  # the first clients never leave, and miss nothing
PAIRED = 100  # the last clients belong to users who have another one

# Settings of Config: short times and small limits, so that each is met again and again.
SETTINGS = {
    "grace_ws": 1.0,
    "grace_ajax": 2.5,
    "poll_timeout": 6.0,
    "ws_ping_interval": 3.0,
    "ws_ping_timeout": 2.0,
    "close_timeout": 2.0,
    "http_idle_timeout": 8.0,
    "max_backlog_bytes": 64 * 1024,
    "max_backlog_events": 200,
    "max_total_backlog_bytes": 80 * 1024,  # of each channel; there is one for each packer
}

STALL = 0.5  # seconds that a loop comes late; what ends by time may then end early


def user_of(number: int, clients: int) -> str:
    """The user of a client; two clients each belong to the last but STEADY of them."""
    paired = min(PAIRED, clients // 5)
    return f"u{number - clients // 2}" if number >= clients - paired else f"u{number}"


async def note_stalls(stalls: list[float]) -> None:
    """Note, for ever, when the machine had no time for this process."""
    while len(stalls) < 10_000:
        before = time.monotonic()
        await asyncio.sleep(0.1)
        now = time.monotonic()
        if now - before > 0.1 + STALL:
            stalls.append(now)


def question(number: int) -> int:
    """What the event of this number asks; 0: nothing."""
    return number * 7919 % 1000 + 1 if number % 16 == 0 else 0
