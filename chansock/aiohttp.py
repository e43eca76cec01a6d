"""The channel in an aiohttp application, beside its other routes.

    app = web.Application()
    chansock.aiohttp.setup(app, chsk, path="/chsk")
    web.run_app(app)

Middlewares run before the channel, as before every route. A WebSocket's connection then leaves
aiohttp: from its request on it is the engine's, as under chansock's own server. Ajax goes
through aiohttp to its end. What a request means is the endpoint's.

A WebSocket of aiohttp's own would cost a reader, a writer, and a task for each connection, and a
turn of the loop for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from weakref import WeakValueDictionary

from aiohttp import web

from chansock._edge import browser, http1, processes
from chansock._edge.answers import answer
from chansock._edge.forwarded import scheme_of
from chansock._edge.sockets import ServerProtocol, Takeover, end, forwarded, service_of
from chansock._fast.events.server_protocol import Protocol
from chansock.channel import ChannelSocket
from chansock.clock import LoopClock
from chansock.errors import ConfigError
from chansock.request import Request, Response

__all__ = ["setup"]

KEY: Final = "aiohttp"  # of aiohttp's request in `request.state`
LINGER: Final = 0.5  # seconds of a stop that a peer has to take its answer and end its body
GONE: Final = 499  # nginx's, in the access log alone: the peer left before it had an answer


def setup(app: web.Application, chsk: ChannelSocket, path: str = "/chsk") -> None:
    """Serve `chsk` at `path` of an application, or of one that becomes a part of another; and
    the browser's client below it, at `<path>/chansock.js`.

    Starts the channel with the application, unless it is started, and stops it when the
    application shuts down: sockets are closed 1012, what waits is answered 503, within
    stop_timeout, before aiohttp waits for its handlers. Hooks find aiohttp's own request at
    `request.state["aiohttp"]`. Raises ConfigError for a path that cannot be.
    """
    http1.check_path(path)
    door = _Door(chsk)
    app.cleanup_ctx.append(door.live)
    app.on_shutdown.append(door.stop)
    app.router.add_route("*", path, door.channel)
    for name in browser.FILES:
        app.router.add_route("*", f"{path.removesuffix('/')}/{name}", door.file)


class _Door:
    """One channel as aiohttp's handlers, and its life."""

    def __init__(self, chsk: ChannelSocket) -> None:
        self._chsk = chsk
        self._config = chsk.config
        self._proxies = forwarded(chsk, is_unix=False)
        self._unix_proxies = forwarded(chsk, is_unix=True)
        self._is_ours = False  # started by us
        self._deadline: float | None = None
        self._parked: set[asyncio.Task[Any]] = set()  # of requests that wait for their answer
        # By id: those that are answered before their body has come to its end.
        self._unread: WeakValueDictionary[int, web.Request] = WeakValueDictionary()

    # -- life

    async def live(self, app: web.Application) -> AsyncIterator[None]:
        """Start the channel; at the end of the application let its handlers end."""
        if why := processes.refusal(processes.number_in(asyncio.current_task()), self._chsk):
            raise ConfigError(why)
        loop, chsk = asyncio.get_running_loop(), self._chsk
        self._is_ours = not chsk.is_started
        if self._is_ours:
            chsk._start(LoopClock(loop))
        self._service = service_of(
            chsk, None, forwarded=self._describe_taken, answered=_answered, is_single=True
        )
        self._takeover = Takeover(loop)
        await chsk._join()
        yield
        if self._is_ours:
            if chsk.is_started:
                chsk.stop()
            deadline = self._deadline or loop.time() + self._config.stop_timeout
            await chsk._finish(max(0.0, deadline - loop.time()))

    async def stop(self, app: web.Application) -> None:
        """Finish handlers, close sockets with 1012, and end polls with 503, in stop_timeout."""
        loop, config = asyncio.get_running_loop(), self._config
        self._deadline = loop.time() + config.stop_timeout
        for web_request in self._unread.values():
            self._end_unread(web_request)
        if self._is_ours and self._chsk.is_started:
            try:
                await self._chsk.settle(config.stop_timeout)
            finally:
                if self._chsk.is_started:
                    self._chsk.stop()
        elif not self._is_ours:
            for task in self._parked:
                task.cancel()  # and its request is given up
        least = min(config.close_timeout, config.stop_timeout)
        await end(self._service, max(least, self._deadline - loop.time()))

    # -- requests

    async def channel(self, web_request: web.Request) -> web.StreamResponse:
        """Answer a request for the channel, or take over its connection."""
        request = Request(_head(web_request))
        if web_request.method == "GET" and http1.wants_upgrade(request):
            if http1.has_body(request):
                # aiohttp has taken a part of the body; the engine would take it from the frames.
                refusal = _response(http1.NO_BODY)
                refusal.force_close()  # frames may follow, which are no next request
                return refusal
            return await self._take_over(web_request)
        self._describe(request, web_request)
        endpoint = self._chsk._endpoint
        task = asyncio.current_task()
        try:
            response = await answer(
                request,
                endpoint,
                self._config,
                _chunks(web_request),
                lambda: self._left(web_request, task),
            )
        except web.RequestPayloadError as error:
            response = endpoint.refuse("http", 400, f"expected a whole body, got {error}")
        if not web_request.content.is_eof():
            self._unread[id(web_request)] = web_request
            if self._deadline is not None:
                self._end_unread(web_request)
        if response is None:
            return web.Response(status=GONE)
        return _response(response, endpoint.answer_fields(request))

    def _end_unread(self, web_request: web.Request) -> None:
        """Make aiohttp, which reads the rest of a body for 10 s before it closes, close sooner."""
        loop = asyncio.get_running_loop()
        loop.call_later(LINGER, web_request.content.set_exception, TimeoutError())

    async def _left(self, web_request: web.Request, task: asyncio.Task[Any] | None) -> None:
        """Wait until the peer leaves whose request the task is about."""
        assert task is not None
        self._parked.add(task)
        try:
            await _left(web_request)
        finally:
            self._parked.discard(task)

    async def file(self, web_request: web.Request) -> web.StreamResponse:
        """Answer with the browser's client, or what stands beside it."""
        request = Request(_head(web_request))
        self._describe(request, web_request)
        folder = request.path.rpartition("/")[0]
        response = browser.file_response(self._chsk._endpoint, request, folder)
        return _response(response or http1.refuse(404, "not found"))

    def _describe(self, request: Request, web_request: web.Request) -> None:
        """Set who sent a request, as aiohttp has it: a middleware may have `clone`d its request."""
        request.state[KEY] = web_request
        peer = web_request.get_extra_info("peername")
        if web_request.remote:
            is_peer = isinstance(peer, tuple) and peer[0] == web_request.remote
            request.client = (web_request.remote, peer[1] if is_peer else 0)
        request.scheme = scheme_of(web_request.scheme)
        host = web_request.headers.get("Host")
        # Without a Host, aiohttp returns the name of this machine.
        if host is not None and web_request.host != host:
            request.set_host(web_request.host)
        # A peer that has left has no name; only one on a Unix socket has an empty one.
        proxies = self._unix_proxies if isinstance(peer, str | bytes) else self._proxies
        if proxies is not None:
            proxies(request)

    # -- a WebSocket's connection

    async def _take_over(self, web_request: web.Request) -> web.StreamResponse:
        """Hand a connection to the engine, from the request that was read last.

        aiohttp's own protocol is told that the connection is lost, and lets go of everything.
        """
        transport = web_request.transport
        if transport is None:
            return web.Response(status=GONE)
        tail = _Tail()
        web_request.protocol.set_parser(tail)  # type: ignore[arg-type]
        theirs, protocol = transport.get_protocol(), _Taken(self._service)
        protocol.web_request = web_request
        transport.set_protocol(protocol)
        is_moved = self._takeover.take(transport, protocol, _head(web_request) + tail.data)
        if is_moved:
            # The transport ends, and says so; the socket goes on without it.
            transport.set_protocol(theirs)
        else:
            protocol.theirs = theirs
            protocol.ended = asyncio.get_running_loop().create_future()
            await asyncio.shield(protocol.ended)
        return web.Response(status=await protocol.answered)

    def _describe_taken(self, request: Request, protocol: Protocol) -> None:
        """Set who sent a request that the engine has read, maybe turns after `take`."""
        assert isinstance(protocol, _Taken)
        assert protocol.web_request is not None
        self._describe(request, protocol.web_request)
        protocol.web_request = None  # it would live as long as the socket
        request.state[_answered] = protocol.answered


def _answered(request: Request, status: int) -> None:
    """Report to aiohttp's access log the status that a request got after the takeover."""
    future = request.state.pop(_answered)
    if not future.done():
        future.set_result(status)


class _Taken(ServerProtocol):
    """A connection that was aiohttp's, and the request that it was taken over with.

    `theirs` hears of its end, where it kept its transport.
    """

    __slots__ = ("answered", "ended", "theirs", "web_request")

    def __init__(self, service: Any) -> None:
        self.web_request: web.Request | None = None
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] | None = None
        self.theirs: Any = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.answered.done():
            self.answered.set_result(GONE)
        if self.ended is not None:
            self.ended.set_result(None)
            self.theirs.connection_lost(exc)


class _Tail:
    """What aiohttp has read behind the head of an upgrade, and gives to a WebSocket's parser."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing is kept: the connection is another's."""


# -- a request that waits


class _Tee(asyncio.Protocol):
    """Between a transport and aiohttp's protocol, to hear at once of the end: aiohttp tells a
    handler of it only where the whole server was told to cancel them."""

    def __init__(self, theirs: Any) -> None:
        self.theirs = theirs
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.theirs.data_received(data)

    def eof_received(self) -> bool | None:
        return self.theirs.eof_received()  # type: ignore[no-any-return]

    def pause_writing(self) -> None:
        self.theirs.pause_writing()

    def resume_writing(self) -> None:
        self.theirs.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.left.done():
            self.left.set_result(None)
        self.theirs.connection_lost(exc)


async def _left(web_request: web.Request) -> None:
    """Wait until the peer leaves."""
    transport = web_request.transport
    if transport is None or transport.is_closing():
        return
    tee = _Tee(transport.get_protocol())
    transport.set_protocol(tee)
    try:
        await tee.left
    finally:
        if transport.get_protocol() is tee:
            transport.set_protocol(tee.theirs)


async def _chunks(web_request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes; whole where a middleware has read it already.

    Nothing here refers to a chunk that was yielded: it may be dropped while the next is awaited.
    """
    if web_request.content.at_eof():
        yield await web_request.read()
        return
    while not web_request.content.at_eof():
        yield await web_request.content.readany()


# -- words


def _head(web_request: web.Request) -> bytes:
    """Return the head of a request as it came, or nearly so."""
    lines = [b"%s: %s\r\n" % field for field in web_request.raw_headers]
    major, minor = web_request.version
    first = f"{web_request.method} {web_request.raw_path} HTTP/{major}.{minor}\r\n"
    return b"".join([first.encode("utf-8", "surrogateescape"), *lines, b"\r\n"])


def _response(response: Response, fields: tuple[tuple[str, str], ...] = ()) -> web.Response:
    return web.Response(
        status=response.status,
        body=http1.body_of(response),
        headers=http1.fields_of(response, fields),
    )
