"""The server that hostile peers meet: a process of its own, so that its memory can be told.

`python hostile_server.py '{"handshake_timeout": 1.0}'` takes settings of Config, prints the
port, and serves until it is ended.

    t/echo      answers with what it was sent
    t/push      sends so many KiB to whoever asks, 16 at a time
    t/too-slow  answers how many events were lost to clients that do not read
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import chansock
from chansock.clock import loop_factory

PIECE = "x" * 16384


async def main(settings: dict[str, Any]) -> None:
    chsk = chansock.ChannelSocket(chansock.Config(**settings))

    @chsk.on("t/echo")
    def echo(msg: chansock.EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("t/push")
    async def push(msg: chansock.EventMsg[int]) -> None:
        for _ in range(msg.data // 16):
            chsk.send(msg.client, "t/item", PIECE)
            await asyncio.sleep(0)

    @chsk.on("t/too-slow")
    def too_slow(msg: chansock.EventMsg[Any]) -> int:
        return chsk.stats.lost.too_slow

    async with chansock.serve(chsk, port=0) as listener:
        print(listener.port, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.disable()  # what is logged is for other tests
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(json.loads(sys.argv[1])))
