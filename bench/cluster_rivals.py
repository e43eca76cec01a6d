"""The servers of the cluster's bench: several processes of each, joined by one Redis.

`python bench/cluster_rivals.py NAME` serves on a free port of 127.0.0.1 and prints the port; REDIS
is the engine's URL. A client comes as /?user=NAME by WebSocket; to chansock it comes as
/chsk?client-id=NAME. Each line on stdin is an order, which the process answers by a line once it
is done:

    send COUNT     COUNT events, 16 in a turn, to the users u0 to u15
    all COUNT      COUNT events to everybody
    pace COUNT     COUNT events to u0, one every 5 ms

redis-py 8 ends a subscription that is idle for 5 s: the rivals here set no such limit.

An event is `news/item` with the text `<ns of CLOCK_MONOTONIC> news of the day ...`.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from rivals import (
    NEVER,
    NEWS,
    announce,
    client_id,
    serve,
    serve_socketio,
    serve_uvicorn,
    socketio_app,
)

USERS = 16
PACE = 0.005  # seconds
REDIS = os.environ.get("REDIS", "")

Send = Callable[[str, str], Awaitable[None] | None]  # to a user, or "" for all; the text


def text() -> str:
    return f"{time.monotonic_ns()} {NEWS}"


async def obey(send: Send, stored: Callable[[], Awaitable[None]] | None = None) -> None:
    """Carry out the orders of stdin, if it is a pipe."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def one(to: str) -> None:
        if (waiting := send(to, text())) is not None:
            await waiting

    while line := (await reader.readline()).decode().split():
        what, count = line[0], int(line[1])
        for number in range(count):
            if what == "send":
                await one(f"u{number % USERS}")
                if number % USERS == USERS - 1:
                    await asyncio.sleep(0)
            elif what == "all":
                await one("")
                await asyncio.sleep(0)
            else:
                await one("u0")
                await asyncio.sleep(PACE)
        if stored is not None:
            await stored()
        print("done", flush=True)


async def chansock_server(name: str = "kept", is_kept: bool = True, is_alone: bool = False) -> None:
    import chansock
    from chansock.backplanes.redis import Redis

    chsk = chansock.ChannelSocket(
        chansock.Config(ws_ping_interval=NEVER),
        user_id=client_id,
        backplane=None if is_alone else Redis(REDIS, name=name),
    )

    def send(to: str, text: str) -> None:
        chsk.send(to or chansock.ALL, "news/item", text, keep=is_kept)

    async with chansock.serve(chsk, port=0) as listener:
        orders = asyncio.create_task(obey(send, None if is_alone else chsk.stored))
        await announce(listener.sockets[0].getsockname()[1])
        orders.cancel()


async def socketio_server() -> None:
    import socketio

    joined = socketio.AsyncRedisManager(REDIS, redis_options={"socket_timeout": None})
    server = socketio_app(client_manager=joined)

    @server.on("connect")
    async def _(sid: str, environ: dict[str, Any]) -> None:
        await server.enter_room(sid, environ["QUERY_STRING"].partition("user=")[2])

    async def send(to: str, text: str) -> None:
        await server.emit("news/item", text, to=to or None)

    orders = asyncio.create_task(obey(send))
    await serve_socketio(server)
    orders.cancel()


async def channels_server(backend: str) -> None:
    from django.conf import settings

    config: dict[str, Any] = {"hosts": [{"address": REDIS, "socket_timeout": None}]}
    if backend.endswith("core.RedisChannelLayer"):
        config |= {"capacity": 1_000_000, "expiry": NEVER}  # past it events are dropped silently
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": config}})
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.layers import get_channel_layer

    class News(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            user = self.scope["query_string"].decode().partition("user=")[2]
            await self.channel_layer.group_add(user, self.channel_name)
            await self.channel_layer.group_add("all", self.channel_name)
            await self.accept()
            await self.send('"ready"')

        async def news_item(self, event: dict[str, Any]) -> None:
            await self.send(f'["news/item","{event["text"]}"]')

    layer = get_channel_layer()

    async def send(to: str, text: str) -> None:
        await layer.group_send(to or "all", {"type": "news.item", "text": text})

    orders = asyncio.create_task(obey(send))
    await serve_uvicorn(News.as_asgi())
    orders.cancel()


SERVERS: dict[str, Callable[[], Awaitable[None]]] = {
    "chansock": chansock_server,
    "chansock, resuming": partial(chansock_server, "resuming"),
    "chansock, not kept": partial(chansock_server, "passing", is_kept=False),
    "chansock, alone": partial(chansock_server, is_alone=True),
    "python-socketio": socketio_server,
    "channels_redis": partial(channels_server, "channels_redis.core.RedisChannelLayer"),
    "channels_redis, pubsub": partial(
        channels_server, "channels_redis.pubsub.RedisPubSubChannelLayer"
    ),
}

if __name__ == "__main__":
    serve(SERVERS)
