"""How a client comes back: what its handshake says, and what the server makes of it.

A client that resumes presents its position, and the numbers of its events. `Resume` finds its
record, ends its older connections, and puts what it has missed in front of what waits for it.
What is kept, and for how long, is up to the backplane; when a session opens, up to the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from chansock._core import wire
from chansock._core.backplane import Backplane, Position, is_number
from chansock._core.hub import Hub
from chansock._core.posts import Posts
from chansock._core.session import Session
from chansock._fast.events.dispatch import Dispatch, Numbers
from chansock._fast.events.fanout import Fragment
from chansock._fast.events.packet import Packer, Packet
from chansock.request import Request, Response
from chansock.target import ClientTarget, UserId

__all__ = ["MALFORMED", "TOO_FAR", "Asked", "Resume", "Was"]

Was: TypeAlias = Literal["fresh", "resumed", "gap"]

MALFORMED: Final = "expected pos=0 or pos=<epoch>-<seq>, and acked, sent, waits, and try as numbers"
TOO_FAR: Final = Response(503, "too far behind")
TAKEN: Final = Response(409, "another client has this client-id")


@dataclass(slots=True)
class Asked:
    """What a client says of itself in a handshake or a poll.

    `position` None: it has none yet. `acked`, `sent`, and `waits` are numbers of its events: all
    up to `acked` are acknowledged, none after `sent` was sent, and none before `waits` waits for
    a reply. `waits` None: none does. `attempt` grows with each handshake of the client, so that one
    that comes late is known.
    """

    position: Position | None
    acked: int = 0
    sent: int = 0
    waits: int | None = None
    attempt: int = 0
    uid: UserId | None = None
    data: object = None  # of the handshake
    source: Backplane | None = None  # what knows of this client, if that is not the backplane

    @classmethod
    def parse(cls, request: Request, uid: UserId | None = None, data: object = None) -> Self | None:
        """Return what a request says; None if that is malformed."""
        params = request.params
        text = params["pos"]
        position = Position.parse(text)
        numbers = [params.get(name, "0") for name in ("acked", "sent", "waits", "try")]
        if (position is None and text != "0") or not all(map(is_number, numbers)):
            return None
        acked, sent, waits, attempt = map(int, numbers)
        if acked > sent:
            return None
        return cls(position, acked, sent, waits or None, attempt, uid, data)


class Resume:
    """Lets clients come back to what they had."""

    def __init__(
        self, backplane: Backplane, packer: Packer, hub: Hub, dispatch: Dispatch, posts: Posts
    ) -> None:
        self._backplane = backplane
        self._packer = packer
        self._hub = hub
        self._dispatch = dispatch
        self._posts = posts
        self.counts: dict[Was, int] = {"fresh": 0, "resumed": 0, "gap": 0}

    def is_late(self, asked: Asked, client: ClientTarget) -> bool:
        """Return whether a newer handshake of a client has come first: it waits for no other."""
        session = self._hub.table.find(client.uid, client.client_id)
        inbox = self._backplane.find(client) if session is None else session.inbox
        numbers = None if inbox is None else inbox.numbers
        return numbers is not None and 0 < asked.attempt < numbers.attempt

    def open(self, session: Session, asked: Asked, *, streams: bool) -> tuple[Packet, Was]:
        """Open the session of a client again; return its handshake, and how it comes back.

        What it has missed stands in front of what waits in its outbox, if it comes by a
        WebSocket; an Ajax client gets it with its next poll.
        """
        source = asked.source or self._backplane
        is_known = self._find(source, session)
        self._hub.end_connections(session)
        self._posts.end_order(session.posts)
        session.posts = None
        numbers, is_new = session.inbox.numbers, False
        attempt = 0 if numbers is None else numbers.attempt
        is_other = is_known and numbers is not None and self._is_other(source, asked, numbers)
        if is_other:
            # What waits is for that one. From now on its positions are older than all others.
            session.drop("grace")
            source.mark()
            # Its events that still wait are handled, and count for it.
            assert numbers is not None
            numbers.session = None
            session.inbox = session.inbox.renewed()
        if numbers is None or not is_known or is_other:
            # Nothing is known of it (any more): what it sent before may have been handled.
            is_known, is_new = False, True
            numbers = source.numbers(asked.acked, asked.sent)
            session.inbox.numbers = numbers
        if source.outlives_records:
            # Its client may have been elsewhere since: what it has not got, the source knows.
            session.drop("moved")
        numbers.session = session
        numbers.attempt = max(attempt, asked.attempt)
        numbers.acked = asked.acked  # what was acknowledged since may not have arrived
        # If it sent less than was taken, somebody else has the same client-id.
        is_known = is_known and asked.sent >= numbers.received
        # Another process may know nothing of it, and yet what it has missed.
        is_followed = is_known or (source.outlives_records and not is_other)
        was, since, missed = self._follow(source, session, asked, is_followed)
        if is_new:
            # An older position comes from a client that did not get this answer.
            numbers.since = since
        # A poll can ask the memory of this process again, but no engine outside of it.
        if streams or was != "resumed" or source.outlives_records:
            self._put_first(session, since, missed)
        if is_known:
            self._send_replies(session, numbers, asked)
        session.has_positions = True
        session.seen = since
        session.has_gap = False
        self.counts[was] += 1
        position = str(source.position_of(since))
        event = wire.resumed_handshake(asked.uid, asked.data, position, was, numbers.received)
        return Packet(self._packer.packet(event, None), self._packer.binary), was

    def poll(self, session: Session, request: Request, *, is_repeated: bool) -> Response | None:
        """Put what a polling client has missed in front of what waits for it.

        Return the refusal of a poll that cannot go on: what it missed, only a handshake can tell.
        `is_repeated`: a browser asks again by itself, and the first answer is lost.
        """
        asked = Asked.parse(request)
        numbers = session.inbox.numbers
        if asked is None or asked.position is None or numbers is None:
            return TOO_FAR
        since = self._backplane.number_of(asked.position)
        if since is None:
            return TOO_FAR
        if since < numbers.since:
            return TAKEN
        if session.posts is None or since < session.seen:
            return TOO_FAR  # it comes late: its client has gone on by other connections
        if self._backplane.outlives_records and 0 < session.first_seq <= since:
            return TOO_FAR  # it has what waits here: it was elsewhere meanwhile
        session.seen = since
        missed = self._missed(self._backplane, session, since)
        if missed is None:
            return TOO_FAR
        self._put_first(session, since, missed)
        session.has_gap = False
        if asked.waits is not None:
            numbers.forget_replies(asked.waits)
            if is_repeated:
                self._put_replies(session, numbers, asked.waits)
        if is_repeated:
            numbers.acked = 0
        return None

    def end(self, session: Session) -> None:
        """Serve a session whose client does not resume any more."""
        session.inbox.numbers = None
        session.has_positions = False
        self._backplane.drop(session.target)

    def _find(self, source: Backplane, session: Session) -> bool:
        """Return whether the client is known; hold what is kept for it from now on."""
        if session.inbox.numbers is not None:
            return True
        found = source.claim(session.target)
        if found is None:
            source.hold(session.target)
            return False
        session.inbox = found
        return True

    def _is_other(self, source: Backplane, asked: Asked, numbers: Numbers) -> bool:
        """Return whether the numbers are those of another client with the same client-id."""
        position = asked.position
        if asked.acked > numbers.received:
            return True
        if position is None:  # a new client; or one that did not get the answer to its first
            return asked.sent < numbers.received
        since = source.number_of(position)
        return since is None or since < numbers.since

    def _missed(self, source: Backplane, session: Session, since: int) -> list[Fragment] | None:
        """Return what came after `since` and does not wait for the session; None: unknown."""
        numbers = session.inbox.numbers
        if numbers is None or since < numbers.since:
            return None
        # Events may have been lost before they reached the outbox: an engine's log knows.
        if source is self._backplane and session.left <= since <= source.newest:
            return []
        return source.read(session.target, since, session.first_seq)

    def _put_first(self, session: Session, since: int, missed: list[Fragment]) -> None:
        session.put_first(missed)
        session.left = since

    def _follow(
        self, source: Backplane, session: Session, asked: Asked, is_known: bool
    ) -> tuple[Was, int, list[Fragment]]:
        """Return how the client comes back, from which position it goes on, and what it missed."""
        position = asked.position
        since = None if position is None or not is_known else source.number_of(position)
        if since is not None:
            missed = self._missed(source, session, since)
            if missed is not None:
                return "resumed", since, missed
        # What waits for it follows; what came before, it has or has missed.
        first = session.first_seq
        since = first - 1 if first else source.newest
        return "fresh" if position is None else "gap", since, []

    def _send_replies(self, session: Session, numbers: Numbers, asked: Asked) -> None:
        """Send the replies again that may have been lost."""
        waits = asked.sent + 1 if asked.waits is None else asked.waits
        numbers.forget_replies(waits)
        self._put_replies(session, numbers, waits)

    def _put_replies(self, session: Session, numbers: Numbers, waits: int) -> None:
        session.put_last(
            [self._dispatch.late_reply(*reply) for reply in numbers.replies_from(waits)]
        )
