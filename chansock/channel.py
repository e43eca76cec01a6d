"""ChannelSocket: a constructor and one `send`, above WebSocket and Ajax alike.

Puts engine and core together when it starts, and turns a `send` into one encoded
event for the outboxes of its target. No socket and no framework is known here. The file is
past 400 lines, since most of them document one class.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self, cast

from chansock import packers
from chansock._core import event, wire
from chansock._core.backplane import Backplane
from chansock._core.cluster import Cluster
from chansock._core.delivery import Close, Delivery
from chansock._core.endpoint import Endpoint, Hook, Hooks
from chansock._core.engine import Engine
from chansock._core.guard import Skip
from chansock._core.handlers import ErrorHandler, Handled, Handlers, Middleware
from chansock._core.homes import Homes
from chansock._core.hub import Hub
from chansock._core.lending import Lending
from chansock._core.presence import Presence
from chansock._core.shared_presence import SharedPresence
from chansock._edge.http1 import answer_of
from chansock._fast.events.dispatch import Dispatch, EventMsg
from chansock._fast.events.fanout import Fanout, Fragment
from chansock._fast.events.packet import ForeignPacker, Packer, Packet, adapt
from chansock._fast.io.timers import TimerQueue
from chansock.backplanes.memory import Memory
from chansock.backplanes.redis import Redis
from chansock.clock import Clock, LoopClock
from chansock.config import Config
from chansock.errors import ChannelClosed, ConfigError, InvalidEvent
from chansock.request import Response
from chansock.routing import Registry
from chansock.stats import Lost, Stats
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId, is_user_id
from chansock.values import NO_DATA

__all__ = ["ChannelSocket"]

JOIN_TIMEOUT: Final = 5.0  # seconds; a channel whose engine is down starts then, and is not ready


def _kinds(backplane: Backplane | Engine | str | None) -> tuple[Engine | None, Backplane | None]:
    """Return what joins several processes, or what keeps the events of this one."""
    if isinstance(backplane, str):
        return Redis(backplane), None
    if backplane is not None and hasattr(backplane, "node_id"):
        return cast(Engine, backplane), None
    return None, backplane


class ChannelSocket(Registry):
    """One event pipe between this server and all the clients of all its users.

    Hooks take a Request and may be plain or async; while one waits, its connection is
    not read. `user_id` returns the application's user id, or None for an anonymous
    client: look up your own session there, a plain cookie is no proof. With
    `anonymous=False`, clients for which it returns None are refused with 401.

    Serves one loop, from `async with chsk` (or `chansock.serve`, `chansock.run`, which
    start it) until its end. Then it may be started again, on any loop: its handlers stay, and so
    does what `backplane` keeps for clients that come back; presence and stats begin anew.
    """

    def __init__(
        self,
        config: Config = Config(),  # noqa: B008 - frozen
        /,
        *,
        user_id: Hook[UserId | None] | None = None,
        handshake_data: Hook[object] | None = None,
        authorize: Hook[bool] | None = None,
        reject: Hook[Response | None] | None = None,
        csrf_token: Hook[str | Skip | None] | None = None,
        packer: packers.Packer | None = None,
        anonymous: bool = True,
        backplane: Backplane | Engine | str | None = None,
    ) -> None:
        if not isinstance(config, Config):
            raise ConfigError(f"config: expected a Config, got {config!r:.80}")
        self.config = config
        try:
            self.packer = adapt(packers.EDN() if packer is None else packer)
        except AttributeError as error:
            raise ConfigError(f"packer: expected a Packer, got {packer!r:.80}") from error
        self._hooks = Hooks(user_id, handshake_data, authorize, reject, csrf_token)
        if not isinstance(anonymous, bool):
            raise ConfigError(f"anonymous: expected a bool, got {anonymous!r:.80}")
        if not anonymous and user_id is None:
            raise ConfigError("anonymous=False: expected a user_id hook, got None")
        self._takes_anonymous = anonymous
        self._handlers = Handlers(config.max_threads)
        self._presence = Presence()
        # Either outlives a stop, so that clients resume after the next start.
        self._engine, own = _kinds(backplane)
        self._backplane: Backplane | None = (own or Memory()) if config.resume else None
        self._core: _Core | None = None  # of this life, or of the last

    def __repr__(self) -> str:
        core = self._core
        state = "not started" if core is None else "stopped" if core.is_stopped else "open"
        return f"<ChannelSocket {state} {self._presence!r}>"

    # -- sending

    def send(
        self,
        to: Target,
        event_id: str,
        data: object = NO_DATA,
        *,
        latest: Hashable | None = None,
        flush: bool = False,
        keep: bool = True,
    ) -> None:
        """Push the event `[event_id data]` to every client that `to` means.

        Without `data` the event is `[event_id]`; None is data, and written as nil.

        `to` is a user id, ALL, ANONYMOUS or `msg.client`. Encoded before this returns;
        written at the end of the loop's turn, or at once with `flush`, in the order of
        the sends. With `latest=key` an older event of that key that still waits for a
        client is dropped in favour of this one. With `keep=False` the event is not kept for
        clients that come back: it is lost for those whose connection breaks meanwhile (typing,
        cursors). May be called from any thread.

        Raises InvalidEvent for an id, a target or a size that cannot be, EncodeError
        for data that cannot be written, ChannelClosed before the start and after the end.
        """
        core = self._core
        if core is None or core.is_stopped:
            core = self._running()
        keyword = event.check_id(event_id)
        if not (to is ALL or to is ANONYMOUS or type(to) is ClientTarget or is_user_id(to)):
            event.check_user_id(to)
        if latest is not None:
            hash(latest)
        fragment = Fragment(self.packer.fragment(event.event_of(keyword, data)), latest, keep)
        if fragment.nbytes > self.config.max_backlog_bytes:
            raise InvalidEvent(
                f"expected at most {self.config.max_backlog_bytes} bytes (max_backlog_bytes) "
                f"for {event_id!r}, got {fragment.nbytes}"
            )
        if core.dispatch.is_own_thread():
            core.deliver(to, (fragment,), flush)
        else:
            core.clock.from_thread(partial(core.deliver, to, (fragment,), flush))

    def disconnect(self, to: Target, *, code: int = 1000, reason: str = "") -> None:
        """Close every connection of `to`, after what waits for it; polls end with 503.

        `code` and `reason` are those of RFC 6455 section 7.4: 1000 to 1014 where an
        endpoint may send them, 3000 to 4999. Sente's clients come back at once; chansock's
        do too, but not a WebSocket after 4401 or 1008. Whoever shall stay out must be
        refused by `authorize`. May be called from any thread.

        Raises InvalidEvent for a target or a code that cannot be, ChannelClosed before the
        start and after the end.
        """
        core = self._running()
        event.check_close(code, reason)
        if not (to is ALL or to is ANONYMOUS or type(to) is ClientTarget):
            event.check_user_id(to)
        close = Close(code, reason)
        if core.dispatch.is_own_thread():
            core.deliver(to, (), close=close)
        else:
            core.clock.from_thread(partial(core.deliver, to, (), close=close))

    # -- receiving

    def _add(self, handled: list[Handled]) -> None:
        self._handlers.add(handled)

    def _add_middleware(self, middleware: Middleware) -> None:
        self._handlers.add_middleware(middleware)

    def on_error(self, handler: ErrorHandler, /) -> ErrorHandler:
        """Call `handler(msg, exception)` for each handler that raised, after it is logged.

        Raises TypeError for what cannot be called.
        """
        if not callable(handler):
            raise TypeError(
                f"expected an error handler, like `def handler(msg, error)`, got {handler!r:.80}"
            )
        self._handlers.add_error_handler(handler)
        return handler

    async def __aiter__(self) -> AsyncIterator[EventMsg[Any]]:
        """Iterate over the events that no handler claims, until the channel stops.

        While nobody takes them the client that sent is not read past max_inbox_events;
        nothing is dropped. Answer with `msg.reply`.
        """
        core = self._started()
        core.readers += 1
        try:
            while True:
                while core.unread:
                    msg = core.unread.popleft()
                    msg._release()
                    try:
                        yield msg
                    finally:
                        msg._let_end()
                if core.is_stopped:
                    return
                core.news.clear()
                await core.news.wait()
        finally:
            core.readers -= 1
            while core.unread and not core.readers:
                core.dispatch.leave_unclaimed(core.unread.popleft())

    # -- looking

    @property
    def connected(self) -> Presence:
        """Users that are connected: `.ws`, `.ajax`, `.any`; live, iterating walks a copy.

        After a stop it stays as it was then, until the next start.
        """
        return self._presence

    @property
    def stats(self) -> Stats:
        """What was counted since the start, now; after a stop, until then."""
        return Stats() if self._core is None else self._core.stats()

    # -- life

    @property
    def _endpoint(self) -> Endpoint:
        """The one door for edges. Raises ChannelClosed before the start."""
        return self._started().endpoint

    @property
    def _clock(self) -> Clock:
        """The clock it was started with. Raises ChannelClosed before the start."""
        return self._started().clock

    @property
    def _timers(self) -> TimerQueue:
        """What is due when, for edges. Raises ChannelClosed before the start."""
        return self._started().timers

    @property
    def is_started(self) -> bool:
        """Whether it was started and not yet stopped."""
        return self._core is not None and not self._core.is_stopped

    def _start(self, clock: Clock) -> None:
        """Start on a clock, on whose thread this is called; `async with` uses the loop's."""
        if self._core is not None and not self._core.is_finished:
            raise ConfigError(f"expected a ChannelSocket that does not run yet, got {self!r}")
        self._presence._clear()
        if self._engine is None and (url := os.environ.get("CHANSOCK_BACKPLANE")):
            self._engine = Redis(url)
        self._core = _Core(self, clock)

    async def settle(self, timeout: float) -> None:
        """Take nothing more, and give what was taken `timeout` seconds to be handled.

        Nobody is admitted, and no socket is read, but handlers and the application go on
        sending. A reply that a handler left for LATER is not waited for. Raises ChannelClosed
        before the start and after the end.
        """
        core = self._running()
        core.endpoint.pause()
        is_settled = asyncio.Event()
        if core.dispatch.settle(None, is_settled.set):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await is_settled.wait()

    def stop(self) -> None:
        """Flush, close every socket 1012, end polls with 503; then nothing is sent any more.

        Drops events that were taken and are not handled yet: `await settle(timeout)` first.
        """
        core = self._running()
        core.endpoint.stop()
        core.is_stopped = True
        core.news.set()

    async def _join(self) -> None:
        """Wait until the engine is heard, as long as that may take without a mistake in a setting.

        Raises BackplaneError for such a mistake.
        """
        core = self._started()
        if core.cluster is not None:
            await core.cluster.join(JOIN_TIMEOUT)

    async def ready(self) -> None:
        """Wait until clients can be served: at once, unless a `backplane` must be heard first.

        Raises ChannelClosed before the start and after the end.
        """
        core = self._running()
        if core.cluster is not None:
            await core.cluster.ready()

    @property
    def is_ready(self) -> bool:
        """Whether clients can be served now: it is started, not stopping, and hears its engine."""
        core = self._core
        if core is None or core.is_stopped or core.endpoint.is_stopping:
            return False
        return core.cluster is None or core.cluster.engine.is_up

    async def stored(self) -> None:
        """Wait until the engine has stored all that was sent so far.

        Without one, all is stored when `send` returns. Raises ChannelClosed before the start.
        """
        core = self._started()
        if core.cluster is not None:
            core.cluster.flush()
            await core.cluster.engine.stored()

    @property
    def _is_shared(self) -> bool:
        return self._engine is not None or bool(os.environ.get("CHANSOCK_BACKPLANE"))

    def _started(self) -> _Core:
        if self._core is None:
            raise ChannelClosed("the channel is not started yet")
        return self._core

    def _running(self) -> _Core:
        core = self._started()
        if core.is_stopped:
            raise ChannelClosed("the channel is stopped")
        return core

    async def __aenter__(self) -> Self:
        self._start(LoopClock(asyncio.get_running_loop()))
        await self._join()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.stop_timeout
        try:
            if self.is_started:
                await self.settle(self.config.stop_timeout)
        except asyncio.CancelledError:
            deadline = loop.time()
            raise
        finally:
            if self.is_started:
                self.stop()
            await self._finish(max(0.0, deadline - loop.time()))

    async def _finish(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for running handlers, then cancel them."""
        core = self._started()
        try:
            if core.cluster is not None:
                await core.cluster.close(timeout)
            if isinstance(core.clock, LoopClock):
                await core.clock.stop(timeout)
        finally:
            self._handlers.stop()
            core.timers.log_limit.close()
            core.is_finished = True


class _Core:
    """Engine and core of a channel that has started, put together: one life of it."""

    def __init__(self, chsk: ChannelSocket, clock: Clock) -> None:
        config, packer, handlers = chsk.config, chsk.packer, chsk._handlers
        self.is_stopped = False
        self.is_finished = False  # nothing of it runs any more
        self.readers = 0  # iterators that are running
        self.unread: deque[EventMsg[Any]] = deque()  # what they have not taken yet
        self.news = asyncio.Event()
        self._handlers = handlers
        self.clock = clock
        self.timers = TimerQueue(clock)
        handlers.start(self.timers.log_limit)
        self.fanout = Fanout(
            clock,
            self.timers,
            packer,
            max_bytes=config.max_backlog_bytes,
            max_events=config.max_backlog_events,
            max_total=config.max_total_backlog_bytes,
            delay_ws=config.flush_delay_ws,
            delay_ajax=config.flush_delay_ajax,
        )
        self.dispatch = Dispatch(
            clock,
            self.fanout,
            packer,
            sender=chsk,
            routes=handlers.routes,
            own_routes=handlers.own_routes,
            unclaimed=self._take_unclaimed,
            failed=handlers.failed,
            wire=wire,
            max_events=config.max_inbox_events,
            max_bytes=config.max_inbox_bytes,
        )
        engine = chsk._engine
        self.cluster: Cluster | None = None
        if engine is not None:
            self.cluster = Cluster(engine, config, _name(packer), clock, self.timers)
        own = None if self.cluster is not None else chsk._backplane
        backplane: Backplane | None = self.cluster if config.resume else None
        backplane = backplane or own
        self.delivery = Delivery(self.fanout, self.dispatch, own)
        self.hub = Hub(
            config,
            self.timers,
            self.fanout,
            chsk.connected,
            self.delivery.announce,
            strays=lambda: len(self.dispatch.strays),
            ping=Packet(packer.packet(wire.WS_PING, None), packer.binary),
            timeout=Packet(packer.packet(wire.TIMEOUT, None), packer.binary),
            backplane=self.cluster or backplane,
            new_ack=self.dispatch.new_ack,
        )
        if backplane is not None:
            self.fanout.position = partial(_position, packer, backplane)
        self.delivery.start(self.hub)
        self.deliver = self.delivery.deliver  # bound once for all sends
        self.endpoint = Endpoint(
            config,
            chsk._hooks,
            packer,
            self.hub,
            self.dispatch,
            self.timers,
            self.delivery.presence_inbox,
            takes_anonymous=chsk._takes_anonymous,
            backplane=backplane,
        )
        if self.cluster is not None:
            self._share(self.cluster, chsk.connected, config)
        if (joined := self.cluster or own) is not None:
            joined.open(clock, config, self.hub.has_resuming)

    def _share(self, cluster: Cluster, presence: Presence, config: Config) -> None:
        """Share clients and users with the other processes."""
        homes = Homes(cluster, self.hub, self.dispatch)
        lending = Lending(homes, self.endpoint, self.dispatch, config, self.timers, answer_of)
        shared = SharedPresence(presence, cluster.engine, self.delivery.announce)
        self.hub.enter, self.hub.leave = shared.enter, shared.leave
        self.endpoint.homes, self.endpoint.lending = homes, lending
        self.dispatch.cluster = cluster
        self.deliver = cluster.append
        cluster.start(self.delivery, homes, lending, shared)

    def _take_unclaimed(self, msg: EventMsg[Any]) -> bool:
        if self.readers:
            self.unread.append(msg)
            self.news.set()
            return True
        self._handlers.warn_unclaimed(msg.id)
        return False

    def stats(self) -> Stats:
        fanout, dispatch, hub = self.fanout, self.dispatch, self.hub
        return Stats(
            sent=fanout.sent,
            written=fanout.written,
            replaced=fanout.replaced,
            lost=Lost(**fanout.lost),
            nobody=self.delivery.nobody,
            cut=hub.cut,
            unclaimed=dispatch.unclaimed_count,
            unhandled=dispatch.unhandled,
            reply_lost=fanout.reply_lost,
            bad_packet=dispatch.bad_packet,
            bad_event=dispatch.bad_event,
            bad_data=self._handlers.bad_data,
            forged=dispatch.forged,
            **self.endpoint.resume_counts,
            refused=dict(self.endpoint.refused),
            closed=dict(hub.closed_by_code),
            waiting_bytes=fanout.waiting,
            lag=self.timers.lag,
        )


def _name(packer: object) -> str:
    """Return the name of a packer in entries: processes take those of their own packer only."""
    if isinstance(packer, ForeignPacker):
        packer = packer.packer
    inner = packer.inner if isinstance(packer, packers.Gzip) else None
    name = type(packer).__qualname__
    return name if inner is None else f"{name}({_name(inner)})"


def _position(packer: Packer, backplane: Backplane, seq: int) -> bytes:
    """Return the event that ends a batch of a client that resumes."""
    return packer.fragment((wire.POSITION, str(backplane.position_of(seq))))
