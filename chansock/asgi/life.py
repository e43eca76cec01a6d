"""From start to stop of a channel that an ASGI server carries, and what is open meanwhile.

ASGI's lifespan starts and ends it. A server says that it stops only when its connections
have ended, which a parked poll does not do by itself, or when it has cut them off; so its
signals are heard before it. Requests and sockets are known here only as what is not over yet.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from chansock._core.endpoint import Endpoint
from chansock._edge import processes
from chansock.asgi.scope import App, Message, Receive, Scope, Send
from chansock.channel import ChannelSocket
from chansock.clock import LoopClock
from chansock.errors import ChannelClosed

__all__ = ["Life"]

log = logging.getLogger("chansock.asgi")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Life:
    """Starts `chsk` and stops it again, if nobody else does.

    `is_starter` False: the application starts it, by `async with chsk`.
    """

    def __init__(self, chsk: ChannelSocket, path: str, *, is_starter: bool) -> None:
        self.chsk = chsk
        self._path = path
        self._is_starter = is_starter
        self._is_ours = False
        self._has_lifespan = False
        self._has_begun = False
        self._signals = _Signals(self._signalled)
        self._open = 0
        self._empty = asyncio.Event()
        self._deadline: float | None = None  # of a stop that a signal has begun

    # -- requests

    @property
    def endpoint(self) -> Endpoint:
        """The channel's door. Raises ChannelClosed if the application should have started it."""
        self.begin()
        return self.chsk._endpoint

    def begin(self) -> None:
        """Start the channel if no lifespan has: at the first request, of whatever path, since the
        application may `send` before any client has come."""
        if not self._has_begun:
            self._begin()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Count something that is to be over before the channel has stopped."""
        self._open += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._empty.set()

    # -- start and stop

    def _begin(self) -> None:
        chsk = self.chsk
        if self._is_starter and not chsk.is_started:
            chsk._start(LoopClock(asyncio.get_running_loop()))
            self._is_ours = True
        if not chsk.is_started:
            raise ChannelClosed(
                f"the channel at {self._path} is not started: expected `async with chsk` in the "
                f"application's lifespan, or chansock.asgi.Middleware, which starts it"
            )
        self._has_begun = True
        self._deadline = None
        self._empty = asyncio.Event()  # that of a former life may be of another loop
        if not self._open:
            self._empty.set()
        self._signals.listen()

    async def _signalled(self) -> None:
        """End what is open: one server cuts it off at its stop, another waits for it."""
        chsk = self.chsk
        if not chsk.is_started:
            return
        timeout = chsk.config.stop_timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        try:
            await chsk.settle(timeout)
        finally:  # also where a second signal ends the wait
            if chsk.is_started:
                if self._is_ours and not self._has_lifespan:
                    chsk.stop()  # nobody will say more
                else:
                    chsk._endpoint.stop()  # the application may `send` until its shutdown
        with suppress(TimeoutError):
            async with asyncio.timeout(chsk.config.close_timeout):
                await self._empty.wait()

    async def _stop(self) -> None:
        """Finish handlers, close sockets with 1012, and end polls with 503, in stop_timeout."""
        self._signals.restore()
        if not self._is_ours:
            return
        self._is_ours = False
        loop, chsk = asyncio.get_running_loop(), self.chsk
        deadline = self._deadline or loop.time() + chsk.config.stop_timeout
        if chsk.is_started:
            try:
                await chsk.settle(max(0.0, deadline - loop.time()))
            finally:
                if chsk.is_started:
                    chsk.stop()
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            log.warning("stop_timeout connections=%d", self._open)
        await chsk._finish(max(0.0, deadline - loop.time()))

    # -- lifespan

    async def lifespan(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's lifespan within the channel's; or ours alone, if it has none.

        `scope["state"]["chansock"]` is a list that gets `(path, chsk)`. If the channel
        has no backplane, the startup fails under a uvicorn, gunicorn, hypercorn, or granian of
        several processes.
        """
        server = processes.server_of(asyncio.current_task())
        why = processes.refusal(processes.number_of(server), self.chsk)
        if why is not None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": why})
            return
        wire = _Lifespan(receive, send, self._stop)
        self._has_lifespan = True
        self._begin()
        await self.chsk._join()
        if "state" in scope:
            scope["state"].setdefault("chansock", []).append((self._path, self.chsk))
        try:
            try:
                await app(scope, wire.receive, wire.send)
            except Exception:
                # So says ASGI: then it has no lifespan, and its server goes on without.
                if "lifespan.startup.complete" in wire.said:
                    raise
                level = logging.ERROR if "lifespan.startup" in wire.heard else logging.DEBUG
                log.log(level, "no_lifespan app=%.80r", app, exc_info=True)
            await wire.finish()
        finally:
            await self._stop()


class _Lifespan:
    """What the server and the application say, and the channel's stop before the last word."""

    def __init__(self, receive: Receive, send: Send, stop: Callable[[], Any]) -> None:
        self._receive = receive
        self._send = send
        self._stop = stop
        self.heard: set[str] = set()
        self.said: set[str] = set()

    async def receive(self) -> Message:
        message = await self._receive()
        self.heard.add(message["type"])
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        self.said.add(kind)
        if kind != "lifespan.startup.complete":
            await self._stop()
        await self._send(message)

    async def finish(self) -> None:
        """Send the lifespan answers that the application leaves out."""
        if self.said - {"lifespan.startup.complete"}:
            return
        if "lifespan.startup" not in self.heard:
            await self.receive()
        if "lifespan.startup.complete" not in self.said:
            await self.send({"type": "lifespan.startup.complete"})
        if "lifespan.shutdown" not in self.heard:
            await self.receive()
        await self.send({"type": "lifespan.shutdown.complete"})


class _Signals:
    """Runs `told()` on the loop at SIGINT and SIGTERM, and then the server's own handler.

    A second signal cancels `told()` and runs the server's handler at once. Where the server has
    no handler, or does not run on the main thread, nothing is heard; where it has passed its
    handler to the loop (`add_signal_handler`), both run side by side.
    """

    def __init__(self, told: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._told = told
        self._former: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        if self._loop is not None or threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        self._task = None  # of a former life
        for number in _SIGNALS:
            former = signal.getsignal(number)
            if callable(former):
                self._former[number] = former
                signal.signal(number, self._handle)

    def restore(self) -> None:
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._loop = None

    def _handle(self, number: int, frame: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                if self._task is None:
                    self._loop.call_soon_threadsafe(self._begin, number)
                    return
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._former[number](number, frame)

    def _begin(self, number: int) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._told())
        self._task.add_done_callback(lambda _: self._former[number](number, None))
