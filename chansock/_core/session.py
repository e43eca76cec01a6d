"""One session: what the hub knows of one client-id of one user, and of its displaced sockets.

Records with what the fanout tells them. What becomes of a session is decided in the hub;
what waits for it is the Outbox that it is made of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from chansock._core.posts import PostOrder
from chansock._fast.events.dispatch import Connection, Inbox
from chansock._fast.events.fanout import Fanout, Outbox
from chansock._fast.io.timers import Entry
from chansock.target import UserId

__all__ = ["Displaced", "Session"]

log = logging.getLogger("chansock.session")


class Session(Outbox):
    """One client-id of one uid, over all its sockets and polls.

    `current` is the newest connection: pushes go to it. `ws` is the newest socket that is
    open, displaced by a poll or not; `poll` the newest parked poll.
    """

    __slots__ = (
        "client_id",
        "current",
        "displaced",
        "grace_ajax",
        "grace_ws",
        "has_gap",
        "inbox",
        "is_ajax",
        "is_gone",
        "is_ws",
        "is_ws_behind",
        "last",
        "on_answered",
        "poll",
        "polled",
        "posts",
        "uid",
        "was_answered",
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
        self.current: Connection | None = None
        self.ws: Connection | None = None
        self.poll: Connection | None = None
        self.last: Connection | None = None  # the one that closed last, while away
        # Those that newer ones have displaced: no pushes, oldest first. True: the hub closes it.
        self.displaced: dict[Connection, bool] | None = None
        self.grace_ws: Entry | None = None
        self.grace_ajax: Entry | None = None
        self.is_ws = False  # counted in presence
        self.is_ajax = False
        self.has_gap = False  # cut since its last Ajax handshake
        self.is_ws_behind = False  # the same since polls displaced its socket
        self.is_gone = False  # nothing is sent to it; it is kept for its displaced connections
        self.polled = ""  # the number of its newest poll, if it has one
        self.was_answered = False  # by its last poll, with events; did the client get them?
        self.posts: PostOrder | None = None  # since its last Ajax handshake

    @property
    def has_ajax(self) -> bool:
        """Whether an Ajax client may poll without a handshake: a poll is parked, or grace runs."""
        return self.poll is not None or self.grace_ajax is not None

    @property
    def connections(self) -> list[Connection]:
        """What is open: the newest socket, the parked poll, and what these displaced."""
        found = (self.ws, self.poll, *(self.displaced or ()))
        return [connection for connection in found if connection is not None]

    def answered(self) -> None:
        """Told by the fanout: the parked poll took a batch."""
        self.was_answered = True
        self.on_answered(self)

    def was_cut(self, reason: str, events: int) -> None:
        """Told by the fanout: too much waited, the outbox is empty, the socket closes 1013."""
        self.has_gap = True
        self.is_ws_behind |= self.ws is not None and self.ws is not self.current
        if self.current is not None:
            self.current.outbox = None
            self.current = None
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
        self.connection.outbox = None
        log_limit, kind = self.fanout.timers.log_limit, f"displaced_cut reason={reason}"
        log_limit.warning(log, "displaced_cut reason=%s of %r", reason, self, kind=kind)

    def __repr__(self) -> str:
        return f"Displaced({self.connection.session!r})"
