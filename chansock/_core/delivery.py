"""The seam between "something was sent" and "an outbox has it".

Events of `send`, closes of `disconnect`, and changes of presence pass here, on the loop's
thread and in the order in which they were made. The backplane numbers and keeps events; then they
are delivered, in the same turn. Events are encoded before, and the fanout writes them after.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from chansock._core import wire
from chansock._core.backplane import Backplane
from chansock._core.hub import Hub
from chansock._core.session import Session
from chansock._core.session_state import Life
from chansock._fast.events.dispatch import Connection, Dispatch, Inbox
from chansock._fast.events.fanout import Fanout, Fragment
from chansock._fast.io.transport import Transport
from chansock.request import Request
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId

__all__ = ["Close", "Delivery"]

_GONE: Final = Life.GONE


@dataclass(frozen=True, slots=True)
class Close:
    """Closes the connections of a target."""

    code: int
    reason: str


class Delivery:
    """Brings what was sent to the sessions of a channel, once `start` was called."""

    _hub: Hub

    def __init__(self, fanout: Fanout, dispatch: Dispatch, backplane: Backplane | None) -> None:
        self._append = None if backplane is None else backplane.append
        self._send = fanout.send
        self._fanout = fanout
        self._dispatch = dispatch
        self.presence_inbox = Inbox()
        self.nobody = 0  # events for nobody

    def start(self, hub: Hub) -> None:
        """Deliver to the sessions of this hub, which announces its users here."""
        self._hub = hub
        self._by_user = hub.table.by_user

    def deliver(
        self,
        to: Target,
        fragments: tuple[Fragment, ...],
        flush: bool = False,
        close: Close | None = None,
    ) -> None:
        """Append events to the outbox of each session that `to` means, in order.

        `flush` writes what waits there at once. `close` then closes every connection of the
        target, those of sessions that are gone too.
        """
        hub = self._hub
        if self._append is not None and fragments:
            self._append(to, fragments)
        if to is ALL:
            if not len(self._fanout):
                self.nobody += len(fragments)
            for fragment in fragments:
                self._fanout.broadcast(fragment)
            if flush:
                self._fanout.flush_now()
        else:
            found = None if type(to) is ClientTarget else self._by_user.get(to)
            if type(found) is Session and found.life is not _GONE:  # of one client, nearly always
                for fragment in fragments:
                    self._send(found, fragment)
                if flush:
                    found.flush_now()
            else:
                self._deliver_to_each(hub.table.meant(to), fragments, flush)
        if hub.is_stopped:
            # Accepted from a thread before the stop, and too late for it.
            hub.drop(hub.table.meant(to), "stopped")
        if close is not None:
            hub.disconnect(to, close.code, close.reason)

    def _deliver_to_each(
        self, sessions: Collection[Session], fragments: tuple[Fragment, ...], flush: bool
    ) -> None:
        for session in sessions:
            for fragment in fragments:
                self._send(session, fragment)
            if flush:
                session.flush_now()
        if not sessions:
            self.nobody += len(fragments)

    def announce(self, is_open: bool, uid: UserId | None, connection: Connection | None) -> None:
        """Run the handler of a user who came or went; `connection` was the first or the last.

        None: that was a process which is gone.
        """
        if connection is None:
            nobody = Request(b"GET / HTTP/1.1\r\n\r\n")
            connection = Connection(self._dispatch, Transport(), nobody, uid, "", None, Inbox())
        member = ANONYMOUS if uid is None else uid
        event_id = wire.UIDPORT_OPEN if is_open else wire.UIDPORT_CLOSE
        self._dispatch.announce(event_id, member, connection, self.presence_inbox)
