"""What a packet from the server means: handshake, ping, poll time-out, reply, or events.

Sente 1.22's client reads them in this order. `unpack` reads a packet, and a large batch event by
event; `Pending` has the replies that are waited for. No transport, and no handler here.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from chansock._core.wire import CLOSED, ERROR, HANDSHAKE, NIL_UID, TIMEOUT, UNCLAIMED, WS_PING
from chansock._fast.edn.reader import Reader
from chansock._fast.events.packet import EdnPacker, Packer
from chansock.errors import ChannelClosed, EdnDecodeError, PacketError, ReplyError, ReplyTimeout
from chansock.values import Keyword, short_repr

__all__ = [
    "ACK",
    "POSITION",
    "REFUSED",
    "REPLY",
    "Event",
    "Events",
    "Handshake",
    "Inbound",
    "Pending",
    "Ping",
    "PollTimeout",
    "Reply",
    "Resumption",
    "Was",
    "is_event",
    "pong",
    "read_event",
    "read_packet",
    "reply_error",
    "unpack",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One event from the server: `[:chat/said {...}]` is Event("chat/said", {...})."""

    id: str
    data: Any = None


# Events for the client itself, from a server that resumes.
POSITION: Final = Keyword("chsk/pos")  # [:chsk/pos "e-s"], last in a batch
ACK: Final = Keyword("chsk/ack")  # [:chsk/ack 64]: all events up to this number are handled
REPLY: Final = Keyword("chsk/reply")  # [:chsk/reply [65 value]]
REFUSED: Final = Keyword("chsk/refused")  # in the place of an event that is not sent again

Was: TypeAlias = Literal["fresh", "resumed", "gap"]
_POSITION: Final = re.compile(r"[!-~]{1,80}")
_MAX_NUMBER: Final = 10**15


@dataclass(frozen=True, slots=True)
class Resumption:
    """`{:pos "e-s", :was :resumed, :handled 64}`: how a server that resumes goes on."""

    position: str
    was: Was
    handled: int  # the server has taken the client's events up to this number


@dataclass(frozen=True, slots=True)
class Handshake:
    """`[[:chsk/handshake [uid resumption handshake-data]] nil]`; an anonymous client's uid is None.

    `resumption` is None from a server that does not resume: nil, or what cannot be read.
    """

    uid: object
    data: object
    resumption: Resumption | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """`[:chsk/ws-ping nil]`."""


@dataclass(frozen=True, slots=True)
class PollTimeout:
    """`[:chsk/timeout nil]`: the poll ended with nothing to say."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`[value "2c4461"]`."""

    cb_id: object
    value: object


@dataclass(frozen=True, slots=True)
class Events:
    """`[[[:chat/said {...}] ...] nil]`; `read_event` reads each item.

    If it is not whole, items are decoded as they are read: once, and PacketError may be raised.
    """

    items: Iterable[object]
    is_whole: bool = True
    late_position: str | None = None  # if it is not whole

    @property
    def position(self) -> str | None:
        """The position behind the events; None if the batch does not end with one."""
        if not self.is_whole:
            return self.late_position
        items = self.items
        last = items[-1] if isinstance(items, list | tuple) and items else None
        if not isinstance(last, list) or len(last) != 2 or not is_keyword(last[0], POSITION):
            return None
        return _position(last[1])

    def read_by(self, read: Callable[[Iterable[object]], Iterable[object]]) -> Events:
        """Return the same events, whose items pass through `read`."""
        return Events(read(self.items), self.is_whole, self.late_position)

    @property
    def count(self) -> int:
        """The number of items; 0 if it is not known yet."""
        return len(self.items) if isinstance(self.items, Sized) else 0


Inbound: TypeAlias = Handshake | Ping | PollTimeout | Reply | Events


def read_packet(value: object, cb_id: object) -> Inbound:
    """Return what a packet is."""
    if isinstance(value, list) and value and is_keyword(value[0], HANDSHAKE):
        body = value[1] if len(value) > 1 else None
        fields = body if isinstance(body, list | tuple) else ()
        uid = fields[0] if fields else None
        middle = fields[1] if len(fields) > 1 else None
        data = fields[2] if len(fields) > 2 else None
        return Handshake(None if is_keyword(uid, NIL_UID) else uid, data, _resumption(middle))
    if is_keyword(value, WS_PING):
        return Ping()
    if cb_id is not None:
        return Reply(cb_id, value)
    if is_keyword(value, TIMEOUT):
        return PollTimeout()
    return Events(value if isinstance(value, list | tuple) else (value,))


def _resumption(value: object) -> Resumption | None:
    if not isinstance(value, dict):
        return None
    position, was, handled = _position(value.get("pos")), value.get("was"), value.get("handled")
    is_number = type(handled) is int and 0 <= handled < _MAX_NUMBER
    if position is None or not is_number or was not in get_args(Was):
        return None
    return Resumption(position, cast(Was, str(was)), cast(int, handled))


def _position(value: object) -> str | None:
    return value if type(value) is str and _POSITION.fullmatch(value) else None


def read_event(item: object) -> Event | None:
    """Read an item of a batch: `[:ns/id]` or `[:ns/id data]`; None if no server may push it.

    One in the `chsk` namespace is the application's mistake (Sente's client throws there); it
    costs only itself.
    """
    if not isinstance(item, list) or not is_event(item):
        return None
    return Event(item[0], item[1] if len(item) > 1 else None)


def pong(value: object) -> tuple[object, object]:
    """Return the word of a pong, and the number of the newest event that is handled.

    A pong is `"pong"`, or `["pong" n]` of a server that resumes. Without n, the number is None.
    """
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], value[1]
    return value, None


def reply_error(value: object) -> Exception | None:
    """Return what a reply raises: those three that Sente's `cb-success?` calls no success.

    `[:chsk/error "why"]` is the first with its reason, from a chansock server.
    """
    if is_keyword(value, ERROR):
        return ReplyError("the server's handler failed (:chsk/error)")
    if isinstance(value, list) and len(value) == 2 and is_keyword(value[0], ERROR):
        why = value[1] if isinstance(value[1], str) else short_repr(value[1])
        if why == UNCLAIMED:
            return ReplyError("no handler on the server takes this event", why)
        return ReplyError("the server's handler could not take the data", why)
    if is_keyword(value, TIMEOUT):
        return ReplyTimeout("expected a reply, got the server's own time-out (:chsk/timeout)")
    if is_keyword(value, CLOSED):
        return ChannelClosed("expected a reply, got :chsk/closed")
    return None


def is_keyword(value: object, keyword: Keyword) -> bool:
    """Return whether it is a keyword, not a plain string of the same text, to which it is equal."""
    return type(value) is Keyword and value == keyword


def is_event(item: object) -> bool:
    """Return whether a pushed value is an event that an application may get."""
    if not isinstance(item, list) or not 1 <= len(item) <= 2:
        return False
    name = item[0]
    return type(name) is Keyword and "/" in name and not name.startswith("chsk/")


# -- packets as they come: read whole, but a large batch of edn event by event
#
# A packet of 16 MiB may hold three million events. Decoded in one go they block the loop for
# seconds, and take many times their bytes; `inbox` takes them from here in slices.

LARGE: Final = 128 * 1024  # bytes; less is decoded within some 20 ms
MAX_DEPTH: Final = 500 - 2  # the reader's own, less the two vectors around an event

_BEGIN: Final = re.compile(rb"[\s,]*\[[\s,]*\[(?=[\s,]*\[)")
_END: Final = re.compile(rb"\][\s,]*nil[\s,]*\][\s,]*\Z")
_LATE_POSITION: Final = re.compile(
    rb'\[:chsk/pos[ ,]+"([^"]{1,80})"\][\s,]*\][\s,]*nil[\s,]*\][\s,]*\Z'
)
_BLANK: Final = re.compile(rb"(?:[\s,]|;[^\n]*)*")


def unpack(packer: Packer, payload: bytes) -> Inbound:
    """Return what a packet is. Raises PacketError, also while the items of Events are read."""
    if len(payload) >= LARGE and isinstance(packer, EdnPacker):
        begin = _BEGIN.match(payload)
        if begin is not None and _END.search(payload, len(payload) - 64) is not None:
            reader = Reader(packer.keys, max_depth=MAX_DEPTH, tagged=packer.tagged)
            last = _LATE_POSITION.search(payload, len(payload) - 128)
            position = None if last is None else _position(last[1].decode(errors="replace"))
            return Events(_items(payload, begin.end(), reader), False, position)
    return read_packet(*packer.unpack(memoryview(payload)))


def _items(payload: bytes, at: int, reader: Reader) -> Iterator[object]:
    """Read the items of `[[item ...] nil]` from the first on."""
    while not payload.startswith(b"]", at := _after_blank(payload, at)):
        try:
            item, at = reader.decode_one(payload, at)
        except EdnDecodeError as exc:
            raise PacketError(
                f"expected an event in edn, got none: {exc.message} at byte {exc.position}"
            ) from exc
        yield item
    if _END.match(payload, at) is None:
        raise PacketError(f"expected `] nil]` at byte {at}, got {payload[at : at + 40]!r}")


def _after_blank(payload: bytes, at: int) -> int:
    found = _BLANK.match(payload, at)
    return at if found is None else found.end()


# -- replies that are waited for; they outlive a socket: a server may answer on the next one


class Pending:
    """Futures by callback id (6 hex characters, as Sente's)."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[str, asyncio.Future[object]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def new(self, timeout: float) -> tuple[str, asyncio.Future[object]]:
        """Return a fresh callback id and the future of its reply.

        The future raises ReplyTimeout after `timeout` seconds, and what `reply_error` returns.
        """
        loop = asyncio.get_running_loop()
        cb_id = secrets.token_hex(3)
        while cb_id in self._futures:
            cb_id = secrets.token_hex(3)
        future: asyncio.Future[object] = loop.create_future()
        self._futures[cb_id] = future
        timer = loop.call_later(timeout, self._expire, cb_id, timeout)

        def forget(_: object) -> None:
            timer.cancel()
            self._futures.pop(cb_id, None)

        future.add_done_callback(forget)
        return cb_id, future

    def answer(self, cb_id: object, value: object) -> bool:
        """Resolve the call that waits for a reply; False if none does (late, or a second reply)."""
        future = self._futures.pop(cb_id, None) if isinstance(cb_id, str) else None
        if future is None or future.done():
            return False
        if (error := reply_error(value)) is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
        return True

    def get(self, cb_id: str) -> asyncio.Future[object] | None:
        """Return the future of a reply that is waited for; None if nobody does."""
        return self._futures.get(cb_id)

    def fail_one(self, cb_id: str, exc: Exception) -> None:
        """End one wait with exc, if there is one."""
        future = self._futures.pop(cb_id, None)
        if future is not None and not future.done():
            future.set_exception(exc)

    def fail(self, exc: Exception) -> None:
        """End every wait with exc: no reply can come any more."""
        for future in list(self._futures.values()):
            if not future.done():
                future.set_exception(exc)
        self._futures.clear()

    def _expire(self, cb_id: str, timeout: float) -> None:
        future = self._futures.pop(cb_id, None)
        if future is not None and not future.done():
            future.set_exception(ReplyTimeout(f"expected a reply within {timeout:g} s, got none"))
