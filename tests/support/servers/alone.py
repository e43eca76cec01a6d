"""The channels by chansock's own server: `python -m servers.alone PORT PORT PORT`."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

import chansock
from chansock import Request, Response
from chansock.server import loop_factory
from servers import application


def fallback(request: Request) -> Response:
    # The server's fallback sees no body.
    return Response(*application.other(request.method, request.path, b""))


async def main(ports: list[int]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    async with AsyncExitStack() as stack:
        for port, (name, chsk) in zip(ports, application.channels().items(), strict=True):
            await stack.enter_async_context(
                chansock.serve(chsk, port=port, path=f"/{name}", fallback=fallback)
            )
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main([int(port) for port in sys.argv[1:]]))
