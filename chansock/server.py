"""The server of its own: sockets of this process, for one ChannelSocket.

Listens, gives each accepted socket a Protocol, and stops in order: first the listener,
then the channel, then what is still connected. What a request means is the endpoint's.
Several processes are the business of chansock.workers; here each of them serves as one does. The
file is a little past 400 lines, since much of it documents `serve` and `run`.

TLS uses the loop's own transport. aiofastnet took less CPU for TLS, but it logs a traceback for
each failed handshake, and plain connections would lose their direct path to the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from functools import partial
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any

from chansock._edge import browser, http1, processes
from chansock._edge.sockets import (
    Fallback,
    bound_unsent,
    end,
    forwarded,
    protocol_factory,
    service_of,
)
from chansock._fast.events.server_protocol import Service
from chansock._fast.io.epoll import IS_AVAILABLE, Acceptor, Poller
from chansock.channel import ChannelSocket
from chansock.clock import LoopClock, loop_factory
from chansock.config import Config
from chansock.errors import ConfigError
from chansock.request import Request, Response
from chansock.workers import supervisor
from chansock.workers.child import Child, Forked
from chansock.workers.listen import BACKLOG, listening
from chansock.workers.private_engine import MISSING, PrivateEngine, program
from chansock.workers.report import Report

__all__ = ["Listener", "run", "run_worker", "serve", "show"]

log = logging.getLogger("chansock.server")

USES_EPOLL = IS_AVAILABLE


class Listener:
    """What a server listens on, and how to end it before its `async with` does."""

    def __init__(self, server: asyncio.Server | EpollServer, scheme: str, path: str) -> None:
        self._server = server
        self._scheme = scheme
        self._path = path
        self.sockets: tuple[Any, ...] = tuple(server.sockets)
        self._name: Any = self.sockets[0].getsockname()  # a closed socket has none

    @property
    def port(self) -> int:
        """The TCP port; of use where port 0 was asked for. 0 for a Unix socket."""
        return self._name[1] if isinstance(self._name, tuple) else 0

    @property
    def url(self) -> str:
        """Where the channel listens: `http://127.0.0.1:8000/chsk`.

        A wildcard address stands as it is (`http://0.0.0.0:8000/chsk`), a Unix socket as
        `http+unix://<its path>:/chsk`, which no client takes.
        """
        name = self._name
        if not isinstance(name, tuple):
            return f"{self._scheme}+unix://{name}:{self._path}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{self._scheme}://{host}:{name[1]}{self._path}"

    def close(self) -> None:
        """Accept no further connection; those that are open stay."""
        self._server.close()


def serve(
    chsk: ChannelSocket,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    path: str = "/chsk",
    ssl: SSLContext | None = None,
    sock: socket.socket | None = None,
    unix: str | os.PathLike[str] | None = None,
    fallback: Fallback | None = None,
) -> AbstractAsyncContextManager[Listener]:
    """Serve a channel while the `async with` runs, and start it if it is not started.

    WebSocket and Ajax at `path`, the browser's client at `<path>/chansock.js`;
    `fallback(request)`, plain or async, answers every other path (None: 404). Port 0 takes a
    free one. Instead of host and port: `sock`, a socket that is bound, or `unix`, the path of
    a Unix socket. At the end the listener closes, and nothing more is read. What was taken is
    handled and answered, within stop_timeout; then sockets close with 1012, requests that wait
    get 503, and connections that do not end within the rest of it (at least close_timeout) are
    cut off.
    """
    http1.check_path(path)
    if sock is not None and unix is not None:
        raise ConfigError("expected one of sock and unix, got both")
    return _serve(chsk, host, port, path=path, ssl=ssl, sock=sock, unix=unix, fallback=fallback)


@asynccontextmanager
async def _serve(
    chsk: ChannelSocket,
    host: str,
    port: int,
    *,
    path: str,
    ssl: SSLContext | None,
    sock: socket.socket | None,
    unix: str | os.PathLike[str] | None,
    fallback: Fallback | None,
) -> AsyncIterator[Listener]:
    loop = asyncio.get_running_loop()
    deadline = loop.time()
    is_ours = not chsk.is_started
    if is_ours:
        chsk._start(LoopClock(loop))
    endpoint = chsk._endpoint

    def other(request: Request) -> Response | Awaitable[Response | None] | None:
        """Answer every path but the channel's own."""
        response = browser.file_response(endpoint, request, path, is_loopback=service.is_loopback)
        if response is None and fallback is not None:
            return fallback(request)
        return response

    proxies = forwarded(chsk, is_unix=unix is not None or _is_unix(sock))
    who = None if proxies is None else lambda request, _: proxies(request)
    service = service_of(chsk, path, fallback=other, forwarded=who)
    try:
        await chsk._join()
        server = await _listen(
            loop,
            service,
            host,
            port,
            ssl=ssl,
            config=chsk.config,
            sock=sock,
            unix=unix,
        )
        listener = Listener(server, "http" if ssl is None else "https", path)
        service.is_loopback = all(_is_loopback(bound) for bound in listener.sockets)
        log.info("listening url=%s", listener.url)
        try:
            yield listener
        finally:
            listener.close()
            deadline = loop.time() + chsk.config.stop_timeout
            try:
                await _stop(chsk if is_ours else None, service, chsk.config)
            except asyncio.CancelledError:
                deadline = loop.time()  # a second signal: handlers get no more time
                raise
            finally:
                if unix is not None:
                    # CPython does so by itself from 3.13 on; uvloop and older ones do not.
                    with suppress(FileNotFoundError):
                        os.unlink(unix)
    finally:
        if is_ours:
            if chsk.is_started:
                chsk.stop()
            await chsk._finish(max(0.0, deadline - loop.time()))


async def _stop(chsk: ChannelSocket | None, service: Service, config: Config) -> None:
    """Finish the handlers, stop the channel if it is ours, and close every connection."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.stop_timeout
    try:
        if chsk is not None and chsk.is_started:
            try:
                await chsk.settle(config.stop_timeout)
            finally:
                if chsk.is_started:
                    chsk.stop()
    except asyncio.CancelledError:
        service.abort()
        raise
    # Handlers may have taken it all; a close frame still needs its answer.
    least = min(config.close_timeout, config.stop_timeout)
    await end(service, max(least, deadline - loop.time()))


async def _listen(
    loop: asyncio.AbstractEventLoop,
    service: Service,
    host: str,
    port: int,
    *,
    ssl: SSLContext | None,
    config: Config,
    sock: socket.socket | None,
    unix: str | os.PathLike[str] | None,
) -> asyncio.Server | EpollServer:
    options: dict[str, Any] = {}
    if ssl is not None:
        options["ssl"] = ssl
        options["ssl_handshake_timeout"] = config.handshake_timeout
        # The transport is closed behind an answer that may be long, and its reader slow.
        options["ssl_shutdown_timeout"] = config.http_idle_timeout

    accept = protocol_factory(loop, service)
    if unix is not None:
        options["backlog"] = BACKLOG
        return await loop.create_unix_server(accept, os.fspath(unix), **options)
    if _is_unix(sock):
        options["backlog"] = BACKLOG
        if sys.version_info >= (3, 13) and isinstance(loop, asyncio.SelectorEventLoop):
            options["cleanup_socket"] = False  # the path is its maker's; other workers use it
        return await loop.create_unix_server(accept, sock=sock, **options)
    server = await create_server(loop, accept, host, port, sock=sock, **options)
    try:
        for bound in server.sockets:
            bound_unsent(bound.fileno())
    except OSError:
        server.close()
        raise
    return server


async def create_server(
    loop: asyncio.AbstractEventLoop,
    accept: Callable[[], Any],
    host: str,
    port: int,
    *,
    sock: socket.socket | None = None,
    **options: Any,
) -> asyncio.Server | EpollServer:
    """Listen as `loop.create_server` does, by epoll where there is one and no TLS."""
    where = {"sock": sock} if sock is not None else {"host": host, "port": port}
    if "ssl" in options or not USES_EPOLL:
        return await loop.create_server(accept, **where, backlog=BACKLOG, **options)
    if sock is not None:
        sock.listen(BACKLOG)
        return EpollServer(loop, [sock], accept)
    # What a name means, and on how many sockets, is for the loop to say.
    bound = await loop.create_server(accept, **where, start_serving=False)
    sockets: list[socket.socket] = []
    try:
        for each in bound.sockets:
            sockets.append(socket.socket(fileno=os.dup(each.fileno())))
            sockets[-1].listen(BACKLOG)
        return EpollServer(loop, sockets, accept)
    except OSError:
        for own in sockets:
            own.close()
        raise
    finally:
        bound.close()


class EpollServer:
    """What listens on epoll, with as much of asyncio.Server as is needed here."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: list[socket.socket],
        accept: Callable[[], Any],
    ) -> None:
        self.sockets = sockets
        self._poller = Poller(loop)
        self._acceptors: list[Acceptor] = []
        try:
            for each in sockets:
                self._acceptors.append(self._poller.listen(each, accept))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Accept no further connection; those that are open stay."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._poller.close()
        for each in self.sockets:
            each.close()


def _is_unix(sock: socket.socket | None) -> bool:
    return sock is not None and sock.family == getattr(socket, "AF_UNIX", None)


def _is_loopback(sock: Any) -> bool:
    name = sock.getsockname()
    # A Unix socket has no name that a browser could be led to.
    return isinstance(name, tuple) and ip_address(name[0].partition("%")[0]).is_loopback


def run(
    chsk: ChannelSocket,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    path: str = "/chsk",
    ssl: SSLContext | None = None,
    sock: socket.socket | None = None,
    unix: str | os.PathLike[str] | None = None,
    fallback: Fallback | None = None,
    workers: int = 1,
) -> None:
    """Serve a channel until SIGINT or SIGTERM; a second one ends it at once.

    Runs on uvloop where there is one. The parameters are those of `serve`.

    With `workers`, so many processes serve the channel on one port. They are joined by the
    channel's `backplane`, else by the engine that the environment variable CHANSOCK_BACKPLANE
    names, else by a Redis or Valkey that this call starts. A worker that dies is started again;
    SIGHUP replaces one after the other. Workers are forks of this process, made before any loop
    runs: a channel and its handlers cannot be pickled, and a fresh interpreter would run the
    calling script anew. So they have the code that this process has loaded, also after SIGHUP;
    `python -m chansock serve --workers` loads it anew. Linux only.

    Raises ConfigError if several workers cannot be joined, and SystemExit with their status if
    none could be kept alive.
    """
    _check_workers(workers)
    if workers == 1:
        _run_alone(
            chsk,
            show,
            host,
            port,
            path=path,
            ssl=ssl,
            sock=sock,
            unix=unix,
            fallback=fallback,
        )
        return
    http1.check_path(path)
    if sock is not None and unix is not None:
        raise ConfigError("expected one of sock and unix, got both")
    if not processes.is_shared(chsk) and program() is None:
        raise ConfigError(f"workers: {MISSING}")

    with (
        listening(workers, host, port, sock=sock, unix=unix) as sockets,
        closing(PrivateEngine()) as engine,
    ):

        def start(place: int, fd: int) -> Child:
            def main() -> None:
                engine.leave()
                for other in sockets:
                    if other is not sockets[place]:
                        other.close()
                report = Report(fd, engine.url)
                own = sockets[place]
                run_worker(chsk, report, sock=own, path=path, ssl=ssl, fallback=fallback)

            return Forked(main)

        status = supervisor.supervise(start, workers, engine, partial(show, workers=workers))
    if status:
        sys.exit(status)


def run_worker(
    chsk: ChannelSocket,
    report: Report,
    *,
    sock: socket.socket,
    path: str,
    ssl: SSLContext | None,
    fallback: Fallback | None,
) -> None:
    """Serve as one of several workers, on a socket that its parent has bound."""
    if not processes.is_shared(chsk):
        report.need_engine()
    _run_alone(
        chsk,
        report.listening,
        "",
        0,
        path=path,
        ssl=ssl,
        sock=sock,
        unix=None,
        fallback=fallback,
    )


def _run_alone(
    chsk: ChannelSocket,
    begun: Callable[[str], object],
    host: str,
    port: int,
    *,
    path: str,
    ssl: SSLContext | None,
    sock: socket.socket | None,
    unix: str | os.PathLike[str] | None,
    fallback: Fallback | None,
) -> None:
    """Serve in this process; call begun(url) when connections are accepted."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        stop = asyncio.Event()

        def end() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, end)
            except NotImplementedError:  # Windows: KeyboardInterrupt ends the Runner
                break
        async with serve(
            chsk, host, port, path=path, ssl=ssl, sock=sock, unix=unix, fallback=fallback
        ) as listener:
            begun(listener.url)
            await stop.wait()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(main())
    except asyncio.CancelledError:
        pass  # the second signal


def show(url: str, workers: int = 1) -> None:
    """Print the line that says where the channel is served."""
    by = "" if workers == 1 else f" by {workers} workers"
    print(f"chansock: serving {url}{by} (Ctrl+C ends it)", flush=True)  # noqa: T201


def _check_workers(workers: int) -> None:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers: expected an int of at least 1, got {workers!r:.80}")
    if workers > 1 and not supervisor.IS_AVAILABLE:
        raise ConfigError(f"workers: {supervisor.NOT_AVAILABLE}")
    if workers > 1 and asyncio._get_running_loop() is not None:
        raise ConfigError("workers: expected a call before any loop runs, got one within a loop")
