"""One Python client: it asks twice a second, and prints what it measures as lines of JSON.

    python -m soak.wrong.client URL CLIENT_ID TRANSPORT

Each line has `is_open`, `events` and `answers` so far, and `block`: the most CPU time in seconds
that this process took, since the last line, between two moments in which its loop was free.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from typing import Any

import chansock

EACH = 0.1  # seconds between two lines
FREE = 0.005  # seconds until the loop is looked at again


async def main(url: str, client_id: str, transport: Any) -> None:
    logging.basicConfig(level=logging.WARNING)
    events = answers = 0
    config = chansock.ClientConfig(max_backoff=3.0, ajax_timeout=4.0)
    client = chansock.connect(url, config, client_id=client_id, transport=transport)

    @client.on("t/tick")
    def tick(event: Any) -> None:
        nonlocal events
        events += 1

    @client.on("t/flood")
    def flood(event: Any) -> None:
        nonlocal events
        events += 1

    async def ask() -> None:
        nonlocal answers
        number = 0
        while True:
            number += 1
            with contextlib.suppress(Exception):
                answers += await client.send("t/echo", number, timeout=2.0) == number
            await asyncio.sleep(0.5)

    block = 0.0

    async def watch() -> None:
        nonlocal block
        while True:
            before = time.thread_time()
            await asyncio.sleep(FREE)
            block = max(block, time.thread_time() - before)

    async with client:
        tasks = [asyncio.create_task(ask()), asyncio.create_task(watch())]
        while True:
            line = {"is_open": client.state.open, "events": events, "answers": answers}
            print(json.dumps({**line, "block": round(block, 4)}), flush=True)
            block = 0.0
            done, _ = await asyncio.wait(tasks, timeout=EACH)
            for task in done:
                task.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
