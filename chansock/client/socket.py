"""The WebSocket half of the client: one link is one WebSocket, from connecting to its end.

How bytes become frames is in `websocket`, what their messages mean in `packets`. No backoff and no
second attempt here. The file is past 400 lines because opening, writing, and ending share one
state.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import socket
import ssl as ssl_module
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from chansock._core import wire
from chansock.client.attempt import Attempt
from chansock.client.dial import dial, hand_over
from chansock.client.packets import Events, Handshake, Ping, Reply, pong, unpack
from chansock.client.resume import Sender
from chansock.client.state import (
    Owner,
    Reason,
    ReasonKind,
    Settings,
    TransportType,
    WsClose,
    WsError,
    close_reason,
    error_reason,
    http_reason,
    said,
)
from chansock.client.timing import Pinger
from chansock.client.websocket import BINARY, PONG, TEXT, BadUpgrade, Gate, Refused, WebSocket
from chansock.errors import ChannelClosed, ConnectionLost, FrameError, PacketError, ReplyTimeout
from chansock.values import Keyword, short_repr

__all__ = ["WsLink"]

log = logging.getLogger("chansock.client.socket")

NORMAL: Final = 1000
TOO_BIG: Final = 1009
UNREADABLE: Final = 1007  # RFC 6455 section 7.4.1: a message that is not what it should be
NO_CODE: Final = 1005  # RFC 6455 section 7.4.1: the close frame had none
NO_CLOSING_HANDSHAKE: Final = 1006  # RFC 6455 section 7.1.5
BROKEN: Final = "the socket does not take what is sent"


class WsLink:
    """One WebSocket, from connecting to its end."""

    type: TransportType = "ws"

    def __init__(self, attempt: Attempt, settings: Settings, owner: Owner, sender: Sender) -> None:
        self._attempt = attempt
        self._settings = settings
        self._owner = owner
        self._sender = sender
        self._resume = sender.resume
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Reason] = self._loop.create_future()
        self._handshaken: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] | None = None  # done once the socket is gone
        self._ws: WebSocket | None = None  # once it is upgraded
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None  # of the closing handshake
        self._pending = sender.pending
        self._pinger = Pinger(
            settings.config.ws_ping_interval,
            settings.config.ws_ping_timeout,
            self._pending,
            self._ping,
            self._is_pong,
            self._unanswered,
        )
        self._kind = BINARY if settings.packer.binary else TEXT
        self._gate = Gate()
        self._late_pong: bytes | None = None  # the payload of a ping that came without room
        self._is_broken = False  # by break_off, and nothing noticed it yet
        self.is_reached: bool = False
        self.has_bad_upgrade: bool = False  # the server said 101, but not to us
        self.closed: WsClose | None = None  # how the socket ended, once it has
        self.error: WsError | None = None

    async def run(self) -> Reason:
        """Connect, wait for the handshake message, live; return the reason of the end."""
        opening = self._loop.create_task(self._open())
        try:
            waits: set[asyncio.Future[Any]] = {opening, self._ended}
            limit = self._settings.config.connect_timeout
            await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                self.stop(Reason("not-opened", None, "connect time-out"))
                await self._give_up(opening)
            elif (error := opening.exception()) is not None:
                self.has_bad_upgrade = isinstance(error, BadUpgrade)
                self._end(_why_not(error))
                await self._give_up(opening)
            return await self._ended
        finally:
            if not opening.done():
                await self._give_up(opening)
            self.stop(Reason("requested-disconnect"))  # if it was cancelled

    def stop(self, reason: Reason, /) -> None:
        """End it: a close frame with 1000, then at most close_timeout for the server's."""
        if not self._ended.done():
            self._end(reason)
            self._say_close(NORMAL, "CLOSE_NORMAL")

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """Close as Sente's test helper does. Not noticed: only a send or a ping will find out."""
        self._is_broken = not is_noticed
        self._say_close(code, "CLOSE_ABNORMAL")

    def flush(self) -> bool:
        """Write what the buffer has, while there is room; return whether that is all of it."""
        resume = self._resume
        ws = self._ws
        if ws is None or resume.taken == resume.last:
            return True
        if self._is_broken:
            self._end(Reason("ws-error", None, BROKEN))
        while resume.taken < resume.last:
            if not self._gate.has_room or not ws.can_send or self._ended.done():
                return False
            ws.write(self._kind, resume.take_now())
            if self._sender.unwritten:
                self._sender.written(resume.taken)
        return True

    def ask_acks(self) -> None:
        """Ping: the pong says what the server has handled."""
        if self._gate.has_room and self._resume.is_on:
            cb_id, answer = self._pending.new(self._settings.config.ws_ping_timeout)
            answer.add_done_callback(self._ponged)
            self._ping(cb_id)

    async def send(self, value: object, timeout: float | None, /) -> object:
        """Send an event to a server that does not resume; with a timeout, return the reply."""
        packer = self._settings.packer
        ws = self._open_ws()
        if timeout is None:
            turn = self._gate.enter()
            if turn is None:
                ws.write(self._kind, packer.packet(value, None))
                return None
            try:
                await turn
                self._open_ws().write(self._kind, packer.packet(value, None))
            finally:
                self._gate.leave(turn)
            return None
        cb_id, reply = self._pending.new(timeout)
        try:
            turn = self._gate.enter()
            if turn is None:
                ws.write(self._kind, packer.packet(value, cb_id))
                return await reply
            try:
                # The time-out of the reply runs while the event waits for its turn, too.
                waits: set[asyncio.Future[Any]] = {turn, reply}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if turn.done():
                    turn.result()
                if reply.done():
                    raise ReplyTimeout(
                        f"expected room to send within {timeout:g} s, got none; the event was "
                        "not sent"
                    )
                self._open_ws().write(self._kind, packer.packet(value, cb_id))
            finally:
                self._gate.leave(turn)
            return await reply
        finally:
            if not reply.cancel() and not reply.cancelled():
                reply.exception()  # asyncio logs an exception that nobody has looked at

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on reading."""
        self._pinger.is_reading = on
        if self._ws is not None and not self._ended.done():
            self._ws.set_reading(on)

    @property
    def is_opened(self) -> bool:
        """Whether the handshake message has come."""
        return self._handshaken.done() and not self._handshaken.cancelled()

    async def gone(self) -> None:
        """Wait until the socket is closed."""
        if self._lost is not None:
            try:
                await asyncio.wait({self._lost})
            except asyncio.CancelledError:
                self._abort()
                raise

    # connecting

    async def _open(self) -> None:
        attempt, config = self._attempt, self._settings.config
        address = attempt.address
        tls, name = None, None
        if address.is_secure:
            tls, name = self._settings.ssl or ssl_module.create_default_context(), address.host
        # The socket is kept, to end it if the attempt is given up.
        self._socket = sock = await dial(address.host, address.port, attempt.proxy)
        self.is_reached = True
        key = base64.b64encode(os.urandom(16)).decode()
        ws = WebSocket(
            self,
            attempt.upgrade(key, self._resume.handshake_fields()),
            key,
            self._pinger.heard,
            max_message_bytes=config.max_message_bytes,
            max_empty_fragments=config.max_empty_fragments,
            max_backlog_bytes=config.max_backlog_bytes,
        )
        await hand_over(sock, lambda: ws, tls, name)
        await ws.answered
        await self._handshaken

    async def _give_up(self, opening: asyncio.Task[None]) -> None:
        opening.cancel()
        await asyncio.wait({opening})
        if not opening.cancelled():
            opening.exception()  # seen
        if self._ws is None and self._socket is not None and self._socket.fileno() != -1:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # the transport sees the end and closes

    # what the WebSocket calls

    def upgraded(self, ws: WebSocket, cookies: Sequence[str], /) -> None:
        """The 101 has come; nothing is open before the handshake message."""
        self._ws = ws
        self._lost = self._loop.create_future()
        self._attempt.keep_cookies(list(cookies))
        if self._ended.done():
            self._say_close(NORMAL, "CLOSE_NORMAL")
        else:
            ws.set_reading(self._pinger.is_reading)

    def ping(self, payload: bytes, /) -> None:
        """Answer a ping; without room only the last one, later (RFC 6455 section 5.5.3)."""
        if self._ended.done() or self._is_broken:
            return
        if self._gate.has_room and self._ws is not None:
            self._ws.send(PONG, payload)
        else:
            self._late_pong = payload

    def close_received(self, code: int, reason: str, /) -> None:
        """Answer the server's close frame with its code, and close the socket."""
        self._note_close(code, reason)
        if code == TOO_BIG and not self._ended.done():
            self._sender.has_too_big = True
        if not self._is_broken:
            self._end(close_reason(code, reason, was_open=self.is_opened))
        self._say_close(code, "")
        if self._ws is not None:
            self._ws.end()

    def failed(self, exc: FrameError, /) -> None:
        """End the link because the server broke the protocol."""
        if self._ended.done():
            return
        self._settings.log_limit.warning(log, "ws_frame_error %s", exc)
        self.error = WsError(time.time(), exc.message)
        self._end(Reason(self._kind_of_break(), exc.close_code, exc.message))
        self._say_close(exc.close_code, "")

    def set_room(self, on: bool, /) -> None:
        """Hold back what is sent while the transport's own buffer is full."""
        self._gate.set_room(on)
        if on and self.is_opened:
            self.flush()
        if on and self._late_pong is not None:
            payload, self._late_pong = self._late_pong, None
            if self._ws is not None:
                self._ws.send(PONG, payload)

    def lost(self) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._note_close(NO_CLOSING_HANDSHAKE, "", is_clean=False)
        if not self._is_broken:
            text = "connection lost without a closing handshake"
            self._end(close_reason(NO_CLOSING_HANDSHAKE, text, was_open=self.is_opened))
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def message(self, payload: bytes, /) -> None:
        """Take one message: a packet."""
        if self._ended.done() or self._is_broken:
            return
        try:
            inbound = unpack(self._settings.packer, payload)
        except PacketError as exc:
            self._unreadable(exc)
            return
        if isinstance(inbound, Handshake):
            self._shake_hands(inbound)
        elif not self.is_opened:
            text = "packet_before_handshake transport=ws kind=%s"
            self._settings.log_limit.warning(log, text, type(inbound).__name__)
        elif isinstance(inbound, Ping):
            # Without room there are packets of ours that the server has not read yet. They show
            # that we are alive; a server that never reads could else make pongs pile up.
            if self._gate.has_room:
                self._write_count(wire.WS_PONG, None)
            self._owner.received(self, inbound)
        elif isinstance(inbound, Reply):
            if not self._pending.answer(inbound.cb_id, inbound.value):
                cb_id = short_repr(inbound.cb_id)
                self._settings.log_limit.debug(log, "unknown_reply cb_id=%s", cb_id)
        elif isinstance(inbound, Events) and not inbound.is_whole:
            self._owner.received(self, inbound.read_by(self._read_on))
        else:
            self._owner.received(self, inbound)

    def _read_on(self, items: Iterable[object]) -> Iterator[object]:
        """Yield the items of a batch that is decoded meanwhile; end the link at a fault."""
        try:
            yield from items
        except PacketError as exc:
            self._unreadable(exc)

    def _shake_hands(self, handshake: Handshake) -> None:
        if not self.is_opened:
            self._handshaken.set_result(None)
            self._pinger.start()
        self._owner.opened(self, handshake)

    # writing

    def _open_ws(self) -> WebSocket:
        """Return the WebSocket to write an event to. Raises ChannelClosed if it is closed."""
        if self._is_broken:
            self._end(Reason("ws-error", None, BROKEN))
        if self._ended.done() or self._ws is None or not self._ws.can_send:
            why = self._ended.result().kind if self._ended.done() else "closing"
            raise ChannelClosed(f"expected an open channel, got one that is closed ({why})")
        return self._ws

    def _write(self, packet: bytes) -> None:
        if self._ws is not None:
            self._ws.send(self._kind, packet)

    def _ping(self, cb_id: str | None) -> None:
        if cb_id is not None or self._gate.has_room:
            self._write_count(wire.WS_PING, cb_id)

    def _write_count(self, name: Keyword, cb_id: str | None) -> None:
        """Write a ping or a pong; a server that resumes gets `[s w]` with it."""
        event = [name, self._resume.counts()] if self._resume.is_on else [name]
        self._write(self._settings.packer.packet(event, cb_id))

    def _is_pong(self, value: object) -> bool:
        """Return whether a reply is a pong, and take the acknowledgment in it."""
        word, handled = pong(value) if self._resume.is_on else (value, None)
        self._sender.ack(handled)
        return type(word) is str and word == wire.PONG  # a keyword :pong would be equal

    def _ponged(self, answer: asyncio.Future[object]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._is_pong(answer.result())

    # the end

    def _unanswered(self, text: str) -> None:
        if not self._ended.done():
            self._end(Reason("ws-ping-timeout", None, text))
            self._say_close(NORMAL, "")

    def _unreadable(self, exc: PacketError) -> None:
        """End the link: what the packet carried is lost, be it events or a reply."""
        self._resume.lose_position()
        self._settings.log_limit.warning(log, "bad_packet transport=ws %s", exc)
        text = f"cannot read a packet: {exc}"[:200]
        self._end(Reason(self._kind_of_break(), UNREADABLE, text))
        self._say_close(UNREADABLE, "a packet that cannot be read")

    def _end(self, reason: Reason) -> None:
        """Note the reason of the end, once, and end every wait."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        if self._ws is None and reason.kind in ("not-opened", "refused"):
            self.error = WsError(time.time(), str(reason))
            self._note_close(NO_CLOSING_HANDSHAKE, "", is_clean=False)
        self._pinger.stop()
        if self._ws is not None:
            self._ws.set_reading(True)  # to see the end of the socket
        why = f"the channel closed before this was sent ({reason.kind})"
        self._gate.fail(ChannelClosed(why))
        if self._resume.is_on is not False:
            return  # what waits for a reply gets it over the next connection
        self._pending.fail(
            ConnectionLost(
                f"expected a reply, got the end of the connection ({reason}); "
                "the server may or may not have handled the event"
            )
        )

    def _note_close(self, code: int, text: str, *, is_clean: bool = True) -> None:
        if self.closed is None:
            self.closed = WsClose(time.time(), code, text, is_clean)

    def _say_close(self, code: int, reason: str) -> None:
        """Send a close frame, and wait close_timeout at most for the server's."""
        if self._ws is not None:
            self._ws.send_close(code, reason)
            if self._timer is None and self._lost is not None and not self._lost.done():
                limit = self._settings.config.close_timeout
                self._timer = self._loop.call_later(limit, self._abort)

    def _abort(self) -> None:
        if self._ws is not None:
            self._ws.abort()

    def _kind_of_break(self) -> ReasonKind:
        return "unexpected" if self.is_opened else "not-opened"


def _why_not(exc: BaseException) -> Reason:
    """Name the reason of a WebSocket that did not open."""
    if isinstance(exc, Refused):
        response = exc.response
        return http_reason(
            response.status,
            said(response.body),
            was_open=False,
            retry_after=response.retry_after,
        )
    return error_reason(exc, was_open=False)
