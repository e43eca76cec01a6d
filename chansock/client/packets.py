"""What a packet from the server means: handshake, ping, poll time-out, reply, or events.

Sente 1.22's client reads them in this order. A pure function over decoded values; and the
client's own packets. No transport, no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

from chansock._core.wire import CLOSED, ERROR, HANDSHAKE, NIL_UID, TIMEOUT, UNCLAIMED, WS_PING
from chansock.errors import ChannelClosed, ReplyError, ReplyTimeout
from chansock.values import Keyword, short_repr

__all__ = [
    "Event",
    "Events",
    "Handshake",
    "Inbound",
    "Ping",
    "PollTimeout",
    "Reply",
    "is_event",
    "read_event",
    "read_packet",
    "reply_error",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One event from the server: `[:chat/said {...}]` is Event("chat/said", {...})."""

    id: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class Handshake:
    """`[[:chsk/handshake [uid nil handshake-data]] nil]`; an anonymous client's uid is None."""

    uid: object
    data: object


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
        data = fields[2] if len(fields) > 2 else None  # the middle one is always nil
        return Handshake(None if is_keyword(uid, NIL_UID) else uid, data)
    if is_keyword(value, WS_PING):
        return Ping()
    if cb_id is not None:
        return Reply(cb_id, value)
    if is_keyword(value, TIMEOUT):
        return PollTimeout()
    return Events(value if isinstance(value, list | tuple) else (value,))


def read_event(item: object) -> Event | None:
    """Read an item of a batch: `[:ns/id]` or `[:ns/id data]`; None if no server may push it.

    One in the `chsk` namespace is the application's mistake (Sente's client throws there); it
    costs only itself.
    """
    if not isinstance(item, list) or not is_event(item):
        return None
    return Event(item[0], item[1] if len(item) > 1 else None)


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
