"""Which sessions there are, by user and client: find one, or all that a target means.

A table and nothing else: what happens to a session is decided in the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from chansock._core.session import Session
from chansock._core.session_state import SESSION, Life, On, following
from chansock._fast.events.fanout import Fanout
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId

__all__ = ["SessionTable"]


class SessionTable:
    """The sessions of one channel, those that are gone and kept for displaced sockets too."""

    def __init__(self, fanout: Fanout, on_answered: Callable[[Session], None]) -> None:
        self._fanout = fanout
        self._on_answered = on_answered  # bound once for all sessions
        self.away = 0  # sessions without any connection, which may get one
        # A user with one client, nearly every user, costs no table of its own.
        self.by_user: dict[object, Session | dict[str, Session]] = {}

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.by_user)

    def __iter__(self) -> Iterator[Session]:
        """Iterate over all sessions."""
        for found in self.by_user.values():
            if isinstance(found, dict):
                yield from found.values()
            else:
                yield found

    def find(self, uid: UserId | None, client_id: str) -> Session | None:
        """Return the session of this client, or None."""
        found = self.by_user.get(ANONYMOUS if uid is None else uid)
        if found is None:
            return None
        if isinstance(found, dict):
            return found.get(client_id)
        return found if found.client_id == client_id else None

    def meant(self, to: Target) -> Collection[Session]:
        """Return the sessions that something is sent to now, if it is sent to this target."""
        if to is ALL:
            return list(self._fanout)  # type: ignore[arg-type]
        return [session for session in self.known(to) if session.life is not Life.GONE]

    def known(self, to: Target) -> tuple[Session, ...]:
        """Return all sessions of a user or a client, those that are gone too."""
        if isinstance(to, ClientTarget):
            session = self.find(to.uid, to.client_id)
            return () if session is None else (session,)
        found = self.by_user.get(to)
        if found is None:
            return ()
        return tuple(found.values()) if isinstance(found, dict) else (found,)

    def count(self, uid: UserId) -> int:
        """Return how many clients of a user have a session."""
        found = self.by_user.get(uid)
        return len(found) if isinstance(found, dict) else int(found is not None)

    def find_or_add(self, uid: UserId | None, client_id: str) -> Session:
        """Return the session of this client for a connection that comes.

        A new one, or one that was gone, is away.
        """
        session = self.find(uid, client_id)
        if session is None:
            session = Session(self._fanout, uid, client_id, self._on_answered)
            self.add(session)
            self.join(session)
        elif session.life is Life.GONE:
            session.life = following(SESSION, session.life, On.RETURNED)
            self.join(session)  # Do.JOIN
        return session

    def add(self, session: Session) -> None:
        """Add a session."""
        member = ANONYMOUS if session.uid is None else session.uid
        found = self.by_user.setdefault(member, session)
        if type(found) is dict:
            found[session.client_id] = session
        elif found is not session:
            assert isinstance(found, Session)
            self.by_user[member] = {found.client_id: found, session.client_id: session}

    def join(self, session: Session) -> None:
        """Send to a session what is sent to all."""
        self._fanout.join(session)
        self.away += 1

    def forget(self, session: Session) -> None:
        """Remove a session."""
        member = ANONYMOUS if session.uid is None else session.uid
        found = self.by_user[member]
        if isinstance(found, dict):
            del found[session.client_id]
            if found:
                return
        del self.by_user[member]
