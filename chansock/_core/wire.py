"""The grammar of the channel: its own events, envelopes and answers, as values.

Wire shapes by Sente 1.21. What is here is made once for each connection or packer;
the shape of what comes in is checked in `_fast/events/dispatch`. No clock, loop or user.
"""

from __future__ import annotations

from typing import Final

from chansock.target import UserId
from chansock.values import Keyword

__all__ = [
    "ACK",
    "AJAX",
    "CLOSED",
    "DUMMY_CB_200",
    "ERROR",
    "HANDSHAKE",
    "NIL_UID",
    "PONG",
    "POSITION",
    "REFUSED",
    "REPLY",
    "RESUME",
    "TIMEOUT",
    "UIDPORT_CLOSE",
    "UIDPORT_OPEN",
    "UNCLAIMED",
    "WHY",
    "WS_PING",
    "WS_PONG",
    "handshake",
    "resumed_handshake",
]

HANDSHAKE: Final = Keyword("chsk/handshake")  # [[:chsk/handshake [uid nil data]] nil]
WS_PING: Final = Keyword("chsk/ws-ping")  # server's: [:chsk/ws-ping nil]; client's: an event
WS_PONG: Final = Keyword("chsk/ws-pong")  # [[:chsk/ws-pong] nil], the answer to a server's ping
PONG: Final = "pong"  # ["pong" cb-id], the answer to a client's ping: a string
TIMEOUT: Final = Keyword("chsk/timeout")  # [:chsk/timeout nil]: a poll, or a POST's reply
ERROR: Final = Keyword("chsk/error")  # [:chsk/error cb-id]: the handler failed
# A param of the requests of our own clients, "1": they can read [[:chsk/error "why"] cb-id], which
# to Sente's `cb-success?` would be a success.
WHY: Final = "why"
UNCLAIMED: Final = "unclaimed"  # why, if the server has no handler for the event's id
CLOSED: Final = Keyword("chsk/closed")  # a reply that Sente's clients make for themselves
DUMMY_CB_200: Final = Keyword("chsk/dummy-cb-200")  # a POST that asked for no reply
AJAX: Final = Keyword("ajax")  # callback id of a POST that asks for one
NIL_UID: Final = Keyword("sente/nil-uid")  # no user id, on the wire
# To and from our own clients that resume: see docs/delivery.md.
POSITION: Final = Keyword("chsk/pos")  # [:chsk/pos "epoch-seq"], the last event of a batch
ACK: Final = Keyword("chsk/ack")  # [:chsk/ack n]: all events of the client up to n are handled
REPLY: Final = Keyword("chsk/reply")  # [:chsk/reply [n value]]: the reply to event n
REFUSED: Final = Keyword("chsk/refused")  # in the place of an event that a client has given up
RESUME: Final = Keyword("chsk/resume")  # the server's own event: how a client has come back
UIDPORT_OPEN: Final = Keyword("chsk/uidport-open")
UIDPORT_CLOSE: Final = Keyword("chsk/uidport-close")


def handshake(uid: UserId | None, data: object) -> list[object]:
    """Make the handshake event `[:chsk/handshake [uid nil data]]`; nil where Sente had a token."""
    return [HANDSHAKE, [NIL_UID if uid is None else uid, None, data]]


def resumed_handshake(
    uid: UserId | None, data: object, position: str, was: str, handled: int
) -> list[object]:
    """Make the handshake event of a client that resumes, which has a map in place of nil."""
    told = {Keyword("pos"): position, Keyword("was"): Keyword(was), Keyword("handled"): handled}
    return [HANDSHAKE, [NIL_UID if uid is None else uid, told, data]]
