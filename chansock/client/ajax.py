"""The Ajax half of the client: polls on one kept connection, POSTs on up to four.

One link is one session, from a handshake to the first failure. No backoff between sessions and no
WebSocket here; `http` reads HTTP, and `packets` knows what packets mean. The file is past 400
lines because polls and POSTs of a session end together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from chansock._core.wire import AJAX, TIMEOUT, WS_PING
from chansock.client.attempt import Attempt
from chansock.client.http import HttpConnection, Response
from chansock.client.packets import (
    Events,
    Handshake,
    Inbound,
    is_event,
    is_keyword,
    pong,
    reply_error,
    unpack,
)
from chansock.client.resume import Resume, Sender
from chansock.client.state import (
    Owner,
    Reason,
    Settings,
    TransportType,
    error_reason,
    http_reason,
    said,
)
from chansock.client.timing import Pace, delay
from chansock.errors import ChannelClosed, ConnectionLost, PacketError, ReplyError, ReplyTimeout

__all__ = ["AjaxLink", "Posts", "Unsent"]

log = logging.getLogger("chansock.client.ajax")

# Polls in a row without any answer: Sente asks again; a server that is gone never answers.
MAX_UNANSWERED: Final = 2
OUR_TYPE: Final = "application/edn"  # of what chansock's server answers with any packer of text


class _Failed(Exception):
    """A request that ends the link; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class AjaxLink:
    """One Ajax session, from its handshake to its end."""

    type: TransportType = "ajax"

    def __init__(self, attempt: Attempt, settings: Settings, owner: Owner, sender: Sender) -> None:
        self._attempt = attempt
        self._settings = settings
        self._owner = owner
        self._sender = sender
        self._resume = sender.resume
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Reason] = self._loop.create_future()
        self._is_open = False
        self._poller: HttpConnection | None = None
        self._posts = Posts(attempt, settings, sender.resume)
        self._posting: set[asyncio.Task[None]] = set()  # of events from the buffer
        self._asking: asyncio.Task[None] | None = None
        self._pace = Pace(settings.config.max_backoff)
        self._may_poll = asyncio.Event()
        self._may_poll.set()
        self._udt = 0
        self._handshake_udt = 0
        self._has_events = False  # of the last batch that was decoded while it was read
        self._is_ours = False  # chansock serves it; Sente's answers are text/html
        self.is_reached: bool = False

    @property
    def is_opened(self) -> bool:
        """Whether a handshake has come."""
        return self._is_open

    async def run(self) -> Reason:
        """Shake hands, poll until something fails; return the reason of the end."""
        polling = self._loop.create_task(self._poll())
        try:
            await asyncio.wait({polling, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                self._end(polling.result())
            return self._ended.result()
        finally:
            polling.cancel()
            await asyncio.wait({polling})
            self._end(Reason("requested-disconnect"))  # if it was cancelled

    async def shake_hands(self) -> Reason | None:
        """Request one handshake; return why the server refused it, None if it did not.

        A WebSocket that does not open does not say why; an answer to this does.
        """
        try:
            self._read(await self._handshake())
        except _Failed as exc:
            return exc.reason
        finally:
            self._end(Reason("requested-disconnect"))
        return None

    def stop(self, reason: Reason, /) -> None:
        """End it at once; Ajax has no word for goodbye but the dropped poll."""
        self._end(reason)

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """Drop the poll; that is noticed at once, whatever is asked."""
        if self._poller is not None:
            self._poller.close()

    def flush(self) -> bool:
        """POST what the buffer has, a few at a time; return whether all of it is answered."""
        most = self._settings.config.max_posts
        while self._is_open and not self._ended.done() and len(self._posting) < most:
            taken = self._resume.take()
            if taken is None:
                break
            task = self._loop.create_task(self._post(*taken))
            self._posting.add(task)
            task.add_done_callback(self._posted)
        return not self._posting

    def ask_acks(self) -> None:
        """POST a ping: its answer says what the server has handled."""
        if self._is_open and not self._ended.done() and self._asking is None and self._resume.is_on:
            self._asking = self._loop.create_task(self._ping())

    async def _ping(self) -> None:
        packet = self._settings.packer.packet([WS_PING], AJAX)
        try:
            async with asyncio.timeout(self._settings.config.ajax_timeout):
                response = await self._posts.post(lambda: packet, is_numbered=False)
            if response.status == 200:
                self._sender.ack(pong(self._value(response))[1])
        except (OSError, Unsent, ChannelClosed, ReplyError):
            pass  # the client asks again if it has to
        finally:
            self._asking = None

    async def send(self, value: object, timeout: float | None, /) -> object:
        """POST an event to a server that does not resume; with a timeout, return the reply."""
        if self._ended.done():
            raise ChannelClosed(f"the channel is closed ({self._ended.result().kind})")
        packer, cb_id = self._settings.packer, None if timeout is None else AJAX
        limit = self._settings.config.ajax_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                response = await self._posts.post(lambda: packer.packet(value, cb_id))
        except TimeoutError:
            what = "a reply" if timeout is not None else "an answer to the POST"
            raise ReplyTimeout(f"expected {what} within {limit:g} s, got none") from None
        except Unsent as exc:
            self._end(Reason("unexpected", None, f"POST: {exc}"))  # unless it has ended before
            raise ChannelClosed(f"the event was not sent: {exc}") from exc
        except ChannelClosed:
            raise
        except OSError as exc:
            self._end(Reason("unexpected", None, f"POST: {exc}"))  # unless it has ended before
            raise ConnectionLost(
                f"expected an answer to the POST, got {exc} ({self._ended.result()}); "
                "the server may or may not have handled the event"
            ) from exc
        if response.status != 200:
            reason = self._reason(response, was_open=True)
            if response.status in REFUSED:  # this packet alone is at fault
                raise ReplyError(f"expected 200 to the POST, got {reason.code}: {reason.text}")
            self._end(reason)
            raise ChannelClosed(f"expected 200 to the POST, got {reason.code}: {reason.text}")
        return None if timeout is None else self._reply(response)

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on asking for events; the poll that is out is still taken."""
        if on:
            self._may_poll.set()
        else:
            self._may_poll.clear()

    async def gone(self) -> None:
        """Nothing lingers: connections are closed where the link ends."""

    # polls

    async def _poll(self) -> Reason:
        try:
            response = await self._handshake()
            is_first = True
            while True:
                inbound = self._read(response)
                if isinstance(inbound, Events) and not inbound.is_whole:
                    self._deliver(inbound.read_by(self._read_on))
                    await self._may_poll.wait()  # it is read to its end
                    pause = self._pause(has_events=self._has_events)
                    await self._ask_later(pause)
                    response = await self._answer_to_poll()
                    continue
                self._handshake_udt = self._udt  # if it was answered with one
                pause = 0.0 if is_first else self._pause_after(inbound)
                is_first = False
                # The next poll goes out before the events of this one are handled, as Sente's
                # does: what the server sends meanwhile finds it parked. Not if they are too many.
                count = inbound.count if isinstance(inbound, Events) else 0
                is_early = not pause and not self._owner.would_fill(count)
                if is_early:
                    await self._ask(wants_handshake=False, position=_position(inbound))
                self._deliver(inbound)
                if self._ended.done():
                    return self._ended.result()
                if not is_early:
                    await self._ask_later(pause)
                response = await self._answer_to_poll()
        except _Failed as exc:
            return exc.reason

    def _pause_after(self, inbound: Inbound) -> float:
        has_events = isinstance(inbound, Events) and any(map(is_event, inbound.items))
        return self._pause(has_events=has_events)

    def _pause(self, *, has_events: bool) -> float:
        return self._pace.answered(self._loop.time(), has_events=has_events)

    async def _ask_later(self, pause: float) -> None:
        await asyncio.sleep(pause)
        await self._may_poll.wait()
        await self._ask(wants_handshake=False)

    async def _handshake(self) -> Response:
        try:
            async with asyncio.timeout(self._settings.config.connect_timeout):
                await self._ask(wants_handshake=True)
                return await self._answer()
        except TimeoutError:
            raise _Failed(Reason("not-opened", None, "connect time-out")) from None

    async def _answer_to_poll(self) -> Response:
        """Wait for the poll's response; ask again if none comes (Sente's rule), but not forever."""
        limit = self._settings.config.ajax_timeout
        for attempt in range(MAX_UNANSWERED):
            if attempt:
                await self._ask(wants_handshake=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    return await self._answer()
        text = f"expected an answer to a poll, got none to {MAX_UNANSWERED} in {limit:g} s each"
        raise _Failed(Reason("unexpected", None, text))

    async def _ask(self, *, wants_handshake: bool, position: str | None = None) -> None:
        """Write a poll; `position`: of what came and is not passed on yet."""
        # Milliseconds, but never the same twice: by it the server knows the POSTs of one session.
        self._udt = max(int(time.time() * 1000), self._udt + 1)
        try:
            if self._poller is None or not self._poller.is_usable:
                if self._poller is not None:
                    self._poller.close()
                self._poller = await HttpConnection.open(
                    self._attempt.address,
                    self._attempt.proxy,
                    self._settings.ssl,
                    self._settings.config.max_message_bytes,
                )
            self.is_reached = True
            self._pace.asked(self._loop.time())
            resume = self._resume
            more = resume.handshake_fields() if wants_handshake else resume.poll_fields(position)
            self._poller.write(
                self._attempt.get(self._udt, wants_handshake=wants_handshake, more=more)
            )
        except OSError as exc:
            raise _Failed(error_reason(exc, was_open=self._is_open)) from exc

    async def _answer(self) -> Response:
        assert self._poller is not None  # _ask went before
        try:
            response = await self._poller.read()
        except OSError as exc:
            raise _Failed(error_reason(exc, was_open=self._is_open)) from exc
        self._attempt.keep_cookies(response.getall("set-cookie"))
        self._is_ours = any(v.startswith(OUR_TYPE) for v in response.getall("content-type"))
        if response.status != 200:
            raise _Failed(self._reason(response, was_open=self._is_open))
        return response

    def _read(self, response: Response) -> Inbound:
        try:
            inbound = unpack(self._settings.packer, response.body)
        except PacketError as exc:
            raise _Failed(self._unreadable(exc)) from exc
        if not self._is_open and not isinstance(inbound, Handshake):
            raise _Failed(Reason("not-opened", None, "expected a handshake, got another packet"))
        return inbound

    def _unreadable(self, exc: PacketError) -> Reason:
        self._resume.lose_position()
        self._settings.log_limit.warning(log, "bad_packet transport=ajax %s", exc)
        text = f"cannot read a packet: {exc}"[:200]
        return error_reason(PacketError(text), was_open=self._is_open)

    def _read_on(self, items: Iterable[object]) -> Iterator[object]:
        """Yield the items of a batch that is decoded meanwhile; end the link at a fault."""
        self._has_events = False
        try:
            for item in items:
                self._has_events = self._has_events or is_event(item)
                yield item
        except PacketError as exc:
            self._end(self._unreadable(exc))

    def _deliver(self, inbound: Inbound) -> None:
        if isinstance(inbound, Handshake):
            self._is_open = True
            self._cancel_posts()
            self._posts.begin(self._handshake_udt, is_ours=self._is_ours)
            self._owner.opened(self, inbound)
        else:
            self._owner.received(self, inbound)

    def _reason(self, response: Response, *, was_open: bool) -> Reason:
        return http_reason(
            response.status,
            said(response.body),
            was_open=was_open,
            retry_after=response.retry_after,
        )

    def _reply(self, response: Response) -> object:
        value = self._value(response)
        if (error := reply_error(value)) is not None:
            raise error
        return value

    def _value(self, response: Response) -> object:
        if not response.body:
            raise ReplyError("expected a reply, got an empty body")
        try:
            value, _ = self._settings.packer.unpack(memoryview(response.body))
        except PacketError as exc:
            raise ReplyError(str(exc)) from exc
        return value

    # POSTs of events from the buffer

    async def _post(self, number: int, packet: bytes, *, is_refused: bool = False) -> None:
        """POST an event until the server has it; end the link if it does not answer."""
        pending, limit = self._sender.pending, self._settings.config.ajax_timeout
        cb_id = self._resume.callback_of(number)
        reply = None if cb_id is None else pending.get(cb_id)
        post = _Post(number)
        try:
            # A reply has its own time-out. Without it nobody needs the connection any more.
            async with asyncio.timeout(limit if reply is None else None) as post.limit:
                if reply is not None:
                    task = asyncio.current_task()
                    reply.add_done_callback(lambda _: self._give_up(post, task))
                response = await self._posts.post(lambda: packet, post)
        except asyncio.CancelledError:
            if post.is_given_up:
                return
            raise
        except TimeoutError:
            text = f"expected an answer to a POST within {limit:g} s, got none"
            self._end(Reason("unexpected", None, text))
            return
        except (OSError, Unsent) as exc:
            self._end(Reason("unexpected", None, f"POST: {exc}"))
            return
        finally:
            post.is_over = True
        if response.status == BUSY:
            self._end(Reason("unexpected", None, "the POST before one may not have arrived"))
        elif response.status in REFUSED and not is_refused:
            # This packet alone is at fault; another one takes its number.
            instead = self._sender.refuse(number, f"{response.status}: {said(response.body)}")
            if self._resume.is_on:
                await self._post(number, instead, is_refused=True)
        elif response.status != 200:
            self._end(self._reason(response, was_open=True))
        else:
            self._take_answer(number, cb_id, response)

    def _take_answer(self, number: int, cb_id: str | None, response: Response) -> None:
        self._sender.written(number)
        if cb_id is not None:
            try:
                value = self._value(response)
            except ReplyError as exc:
                self._sender.pending.fail_one(cb_id, exc)
                return
            self._sender.pending.answer(cb_id, value)
            if number == self._resume.acked + 1 and not is_keyword(value, TIMEOUT):
                self._sender.ack(number)  # its handler is done, and so are those before it

    def _give_up(self, post: _Post, task: asyncio.Task[Any] | None) -> None:
        """Free the place of a POST whose reply nobody waits for any more."""
        if post.is_over or task is None or post.limit is None:
            return
        if post.is_written:
            post.is_given_up = True
            self._posts.given_up.add(post.number)
            task.cancel()
        else:
            limit = self._settings.config.ajax_timeout
            post.limit.reschedule(self._loop.time() + limit)

    def _posted(self, task: asyncio.Task[None]) -> None:
        self._posting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._settings.log_limit.error(log, "post_failed %r", error)
            self._end(Reason("unexpected", None, "internal error"))
        self.flush()

    def _cancel_posts(self) -> None:
        posting, self._posting = self._posting, set()
        if self._asking is not None:
            posting.add(self._asking)
        for task in posting - {asyncio.current_task()}:
            task.cancel()

    def _end(self, reason: Reason) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
            if self._resume.is_on is False:
                self._sender.pending.fail(ConnectionLost(LOST.format(reason)))
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        self._posts.close()
        self._cancel_posts()


def _position(inbound: Inbound) -> str | None:
    """Return the position that a packet brings."""
    if isinstance(inbound, Handshake):
        return None if inbound.resumption is None else inbound.resumption.position
    return inbound.position if isinstance(inbound, Events) else None


# -- POSTs: a few at a time, numbered in the order of `send`
#
# A server that knows the field `n` (`<udt of the handshake>-<1, 2, 3 ...>`) handles them in that
# order, whatever connection brings which first; Sente's ignores it.

BUSY: Final = 503  # nothing of the POST was taken: it is sent again with the same number
REFUSED: Final = frozenset({400, 413})
LOST: Final = (
    "expected a reply, got the end of the connection ({}); "
    "the server may or may not have handled the event"
)


@dataclass(slots=True, eq=False)
class _Post:
    """The POST of one event from the buffer."""

    number: int
    limit: asyncio.Timeout | None = None  # of its answer
    is_written: bool = False
    is_given_up: bool = False  # nobody waits for its reply
    is_over: bool = False


class Unsent(Exception):
    """No connection could be opened for a POST; says why."""


class Posts:
    """Sends POSTs on at most `max_posts` connections; the rest waits, first come first served.

    What waits is not encoded yet, and is not sent if its caller is cancelled or times out.
    """

    def __init__(self, attempt: Attempt, settings: Settings, resume: Resume) -> None:
        self._attempt = attempt
        self._settings = settings
        self._resume = resume
        self.given_up: set[int] = set()  # numbers whose answers nobody waits for: may be missing
        self._session_udt = 0
        self._is_ours = False
        self._count = 0
        self._slots = asyncio.Semaphore(settings.config.max_posts)
        self._order = asyncio.Lock()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._refused: list[int] = []  # numbers that got 503
        self._changed = asyncio.Event()  # of `_refused`; a new one after each change
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, udt: int, *, is_ours: bool) -> None:
        """Count from 1 again: the GET with this udt was answered with a handshake.

        `is_ours`: by chansock's server, which takes a packet of text as a body. Sente's takes
        forms alone, in which three bytes stand for each byte of most text.
        """
        self._session_udt = udt
        self._is_ours = is_ours
        self._count = 0

    async def post(
        self,
        encode: Callable[[], bytes],
        post: _Post | None = None,
        *,
        is_numbered: bool = True,
    ) -> Response:
        """Send the packet that encode() returns; return the response.

        `post`: of an event from the buffer, which has its number if the server resumes. The
        response is 503 only if an event before this one was given up, and may be missing; or if
        it has no number, and so no turn.

        Raises ChannelClosed if the session ends first, Unsent if no connection can be opened, and
        OSError if one breaks.
        """
        async with self._slots:
            async with self._order:
                # One that got 503 comes first: those behind it would only wait for it there.
                while self._refused and not self._closed.done():
                    await self._changed.wait()
                packet = encode()
                connection = await self._connection()
                udt = self._session_udt
                if post is not None:
                    post.is_written = True
                count = 0
                if post is not None and self._resume.is_on:
                    count = post.number
                    self._resume.mark_sent(count)
                elif is_numbered:
                    self._count += 1
                    count = self._count
                self._write(connection, udt, count, packet)
            response = await self._answer(connection)
            if response.status == BUSY and count and not self._is_behind_gap(count):
                response = await self._post_again(udt, count, packet)
            return response

    def close(self) -> None:
        """End all that is under way; idempotent."""
        if not self._closed.done():
            self._closed.set_result(None)
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        self._notify()

    async def _post_again(self, udt: int, count: int, packet: bytes) -> Response:
        self._refused.append(count)
        try:
            tries = 0
            while True:
                await asyncio.wait({self._closed}, timeout=delay(tries, random.random()))
                while count != min(self._refused) and not self._closed.done():
                    await self._changed.wait()
                connection = await self._connection()
                self._write(connection, udt, count, packet)
                response = await self._answer(connection)
                if response.status != BUSY or self._is_behind_gap(count):
                    return response
                tries += 1
        finally:
            self._refused.remove(count)
            self._notify()

    def _is_behind_gap(self, count: int) -> bool:
        acked = self._resume.acked
        return any(acked < number < count for number in self.given_up)

    async def _connection(self) -> HttpConnection:
        """Take an idle connection, or open one."""
        if self._closed.done():
            raise ChannelClosed("the channel closed before this was sent")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        settings = self._settings
        try:
            connection = await HttpConnection.open(
                self._attempt.address,
                self._attempt.proxy,
                settings.ssl,
                settings.config.max_message_bytes,
            )
        except OSError as exc:
            raise Unsent(exc) from exc
        if self._closed.done():
            connection.close()
            raise ChannelClosed("the channel closed before this was sent")
        return connection

    def _write(self, connection: HttpConnection, udt: int, count: int, packet: bytes) -> None:
        now, text_type = int(time.time() * 1000), self._settings.text_type
        number = [("n", f"{udt}-{count}")] if count else []
        more = [*number, *self._resume.wait_fields()]
        if self._settings.packer.binary:
            request = self._attempt.post_body(now, packet, more=more)
        elif self._is_ours and text_type is not None:
            request = self._attempt.post_body(now, packet, text_type, more)
        else:
            request = self._attempt.post_form(now, packet, more)
        connection.write(request)
        self._busy.add(connection)

    async def _answer(self, connection: HttpConnection) -> Response:
        try:
            response = await connection.read()
        finally:
            self._busy.discard(connection)
        self._attempt.keep_cookies(response.getall("set-cookie"))
        if connection.is_usable and not self._closed.done():
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
