"""The channel's WebSockets under uvicorn at the full speed of the server of its own.

    uvicorn.run(app, ws=chansock.uvicorn.WebSocketProtocol)
    uvicorn app:app --ws chansock.uvicorn:WebSocketProtocol
    gunicorn app:app -k chansock.uvicorn.Worker

`app` carries the channel by chansock.asgi, which leaves it in the lifespan's state. An upgrade
of its path goes to the engine, past the application; all others to uvicorn's own class. What
uvicorn does itself, heads above all, is not repeated here, nor what a request means.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
from uvicorn.server import ServerState

from chansock._core import http1, processes
from chansock._fast.connection import Service
from chansock.channel import ChannelSocket
from chansock.request import Request, Response
from chansock.sockets import ServerProtocol, Takeover, forwarded, service_of

__all__ = ["WebSocketProtocol"]  # and Worker, made where it is asked for

log = logging.getLogger("chansock.uvicorn")
uvicorn_log = logging.getLogger("uvicorn.error")  # where uvicorn's own classes tell of sockets

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
        self._app_state = app_state
        self._transport: Any = None

    # -- called by uvicorn

    def connection_made(self, transport: Any) -> None:
        """Wait for the head, which uvicorn has."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take the head, and let go on whoever it is for."""
        shared = _shared(self._config, self._state, self._app_state)
        path = Request(data).path
        if path not in shared.channels:
            self._give_to_other(data)
        elif shared.refusal is not None:
            log.error("refused %s", shared.refusal)
            self._refuse(503, "expected one worker process")
        else:
            self._serve(shared, path, data + _behind_head(self._transport))

    # -- whose it is

    def _serve(self, shared: _Shared, path: str, data: bytes) -> None:
        transport = self._transport
        is_unix = isinstance(transport.get_extra_info("sockname"), str)
        connection = Connection(shared.service(path, is_unix=is_unix))
        connection.connections = self._state.connections
        if not shared.takeover.take(transport, connection, data):
            # uvicorn is about to make this object the transport's protocol.
            self._be(connection, connection.feed)
            asyncio.get_running_loop().call_soon(_hand_over, transport, connection)

    def _give_to_other(self, data: bytes) -> None:
        make = type(self).other_paths
        if make is None:
            self._refuse(501, _NO_LIBRARY)
            return
        other = make(config=self._config, server_state=self._state, app_state=self._app_state)
        other.connection_made(self._transport)
        other.data_received(data)
        self._be(other, other.data_received)

    def _be(self, other: Any, data_received: Callable[[bytes], object]) -> None:
        """Pass on to another protocol what the transport says, without a step between."""
        self.__dict__.update(
            data_received=data_received,
            eof_received=other.eof_received,
            connection_lost=other.connection_lost,
            pause_writing=other.pause_writing,
            resume_writing=other.resume_writing,
        )

    def _refuse(self, status: int, why: str) -> None:
        self._transport.write(http1.render(Response(status, why), keep_alive=False))
        self._transport.close()


class Connection(ServerProtocol):
    """A connection of the channel's, as uvicorn counts and ends those of its own."""

    __slots__ = ("connections",)

    connections: set[Any]

    def connection_made(self, transport: Any) -> None:
        self.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close 1012, behind what waits: uvicorn stops, and waits for this to end."""
        self.leave(1012, "service restart")


def _hand_over(transport: Any, connection: Connection) -> None:
    if not transport.is_closing():
        transport.set_protocol(connection)


class _Shared:
    """What all connections of one uvicorn server share."""

    def __init__(self, config: Config, app_state: dict[str, Any]) -> None:
        self._config = config
        self.channels: dict[str, ChannelSocket] = dict(app_state.get("chansock", ()))
        self.takeover = Takeover(asyncio.get_running_loop())
        self.refusal = processes.refusal(processes.number_of(config))
        self._services: dict[tuple[str, bool], Service] = {}
        if not self.channels:
            log.warning(
                "no_channel expected one in the lifespan's state, got none: wrap the "
                "application in chansock.asgi.Middleware, and leave the lifespan on"
            )

    def service(self, path: str, *, is_unix: bool) -> Service:
        """Give what the connections to one channel share."""
        found = self._services.get((path, is_unix))
        if found is None:
            chsk = self.channels[path]
            who = forwarded(chsk, is_unix=is_unix)
            if who is None and self._config.proxy_headers:
                who = _Proxied(self._config.forwarded_allow_ips)
            found = self._services[path, is_unix] = service_of(
                chsk, path, forwarded=who, answered=self._answered, is_single=True
            )
        return found

    def _answered(self, request: Request, status: int) -> None:
        """Log as uvicorn's own classes do, but never the query, which holds secrets."""
        client = "" if request.client is None else "{}:{}".format(*request.client)
        path = quote(self._config.root_path + request.path)
        result = "[accepted]" if status == 101 else str(status)
        uvicorn_log.info('%s - "WebSocket %s" %s', client, path, result)


_SHARED: Final[WeakKeyDictionary[ServerState, _Shared]] = WeakKeyDictionary()


def _shared(config: Config, state: ServerState, app_state: dict[str, Any]) -> _Shared:
    found = _SHARED.get(state)
    if found is None:
        found = _SHARED[state] = _Shared(config, app_state)
    return found


class _Proxied:
    """Sets who asked as uvicorn does (`--proxy-headers`, `--forwarded-allow-ips`)."""

    def __init__(self, trusted: list[str] | str) -> None:
        async def heard(scope: Any, receive: Any, send: Any) -> None:
            """The scope is all that is wanted."""

        self._apply = ProxyHeadersMiddleware(heard, trusted)

    def __call__(self, request: Request) -> None:
        headers = [
            (name.encode(), value.encode("latin-1"))
            for name in ("x-forwarded-for", "x-forwarded-proto")
            for value in request.headers.getall(name)
        ]
        if not headers:
            return
        scope: Any = {
            "type": "http",
            "client": request.client,
            "scheme": request.scheme,
            "headers": headers,
        }
        none: Any = None
        try:
            self._apply(scope, none, none).send(None)
        except StopIteration:
            pass  # it waits for nothing
        request.client = scope["client"]
        request.scheme = scope["scheme"].replace("ws", "http")


def _behind_head(transport: Any) -> bytes:
    """Give the bytes that came with the head and stand behind it; uvicorn passes them to nobody.

    A client must wait for the answer (RFC 6455 section 4.1), so there are hardly ever any. h11
    keeps them. httptools tells by the exception that uvicorn is handling right now where the
    head ended, in the data that the frame which handles it was given.
    """
    error = sys.exception()
    if type(error).__name__ == "HttpParserUpgrade" and error is not None and error.__traceback__:
        data = error.__traceback__.tb_frame.f_locals.get("data")
        return data[error.args[0] :] if isinstance(data, bytes) else b""
    h11_connection = getattr(transport.get_protocol(), "conn", None)
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

        @classmethod
        def check_config(cls, cfg: Any, log: Any) -> None:
            """Refuse more than one worker; gunicorn asks before it starts any."""
            if why := processes.refusal(cfg.workers):
                raise RuntimeError(why)

    return Worker


def __getattr__(name: str) -> Any:
    # gunicorn is installed for few, and not for every system.
    if name == "Worker":
        return _worker()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
