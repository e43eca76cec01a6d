"""The servers that are measured, each as its own process: chansock and what it is compared with.

`python bench/rivals.py NAME` serves on a free port of 127.0.0.1 and prints the port. All
run on uvloop, do the same work, and are set for speed: no compression, no keep-alive in
the time of a run, plain functions as handlers where there is a choice.

    math/double   answers twice the number it was sent
    news/post     sends NEWS to every client
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

NEWS = "news of a length that makes the edn packet just 128 bytes ".ljust(97, ".")
NEVER = 3600  # seconds: longer than any run


async def announce(port: int) -> None:
    """Print the port, and serve until the process is ended."""
    print(port, flush=True)
    await asyncio.get_running_loop().create_future()


async def chansock_server() -> None:
    import chansock

    config = chansock.Config(ws_ping_interval=NEVER)
    chsk = chansock.ChannelSocket(config)

    @chsk.on("math/double")
    def double(msg: Any) -> int:
        return msg.data * 2

    @chsk.on("news/post")
    def post(msg: Any) -> None:
        chsk.send(chansock.ALL, "news/item", {"text": NEWS})

    async with chansock.serve(chsk, port=0) as listener:
        await announce(listener.sockets[0].getsockname()[1])


async def websockets_server() -> None:
    from websockets.asyncio.server import broadcast, serve

    clients = set()

    async def handle(socket: Any) -> None:
        clients.add(socket)
        try:
            async for text in socket:
                event, data, cb_id = json.loads(text)
                if event == "math/double":
                    await socket.send(json.dumps([data * 2, cb_id]))
                elif event == "news/post":
                    broadcast(clients, json.dumps(["news/item", {"text": NEWS}]))
        finally:
            clients.discard(socket)

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        await announce(next(iter(server.sockets)).getsockname()[1])


async def socketio_server() -> None:
    import socketio
    from aiohttp import web

    server = socketio.AsyncServer(
        async_mode="aiohttp",
        async_handlers=False,  # handled in the order of arrival, without a task for each
        ping_interval=NEVER,
        http_compression=False,
    )

    @server.on("math/double")
    def double(sid: str, data: int) -> int:
        return data * 2

    @server.on("news/post")
    async def post(sid: str, data: object) -> None:
        await server.emit("news/item", {"text": NEWS})

    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await announce(runner.addresses[0][1])


SERVERS: dict[str, Callable[[], Awaitable[None]]] = {
    "chansock": chansock_server,
    "websockets": websockets_server,
    "python-socketio": socketio_server,
}


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(SERVERS[sys.argv[1]]())
