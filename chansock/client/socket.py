"""The WebSocket half of the client, on picows, which is imported here alone.

picows hands out frames; what they mean together is decided by `joiner`, what their messages
mean by `packets`. No backoff and no second attempt here: one link is one socket. The file is
past 400 lines because opening, reading, and closing share one state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from typing import Any, Final, cast

import picows

from chansock._core import wire
from chansock.client.address import Attempt
from chansock.client.backlog import Backlog
from chansock.client.dial import dial
from chansock.client.joiner import CLOSE, PING, PONG, Joiner, read_close
from chansock.client.link import Owner, Settings
from chansock.client.packets import Handshake, Ping, Reply, read_packet
from chansock.client.pending import Pending
from chansock.client.pinger import Pinger
from chansock.client.state import (
    Reason,
    ReasonKind,
    TransportType,
    WsClose,
    WsError,
    close_reason,
    http_reason,
    said,
)
from chansock.errors import ChannelClosed, FrameError, PacketError
from chansock.values import short_repr

__all__ = ["WsLink"]

log = logging.getLogger("chansock.client.socket")
# picows logs whole upgrade requests, tokens and cookies in them; what it finds wrong is told here.
_picows_log = logging.getLogger("chansock.client.picows")
_picows_log.setLevel(logging.CRITICAL)

READ_BUFFER: Final = 16 * 1024  # grows to what comes
UNREADABLE: Final = 1007  # RFC 6455 section 7.4.1: a message that is not what it should be
NO_CLOSING_HANDSHAKE: Final = 1006  # RFC 6455 section 7.1.5
_TEXT: Final = picows.WSMsgType.TEXT
_BINARY: Final = picows.WSMsgType.BINARY


class _Listener(picows.WSListener):
    """Passes picows' callbacks on. A frame is a pointer into the read buffer: copied here."""

    def __init__(self, link: WsLink) -> None:
        self._link = link

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._link.connected(transport)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._link.fail(FrameError("expected reserved bits to be 0, got others"))
        else:
            self._link.frame(
                int(cast(int, frame.msg_type)), frame.fin, frame.get_payload_as_bytes()
            )

    def pause_writing(self) -> None:
        self._link.can_write(False)

    def resume_writing(self) -> None:
        self._link.can_write(True)


class WsLink:
    """One WebSocket, from connecting to its end."""

    type: TransportType = "ws"

    def __init__(
        self, attempt: Attempt, settings: Settings, owner: Owner, pending: Pending
    ) -> None:
        self._attempt = attempt
        self._settings = settings
        self._owner = owner
        self._pending = pending
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Reason] = self._loop.create_future()
        self._handshaken: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Task[None] | None = None  # done once the socket is gone
        self._transport: picows.WSTransport | None = None
        self._socket: socket.socket | None = None
        self._joiner = Joiner(settings.max_message_bytes)
        self._pinger = Pinger(
            settings.ws_ping_interval,
            settings.ws_ping_timeout,
            pending,
            lambda cb_id: self._write(settings.packer.packet([wire.WS_PING], cb_id)),
            self._unanswered,
        )
        self._backlog = Backlog(self._write)
        self._late_pong: bytes | None = None  # the payload of a ping that came without room
        self._is_broken = False  # by break_off, and nothing noticed it yet
        self.is_reached = False
        self.closed: WsClose | None = None  # how the socket ended, once it has
        self.error: WsError | None = None

    async def run(self) -> Reason:
        """Connect, wait for the handshake message, live; give the reason of the end."""
        opening = self._loop.create_task(self._open())
        try:
            waits: set[asyncio.Future[Any]] = {opening, self._ended}
            limit = self._settings.connect_timeout
            await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                self.stop(Reason("not-opened", None, "connect time-out"))
                await self._give_up(opening)
            elif (error := opening.exception()) is not None:
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
            self._say_close(1000, b"CLOSE_NORMAL")

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """Close as Sente's test helper does. Not noticed: only a send or a ping will find out."""
        self._is_broken = not is_noticed
        self._say_close(code, b"CLOSE_ABNORMAL")

    async def send(self, value: object, timeout: float | None, /) -> object:
        """Send an event; with a timeout, wait for the reply to it."""
        packer = self._settings.packer
        if timeout is None:
            room = self._write_in_turn(packer.packet(value, None))
            if room is not None:
                await room
            return None
        cb_id, reply = self._pending.new(timeout)
        try:
            room = self._write_in_turn(packer.packet(value, cb_id))
            if room is not None:
                # The time-out of the reply runs while the packet waits for room, too.
                waits: set[asyncio.Future[Any]] = {room, reply}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if room.done():
                    room.result()
                room.cancel()
            return await reply
        finally:
            reply.cancel()

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on reading. Frames already read still come: one read buffer at most."""
        if on == self._pinger.is_reading:
            return
        self._pinger.is_reading = on
        if self._transport is not None and not self._ended.done():
            under = self._transport.underlying_transport
            under.resume_reading() if on else under.pause_reading()

    @property
    def is_opened(self) -> bool:
        """Whether the handshake message has come."""
        return self._handshaken.done() and not self._handshaken.cancelled()

    async def gone(self) -> None:
        """Wait until the socket is closed."""
        if self._lost is not None:
            await asyncio.wait({self._lost})

    # connecting

    async def _open(self) -> None:
        transport, listener = await picows.ws_connect(
            lambda: _Listener(self),
            self._attempt.ws_url(),
            ssl_context=self._settings.ssl,
            websocket_handshake_timeout=None,
            logger_name=_picows_log,
            enable_auto_pong=False,
            max_frame_size=self._settings.max_message_bytes,
            extra_headers=self._attempt.ws_headers(),
            max_redirects=0,  # credentials go nowhere but where the application said
            read_buffer_init_size=READ_BUFFER,
            socket_factory=self._connect,
        )
        # The type says otherwise, but picows gives none if the server hung up instead of a 101.
        if cast(object, listener) is None or cast(object, transport) is None:
            raise ConnectionError("connection closed instead of an answer to the upgrade")
        await self._handshaken

    async def _connect(self, _: object) -> socket.socket:
        # The socket is kept, to end it if the attempt is given up: picows would leave it open.
        address = self._attempt.address
        self._socket = await dial(address.host, address.port)
        self.is_reached = True
        return self._socket

    async def _give_up(self, opening: asyncio.Task[None]) -> None:
        opening.cancel()
        await asyncio.wait({opening})
        if not opening.cancelled():
            opening.exception()  # seen
        if self._transport is None and self._socket is not None and self._socket.fileno() != -1:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # the transport sees the end and closes

    # picows' callbacks

    def connected(self, transport: picows.WSTransport) -> None:
        """The 101 has come; nothing is open before the handshake message."""
        self._transport = transport
        self._attempt.keep_cookies(transport.response.headers.getall("Set-Cookie", []))
        self._lost = self._loop.create_task(self._until_lost(transport))
        if self._ended.done():
            self._say_close(1000, b"CLOSE_NORMAL")
        elif not self._pinger.is_reading:
            transport.underlying_transport.pause_reading()

    def frame(self, opcode: int, is_last: bool, payload: bytes) -> None:
        """Take one frame."""
        if self._ended.done() or self._is_broken:
            if opcode == CLOSE:
                with contextlib.suppress(FrameError):
                    self._note_close(*read_close(payload))
                self._disconnect()
            return
        self._pinger.moved()
        try:
            if opcode == PING:
                self._pong(payload)
            elif opcode == CLOSE:
                self._closed_by_peer(payload)
            elif opcode != PONG:
                message = self._joiner.feed(opcode, is_last, payload)
                if message is not None:
                    self._message(message)
        except FrameError as exc:
            self.fail(exc)

    def fail(self, exc: FrameError) -> None:
        """End the link because the server broke the protocol."""
        if self._ended.done():
            return
        self._settings.log_limit.warning(log, "ws_frame_error %s", exc)
        self.error = WsError(time.time(), exc.message)
        self._end(Reason(self._kind_of_break(), exc.close_code, exc.message))
        self._say_close(exc.close_code, b"")

    def _unreadable(self, exc: PacketError) -> None:
        """End the link: what the packet carried is lost, be it events or a reply."""
        self._settings.log_limit.warning(log, "bad_packet transport=ws %s", exc)
        reason = Reason(self._kind_of_break(), UNREADABLE, f"cannot read a packet: {exc}"[:200])
        self._end(reason)
        self._pending.fail(ChannelClosed(f"the channel closed before a reply came ({reason})"))
        self._say_close(UNREADABLE, b"a packet that cannot be read")

    def can_write(self, on: bool) -> None:
        """Hold back what is sent while the transport's own buffer is full."""
        self._backlog.set_room(on)
        if on and self._late_pong is not None and not self._ended.done():
            payload, self._late_pong = self._late_pong, None
            self._pong(payload)

    # messages

    def _message(self, message: bytes) -> None:
        try:
            value, cb_id = self._settings.packer.unpack(memoryview(message))
        except PacketError as exc:
            self._unreadable(exc)
            return
        inbound = read_packet(value, cb_id)
        if isinstance(inbound, Handshake):
            self._shake_hands(inbound)
        elif not self.is_opened:
            text = "packet_before_handshake transport=ws kind=%s"
            self._settings.log_limit.warning(log, text, type(inbound).__name__)
        elif isinstance(inbound, Ping):
            # Without room there are packets of ours that the server has not read yet. They show
            # that we are alive; a server that never reads could else make pongs pile up.
            if self._backlog.has_room:
                self._write(self._settings.packer.packet([wire.WS_PONG], None))
            self._owner.received(self, inbound)
        elif isinstance(inbound, Reply):
            if not self._pending.answer(inbound.cb_id, inbound.value):
                cb_id = short_repr(inbound.cb_id)
                self._settings.log_limit.debug(log, "unknown_reply cb_id=%s", cb_id)
        else:
            self._owner.received(self, inbound)

    def _shake_hands(self, handshake: Handshake) -> None:
        is_first = not self.is_opened
        if is_first:
            self._handshaken.set_result(None)
            self._pinger.start()
        self._owner.opened(self, handshake)

    # writing

    def _pong(self, payload: bytes) -> None:
        """Answer a ping; without room only the last one, later (RFC 6455 section 5.5.3)."""
        if self._backlog.has_room:
            self._transport_now().send_pong(payload)
        else:
            self._late_pong = payload

    def _write_in_turn(self, packet: bytes) -> asyncio.Future[None] | None:
        """Write, or queue behind what waits for room: then the future is done once it is written.

        Raises ChannelClosed if the link has ended; so does the future if it ends before.
        """
        transport = self._transport
        if self._is_broken:
            self._end(Reason("ws-error", None, "the socket does not take what is sent"))
        if self._ended.done() or transport is None or transport.is_close_frame_sent:
            why = self._ended.result().kind if self._ended.done() else "closing"
            raise ChannelClosed(f"expected an open channel, got one that is closed ({why})")
        return self._backlog.send(packet)

    def _write(self, packet: bytes) -> None:
        if self._transport is not None:
            kind = _BINARY if self._settings.packer.binary else _TEXT
            self._transport.send(kind, packet)
            self._pinger.moved()

    # the end

    def _unanswered(self, text: str) -> None:
        if not self._ended.done():
            self._end(Reason("ws-ping-timeout", None, text))
            self._say_close(1000, b"")

    def _end(self, reason: Reason) -> None:
        """Note the reason of the end, once, and let go of everything that waits."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        if self._transport is None and reason.kind in ("not-opened", "refused"):
            self.error = WsError(time.time(), str(reason))
            self._note_close(NO_CLOSING_HANDSHAKE, "", is_clean=False)
        self._pinger.stop()
        if not self._pinger.is_reading and self._transport is not None:
            self._transport.underlying_transport.resume_reading()  # to see the end of the socket
        why = f"the channel closed before this was sent ({reason.kind})"
        self._backlog.fail(ChannelClosed(why))

    def _closed_by_peer(self, payload: bytes) -> None:
        code, text = read_close(payload)
        self._note_close(code, text)
        self._end(close_reason(code, text, was_open=self.is_opened))
        self._transport_now().send(
            picows.WSMsgType.CLOSE, payload[:2]
        )  # the same code, none if there was none
        self._disconnect()

    def _note_close(self, code: int, text: str, *, is_clean: bool = True) -> None:
        if self.closed is None:
            self.closed = WsClose(time.time(), code, text, is_clean)

    def _say_close(self, code: int, reason: bytes) -> None:
        """Send a close frame, and wait close_timeout at most for the server's."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(cast(Any, code), reason)
            self._loop.call_later(self._settings.close_timeout, self._abort)

    def _disconnect(self) -> None:
        """Close the socket after what it still has to send, within close_timeout."""
        self._transport_now().disconnect()
        self._loop.call_later(self._settings.close_timeout, self._abort)

    def _abort(self) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.disconnect(graceful=False)

    async def _until_lost(self, transport: picows.WSTransport) -> None:
        """Wait for the end of the socket; learn what picows itself found wrong."""
        try:
            await transport.wait_disconnected()
        except picows.WSProtocolError as exc:
            text = "ws_frame_error %s (close code %d)"
            self._settings.log_limit.warning(log, text, exc, int(exc.code))
            self.error = WsError(time.time(), str(exc))
            self._note_close(NO_CLOSING_HANDSHAKE, "", is_clean=False)
            self._end(Reason(self._kind_of_break(), int(exc.code), str(exc)))
        except Exception:
            self._settings.log_limit.exception(log, "ws_listener_failed")
            self._end(Reason("unexpected", None, "internal error"))
        else:
            self._note_close(NO_CLOSING_HANDSHAKE, "", is_clean=False)
            if not self._is_broken:
                text = "connection lost without a closing handshake"
                self._end(close_reason(NO_CLOSING_HANDSHAKE, text, was_open=self.is_opened))

    def _kind_of_break(self) -> ReasonKind:
        return "unexpected" if self.is_opened else "not-opened"

    def _transport_now(self) -> picows.WSTransport:
        assert self._transport is not None  # callbacks come from it
        return self._transport


def _why_not(exc: BaseException) -> Reason:
    """Name the reason of a WebSocket that did not open."""
    if isinstance(exc, picows.WSHandshakeError) and exc.response is not None:
        return http_reason(int(exc.response.status), said(exc.raw_body or b""), was_open=False)
    return Reason("not-opened", None, str(exc) or type(exc).__name__)
