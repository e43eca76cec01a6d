"""The servers of the fan-out, each as its own process: one says it, and everybody hears it.

`python bench/fan_rivals.py NAME` serves as rivals.py does. `news/post [events size]` from one
client sends so many events `news/item {text}` to every client, all in one turn of the loop
where the server can. A NAME that ends in BY_USER sends each of them user by user, encoded
anew for each. Each server does it as its documentation does: by a loop over its connections
(picows, Starlette), by broadcast(), emit() or group_send().
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import orjson
from load import Dialect, text_frame
from rivals import (
    EVENTS,
    NEVER,
    announce,
    client_id,
    has_session,
    serve,
    serve_picows,
    serve_socketio,
    serve_uvicorn,
    serve_websockets,
    socketio_app,
)

BY_USER = ", user by user"
CHANNELS = "Django Channels on uvicorn"
FRAME = 31  # bytes of chansock's packet of one event around its text


@cache
def texts(events: int, size: int) -> list[str]:
    """What the events say: each something else, so that each has to be encoded."""
    return [f"{number:03} news of the day ".ljust(size - FRAME, ".") for number in range(events)]


def packet(text: str) -> str:
    """Encode an event for those who have none of their own."""
    return orjson.dumps(["news/item", {"text": text}]).decode()


def wanted(request: str | bytes | memoryview) -> list[str]:
    _, (events, size), _ = orjson.loads(request)
    return texts(events, size)


class Users(dict[str, Any]):
    """Connections by user id."""

    def leave(self, uid: str, connection: object) -> None:
        if self.get(uid) is connection:
            del self[uid]


async def chansock_server(by_user: bool) -> None:
    import chansock

    chsk = chansock.ChannelSocket(
        chansock.Config(ws_ping_interval=NEVER), user_id=client_id, authorize=has_session
    )

    @chsk.on("news/post")
    def _(msg: Any) -> None:
        for text in texts(*msg.data):
            if by_user:
                for user in chsk.connected.ws:
                    chsk.send(user, "news/item", {"text": text})
            else:
                chsk.send(chansock.ALL, "news/item", {"text": text})

    async with chansock.serve(chsk, port=0) as listener:
        await announce(listener.sockets[0].getsockname()[1])


async def picows_server(by_user: bool) -> None:
    import picows

    users = Users()

    class Listener(picows.WSListener):
        def __init__(self, uid: str) -> None:
            self.uid = uid

        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            users[self.uid] = transport

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            users.leave(self.uid, transport)

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()
                return
            for text in wanted(frame.get_payload_as_memoryview()):
                if by_user:
                    for user in users:
                        users[user].send(picows.WSMsgType.TEXT, packet(text).encode())
                else:
                    data = packet(text).encode()
                    for each in users.values():
                        each.send(picows.WSMsgType.TEXT, data)

    await serve_picows(lambda request: Listener(request.path.rpartition(b"=")[2].decode()))


async def websockets_server(by_user: bool) -> None:
    from websockets.asyncio.server import broadcast

    users = Users()

    async def handle(ws: Any) -> None:
        uid = ws.request.path.rpartition("=")[2]
        users[uid] = ws
        try:
            async for request in ws:
                for text in wanted(request):
                    if by_user:
                        for user in list(users):
                            await users[user].send(packet(text))
                    else:
                        broadcast(users.values(), packet(text))
        finally:
            users.leave(uid, ws)

    await serve_websockets(handle)


async def starlette_server(by_user: bool) -> None:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    users = Users()

    async def handle(ws: WebSocket) -> None:
        users[ws.query_params["client-id"]] = ws
        try:
            await ws.accept()
            async for request in ws.iter_text():
                for text in wanted(request):
                    if by_user:
                        for user in list(users):
                            await users[user].send_text(packet(text))
                    else:
                        data = packet(text)
                        for each in list(users.values()):
                            await each.send_text(data)
        finally:
            users.leave(ws.query_params["client-id"], ws)

    await serve_uvicorn(Starlette(routes=[WebSocketRoute("/", handle)]))


async def socketio_server(by_user: bool) -> None:
    server = socketio_app()
    users = Users()

    @server.on("connect")
    async def _(sid: str, environ: dict[str, Any]) -> None:
        uid = environ["QUERY_STRING"].rpartition("=")[2]
        users[uid] = sid
        await server.save_session(sid, uid)

    @server.on("disconnect")
    async def _(sid: str, reason: str) -> None:
        users.leave(await server.get_session(sid), sid)

    @server.on("news/post")
    async def _(sid: str, data: list[int]) -> None:
        for text in texts(*data):
            if by_user:
                for user in list(users):
                    await server.emit("news/item", {"text": text}, to=users[user])
            else:
                await server.emit("news/item", {"text": text})

    await serve_socketio(server)


async def channels_server(by_user: bool) -> None:
    from django.conf import settings

    layer = {
        "BACKEND": "channels.layers.InMemoryChannelLayer",
        "CONFIG": {"capacity": 1000, "expiry": NEVER},  # past it events are dropped silently
    }
    settings.configure(CHANNEL_LAYERS={"default": layer})
    from channels.generic.websocket import AsyncWebsocketConsumer

    users = Users()

    class News(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            self.uid = self.scope["query_string"].rpartition(b"=")[2].decode()
            users[self.uid] = self.channel_name
            await self.channel_layer.group_add("news", self.channel_name)
            await self.accept()

        async def disconnect(self, code: int) -> None:
            users.leave(self.uid, self.channel_name)
            await self.channel_layer.group_discard("news", self.channel_name)

        async def receive(self, text_data: str = "", bytes_data: bytes = b"") -> None:
            for text in wanted(text_data):
                if by_user:
                    for user in list(users):
                        message = {"type": "news.item", "packet": packet(text)}
                        await self.channel_layer.send(users[user], message)
                else:
                    message = {"type": "news.item", "packet": packet(text)}
                    await self.channel_layer.group_send("news", message)

        async def news_item(self, message: dict[str, str]) -> None:
            await self.send(text_data=message["packet"])

    await serve_uvicorn(News.as_asgi())


KINDS: dict[str, Callable[[bool], Awaitable[None]]] = {  # called with by_user
    "chansock": chansock_server,
    "picows": picows_server,
    "websockets": websockets_server,
    "Starlette on uvicorn": starlette_server,
    "python-socketio": socketio_server,
    CHANNELS: channels_server,
}
FLOOR = "C"
PATHS = {
    "chansock": EVENTS["chansock"].path,
    "python-socketio": EVENTS["python-socketio"].path + "&client-id=c{n}",
}


def dialect(name: str, events: int, size: int) -> Dialect:
    """Say how the server `name` is asked, and what it sends to each client in all."""
    said = texts(events, size)
    asked = f'["news/post",[{events},{size}]'
    kind = name.removesuffix(BY_USER)
    if kind == FLOOR:
        request, heard = f"fan {events} {packet(said[0])}", [packet(said[0])] * events
    elif kind == "chansock":
        items = " ".join(f'[:news/item {{:text "{text}"}}]' for text in said)
        request, heard = f"[[:news/post [{events} {size}]] nil]", [f"[[{items}] nil]"]
    elif kind == "python-socketio":
        request, heard = f"42{asked}]", [f"42{packet(text)}" for text in said]
    else:
        request, heard = f"{asked},null]", [packet(text) for text in said]
    return replace(
        EVENTS.get(kind, Dialect()),
        path=PATHS.get(kind, "/?client-id=c{n}"),
        request=text_frame(request, masked=True),
        answer=b"".join(map(text_frame, heard)),
        server=kind if kind == FLOOR else f"fan_rivals/{name}",
        events=events,
    )


if __name__ == "__main__":
    serve(
        {name: partial(kind, False) for name, kind in KINDS.items()}
        | {name + BY_USER: partial(kind, True) for name, kind in KINDS.items()}
    )
