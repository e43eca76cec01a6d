"""A channel with something of the application's around it, as an ASGI application. No test here."""

from __future__ import annotations

import asyncio
from typing import Any

import chansock
from chansock import ChannelSocket, EventMsg, Request

chsk = ChannelSocket(user_id=lambda request: seen(request)["user"])
inner = chansock.asgi.app(chsk)


def seen(request: Request) -> Any:
    return request.scope["session"]


@chsk.on("outer/session")
def session(msg: EventMsg[Any]) -> Any:
    return seen(msg.request)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await inner(scope, receive, send)
        return
    query = scope["query_string"]
    if b"pay" in query:
        head = {"status": 402, "headers": [(b"x-price", b"5"), (b"content-length", b"3")]}
        await send({"type": "websocket.http.response.start", **head})
        await send({"type": "websocket.http.response.body", "body": b"pay"})
    elif b"shut" in query:
        await receive()
        await send({"type": "websocket.close"})
    elif b"raise" in query:
        raise RuntimeError("the application's own")
    elif b"accept" in query:
        await send({"type": "websocket.accept"})
    elif b"wait" in query:
        print("waits", flush=True)
        await asyncio.Event().wait()
    else:
        await inner({**scope, "session": {"user": "dora"}}, receive, send)
