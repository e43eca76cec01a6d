"""The channel in an ASGI application, under whatever server carries that.

    app = FastAPI()
    app.add_middleware(chansock.asgi.Middleware, chsk=chsk, path="/chsk")

`Middleware` wraps any ASGI application: it takes the path's requests and WebSockets, and
starts and stops `chsk` with the lifespan. `routes` are for a Starlette router, `app` is an
application of its own. No framework is imported, but Starlette by `routes`.

What is the server's own business stays with it: its limits of heads and messages (keep its
limit of a message above `max_message_bytes`), its own WebSocket pings beside the channel's,
compression, TLS, and how long a peer that takes nothing is waited for after a close. Of an
address that the server listens on nothing is known; so a Host that is no loopback name is
refused only by `allowed_hosts`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from chansock._core import subprotocol
from chansock._core.endpoint import Endpoint
from chansock._core.log_limit import LogLimit
from chansock._edge import browser, http1
from chansock._edge.answers import admitted, answer
from chansock._edge.forwarded import Proxies
from chansock.asgi.life import Life
from chansock.asgi.scope import (
    App,
    Receive,
    Scope,
    Send,
    body_chunks,
    end_unanswered,
    left,
    path_below_root,
    request_of,
    respond,
)
from chansock.asgi.socket import Socket
from chansock.channel import ChannelSocket
from chansock.request import Request, Response

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

__all__ = ["Middleware", "app", "routes"]

_NOT_FOUND = Response(404, "not found")
_NO_WEBSOCKETS = (
    "expected a server with WebSockets, got an HTTP request for one (for uvicorn: "
    'pip install "uvicorn[standard]", or --ws chansock.uvicorn:WebSocketProtocol)'
)


class Middleware:
    """Serve `chsk` at `path`, and the browser's client below it; all else is `app`'s.

    Starts the channel with the lifespan, before the application, and stops it after the
    application: sockets are closed 1012, polls answered 503, within stop_timeout. SIGINT and
    SIGTERM already end what is open, since a server waits for that before the lifespan's end.
    An application without a lifespan needs none. A server without one (daphne): the channel
    starts with its first request, of any path, and stops with those signals.

    Whatever stands outside of it is seen by the hooks: `request.scope["session"]` by those of
    a session middleware that is added after this one.
    """

    def __init__(self, app: App, chsk: ChannelSocket, path: str = "/chsk") -> None:
        self.app = app
        self._path = http1.check_path(path)
        self._life = Life(chsk, path, is_starter=True)
        self._door = _Door(self._life)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._life.lifespan(self.app, scope, receive, send)
            return
        if kind in ("http", "websocket"):
            self._life.begin()
            path = path_below_root(scope)
            if path == self._path:
                await self._door(scope, receive, send)
                return
            if kind == "http" and browser.file_name(path, self._path):
                await self._door.file(scope, receive, send)
                return
        await self.app(scope, receive, send)


def app(chsk: ChannelSocket, path: str = "/chsk") -> Middleware:
    """Make an ASGI application that is this channel alone; other paths are 404."""
    return Middleware(_nothing, chsk, path)


def routes(chsk: ChannelSocket, path: str = "/chsk") -> list[BaseRoute]:
    """Make routes for a Starlette router: `Starlette(routes=[*routes(chsk), ...])`, also below
    a Mount.

    They start nothing: the application's lifespan does, by `async with chsk`. Until then a
    request raises ChannelClosed.
    """
    from starlette.routing import Route, WebSocketRoute

    door = _Door(Life(chsk, http1.check_path(path), is_starter=False))
    folder = path.removesuffix("/")
    return [
        WebSocketRoute(path, door),
        Route(path, door),
        *(Route(f"{folder}/{name}", door.files) for name in browser.FILES),
    ]


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await respond(send, _NOT_FOUND, head_only=scope["method"] == "HEAD")
    elif scope["type"] == "websocket":
        await _refuse(scope, send, _NOT_FOUND)


class _Door:
    """One channel as an ASGI application, wherever its path is."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._config = life.chsk.config
        self.files = _Files(self)
        trusted, fields = self._config.trusted_proxies, self._config.trusted_headers
        self._proxies = Proxies(trusted, fields, self._log_limit) if trusted else None
        self._unix = Proxies(trusted, fields, self._log_limit, is_unix=True)

    def _log_limit(self) -> LogLimit:
        return self._life.endpoint.log_limit

    def _request(self, scope: Scope) -> Request:
        server = scope.get("server")
        is_unix = server is not None and server[1] is None
        return request_of(scope, self._unix if is_unix else self._proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._life.endpoint
        with self._life.opened():
            if scope["type"] == "websocket":
                await self._websocket(endpoint, scope, receive, send)
            else:
                await self._http(endpoint, scope, receive, send)

    async def file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the browser's client, or what stands beside it."""
        request = self._request(scope)
        folder = request.path.rpartition("/")[0]
        response = browser.file_response(self._life.endpoint, request, folder) or _NOT_FOUND
        await respond(send, response, head_only=request.method == "HEAD")

    async def _http(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request(scope)
        if http1.wants_upgrade(request) and not http1.lost_fields(request):
            # uvicorn without a library for WebSockets hands it on so; it is no poll.
            response: Response | None = endpoint.refuse(
                "http", 501, "expected no WebSocket here", _NO_WEBSOCKETS
            )
        else:
            response = await answer(
                request, endpoint, self._config, body_chunks(receive), lambda: left(receive)
            )
        if response is None:
            await end_unanswered(send)
            return
        fields = endpoint.answer_fields(request)
        await respond(send, response, fields, head_only=request.method == "HEAD")

    async def _websocket(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        engine = (scope.get("extensions") or {}).get("chansock")
        if engine is not None:  # chansock.uvicorn takes it from here
            engine["arrived"](scope)
            return
        if (await receive())["type"] != "websocket.connect":
            return
        request = self._request(scope)
        if http1.has_body(request):
            # daphne would pass the body to us as frames.
            await _refuse(scope, send, http1.NO_BODY)
            return
        found = await admitted(request, endpoint, self._config, is_upgrade=True)
        if isinstance(found, Response):
            await _refuse(scope, send, found, endpoint.answer_fields(request))
            return
        socket = Socket(send, self._config)
        connection = endpoint.open(found, socket)
        assert connection is not None  # a socket has no answer yet
        reader: asyncio.Task[None] | None = None
        try:
            spoken = subprotocol.answered(request.headers.getall("sec-websocket-protocol"))
            await send({"type": "websocket.accept", "subprotocol": spoken})
            reader = asyncio.create_task(socket.read(receive, endpoint, connection))
            await socket.run(endpoint, connection)
        finally:
            if reader is not None:
                reader.cancel()
            endpoint.closed(connection, socket.code)


class _Files:
    """The browser's files of a door, as Starlette takes an application: as an object."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.file(scope, receive, send)


async def _refuse(
    scope: Scope, send: Send, response: Response, fields: tuple[tuple[str, str], ...] = ()
) -> None:
    """Refuse a WebSocket with an answer, where the server can say more than 403."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await respond(send, response, fields, kind="websocket.http.response")
    else:
        await send({"type": "websocket.close"})
