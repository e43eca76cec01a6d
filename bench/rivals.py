"""The servers that are measured, each as its own process: chansock and what it is compared with.

`python bench/rivals.py NAME` serves on a free port of 127.0.0.1 and prints the port. All
run on uvloop, do the same work, and are set for speed: no compression, no keep-alive in
the time of a run, plain functions as handlers where there is a choice.

    /               events: chansock's in edn at /chsk, socket.io's own, else JSON [id data cb-id]
      math/double   answers twice the number it was sent
      math/awaited  does so by a coroutine (chansock)
      echo          answers what it was sent (python-socketio, which has no raw messages)
    /echo           answers each binary message with itself

Under a name of its own chansock keeps its connections alive, knows nobody, or forgets soon;
"uvloop" is a protocol that says 101 and nothing else: what a transport costs by itself.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import orjson
import uvloop
from load import Dialect, text_frame

PEERS = ("picows", "websockets", "aiohttp", "Starlette on uvicorn")  # who carry messages
EVENTS = {  # how a client comes to where a server takes events
    "chansock": Dialect(
        path="/chsk?client-id=c{n}",
        greetings=1,  # [[:chsk/handshake ["c0" nil nil]] nil]
    ),
    **dict.fromkeys(PEERS, Dialect()),
    "python-socketio": Dialect(
        path="/socket.io/?EIO=4&transport=websocket",
        greetings=2,  # 0{"sid": ...} of engine.io, and after our 40 its 40{"sid": ...}
        hello=text_frame("40", masked=True),
    ),
}
UPGRADED = (  # the answer to the one key of load.c
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
KEEP_ALIVE = 12.5  # seconds, the default of Config
GRACE = 0.25  # seconds: a bench waits for its end
NEVER = 3600  # seconds: longer than any run
POSITION = f"{10**14}-{10**14}"  # the first one of a chansock whose clients resume
RESUMING = "/chsk?client-id=c{n}&acked=0&sent=0&pos="
PUSH_INTERVAL = 0.1  # seconds
NEWS = "news of the day ".ljust(80, ".")  # with what is around it, the push of load.c's pace mode
MOST = 1 << 24  # bytes of a message: above what any bench sends


async def announce(port: int) -> None:
    """Print the port, and serve until the process is ended."""
    print(port, flush=True)
    await asyncio.get_running_loop().create_future()


def push_regularly(push: Callable[[], None]) -> None:
    """Call push every PUSH_INTERVAL seconds from now on."""
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_later(PUSH_INTERVAL, again)
        push()

    again()


def double(data: int) -> int:
    return data * 2


HANDLERS: dict[str, Callable[[Any], Any]] = {"math/double": double}


def reply_to(text: str | bytes) -> bytes:
    """Handle one event of those who have no protocol of their own."""
    event, data, cb_id = orjson.loads(text)
    return orjson.dumps([HANDLERS[event](data), cb_id])


def client_id(request: Any) -> str:
    return str(request.params["client-id"])


def has_session(request: Any) -> bool:
    return "session" in request.cookies


def begin_at(chsk: Any) -> None:
    """Begin positions at POSITION, so that all of them have the same length."""
    engine = chsk._backplane
    epoch, seq = map(int, POSITION.split("-"))
    opened = engine.open

    def open_(*args: Any) -> None:
        opened(*args)
        engine._epoch, engine._events.seq = epoch, seq

    engine.open = open_


async def chansock_server(
    user_id: Any = client_id,
    authorize: Any = has_session,
    is_pushing: bool = False,
    **settings: float,
) -> None:
    import chansock

    chsk = chansock.ChannelSocket(
        chansock.Config(**{"ws_ping_interval": NEVER} | settings),
        user_id=user_id,
        authorize=authorize,
    )
    if settings.get("resume"):
        begin_at(chsk)

    @chsk.on("math/double")
    def _(msg: Any) -> int:
        return double(msg.data)

    @chsk.on("math/awaited")
    async def _(msg: Any) -> int:
        return double(msg.data)

    @chsk.on("news/post")
    def _(msg: Any) -> int:
        for number in range(msg.data):
            chsk.send(chansock.ALL, "news/item", f"{number:02} {NEWS}")
        return int(chsk.stats.resumed) if settings.get("resume") else 0

    async with chansock.serve(chsk, port=0) as listener:
        if is_pushing:
            push_regularly(lambda: chsk.send(chansock.ALL, "news/item", NEWS))
        await announce(listener.sockets[0].getsockname()[1])


class Upgraded(asyncio.Protocol):
    """Answers the generator's one key by constant bytes, and whatever follows by nothing."""

    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(UPGRADED)


async def uvloop_server() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upgraded, "127.0.0.1", 0, backlog=1024)
    await announce(server.sockets[0].getsockname()[1])


async def picows_server(is_pushing: bool = False) -> None:
    import picows

    connected: set[picows.WSTransport] = set()

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            connected.add(transport)

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            connected.discard(transport)

    def push() -> None:
        packet = orjson.dumps(["news/item", NEWS])
        for each in connected:
            each.send(picows.WSMsgType.TEXT, packet)

    class Echo(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Events(Listener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()
            else:
                answer = reply_to(frame.get_payload_as_memoryview())
                transport.send(picows.WSMsgType.TEXT, answer)

    def listener_for(request: picows.WSUpgradeRequest) -> picows.WSListener:
        return Echo() if request.path == b"/echo" else Events()

    if is_pushing:
        push_regularly(push)
    await serve_picows(listener_for)


async def serve_picows(listener_for: Callable[[Any], Any]) -> None:
    import picows

    server = await picows.ws_create_server(listener_for, "127.0.0.1", 0, max_frame_size=MOST)
    await announce(server.sockets[0].getsockname()[1])


async def websockets_server() -> None:
    async def handle(ws: Any) -> None:
        if ws.request.path == "/echo":
            async for data in ws:
                await ws.send(data)
        else:
            async for text in ws:
                await ws.send(reply_to(text), text=True)

    await serve_websockets(handle)


async def serve_websockets(handle: Callable[[Any], Awaitable[None]]) -> None:
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosedError

    async def run(ws: Any) -> None:
        try:
            await handle(ws)
        except ConnectionClosedError:
            pass  # raised where a peer ends without a close frame; its log would cost the most

    async with serve(
        run, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=MOST
    ) as server:
        await announce(next(iter(server.sockets)).getsockname()[1])


async def aiohttp_server() -> None:
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MOST)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async def events(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MOST)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(reply_to(message.data).decode())
        return ws

    app = web.Application()
    app.add_routes([web.get("/", events), web.get("/echo", echo)])
    await serve_aiohttp(app)


async def serve_aiohttp(app: Any) -> None:
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await announce(runner.addresses[0][1])


async def starlette_server() -> None:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for data in ws.iter_bytes():
            await ws.send_bytes(data)

    async def events(ws: WebSocket) -> None:
        await ws.accept()
        async for text in ws.iter_text():
            await ws.send_text(reply_to(text).decode())

    routes = [WebSocketRoute("/", events), WebSocketRoute("/echo", echo)]
    await serve_uvicorn(Starlette(routes=routes))


async def serve_uvicorn(app: Any, *, ws: str = "websockets-sansio", lifespan: Any = "off") -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        app,
        loop="none",  # the one that runs already
        http="httptools",
        ws=ws,  # as it stands, the quickest of its three
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan=lifespan,
        log_level="error",
    )
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve([listener])


async def socketio_server() -> None:
    server = socketio_app()

    @server.on("math/double")
    def _(sid: str, data: int) -> int:
        return double(data)

    @server.on("echo")
    async def _(sid: str, data: object) -> None:
        await server.emit("echo", data, to=sid)

    await serve_socketio(server)


def socketio_app(**options: Any) -> Any:
    import socketio

    return socketio.AsyncServer(
        **options,
        async_mode="aiohttp",
        async_handlers=False,  # handled in the order of arrival, without a task for each
        ping_interval=NEVER,
        http_compression=False,
        max_http_buffer_size=MOST,
    )


async def serve_socketio(server: Any) -> None:
    from aiohttp import web

    app = web.Application()
    server.attach(app)
    await serve_aiohttp(app)


SERVERS: dict[str, Callable[[], Awaitable[None]]] = {
    "chansock": chansock_server,
    "chansock, open to all": partial(chansock_server, authorize=None),
    "chansock, resuming": partial(chansock_server, authorize=None, resume=True),
    "chansock, not resuming": partial(chansock_server, authorize=None, resume=False),
    "chansock, anonymous": partial(chansock_server, user_id=None, authorize=None),
    "chansock, kept alive": partial(chansock_server, authorize=None, ws_ping_interval=KEEP_ALIVE),
    "chansock, forgetting": partial(chansock_server, authorize=None, grace_ws=GRACE),
    "chansock, pushing": partial(chansock_server, is_pushing=True),
    "picows, pushing": partial(picows_server, is_pushing=True),
    "uvloop": uvloop_server,
    "picows": picows_server,
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
    "Starlette on uvicorn": starlette_server,
    "python-socketio": socketio_server,
}


def serve(servers: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Run the server that the command line names, with all descriptors that it can have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(servers[sys.argv[1]]())


if __name__ == "__main__":
    serve(SERVERS)
