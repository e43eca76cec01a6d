"""The client's face, and the state machine behind it: one attempt after the other.

`Client` decides which transport is tried, what the end of a link means, and when to try again.
What travels, and how, is in `socket` and `ajax`; what waits for the application in `inbox`. The
file is past 400 lines because the face and the state machine share one state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar, overload

from chansock.client.ajax import AjaxLink
from chansock.client.arguments import check_close_code, check_event, check_handled_id, check_timeout
from chansock.client.attempt import Credentials
from chansock.client.inbox import Beside, Handler, Inbox, check_handler
from chansock.client.packets import Event, Events, Handshake, Inbound, Ping
from chansock.client.resume import Resume, Sender
from chansock.client.socket import WsLink
from chansock.client.state import Close, Link, Owner, Reason, Settings, State, StateHandler, Watch
from chansock.client.timing import Backoff
from chansock.errors import ChannelClosed, HandshakeRefused
from chansock.values import NO_DATA, short_repr

__all__ = ["Client", "Transport"]

H = TypeVar("H", bound=Handler)
S = TypeVar("S", bound=StateHandler)
Transport: TypeAlias = Literal["auto", "ws", "ajax"]

# Another client has our client-id: the close code of a WebSocket, and the status of a poll.
TAKEN: Final = 4409
CONFLICT: Final = 409

log = logging.getLogger("chansock.client")


class Client:
    """A channel to one server, which comes back after every close. `connect` makes it.

    `async with`, or `await` and later `close`, waits until it is open. Events go to the handlers
    of their id, the rest to `async for`, in the order in which the server sent them. All methods
    belong to the loop on which it was opened.
    """

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        backoff: Backoff,
        transport: Transport,
        resume: Resume,
    ) -> None:
        self._credentials = credentials
        self._settings, self._log_limit = settings, settings.log_limit
        self._transport: Transport = transport
        self._backoff = backoff
        state = State(type="ajax" if transport == "ajax" else "ws")
        config = settings.config
        self._beside = Beside(config.max_inbox_events, self._weigh_reading, self._log_limit)
        self._watch = Watch(state, self._told, self._beside.keep, self._log_limit)
        self._inbox = Inbox(
            config.max_inbox_events,
            lambda on: self._weigh_reading(),
            self._log_limit,
            config.max_inbox_bytes,
        )
        self._owner = Owner(
            opened=self._opened, received=self._received, would_fill=self._would_fill
        )
        self._sender = Sender(
            resume,
            settings.packer,
            self._log_limit,
            send_now=self._send_now,
        )
        self._link: Link | None = None
        self._ws: WsLink | None = None  # the last one, open or not
        self._csrf_token: str | None = None  # of the last attempt
        self._is_downgraded = False  # transport="auto": Ajax works here, and no WebSocket
        self._had_ws = False
        self._is_halted = False  # by disconnect()
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None

    # the application's side

    @property
    def client_id(self) -> str:
        """What this client is to the server, across reconnects.

        It changes if the server shows that another client uses it, too.
        """
        return self._credentials.client_id

    @property
    def state(self) -> State:
        """What is known of the channel now."""
        return self._watch.state

    async def open(self) -> Self:
        """Connect, and wait until the channel is open; what `async with` and `await` do.

        Raises HandshakeRefused if the first attempt got an HTTP status other than the one
        asked for, ConnectionError if it did not get as far; later ones are repeated instead.
        """
        if self._task is not None:
            raise RuntimeError(
                "expected a client that is closed, got one that is open: use it as it is, or "
                "close it with `await client.close()`"
            )
        self._is_halted = False
        self._inbox.begin()
        self._sender.open()
        self._wake = asyncio.Event()
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live())
        try:
            await asyncio.wait({self._first, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
            self._first.result()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Close, and wait until the connection is gone (close_timeout at most); may be repeated.

        Cancels the handler that runs, unless that calls it. If `close` is cancelled itself, it
        drops the connection at once. In each case the client can be opened again.
        """
        task = self._task
        if task is None:
            return
        self.disconnect()
        task.cancel()
        limit = self._settings.config.close_timeout + 1.0
        tasks = {task, self._inbox.stop()} - {None, asyncio.current_task()}
        try:
            await asyncio.wait({task for task in tasks if task is not None}, timeout=limit)
            await self._beside.end(limit)
            self._beside.cancel()
            await self._beside.end(1.0)  # a cancelled task ends within a turn or two of the loop
        finally:
            # Without waiting: this may have been cancelled.
            self._beside.cancel()
            if self._first is not None and self._first.done() and not self._first.cancelled():
                self._first.exception()  # seen, even where nobody waits for it any more
            self._log_limit.sum_up()
            if self._task is task:
                self._task = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        """Open it; see `open`."""
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; see `close`."""
        await self.close()

    @overload
    async def send(self, event_id: str, data: object = ..., *, timeout: None = None) -> None: ...
    @overload
    async def send(self, event_id: str, data: object = ..., *, timeout: float) -> Any: ...
    async def send(
        self, event_id: str, data: object = NO_DATA, *, timeout: float | None = None
    ) -> Any:
        """Send the event `[event_id data]`; with a timeout, ask for a reply and return it.

        Without `data` the event is `[event_id]`; None is data, and written as nil. Without a
        timeout it returns None once the socket or its write buffer has the event; over Ajax,
        once its POST was answered. Events arrive in the order of the calls. While more than
        max_inbox_events wait to be taken, no reply can come: nothing is read.

        The server handles each event once, over any number of connections. Without a connection
        `send` keeps the event and returns. While max_unacked_events or max_unacked_bytes are not
        acknowledged it waits; if it is cancelled then, the event is not sent. A reply may come
        over a later connection.

        With a server that does not resume, or `resume=False`: nothing is kept. `send` waits while
        the server does not read (max_backlog_bytes) or POSTs are under way (max_posts); an event
        whose `send` is cancelled meanwhile is not sent.

        Raises:
            InvalidEvent, EncodeError: the event cannot be sent.
            ChannelClosed: the client is closed, disconnected, or refused. Without resume also if
                there is no connection, or if it closes before the event is sent.
            ConnectionLost: the client closed before the reply came: the server may or may not
                have handled the event. Without resume also if the connection broke. A
                ChannelClosed, too.
            ReplyTimeout: no reply came in time; the event may have been handled, and with resume
                it is still delivered. Without resume, over Ajax and without a timeout, also after
                ajax_timeout, the wait for its turn included.
            ReplyError: the server's handler failed, or the server refused this event (400, 413,
                or close code 1009). With resume the refusal of an event without a timeout is
                logged instead.
        """
        if self._task is None:
            self._check_entered()
        return await self._sender.send(check_event(event_id, data), check_timeout(timeout))

    async def _send_now(self, event: list[object], timeout: float | None) -> object:
        """Send to a server that does not resume."""
        link = self._link
        if link is None or not self.state.open:
            self._check_entered()
            why = f" ({self.state.reason})" if self.state.reason else ""
            raise ChannelClosed(f"expected an open channel, got one that is closed{why}")
        return await link.send(event, timeout)

    @overload
    def on(self, event_id: str, handler: None = None, /) -> Callable[[H], H]: ...
    @overload
    def on(self, event_id: str, handler: H, /) -> H: ...
    def on(self, event_id: str, handler: H | None = None, /) -> H | Callable[[H], H]:
        """Call `handler(event)` for each event of this id: a decorator, or a call.

        An id may have several handlers; they are called in the order of registration. A plain
        handler is called at once, a coroutine runs to its end before the next handler. `"*"`
        means every event of the server: its handlers are called after those of the id.

        Of the channel's own, `chsk/handshake` (each one; data `[uid nil handshake-data
        is-first]`), `chsk/state` (each change; data `[old, new, open-changed]`) and
        `chsk/ws-ping` can be handled.

        Raises InvalidEvent for an id that no event can have; TypeError for a handler that
        cannot be called with one argument.
        """
        return self._add(event_id, handler, is_once=False)

    @overload
    def once(self, event_id: str, handler: None = None, /) -> Callable[[H], H]: ...
    @overload
    def once(self, event_id: str, handler: H, /) -> H: ...
    def once(self, event_id: str, handler: H | None = None, /) -> H | Callable[[H], H]:
        """Call `handler(event)` for the next event of this id, and no more; see `on`."""
        return self._add(event_id, handler, is_once=True)

    def _add(self, event_id: str, handler: H | None, *, is_once: bool) -> H | Callable[[H], H]:
        known = check_handled_id(event_id)

        def add(handler: H) -> H:
            check_handler(event_id, handler)
            self._inbox.handlers.add(known, handler, is_once=is_once)
            return handler

        return add if handler is None else add(handler)

    def on_state(self, handler: S, /) -> S:
        """Have `handler(state)` called at each change of state; a decorator, or a call.

        At once, while `chsk/state` takes its turn among the events.
        """
        check_handler("state", handler, "state")
        self._watch.handlers.append(handler)
        return handler

    def __aiter__(self) -> Self:
        """Iterate over the events that no handler claims; ends after `disconnect`."""
        return self

    async def __anext__(self) -> Event:
        if self._first is None:  # it was never opened: nothing can come, nor end
            self._check_entered()
        return await self._inbox.get()

    def reconnect(self) -> None:
        """Connect anew, at once: with other credentials, or after `disconnect`.

        With transport="auto" the WebSocket is tried first again.
        """
        self._check_entered()
        self._is_halted = False
        self._is_downgraded = False
        self._inbox.begin()
        self._sender.open()
        self._backoff.reset()
        self._stop_link(Reason("requested-reconnect"))
        if self._wake is not None:
            self._wake.set()

    def disconnect(self) -> None:
        """Close, and stay closed until `reconnect`. Waiting replies raise ChannelClosed."""
        self._is_halted = True
        self._sender.close(" (requested-disconnect)")
        self._stop_link(Reason("requested-disconnect"))
        self._inbox.end()
        if self._wake is not None:
            self._wake.set()

    def break_connection(self, code: int = 3000, *, is_noticed: bool = True) -> None:
        """Break what is below, as a network might, for tests: the client is to come back.

        A WebSocket says `code` (1000, or 3000 to 4999) as it breaks. Not noticed: the client takes
        itself for open, until a send fails (`ws-error`) or a ping (`ws-ping-timeout`). Does
        nothing while there is no connection.
        """
        check_close_code(code)
        if self._link is not None:
            self._link.break_off(code, is_noticed=is_noticed)

    def _check_entered(self) -> None:
        """Raise ChannelClosed unless it was opened, and not closed since."""
        if self._task is None or self._task.done():
            raise ChannelClosed(
                "expected an open client, got one that is closed: open it with `async with "
                "connect(...) as client`, or with `client = await connect(...)`"
            )

    # the links' side

    def _opened(self, link: Link, handshake: Handshake, /) -> None:
        """Take a handshake."""
        if link is not self._link:
            return
        if self.state.open:
            # The server had forgotten the session, and began another: there lies a gap.
            self._close(Reason("unexpected", None, "the session began anew"))
        answer = handshake.resumption
        if answer is not None and self._sender.resume.is_foreign(answer):
            link.stop(Reason("unexpected", TAKEN, "another client has this client-id"))
            return
        is_first = not self.state.ever_opened
        self._had_ws = self._had_ws or link.type == "ws"
        self._is_downgraded = self._transport == "auto" and link.type == "ajax"
        self._log_limit.info(log, "open transport=%s uid=%s", link.type, short_repr(handshake.uid))
        self._backoff.opened(asyncio.get_running_loop().time())
        was = self._sender.begin(answer)
        self._sender.attach(link.flush, link.ask_acks)
        self._watch.change(
            **self._of_attempt(),
            open=True,
            type=link.type,
            uid=handshake.uid,
            handshake_data=handshake.data,
            ever_opened=True,
            retry_at=None,
            resumed=was,
        )
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._own_event("chsk/handshake", [handshake.uid, None, handshake.data, is_first])
        self._sender.flush()

    def _received(self, link: Link, inbound: Inbound, /) -> None:
        """Take what else came."""
        if link is not self._link:
            return
        if isinstance(inbound, Events):
            if self._sender.resume.is_on:
                # Before: a large batch is read as it is put, and may turn out to be unreadable.
                self._sender.move(inbound.position)
                self._inbox.put(self._sender.sift(inbound.items))
            else:
                self._inbox.put(inbound.items)
        elif isinstance(inbound, Ping):
            self._own_event("chsk/ws-ping", None)

    def _would_fill(self, events: int, /) -> bool:
        """Return whether that many events reach the inbox's limit."""
        return self._beside.is_full or self._inbox.would_fill(events)

    # the state machine

    async def _live(self) -> None:
        """Make one attempt after the other, until cancelled."""
        assert self._wake is not None and self._first is not None  # __aenter__ made both
        was_taken = False
        while True:
            self._wake.clear()
            if self._is_halted:
                await self._wake.wait()
                continue
            reason = await self._attempt()
            self._close(reason)
            is_taken = reason.code == TAKEN or (
                reason.code == CONFLICT and reason.kind == "unexpected"
            )
            if is_taken and self._sender.resume.is_on is not False:
                # A duplicate of this client is the other one: the session is its.
                self._credentials.renew_client_id()
                if not was_taken:
                    self._backoff.reset()  # the next attempt is made at once
            elif not self._first.done() and reason.kind != "requested-reconnect":
                self._first.set_exception(_first_error(reason))
            if self._first.done() and self._first.exception() is not None:
                return  # `async with` raises it, and nobody is there to come back for
            was_taken = is_taken
            if reason.is_final:
                if not self._wake.is_set():
                    self._sender.close(f" ({reason})")
                await self._wake.wait()
            elif not self._wake.is_set():
                await self._wait_to_retry(reason)

    async def _wait_to_retry(self, reason: Reason) -> None:
        assert self._wake is not None
        seconds = self._backoff.next_delay(
            asyncio.get_running_loop().time(),
            is_restart=reason.is_restart,
            retry_after=reason.retry_after,
        )
        if seconds > 0:
            self._watch.change(retry_at=time.time() + seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def _attempt(self) -> Reason:
        """Make one attempt, run its link to the end, and return the reason of the end."""
        try:
            attempt = await self._credentials.attempt()
        except Exception as exc:
            if self._first is not None and not self._first.done():
                self._first.set_exception(exc)
            text = "attempt_failed by a url, headers, params or csrf_token function"
            self._log_limit.exception(log, text)
            return Reason("not-opened", None, f"{type(exc).__name__} in the application's function")
        self._csrf_token = attempt.csrf_token
        if self._transport == "ajax" or self._is_downgraded:
            return await self._run(AjaxLink(attempt, self._settings, self._owner, self._sender))
        self._ws = link = WsLink(attempt, self._settings, self._owner, self._sender)
        reason = await self._run(link)
        if link.is_opened or not link.is_reached or not reason.is_unclear:
            return reason
        ajax = AjaxLink(attempt, self._settings, self._owner, self._sender)
        if self._transport == "auto" and not self._had_ws:
            # Sente's rule: Ajax, if no WebSocket has ever opened. For good once Ajax has: a
            # server that was only down is tried with a WebSocket again.
            downgrading = Reason("downgrading-ws-to-ajax", reason.code, reason.text)
            self._watch.change(**self._of_attempt(), reason=downgrading)
            ajax_reason = await self._run(ajax)
            return reason if link.has_bad_upgrade and not ajax.is_opened else ajax_reason
        if link.has_bad_upgrade:
            return reason  # it is clear: Ajax could only say something else
        return await ajax.shake_hands() or reason

    async def _run(self, link: Link) -> Reason:
        if self._is_halted:
            return Reason("requested-disconnect")
        self._link = link
        self._weigh_reading()
        try:
            return await link.run()
        except Exception:
            self._log_limit.exception(log, "link_failed transport=%s", link.type)
            return Reason("unexpected", None, "internal error")
        finally:
            if self._link is link:
                self._link = None
            self._sender.detach()
            self._beside.keep(self._see_off(link))

    def _stop_link(self, reason: Reason) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            link.stop(reason)
            self._sender.detach()
        self._close(reason)

    def _close(self, reason: Reason) -> None:
        state = self.state
        if state.open or state.reason != reason or state.retry_at is not None:
            self._log_limit.info(log, "closed transport=%s reason=%.200r", state.type, str(reason))
            close = Close(time.time(), reason) if state.open else state.last_close
            self._watch.change(
                **self._of_attempt(), open=False, reason=reason, retry_at=None, last_close=close
            )

    def _of_attempt(self) -> dict[str, Any]:
        """What the last attempt, and the last WebSocket, say about themselves."""
        known: dict[str, Any] = {"csrf_token": self._csrf_token}
        if self._ws is not None and self._ws.closed is not None:
            known["last_ws_close"] = self._ws.closed
        if self._ws is not None and self._ws.error is not None:
            known["last_ws_error"] = self._ws.error
        return known

    async def _see_off(self, link: Link) -> None:
        """Wait for the end of a connection: only then is known how one that we closed ended."""
        await link.gone()
        if link is self._ws:
            self._watch.change(**self._of_attempt())

    def _told(self, old: State, new: State) -> None:
        self._own_event("chsk/state", [old, new, old.open != new.open])

    def _own_event(self, event_id: str, data: object) -> None:
        """Call the handlers of an event of the channel itself."""
        if self._inbox.handlers.has(event_id):
            self._inbox.put([Event(event_id, data)])

    def _weigh_reading(self) -> None:
        """Stop reading while too much waits to be handled."""
        if self._link is not None:
            self._link.set_reading(not (self._inbox.is_full or self._beside.is_full))


def _first_error(reason: Reason) -> Exception:
    """Make of a reason what `async with` raises."""
    if reason.code is not None and 100 <= reason.code < 600:
        return HandshakeRefused(reason.code, reason.text)
    return ChannelClosed(f"expected an open channel, got {reason}")
