"""The hub: connected users and the life cycle of their sessions.

A session opens, may be displaced by a newer connection, may go away and return within its
grace period, and finally ends; presence follows. Queued events live in the session's Outbox
(`_fast/events/fanout`), timers in `_fast/io/timers`. The hub does not check requests, encode
values, or touch sockets. It is a little past 400 lines because all of that is one state of a
session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

from chansock._core.presence import Presence
from chansock._core.session import Displaced, Session
from chansock._fast.events.dispatch import Connection
from chansock._fast.events.fanout import Fanout
from chansock._fast.events.packet import Packet
from chansock._fast.io.timers import TimerQueue
from chansock.config import Config
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId

__all__ = ["Hub"]

log = logging.getLogger("chansock.hub")

# Displaced connections of one session that stay open. A client that reconnects every two or three
# seconds has as many old sockets before the keep-alive finds out that they are dead.
MAX_DISPLACED: Final = 8


class Hub:
    """All sessions of one channel. `announce(is_open, uid, connection)` is told of each
    user that comes and goes, after presence has changed; `strays()` gives the number of
    requests that wait without a session."""

    def __init__(
        self,
        config: Config,
        timers: TimerQueue,
        fanout: Fanout,
        presence: Presence,
        announce: Callable[[bool, UserId | None, Connection], None],
        *,
        strays: Callable[[], int],
        ping: Packet,
        timeout: Packet,
    ) -> None:
        self.strays = strays
        self._config = config
        self._timers, self._log_limit = timers, timers.log_limit
        self._fanout = fanout
        self._presence = presence
        self._announce = announce
        self._ping = fanout.ping = ping
        self._timeout = timeout
        # A user with one client, nearly every user, costs no table of its own.
        self._users: dict[object, Session | dict[str, Session]] = {}
        # Bound once for all sessions and connections: one object less of each to be collected.
        self._on_answered, self._on_silence = self.poll_ended, self._look_alive
        self.connections: set[Connection] = set()
        self.away = 0  # sessions without any connection
        self.cut = 0
        self.closed_by_code: dict[int, int] = {}
        self.is_stopped = False

    # -- finding

    def find(self, uid: UserId | None, client_id: str) -> Session | None:
        """Return the session of this client, or None."""
        found = self._users.get(ANONYMOUS if uid is None else uid)
        if found is None:
            return None
        if isinstance(found, dict):
            return found.get(client_id)
        return found if found.client_id == client_id else None

    def sessions(self, to: Target) -> Collection[Session]:
        """Return the sessions that a target means, now: those that something is sent to."""
        if to is ALL:
            return list(self._fanout)  # type: ignore[arg-type]
        found = None if isinstance(to, ClientTarget) else self._users.get(to)
        if type(found) is Session:  # a user with one client, as nearly always
            return () if found.is_gone else (found,)
        return [session for session in self.known(to) if not session.is_gone]

    def known(self, to: Target) -> tuple[Session, ...]:
        """The same of a user or a client, with those kept for displaced sockets alone."""
        if isinstance(to, ClientTarget):
            session = self.find(to.uid, to.client_id)
            return () if session is None else (session,)
        found = self._users.get(to)
        if found is None:
            return ()
        return tuple(found.values()) if isinstance(found, dict) else (found,)

    def has_room(self, uid: UserId | None, client_id: str) -> str | None:
        """Return why there is no room for one more connection of this client, or None."""
        limit = self._config.max_connections
        session = self.find(uid, client_id)
        if session is not None:
            if session.displaced is not None and len(session.displaced) >= 2 * MAX_DISPLACED:
                # Half of them are closing, and their peers don't answer the closing handshake.
                return f"expected at most {2 * MAX_DISPLACED} displaced connections of one client"
            if session.ws is None and session.poll is None and not session.is_gone:
                return None  # it comes back to the place that it has
        if limit is not None and len(self.connections) + self.away + self.strays() >= limit:
            return f"expected at most {limit} connections: see max_connections"
        if uid is None or session is not None:
            return None
        found = self._users.get(uid)
        count = len(found) if isinstance(found, dict) else found is not None
        if count >= self._config.max_clients_per_user:
            return f"expected at most {count} clients of one user: see max_clients_per_user"
        return None

    def session(self, uid: UserId | None, client_id: str) -> Session:
        """Return the session of this client, a new one if it has none."""
        member = ANONYMOUS if uid is None else uid
        found = self._users.get(member)
        session = None if found is None else self.find(uid, client_id)
        if session is None:
            session = Session(self._fanout, uid, client_id, self._on_answered)
            if found is None:
                self._users[member] = session
            elif isinstance(found, dict):
                found[client_id] = session
            else:
                self._users[member] = {found.client_id: found, client_id: session}
        elif session.is_gone:
            session.is_gone = False
        else:
            return session
        self._fanout.join(session)
        self.away += 1
        return session

    # -- opening

    def open_ws(self, session: Session, connection: Connection, handshake: Packet) -> None:
        """Make a socket the session's newest connection; the handshake is written first."""
        self._came(session)
        if session.current is not None:
            self._displace(session, session.current)
        session.ws = session.current = connection
        session.is_ws_behind = False
        connection.outbox = session
        self.connections.add(connection)
        session.attach(connection.transport, handshake)
        if session.grace_ws is not None:
            self._timers.cancel(session.grace_ws)
            session.grace_ws = None
        connection.transport.heard = False  # silence is counted from here, not from its request
        self._watch(connection)
        if not session.is_ws:
            session.is_ws = True
            self._entered("ws", session, connection)
        self._close_oldest(session)

    def open_ajax(self, session: Session) -> None:
        """Note an Ajax handshake: what comes waits, the grace runs, presence comes with a poll."""
        if session.was_answered:
            # The client asks anew instead of for more: it never saw the last answer.
            session.was_answered = False
            self.cut += 1
        session.has_gap = False
        if session.poll is None:
            self._start_grace_ajax(session)

    def park(self, session: Session, connection: Connection) -> bool:
        """Make a poll the session's newest connection; what waits answers it at once.

        False: it is not, for the session was just cut, by what a displaced socket did not take.
        """
        self._came(session)
        session.was_answered = False
        if session.current is not None:
            self._displace(session, session.current)
        if session.has_gap:
            return False
        session.poll = session.current = connection
        self.connections.add(connection)
        self._timers.cancel(session.grace_ajax)
        session.grace_ajax = None
        connection.timer = self._timers.schedule(
            self._config.poll_timeout, self._poll_due, connection
        )
        session.attach(connection.transport)
        if not session.is_ajax:
            session.is_ajax = True
            self._entered("ajax", session, connection)
        self._close_oldest(session)
        return True

    def _displace(self, session: Session, old: Connection) -> None:
        session.current = None
        if old is session.ws:
            # It stays open, gets replies from an outbox of its own, and is kept alive.
            session.flush_now()
            old.outbox = own = Displaced(self._fanout, old)
            session.detach(own)
            own.attach(old.transport)
        else:
            session.poll = None  # stays parked until it is due
            self._start_grace_ajax(session)
        if session.displaced is None:
            session.displaced = {}
        session.displaced[old] = False

    def _close_oldest(self, session: Session) -> None:
        """Close the displaced connection that is open for the longest if there are too many.

        Code 1008, after which our clients stay away: they would displace each other for ever.
        """
        displaced = session.displaced
        if displaced is None or len(displaced) <= MAX_DISPLACED:
            return
        still_open = [connection for connection, is_closing in displaced.items() if not is_closing]
        if len(still_open) > MAX_DISPLACED:
            displaced[still_open[0]] = True
            self.close(still_open[0], 1008, "too many connections of one client")

    # -- closing

    def closed(self, connection: Connection, code: int) -> None:
        """Note that a socket or poll has ended; `code` 1006: without a closing handshake."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._timers.cancel(connection.timer)
        connection.timer = None
        self._fanout.ended(connection.transport)
        session: Session = connection.session
        if connection.outbox is not None and connection.outbox is not session:
            connection.outbox.drop("grace")
        connection.outbox = None
        self._not_displaced(session, connection)
        if session.current is connection:
            session.current = None
            session.detach()
        if connection.transport.streams:
            self.closed_by_code[code] = self.closed_by_code.get(code, 0) + 1
            self.cut += code == 1006
            if session.ws is connection:
                session.ws = None
                session.grace_ws = self._timers.schedule(
                    self._config.grace_ws, self._ws_gone, session
                )
                self._went(session, connection)
        elif session.poll is connection:
            session.poll = None
            self._start_grace_ajax(session)
            self._went(session, connection)

    def poll_ended(self, session: Session) -> None:
        """Note that the session's parked poll has its answer."""
        if session.poll is not None:
            self.closed(session.poll, 1000)

    def _not_displaced(self, session: Session, connection: Connection) -> None:
        if session.displaced is not None and connection in session.displaced:
            del session.displaced[connection]
            session.displaced = session.displaced or None
            self._end_if_gone(session)

    def _start_grace_ajax(self, session: Session) -> None:
        self._timers.cancel(session.grace_ajax)
        session.grace_ajax = self._timers.schedule(
            self._config.grace_ajax, self._ajax_gone, session
        )

    # -- coming and going

    def _came(self, session: Session) -> None:
        if session.ws is None and session.poll is None:
            self.away -= 1
        session.last = None

    def _went(self, session: Session, connection: Connection) -> None:
        if session.ws is None and session.poll is None:
            self.away += 1
            session.last = connection  # whose request a uidport-close carries

    def _entered(self, kind: str, session: Session, connection: Connection) -> None:
        if self._presence._enter(kind, session.uid):
            self._announce(True, session.uid, connection)

    # -- what is due

    def _ws_gone(self, session: Session) -> None:
        session.grace_ws = None
        was_counted, session.is_ws = session.is_ws, False
        self._grace_over(session, "ws", was_counted)

    def _ajax_gone(self, session: Session) -> None:
        session.grace_ajax = None
        if session.was_answered:
            session.was_answered = False
            self.cut += 1
        socket = session.ws
        if session.current is None and socket is not None and socket.outbox is not None:
            # Its polls displaced this socket, which was not cut, and are gone: it is the newest.
            if session.is_ws_behind:
                # Meanwhile something was lost, of which it was not told: a gap lies at a break.
                self.close(socket, 1013, "too far behind")
            else:
                self._reinstate(session, socket)
        was_counted, session.is_ajax = session.is_ajax, False
        self._grace_over(session, "ajax", was_counted)

    def _grace_over(self, session: Session, kind: str, was_counted: bool) -> None:
        if self.is_stopped:
            return  # presence stays as it was then
        has_left = was_counted and self._presence._leave(kind, session.uid)
        last = session.last
        self._end_if_gone(session)  # first: who has left is meant by no send any more
        if has_left and last is not None:
            self._announce(False, session.uid, last)

    def _reinstate(self, session: Session, connection: Connection) -> None:
        own = connection.outbox
        if own is not None and own is not session:
            own.precede(session)
        self._not_displaced(session, connection)
        session.current = connection
        connection.outbox = session
        session.attach(connection.transport)

    def _end_if_gone(self, session: Session) -> None:
        if session.ws or session.poll or session.grace_ws or session.grace_ajax:
            return
        if not session.is_gone:
            session.is_gone = True
            if lost := session.drop("grace"):
                self._log_limit.info(log, "events_lost reason=grace events=%d of %r", lost, session)
            self._fanout.leave(session)
            session.last = None
            self.away -= 1
        if not session.displaced:  # else a disconnect must still find them
            self._forget(session)

    def _forget(self, session: Session) -> None:
        member = ANONYMOUS if session.uid is None else session.uid
        found = self._users[member]
        if isinstance(found, dict):
            del found[session.client_id]
            if not found:
                del self._users[member]
        else:
            del self._users[member]

    def _poll_due(self, connection: Connection) -> None:
        connection.timer = None
        self.end_poll(connection)

    def end_poll(self, connection: Connection) -> None:
        """Answer a parked poll with `[:chsk/timeout nil]`."""
        connection.transport.write([self._timeout])
        self.closed(connection, 1000)

    def _watch(self, connection: Connection) -> None:
        connection.timer = self._timers.schedule(
            self._config.ws_ping_interval, self._on_silence, connection
        )

    @staticmethod
    def _was_heard(connection: Connection) -> bool:
        """Return whether it lives, since the last look; whom we do not read we cannot hear."""
        transport = connection.transport
        was_heard = transport.heard or connection.inbox.stalled_count > 0
        transport.heard = False
        return was_heard

    def _look_alive(self, connection: Connection) -> None:
        timeout = self._config.ws_ping_timeout
        if self._was_heard(connection):
            self._watch(connection)
            return
        connection.put(self._ping)
        if timeout is None:
            self._watch(connection)
        else:
            connection.timer = self._timers.schedule(timeout, self._pong_due, connection)

    def _pong_due(self, connection: Connection) -> None:
        if self._was_heard(connection):
            self._watch(connection)
            return
        if self._timers.is_late:
            # We were late ourselves: what the client sent may not be read yet.
            connection.timer = self._timers.schedule(self._timers.lag, self._pong_due, connection)
            return
        connection.timer = None
        uid, client = connection.uid, connection.client_id[:8]
        self._log_limit.info(log, "ping_timeout uid=%r client=%r", uid, client)
        connection.transport.close(1011, "ping timeout")
        self.closed(connection, 1011)  # nobody is there whose closing handshake would come

    # -- closing from this side

    def disconnect(self, to: Target, code: int, reason: str) -> None:
        """Close every connection of a target, after what waits for it."""
        if to is ALL:
            self._fanout.flush_now()
            for connection in list(self.connections):
                self.close(connection, code, reason)
            return
        for session in self.known(to):
            session.flush_now()
            for connection in session.connections:
                self.close(connection, code, reason)

    def close(self, connection: Connection, code: int, reason: str) -> None:
        if connection.outbox is not None:
            connection.outbox.flush_now()  # a displaced socket has its own
        connection.transport.close(code, reason)
        if not connection.transport.streams:
            self.closed(connection, code)  # a socket's end is told by its edge

    def stop(self, code: int, reason: str) -> None:
        """Close everything after what waits for it; what nobody can take is lost."""
        for session in list(self.sessions(ALL)):
            session.drained()  # a backlog has the rest of stop_timeout to drain
        for connection in list(self.connections):
            self.close(connection, code, reason)
        self.drop(self.sessions(ALL), "stopped")
        self.is_stopped = True

    def drop(self, sessions: Collection[Session], reason: str) -> None:
        """Empty the outboxes of these sessions."""
        if lost := sum(session.drop(reason) for session in sessions):
            log.warning("events_lost reason=%s events=%d", reason, lost)
