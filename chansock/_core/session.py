"""One session: what the hub knows of one client-id of one user, and of its displaced sockets.

Records with what the fanout tells them. `session_state` has the tables of a session's life,
and the hub does what they say; what waits for a session is the Outbox that it is made of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from chansock._core.posts import PostOrder
from chansock._core.session_state import POLLS, SOCKET, Life, On, Polls, Socket, following
from chansock._fast.events.dispatch import Connection, Inbox
from chansock._fast.events.fanout import Fanout, Outbox
from chansock._fast.io.timers import Entry
from chansock.target import ClientTarget, UserId

__all__ = ["Displaced", "Session"]

log = logging.getLogger("chansock.session")


class Session(Outbox):
    """One client-id of one uid, over all its sockets and polls.

    `ws` is the newest open socket, displaced by a poll or not; `poll` the newest parked poll.
    """

    __slots__ = (
        "at_end",
        "client_id",
        "displaced",
        "grace_ajax",
        "grace_ws",
        "has_gap",
        "inbox",
        "last",
        "life",
        "on_answered",
        "poll",
        "polled",
        "polls",
        "posts",
        "seen",
        "socket",
        "uid",
        "ws",
    )

    def __init__(
        self,
        fanout: Fanout,
        uid: UserId | None,
        client_id: str,
        on_answered: Callable[[Session], None],
    ) -> None:
        self.on_answered = on_answered  # of the hub: the parked poll is no connection any more
        self.uid = uid
        self.client_id = client_id
        self.inbox = Inbox()
        # The states of session_state.SOCKET, POLLS, and SESSION.
        self.socket = Socket.NONE
        self.polls = Polls.NONE
        self.life = Life.AWAY
        self.ws: Connection | None = None
        self.poll: Connection | None = None
        self.last: Connection | None = None  # the one that closed last, while away
        # Those that newer ones have displaced: no pushes, oldest first. True: the hub closes it.
        self.displaced: dict[Connection, bool] | None = None
        self.grace_ws: Entry | None = None
        self.grace_ajax: Entry | None = None
        self.has_gap = False  # cut since its last Ajax handshake: no poll is parked before the next
        # Another process serves its client; called when no connection is left and grace is over.
        self.at_end: Callable[[], object] | None = None
        self.polled = ""  # the number of its newest poll, if it has one
        self.seen = 0  # the newest position that its client presented, if that resumes
        self.posts: PostOrder | None = None  # since its last Ajax handshake

    @property
    def target(self) -> ClientTarget:
        """The target of `send` that means this session."""
        return ClientTarget(self.uid, self.client_id)

    @property
    def has_moved(self) -> bool:
        """Whether another process serves its client: it is kept for what is open of it here."""
        return self.at_end is not None

    @property
    def current(self) -> Connection | None:
        """The newest connection, to which pushes go; None: they wait."""
        if self.socket is Socket.CURRENT:
            return self.ws
        return self.poll if self.polls is Polls.PARKED else None

    @property
    def is_gone(self) -> bool:
        """Whether nothing is sent to it: it is kept for its displaced connections, if at all."""
        return self.life is Life.GONE or self.life is Life.FORGOTTEN

    @property
    def has_ajax(self) -> bool:
        """Whether an Ajax client may poll without a handshake: a poll is parked, or grace runs."""
        return self.polls is not Polls.NONE

    @property
    def connections(self) -> list[Connection]:
        """What is open: the newest socket, the parked poll, and what these displaced."""
        found = (self.ws, self.poll, *(self.displaced or ()))
        return [connection for connection in found if connection is not None]

    def answered(self) -> None:
        """Told by the fanout: the parked poll took a batch."""
        self.on_answered(self)

    def was_cut(self, reason: str, events: int) -> None:
        """Told by the fanout: too much waited, the outbox is empty, the socket closes 1013."""
        current = self.current
        self.has_gap = True
        self.socket = following(SOCKET, self.socket, On.OUTBOX_CUT)
        self.polls = following(POLLS, self.polls, On.OUTBOX_CUT)
        if current is not None:
            current.outbox = None
        log_limit, kind = self.fanout.timers.log_limit, f"session_cut reason={reason}"
        text = "session_cut reason=%s events=%d of %r"
        log_limit.warning(log, text, reason, events, self, kind=kind)

    def __repr__(self) -> str:
        return f"Session(uid={self.uid!r:.80}, client={self.client_id[:8]!r})"


class Displaced(Outbox):
    """What waits for one socket that a newer connection has displaced: replies."""

    __slots__ = ("connection",)

    def __init__(self, fanout: Fanout, connection: Connection) -> None:
        self.connection = connection

    def was_cut(self, reason: str, events: int) -> None:
        """Told by the fanout: too much waited, the outbox is empty, the socket closes 1013."""
        session: Session = self.connection.session
        self.connection.outbox = None
        if session.ws is self.connection:  # else a newer socket has displaced it
            session.socket = following(SOCKET, session.socket, On.REPLIES_CUT)
        log_limit, kind = self.fanout.timers.log_limit, f"displaced_cut reason={reason}"
        log_limit.warning(log, "displaced_cut reason=%s of %r", reason, self, kind=kind)

    def __repr__(self) -> str:
        return f"Displaced({self.connection.session!r})"
