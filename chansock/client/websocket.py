"""One WebSocket on an asyncio transport: the upgrade, frames in, and frames out (RFC 6455).

The engine's `frames` reads and writes single frames. The listener (`socket`) decides what a message
means, and when to close. `Gate` puts senders in turn while the write buffer is full. Long work is
done in slices: the loop runs others in between.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from chansock._fast.ws.frames import Parser, accept_key, close_payload, frame
from chansock.client.http import MAX_HEAD_BYTES, BadResponse, Response, ResponseReader
from chansock.client.timing import SLICE
from chansock.errors import FrameError

__all__ = [
    "BINARY",
    "CLOSE",
    "PONG",
    "TEXT",
    "BadUpgrade",
    "Gate",
    "Listener",
    "Refused",
    "WebSocket",
]

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PONG: Final = 10

MASKS: Final = 1024  # random bytes fetched at once: a frame takes 4


class Refused(Exception):
    """The server answered the upgrade with another status than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class BadUpgrade(ConnectionError):
    """The answer is a 101, but not one to our request."""


class Listener(Protocol):
    """What a WebSocket calls, in the order in which things come."""

    def upgraded(self, socket: WebSocket, cookies: Sequence[str], /) -> None:
        """The server answered 101; frames may follow at once."""

    def message(self, payload: bytes, /) -> None: ...

    def ping(self, payload: bytes, /) -> None: ...

    def close_received(self, code: int, reason: str, /) -> None: ...

    def failed(self, exc: FrameError, /) -> None:
        """The server broke the protocol; nothing is read after this."""

    def set_room(self, on: bool, /) -> None:
        """Whether the write buffer takes more."""

    def lost(self) -> None:
        """The socket is closed; called only after `upgraded`."""


class WebSocket(asyncio.Protocol):
    """Sends the request for the upgrade, then reads and writes frames.

    `answered` is done after the 101; it raises Refused, BadUpgrade, or OSError for another end.
    """

    def __init__(
        self,
        listener: Listener,
        request: bytes,
        key: str,
        heard: Callable[[], None],
        *,
        max_message_bytes: int,
        max_empty_fragments: int,
        max_backlog_bytes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = self._loop.create_future()
        self._listener = listener
        self._heard = heard  # called for all bytes that come in
        self._request = request
        self._key = key
        self._max_message_bytes = max_message_bytes
        self._max_backlog_bytes = max_backlog_bytes
        self._parser = Parser(max_message_bytes, False, max_empty=max_empty_fragments)
        self._response: ResponseReader | None = None  # once it is known to be a refusal
        self._data = bytearray()  # received and not parsed yet
        self._transport: asyncio.Transport | None = None
        self._is_open = False  # the 101 has come
        self._is_reading = True  # wanted by the listener
        self._is_paused = False
        self._is_spent = False  # a close frame has come, or bytes that break the protocol
        self._is_lost = False
        self._due: asyncio.Handle | None = None  # the next slice
        self.is_close_sent: bool = False
        self._masks = b""  # random bytes for the frames to come
        self._mask_at = 0

    # the listener's side

    @property
    def can_send(self) -> bool:
        """Whether a frame sent now goes out."""
        if not self._is_open or self.is_close_sent or self._transport is None:
            return False
        return not self._transport.is_closing()

    def send(self, opcode: int, payload: bytes) -> None:
        """Write a frame; drop it if the socket is closing."""
        if self.can_send:
            self.write(opcode, payload)

    def write(self, opcode: int, payload: bytes) -> None:
        """Write a frame; the caller has looked at `can_send`."""
        at = self._mask_at
        if at == len(self._masks):
            self._masks, at = os.urandom(MASKS), 0
        self._mask_at = at + 4
        cast(asyncio.Transport, self._transport).write(
            frame(opcode, payload, self._masks[at : at + 4])
        )

    def send_close(self, code: int, reason: str = "") -> None:
        """Write a close frame, the first time; 1005: without a code."""
        self.send(CLOSE, close_payload(code, reason))
        self.is_close_sent = True

    def set_reading(self, on: bool) -> None:
        """Stop or go on with messages; none comes after a stop."""
        self._is_reading = on
        if on and self._data and self._due is None:
            self._due = self._loop.call_soon(self._turn)
        self._pause_or_resume()

    def end(self) -> None:
        """Close the socket once what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._max_backlog_bytes)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._heard()
        if not self._is_spent:
            self._data += data
            if self._due is None:
                self._turn()

    def pause_writing(self) -> None:
        self._listener.set_room(False)

    def resume_writing(self) -> None:
        self._listener.set_room(True)

    def eof_received(self) -> None:
        if self._response is not None and not self.answered.done():
            try:
                self._fail_upgrade(Refused(self._response.feed_eof()))
            except BadResponse as exc:
                self._fail_upgrade(exc)
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()  # the server will read no more of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if not self._is_open:
            text = "connection closed instead of an answer to the upgrade"
            self._fail_upgrade(exc if isinstance(exc, OSError) else ConnectionError(text))
        elif self._due is None:
            self._forget()
            self._listener.lost()

    # reading

    def _turn(self) -> None:
        """Read frames for SLICE seconds at most."""
        self._due = None
        end = time.perf_counter() + SLICE
        data, at = self._data, 0
        if not self._is_open and not self._upgrade():
            return
        has_more = True
        while self._is_reading and not self._is_spent:
            try:
                what, used, _ = self._parser.step(data, at)
            except FrameError as exc:
                self._is_spent = True
                self._listener.failed(exc)
                break
            has_more = used > 0
            if not has_more:
                break
            at += used
            if what is not None:
                self._deliver(what)
            if time.perf_counter() > end:
                break
        del data[:at]
        if self._is_spent:
            self._forget()
        elif has_more and data and self._is_reading and self._due is None:
            self._due = self._loop.call_soon(self._turn)
        self._pause_or_resume()
        if self._is_lost and self._due is None:
            self._forget()
            self._listener.lost()

    def _forget(self) -> None:
        """Free what came and is no whole message: the socket may take seconds to close."""
        self._data.clear()
        self._parser = Parser(0, False)

    def _deliver(
        self, what: tuple[str, bytes] | tuple[str, bytes, bool] | tuple[str, int, str]
    ) -> None:
        kind = what[0]
        if kind == "message":
            self._listener.message(cast(bytes, what[1]))
        elif kind == "ping":
            self._listener.ping(cast(bytes, what[1]))
        elif kind == "close":
            self._is_spent = True
            self._listener.close_received(*cast("tuple[int, str]", what[1:]))

    def _pause_or_resume(self) -> None:
        pauses = not self._is_spent and (not self._is_reading or self._due is not None)
        transport = self._transport
        if pauses != self._is_paused and transport is not None and not transport.is_closing():
            self._is_paused = pauses
            transport.pause_reading() if pauses else transport.resume_reading()

    # the upgrade

    def _upgrade(self) -> bool:
        """Read the answer to the request; return whether frames follow."""
        if self.answered.done():
            self._data.clear()
            return False
        try:
            if self._response is None and b"HTTP/1.1 101"[: len(self._data)] == self._data[:12]:
                return self._read_upgrade()
            self._response = self._response or ResponseReader(self._max_message_bytes)
            data = bytes(self._data)
            self._data.clear()
            if (response := self._response.feed(data)) is not None:
                raise Refused(response)
        except (Refused, ConnectionError) as exc:
            self._fail_upgrade(exc)
            self.end()
        return False

    def _read_upgrade(self) -> bool:
        size = self._data.find(b"\r\n\r\n")
        if size < 0:
            if len(self._data) > MAX_HEAD_BYTES:
                raise BadUpgrade(f"expected a head of at most {MAX_HEAD_BYTES} bytes, got more")
            return False
        fields: dict[str, list[str]] = {}
        for line in self._data[:size].decode("latin-1").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadUpgrade(f"expected a header field in the answer, got {line[:80]!r}")
            fields.setdefault(name.lower(), []).append(value.strip())
        del self._data[: size + 4]
        _check_upgrade(fields, self._key)
        self._is_open = True
        self.answered.set_result(None)
        self._listener.upgraded(self, fields.get("set-cookie", []))
        return True

    def _fail_upgrade(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)
            self.answered.exception()  # asyncio logs an exception that nobody has looked at


def _check_upgrade(fields: dict[str, list[str]], key: str) -> None:
    """Raise BadUpgrade unless a 101 answers our request (RFC 6455 section 4.1)."""
    if [value.lower() for value in fields.get("upgrade", [])] != ["websocket"]:
        raise BadUpgrade(f"expected Upgrade: websocket, got {fields.get('upgrade')!r:.80}")
    options = ",".join(fields.get("connection", [])).lower().split(",")
    if "upgrade" not in (option.strip() for option in options):
        raise BadUpgrade(f"expected Connection: Upgrade, got {fields.get('connection')!r:.80}")
    expected = accept_key(key.encode()).decode()
    accept = fields.get("sec-websocket-accept")
    if accept != [expected]:
        got = "none" if accept is None else repr(", ".join(accept))[:80]
        raise BadUpgrade(f"expected Sec-WebSocket-Accept: {expected}, got {got}")
    if extensions := fields.get("sec-websocket-extensions"):
        raise BadUpgrade(f"expected no extension, got {', '.join(extensions)[:80]!r}")


# -- senders in turn
#
# They hold their own events until their turn comes, so nothing encoded waits here.


class Gate:
    """Turns to write, in the order of `enter`.

    A sender that gives up leaves the queue at once, and has written nothing.
    """

    __slots__ = ("_has_room", "_turns")

    def __init__(self) -> None:
        self._has_room = True
        self._turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def has_room(self) -> bool:
        """Whether a sender may write now."""
        return self._has_room and not self._turns

    def enter(self) -> asyncio.Future[None] | None:
        """Return None if the caller may write now, else the future of its turn.

        Call `leave` after the turn, or to give it up.
        """
        if self.has_room:
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[turn] = None
        return turn

    def leave(self, turn: asyncio.Future[None]) -> None:
        """End a turn, or leave the queue before it came."""
        self._turns.pop(turn, None)
        if turn.done() and not turn.cancelled():
            turn.exception()  # asyncio logs an exception that nobody has looked at
        self._wake()

    def set_room(self, on: bool) -> None:
        """Note whether the write buffer has room."""
        self._has_room = on
        self._wake()

    def fail(self, exc: Exception) -> None:
        """End every wait with exc."""
        turns, self._turns = self._turns, OrderedDict()
        for turn in turns:
            if not turn.done():
                turn.set_exception(exc)

    def _wake(self) -> None:
        if self._has_room and self._turns:
            first = next(iter(self._turns))
            if not first.done():
                first.set_result(None)
