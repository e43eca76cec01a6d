"""One application with a channel, under the servers that carry it, each as its own process.

`python bench/embed_servers.py NAME` serves as rivals.py does, at /chsk: math/double answers
twice the number it was sent, and news/post is that of fan_rivals.py. Under uvicorn Middleware
stands around an application, and the names differ in uvicorn's `ws=`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fan_rivals import texts
from rivals import NEVER, announce, client_id, double, has_session, serve, serve_uvicorn

import chansock

ALONE = "chansock"
FAST = "uvicorn, chansock's class"
LEGACY = "uvicorn, websockets"
SANS_IO = "uvicorn, websockets-sansio"
NAMES = (ALONE, FAST, LEGACY, SANS_IO)


def channel() -> chansock.ChannelSocket:
    chsk = chansock.ChannelSocket(
        chansock.Config(ws_ping_interval=NEVER), user_id=client_id, authorize=has_session
    )

    @chsk.on("math/double")
    def _(msg: Any) -> int:
        return double(msg.data)

    @chsk.on("news/post")
    def _(msg: Any) -> None:
        for text in texts(*msg.data):
            chsk.send(chansock.ALL, "news/item", {"text": text})

    return chsk


async def alone() -> None:
    async with chansock.serve(channel(), port=0) as listener:
        await announce(listener.port)


async def under_uvicorn(ws: str) -> None:
    app = chansock.asgi.app(channel())
    await serve_uvicorn(app, ws=ws, lifespan="on")


SERVERS: dict[str, Callable[[], Awaitable[None]]] = {
    ALONE: alone,
    FAST: partial(under_uvicorn, "chansock.uvicorn:WebSocketProtocol"),
    LEGACY: partial(under_uvicorn, "websockets"),
    SANS_IO: partial(under_uvicorn, "websockets-sansio"),
}

if __name__ == "__main__":
    serve(SERVERS)
