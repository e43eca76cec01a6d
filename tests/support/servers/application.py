"""The application that every server carries in the shared suite, and its channels.

`chsk` has the handlers of the recordings' application and hooks that a parameter turns on;
`quick` the same with times that a test can wait for; `packed` speaks MessagePack. `asgi` is
all of it around an application without a framework.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import sente_app

import chansock
from chansock import ChannelSocket, Config, EventMsg, Request, Response
from chansock.csrf import SKIP

TOKEN = "token-of-the-page"
LIMIT = 64 * 1024  # of a message
BACKLOG = 256 * 1024


def reject(request: Request) -> Response | None:
    return Response(418, "a teapot") if "teapot" in request.params else None


def csrf_token(request: Request) -> Any:
    return TOKEN if "csrf" in request.params else SKIP


async def authorize(request: Request) -> bool:
    """Waits first, as one that asks a database."""
    await asyncio.sleep(0)
    return request.params.get("let") != "no"


def make(
    name: str, packer: chansock.packers.Packer | None = None, **settings: Any
) -> ChannelSocket:
    config = Config(
        **{
            "allowed_origins": ("*",),
            "flush_delay_ajax": 0.005,
            "max_message_bytes": LIMIT,
            "max_backlog_bytes": BACKLOG,
            "max_inbox_events": 4,
            "stop_timeout": 5,
            **settings,
            **json.loads(os.environ.get("SERVED_CONFIG", "{}")),
        }
    )
    more: dict[str, Any] = {}
    if engine := os.environ.get("SERVED_BACKPLANE"):
        from chansock.backplanes.redis import Redis  # an optional extra

        more["backplane"] = Redis(engine, name=name)
    chsk = sente_app.make(
        config,
        packer=packer,
        reject=reject,
        csrf_token=csrf_token,
        authorize=authorize,
        **more,
    )
    held: dict[Any, asyncio.Event] = {}

    @chsk.on("served/request")
    def request(msg: EventMsg[Any]) -> Any:
        """What a hook and a handler see of the request."""
        asked = msg.request
        client = asked.client
        return [
            asked.method,
            asked.path,
            asked.scheme,
            client is not None and client[0],
            asked.headers.get("x-told"),
            asked.cookies.get("crumb"),
        ]

    @chsk.on("served/stat")
    def stat(msg: EventMsg[str]) -> Any:
        found: Any = chsk.stats
        for name in msg.data.split("."):
            found = found.get(int(name), 0) if isinstance(found, dict) else getattr(found, name)
        return found

    @chsk.on("served/is-in")
    def is_in(msg: EventMsg[Any]) -> Any:
        kind, uid = msg.data
        return uid in getattr(chsk.connected, kind)

    @chsk.on("served/close")
    def close(msg: EventMsg[Any]) -> None:
        uid, code, reason = msg.data
        chsk.disconnect(uid, code=code, reason=reason)

    @chsk.on("served/flood")
    def flood(msg: EventMsg[Any]) -> None:
        uid, count, size = msg.data
        for _ in range(count):
            chsk.send(uid, "served/drop", "x" * size)

    @chsk.on("served/hold")
    async def hold(msg: EventMsg[Any]) -> Any:
        """Answer when `served/go` was told to the same user's client."""
        event = held[msg.uid] = asyncio.Event()
        await event.wait()
        return msg.data

    @chsk.on("served/stop")
    async def stop(msg: EventMsg[Any]) -> Any:
        """Answer when the channel takes nothing more."""
        held[msg.uid] = asyncio.Event()
        while not chsk._endpoint.is_stopping:
            await asyncio.sleep(0.01)
        return msg.data

    @chsk.on("served/go")
    def go(msg: EventMsg[Any]) -> Any:
        event = held.pop(msg.data, None)
        if event is not None:
            event.set()
        return event is not None

    @chsk.on("served/holds")
    def holds(msg: EventMsg[Any]) -> bool:
        return msg.data in held

    @chsk.on("served/polls")
    def polls(msg: EventMsg[str]) -> bool:
        """Whether a client has a parked poll: what its user is told of by `connected` only
        when its grace is over."""
        client_id: str = msg.data
        session = chsk._endpoint._hub.table.find(client_id.partition("/")[0], client_id)
        return session is not None and session.poll is not None

    @chsk.on("served/posts")
    def posts(msg: EventMsg[Any]) -> int:
        """How many POSTs await their answer, this one too."""
        return len(chsk._endpoint._dispatch.posts)

    return chsk


def channels() -> dict[str, ChannelSocket]:
    return {
        "chsk": make("chsk"),
        "quick": make(
            "quick",
            poll_timeout=0.2,
            ws_ping_interval=0.2,
            ws_ping_timeout=0.2,
            grace_ws=0.1,
            grace_ajax=0.1,
            close_timeout=0.3,
        ),
        "packed": make("packed", chansock.packers.MessagePack()),
    }


def other(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """What stands at other paths: status and body."""
    if path == "/app":
        return 200, f"{method} of the application: {body.decode()}".encode()
    return 404, b"nothing of the application"


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without a framework, with a lifespan and an echo at /echo."""
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})
    elif scope["type"] == "http":
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, text = other(scope["method"], scope["path"], body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-length", str(len(text)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": text})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"the application: {message['text']}"})


def wrapped(app: Any, found: dict[str, ChannelSocket]) -> Any:
    for name, chsk in found.items():
        app = chansock.asgi.Middleware(app, chsk=chsk, path=f"/{name}")
    return app


asgi = wrapped(plain, channels())
