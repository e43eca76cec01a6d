"""The channel's WebSockets under uvicorn at the full speed of the server of its own.

    uvicorn.run(app, ws=chansock.uvicorn.WebSocketProtocol)
    uvicorn app:app --ws chansock.uvicorn:WebSocketProtocol
    gunicorn app:app -k chansock.uvicorn.Worker

`app` carries the channel by chansock.asgi, which leaves it in the lifespan's state. An upgrade
of its path goes through the application as far as there, and from there to the engine; all
others go to uvicorn's own class. What uvicorn does itself, heads above all, is not repeated here,
nor what a request means.

A plain TCP connection leaves uvicorn's transport: its descriptor is duplicated and watched by
chansock's epoll, and the transport is aborted, which closes a descriptor without shutdown(2).
uvicorn still counts the connection among its own, and closes it when it stops.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar, Final
from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
from uvicorn.server import ServerState

from chansock._core.log_limit import LogLimit
from chansock._edge import http1, processes
from chansock._edge.forwarded import client_of, scheme_of
from chansock._edge.sockets import Takeover, forwarded, protocol_factory, service_of
from chansock._fast.events.server_protocol import Protocol, Service
from chansock.channel import ChannelSocket
from chansock.request import Request, Response

__all__ = ["WebSocketProtocol"]  # and Worker, made where it is asked for

log = logging.getLogger("chansock.uvicorn")
uvicorn_log = logging.getLogger("uvicorn.error")  # where uvicorn's own classes tell of sockets

_OWN_FIELDS: Final = {"connection", "content-length", "date"}  # of an answer, which http1 writes
_NO_LIBRARY: Final = "no WebSocket library is installed: see uvicorn[standard]"


class WebSocketProtocol(asyncio.Protocol):
    """One upgrade that uvicorn has seen, until it is known whose it is."""

    # What takes the other paths, as uvicorn's `ws="auto"`; a subclass may name another.
    other_paths: ClassVar[Callable[..., Any] | None] = AutoWebSocketsProtocol

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._state = server_state
        self._connections: set[Any] = server_state.connections
        self._app_state = app_state
        self._transport: Any = None
        self._http: Any = None  # uvicorn's own protocol, which has read the head
        self._task: asyncio.Task[None] | None = None

    # -- called by uvicorn

    def connection_made(self, transport: Any) -> None:
        """Wait for the head, which uvicorn has."""
        self._transport = transport
        self._http = transport.get_protocol()

    def data_received(self, data: bytes) -> None:
        """Take the head, and pass the connection to the protocol that it is for."""
        shared = _shared(self._config, self._state, self._app_state)
        request = Request(data)
        if request.path not in shared.channels:
            self._give_to_other(data)
        elif why := shared.refusal(request.path):
            shared.log_limit(request.path).error(log, "refused %s", why)
            self._refuse(Response(503, "expected one worker process"))
        elif http1.has_body(request):
            self._refuse(http1.NO_BODY)
        elif _is_answering(self._http):
            self._let_end(self._http, shared.log_limit(request.path))
        else:
            data += _behind_head(self._http)
            # What comes meanwhile stays in the kernel.
            self._transport.pause_reading()
            self._connections.add(self)
            self._task = asyncio.create_task(self._ask(shared, request, data))

    def shutdown(self) -> None:
        """Refuse what is still asked for: uvicorn stops."""
        if self._task is not None:
            self._task.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close a connection that is still the transport's; do nothing once it has left."""
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    # -- whose it is

    async def _ask(self, shared: _Shared, request: Request, data: bytes) -> None:
        """Pass the handshake through the application's middleware to chansock.asgi."""
        handshake = Handshake(self._config, self._app_state, self._transport, request)
        limit = shared.channels[request.path].config.handshake_timeout
        try:
            async with asyncio.timeout(limit):
                await self._config.loaded_app(handshake.scope, handshake.receive, handshake.send)
        except TimeoutError:
            handshake.response = Response(503, "the server took too long")
        except asyncio.CancelledError:
            handshake.response = Response(503, "the server is stopping")
        except Exception:
            log_limit = shared.log_limit(request.path)
            log_limit.exception(log, "application_error path=%.80r", request.path)
            handshake.response = Response(500, "internal server error")
        self._task = None
        self._connections.discard(self)
        if self._transport.is_closing():
            return
        if not handshake.has_arrived:
            shared.log_answer(
                client_of(handshake.scope["client"]), request.path, handshake.response.status
            )
            self._refuse(handshake.response)
            return
        try:
            self._serve(shared, handshake.scope, request.path, data)
        except Exception:
            log_limit = shared.log_limit(request.path)
            log_limit.exception(log, "takeover_error path=%.80r", request.path)
            self._transport.abort()

    def _serve(self, shared: _Shared, scope: Any, path: str, data: bytes) -> None:
        transport = self._transport
        is_unix = isinstance(transport.get_extra_info("sockname"), str)
        service = shared.service(path, is_unix=is_unix)
        protocol = protocol_factory(asyncio.get_running_loop(), service)()
        self._connections.add(protocol)  # by which uvicorn counts and ends it
        transport.resume_reading()
        shared.scopes[protocol] = scope
        if not shared.takeover.take(transport, protocol, data):
            transport.set_protocol(protocol)  # closed or not: the end is to be told to it

    def _give_to_other(self, data: bytes) -> None:
        make = type(self).other_paths
        if make is None:
            self._refuse(Response(501, _NO_LIBRARY))
            return
        other = make(config=self._config, server_state=self._state, app_state=self._app_state)
        other.connection_made(self._transport)
        self._pass_on_to(other)
        other.data_received(data)

    def _let_end(self, earlier: Any, log_limit: LogLimit) -> None:
        """Finish the answers that are under way, and with them the connection: an upgrade that was
        asked for behind them can be asked for anew, but its answer cannot go before theirs."""
        log_limit.info(log, "upgrade_refused expected the answers before it to be taken first")
        earlier.cycle.keep_alive = False
        self._pass_on_to(earlier, data_received=_ignore)

    def _pass_on_to(self, other: Any, **instead: Callable[..., None]) -> None:
        # uvicorn has made this object the transport's protocol; before 0.55, it does so next.
        # uvloop looks the methods up when that is set.
        names = ("data_received", "eof_received", "connection_lost", "pause_writing")
        for name in (*names, "resume_writing"):
            setattr(self, name, instead.get(name) or getattr(other, name))
        self._transport.set_protocol(self)

    def _refuse(self, response: Response) -> None:
        self._transport.write(http1.render(response, keep_alive=False))
        self._transport.close()


class Handshake:
    """An upgrade as ASGI has it, until the application has passed it on, or refused it.

    chansock.asgi calls `scope["extensions"]["chansock"]["arrived"](scope)` where it came through.
    """

    def __init__(
        self, config: Config, app_state: dict[str, Any], transport: Any, request: Request
    ) -> None:
        self.has_arrived: bool = False
        self.response: Response = Response(
            500, "internal server error"
        )  # should nobody say anything
        self._is_told = False
        self._parts: list[bytes] = []
        line, *lines = request.head.rstrip(b"\r\n").split(b"\r\n")
        raw_path, _, query = line.split(b" ")[1].partition(b"?")
        if raw_path[:1] != b"/" and b"://" in raw_path:  # absolute form, RFC 9112 section 3.2.2
            raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
        pairs = (field.partition(b": ") for field in lines)
        self.scope: Any = {
            "type": "websocket",
            "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "root_path": config.root_path,
            "path": config.root_path + unquote(raw_path.decode("latin-1")),
            "raw_path": config.root_path.encode() + raw_path,
            "query_string": query,
            "headers": [(name.lower(), value) for name, _, value in pairs],
            "subprotocols": [
                name.strip()
                for line in request.headers.getall("sec-websocket-protocol")
                for name in line.split(",")
            ],
            "state": app_state.copy(),
            "extensions": {"websocket.http.response": {}, "chansock": {"arrived": self._arrived}},
        }

    def _arrived(self, scope: Any) -> None:
        self.has_arrived = True
        self.scope = scope  # with what middleware has put there
        del scope["extensions"]["chansock"]  # it outlives this object, as the request's

    async def receive(self) -> Any:
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        await asyncio.get_running_loop().create_future()  # until the peer has left
        raise AssertionError

    async def send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.close":
            self.response = Response(403, "")
        elif kind == "websocket.http.response.start":
            fields = tuple(
                (n.decode("latin-1"), v.decode("latin-1")) for n, v in message.get("headers", ())
            )
            fields = tuple(field for field in fields if field[0].lower() not in _OWN_FIELDS)
            self.response = Response(message["status"], b"", headers=fields)
        elif kind == "websocket.http.response.body":
            self._parts.append(message.get("body", b""))
            before = self.response
            self.response = Response(before.status, b"".join(self._parts), headers=before.headers)
        else:
            raise RuntimeError(
                f"expected {self.scope['path']!r} to be passed on to chansock.asgi, got {kind!r}"
            )


class _Shared:
    """What all connections of one uvicorn server share."""

    def __init__(self, config: Config, state: ServerState, app_state: dict[str, Any]) -> None:
        self._config = config
        self._connections: set[Any] = state.connections
        # Of two at one path the outer one, which is there first, has the Ajax too.
        told = reversed(app_state.get("chansock", ()))
        self.channels: dict[str, ChannelSocket] = dict(told)
        self.takeover = Takeover(asyncio.get_running_loop())
        self._number = processes.number_of(config)
        self.scopes: dict[Protocol, Any] = {}  # of those whose handshake the engine has to read
        self._services: dict[tuple[str, bool], Service] = {}
        if not self.channels:
            log.warning(
                "no_channel expected one in the lifespan's state, got none: wrap the "
                "application in chansock.asgi.Middleware, and leave the lifespan on"
            )

    def refusal(self, path: str) -> str | None:
        """Return why the channel at `path` cannot be served here, or None."""
        return processes.refusal(self._number, self.channels[path])

    def log_limit(self, path: str) -> LogLimit:
        """Return that of the channel at `path`, for lines that a peer can cause."""
        return self.channels[path]._timers.log_limit

    def service(self, path: str, *, is_unix: bool) -> Service:
        """Return what the connections to one channel share."""
        found = self._services.get((path, is_unix))
        if found is None:
            chsk = self.channels[path]
            proxies = forwarded(chsk, is_unix=is_unix)
            found = self._services[path, is_unix] = service_of(
                chsk,
                path,
                forwarded=partial(self._note, proxies),
                answered=self._answered,
                is_single=True,
                gone=self._gone,
            )
        return found

    def _gone(self, protocol: Protocol) -> None:
        self._connections.discard(protocol)
        self.scopes.pop(protocol, None)

    def _note(
        self,
        proxies: Callable[[Request], object] | None,
        request: Request,
        protocol: Protocol,
    ) -> None:
        """Set what uvicorn and the application's middleware know of a request."""
        scope = request.scope = self.scopes.pop(protocol)
        request.client = client_of(scope["client"])
        request.scheme = scheme_of(scope["scheme"])
        if proxies is not None:
            proxies(request)

    def _answered(self, request: Request, status: int) -> None:
        self.log_answer(request.client, request.path, status)

    def log_answer(self, client: tuple[str, int] | None, path: str, status: int) -> None:
        """Log as uvicorn's own classes do, but never the query, which holds secrets."""
        host = "" if client is None else "{}:{}".format(*client)
        result = "[accepted]" if status == 101 else str(status)
        path = quote(self._config.root_path + path)
        uvicorn_log.info('%s - "WebSocket %s" %s', host, path, result)


_SHARED: Final[WeakKeyDictionary[ServerState, _Shared]] = WeakKeyDictionary()


def _shared(config: Config, state: ServerState, app_state: dict[str, Any]) -> _Shared:
    found = _SHARED.get(state)
    if found is None:
        found = _SHARED[state] = _Shared(config, state, app_state)
    return found


def _is_answering(http: Any) -> bool:
    """Return whether an earlier answer of uvicorn's protocol is not complete.

    With httptools, uvicorn does not wait for that before it passes an upgrade on; with h11 it does.
    """
    cycle = getattr(http, "cycle", None)
    return cycle is not None and not cycle.response_complete


def _ignore(data: bytes) -> None:
    """Take what is of no meaning any more."""


def _behind_head(http: Any) -> bytes:
    """Return the bytes that came behind the head, which uvicorn does not pass on.

    A client must wait for the answer (RFC 6455 section 4.1), so hardly any sends such bytes. h11
    keeps them. With httptools, uvicorn is handling an exception right now that has the position
    where the head ended, and the frame that handles it has the data.
    """
    error = sys.exception()
    if type(error).__name__ == "HttpParserUpgrade" and error is not None and error.__traceback__:
        data = error.__traceback__.tb_frame.f_locals.get("data")
        return data[error.args[0] :] if isinstance(data, bytes) else b""
    h11_connection = getattr(http, "conn", None)
    kept: tuple[bytes, bool] = getattr(h11_connection, "trailing_data", (b"", False))
    return kept[0]


@cache
def _worker() -> type:
    try:
        from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]
    except ImportError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # in favour of the other one
            from uvicorn.workers import UvicornWorker

    class Worker(UvicornWorker):  # type: ignore[misc, unused-ignore]
        """uvicorn's worker for gunicorn, with the channel's WebSockets."""

        CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "ws": WebSocketProtocol}

    return Worker


def __getattr__(name: str) -> Any:
    # gunicorn is installed for few, and not for every system.
    if name == "Worker":
        return _worker()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
