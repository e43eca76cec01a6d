"""The hub: connected users and the life of their sessions.

A session opens, may be displaced by a newer connection, may go away and return within its
grace period, and finally ends; presence follows. `session_state` says in tables what follows
from what; the hub pulls the triggers of these tables and carries the actions out. Queued events
live in the session's Outbox (`_fast/events/fanout`), timers in `_fast/io/timers`. The hub does
not check requests, encode values, or touch sockets. It is well past 400 lines because the actions
of one table belong side by side, and so do all ways in which a connection is displaced or closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

from chansock._core.backplane import Backplane
from chansock._core.keep_alive import KeepAlive
from chansock._core.presence import Presence
from chansock._core.session import Displaced, Session
from chansock._core.session_state import (
    POLLS,
    SESSION,
    SOCKET,
    Action,
    Do,
    ImpossibleTrigger,
    Life,
    On,
    Polls,
    Socket,
    State,
    Table,
    Trigger,
)
from chansock._core.session_table import SessionTable
from chansock._fast.events.dispatch import Connection, Inbox
from chansock._fast.events.fanout import Fanout
from chansock._fast.events.packet import Packet
from chansock._fast.io.timers import TimerQueue
from chansock.config import Config
from chansock.request import Response
from chansock.target import ALL, Target, UserId

__all__ = ["Hub"]

log = logging.getLogger("chansock.hub")

# Displaced connections of one session that stay open. A client that reconnects every two or three
# seconds has as many old sockets before the keep-alive finds out that they are dead.
MAX_DISPLACED: Final = 8

# The close code of a connection whose client-id came with another one: a client that meant that
# does not read it any more.
REPLACED: Final = 4409

# An action as a method: (session, connection, handshake). The connection is the one that the
# trigger is about, or for the end of a grace period the one that closed last.
_Act: TypeAlias = Callable[..., object]
_Methods: TypeAlias = dict[State, dict[Trigger, tuple[State, tuple[_Act, ...]]]]


def _with_methods(table: Table, acts: Mapping[Action, _Act]) -> _Methods:
    return {
        state: {
            trigger: (following, tuple(acts[action] for action in actions))
            for trigger, (following, actions) in row.items()
        }
        for state, row in table.items()
    }


class Hub:
    """All sessions of one channel.

    Calls `announce(is_open, uid, connection)` for each user who comes or goes, after presence
    has changed. `strays()` returns the number of requests that wait without a session, and
    `new_ack(inbox)` the packet that acknowledges events of a client that resumes, or None.
    """

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
        backplane: Backplane | None = None,
        new_ack: Callable[[Inbox], Packet | None] = lambda _: None,
    ) -> None:
        self.strays = strays
        self.enter, self.leave = self._enter, self._leave  # of all processes, if there are more
        self._backplane = backplane  # None: no client resumes
        self._new_ack = new_ack
        self._config = config
        self._timers, self._log_limit = timers, timers.log_limit
        self._fanout = fanout
        self._presence = presence
        self._announce = announce
        fanout.ping = ping
        self._timeout = timeout
        self._keep_alive = KeepAlive(config, timers, ping, self.closed)
        self.table = SessionTable(fanout, self._poll_answered)
        self.moved = SessionTable(fanout, self._poll_answered)  # of clients of other processes
        self.connections: set[Connection] = set()
        self.cut = 0
        self.closed_by_code: dict[int, int] = {}
        self.is_stopped = False
        # The tables, with methods in place of actions.
        self._socket = _with_methods(
            SOCKET,
            {
                Do.ATTACH: self._attach_socket,
                Do.SEPARATE: self._separate,
                Do.REINSTATE: self._reinstate,
                Do.CLOSE: self._close_behind,
                Do.START_GRACE: self._start_grace_ws,
                Do.STOP_GRACE: self._stop_grace_ws,
                Do.ENTER: self._enter_ws,
                Do.END: self._end_if_over,
                Do.LEAVE: self._leave_ws,
            },
        )
        self._polls = _with_methods(
            POLLS,
            {
                Do.ATTACH: self._attach_poll,
                Do.START_GRACE: self._start_grace_ajax,
                Do.STOP_GRACE: self._stop_grace_ajax,
                Do.COUNT_CUT: self._count_cut,
                Do.ENTER: self._enter_ajax,
                Do.END: self._end_if_over,
                Do.LEAVE: self._leave_ajax,
            },
        )
        self._life = _with_methods(
            SESSION,
            {
                Do.QUIT: self._quit,
                Do.FORGET: self._forget,
                Do.JOIN: self.table.join,
            },
        )

    # -- finding

    def has_room(self, uid: UserId | None, client_id: str) -> str | None:
        """Return why there is no room for one more connection of this client, or None."""
        limit = self._config.max_connections
        session = self.table.find(uid, client_id)
        if session is not None:
            if session.displaced is not None and len(session.displaced) >= 2 * MAX_DISPLACED:
                # Half of them are closing, and their peers don't answer the closing handshake.
                return f"expected at most {2 * MAX_DISPLACED} displaced connections of one client"
            if session.life is Life.AWAY:
                return None  # it comes back to the place that it has
        if limit is not None and len(self.connections) + self.table.away + self.strays() >= limit:
            return f"expected at most {limit} connections: see max_connections"
        if uid is None or session is not None:
            return None
        count = self.table.count(uid)
        if count >= self._config.max_clients_per_user:
            return f"expected at most {count} clients of one user: see max_clients_per_user"
        return None

    def connections_of(self, to: Target) -> list[Connection]:
        """Return what is open of a user or a client, though another process may serve it."""
        sessions = (*self.table.known(to), *self.moved.known(to))
        return [connection for session in sessions for connection in session.connections]

    def has_resuming(self, to: Target) -> bool:
        """Return whether a client of this target has a session, and resumes."""
        for session in self.table.known(to):
            numbers = session.inbox.numbers
            if numbers is not None and numbers.session is session:  # else its record is kept
                return True
        return False

    # -- a trigger: the next state, then what to do

    def _on_socket(
        self,
        session: Session,
        trigger: Trigger,
        connection: Connection | None = None,
        handshake: Packet | None = None,
    ) -> None:
        try:
            session.socket, acts = self._socket[session.socket][trigger]
        except KeyError:
            raise ImpossibleTrigger(session.socket, trigger, SOCKET[session.socket]) from None
        for act in acts:
            act(session, connection, handshake)

    def _on_polls(
        self, session: Session, trigger: Trigger, connection: Connection | None = None
    ) -> None:
        try:
            session.polls, acts = self._polls[session.polls][trigger]
        except KeyError:
            raise ImpossibleTrigger(session.polls, trigger, POLLS[session.polls]) from None
        for act in acts:
            act(session, connection, None)

    def _on_life(self, session: Session, trigger: Trigger) -> None:
        try:
            session.life, acts = self._life[session.life][trigger]
        except KeyError:
            raise ImpossibleTrigger(session.life, trigger, SESSION[session.life]) from None
        for act in acts:
            act(session)

    # -- opening

    def open_ws(self, session: Session, connection: Connection, handshake: Packet) -> None:
        """Make a socket the session's newest connection; the handshake is written first."""
        self._came(session)
        if session.socket is Socket.CURRENT or session.polls is Polls.PARKED:
            self._displace(session)
        session.ws = connection
        self.connections.add(connection)
        self._on_socket(session, On.OPENED, connection, handshake)
        if session.displaced is not None:
            self._close_oldest(session.displaced)

    def open_ajax(self, session: Session) -> None:
        """Note an Ajax handshake: what comes waits, the grace runs, presence comes with a poll.

        A client that changes to Ajax has given up its socket, which may be dead: what is sent
        from now on waits for the poll.
        """
        session.has_gap = False
        self._on_polls(session, On.HANDSHAKE)
        if session.socket is Socket.CURRENT:
            self._displace(session)
            self._close_oldest(session.displaced or {})

    def park(self, session: Session, connection: Connection) -> bool:
        """Make a poll the session's newest connection; what waits answers it at once.

        False: it is not, for the session was just cut, by what a displaced socket did not take.
        """
        self._came(session)
        if session.polls is Polls.ANSWERED:
            self._on_polls(session, On.CONFIRMED)
        if session.socket is Socket.CURRENT or session.polls is Polls.PARKED:
            self._displace(session)
        if session.has_gap:
            return False
        session.poll = connection
        self.connections.add(connection)
        self._on_polls(session, On.PARKED, connection)
        if session.displaced is not None:
            self._close_oldest(session.displaced)
        return True

    def _came(self, session: Session) -> None:
        # Counted here: a method for an action would cost each connection a call.
        self.table.away -= session.life is Life.AWAY
        self._on_life(session, On.CAME)
        session.last = None

    def _displace(self, session: Session) -> None:
        """Displace the newest connection: a newer one comes."""
        old = session.current
        assert old is not None
        if old is session.ws:
            self._on_socket(session, On.DISPLACED, old)
        else:
            session.poll = None  # stays parked until it is due
            self._on_polls(session, On.DISPLACED, old)
        if session.displaced is None:
            session.displaced = {}
        session.displaced[old] = False

    def _close_oldest(self, displaced: dict[Connection, bool]) -> None:
        """Close the displaced connection that is open for the longest if there are too many.

        Code 1008, after which our clients stay away: they would displace each other for ever.
        """
        still_open = [connection for connection, is_closing in displaced.items() if not is_closing]
        if len(still_open) > MAX_DISPLACED:
            displaced[still_open[0]] = True
            self.close(still_open[0], 1008, "too many connections of one client")

    def end_connections(self, session: Session) -> None:
        """Close all connections of a client that comes back: it has given them up.

        Nothing more is taken from them, and what waits is not written to them.
        """
        for connection in session.connections:
            connection.is_ending = True
            connection.leave()
        if session.current is not None:
            session.detach()
        if session.socket is Socket.CURRENT:
            self._displace(session)
        why = "another connection of this client"
        if session.poll is not None:  # no newer one may take its place
            poll = session.poll
            poll.transport.refuse(Response(409, why))
            self.closed(poll, REPLACED)
        for connection, is_closing in list((session.displaced or {}).items()):
            if not is_closing and session.displaced is not None:
                session.displaced[connection] = True
                self.close(connection, REPLACED, why)

    def move(self, session: Session, at_end: Callable[[], object]) -> None:
        """Serve a client no longer, since another process does: it leaves presence after grace.

        A client that resumes has given up its connections. Those of any other client stay open, as
        if the newer one had opened here: they get replies, but no pushes. Of a client that moves
        twice, those of the first time are closed, so that their number has a limit. `at_end` is
        called when none is left.
        """
        is_sent_to = session.life is not Life.GONE
        session.at_end = at_end
        self.table.forget(session)
        older = self.moved.find(session.uid, session.client_id)
        if older is not None:
            self.end_connections(older)
            self._forget_moved(older)
        self.moved.add(session)
        if session.inbox.numbers is not None:
            self.end_connections(session)
            session.inbox.numbers.session = None
        elif (current := session.current) is not None:
            self._displace(session)
            session.detach()
            if session.ws is None:
                self._on_life(session, On.LEFT)
                session.last = current
                self.table.away += 1
        session.drop("moved")
        if is_sent_to:
            self._fanout.leave(session)

    def _forget_moved(self, session: Session) -> None:
        if self.moved.find(session.uid, session.client_id) is session:
            self.moved.forget(session)

    def miss(self, session: Session) -> None:
        """Close the connections of a client that missed events: it returns, and is told."""
        session.drop("missed")
        session.has_gap = True
        for connection in session.connections:
            self.close(connection, 1013, "events were lost")

    # -- closing

    def closed(self, connection: Connection, code: int, trigger: Trigger = On.CLOSED) -> None:
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
        if session.displaced is not None:
            self._not_displaced(session, connection)
        if connection.transport.streams:
            self.closed_by_code[code] = self.closed_by_code.get(code, 0) + 1
            self.cut += code == 1006
        if session.ws is connection:
            is_current = session.socket is Socket.CURRENT
            session.ws = None
            self._on_socket(session, On.CLOSED)
        elif session.poll is connection:
            is_current = session.polls is Polls.PARKED
            session.poll = None
            self._on_polls(session, trigger)
        else:
            return
        if is_current:
            session.detach()
        if session.ws is None and session.poll is None:
            self._on_life(session, On.LEFT)
            session.last = connection  # whose request a uidport-close carries
            self.table.away += 1

    def _poll_answered(self, session: Session) -> None:
        if session.poll is not None:
            self.closed(session.poll, 1000, On.ANSWERED)

    def _not_displaced(self, session: Session, connection: Connection) -> None:
        if session.displaced is not None and connection in session.displaced:
            del session.displaced[connection]
            if not session.displaced:
                session.displaced = None
                self._on_life(session, On.EMPTIED)

    # -- what is due

    def _ws_grace_over(self, session: Session) -> None:
        session.grace_ws = None
        if not self.is_stopped:  # else presence stays as it was then
            self._on_socket(session, On.GRACE_OVER, session.last)

    def _ajax_grace_over(self, session: Session) -> None:
        session.grace_ajax = None
        if not self.is_stopped:
            self._on_polls(session, On.GRACE_OVER, session.last)
            if not session.has_moved:  # else its socket stays displaced
                self._on_socket(session, On.POLLS_OVER, session.ws)

    def _poll_due(self, connection: Connection) -> None:
        connection.timer = None
        self.end_poll(connection)

    def end_poll(self, connection: Connection) -> None:
        """Answer a parked poll with `[:chsk/timeout nil]`, or what there is to acknowledge."""
        connection.transport.write([self._new_ack(connection.inbox) or self._timeout])
        self.closed(connection, 1000)

    # -- closing from this side

    def disconnect(self, to: Target, code: int, reason: str) -> None:
        """Close every connection of a target, after what waits for it."""
        if to is ALL:
            self._fanout.flush_now()
            for connection in list(self.connections):
                self.close(connection, code, reason)
            return
        for session in self.table.known(to):
            session.flush_now()
        for connection in self.connections_of(to):
            self.close(connection, code, reason)

    def close(self, connection: Connection, code: int, reason: str) -> None:
        if connection.outbox is not None:
            connection.outbox.flush_now()  # a displaced socket has its own
        connection.transport.close(code, reason)
        if not connection.transport.streams:
            self.closed(connection, code)  # the edge tells the end of a socket

    def stop(self, code: int, reason: str) -> None:
        """Close everything after what waits for it; what nobody can take is lost."""
        for session in list(self._fanout):
            session.drained()  # a backlog has the rest of stop_timeout to drain
        for connection in list(self.connections):
            self.close(connection, code, reason)
        self.drop(self.table.meant(ALL), "stopped")
        self.is_stopped = True
        if self._backplane is not None:
            for session in self.table:
                self._keep(session, session.inbox.renewed())

    def _keep(self, session: Session, inbox: Inbox) -> None:
        """Keep the record of a client that may resume: its session ends."""
        if self._backplane is None:
            return
        if inbox.numbers is not None:
            inbox.numbers.session = None
            self._backplane.keep(session.target, inbox)
        else:
            self._backplane.ended(session.target)

    def drop(self, sessions: Collection[Session], reason: str) -> None:
        """Empty the outboxes of these sessions."""
        if lost := sum(session.drop(reason) for session in sessions):
            log.warning("events_lost reason=%s events=%d", reason, lost)

    # -- actions of the tables

    def _attach_socket(self, session: Session, connection: Connection, handshake: Packet) -> None:
        connection.outbox = session
        transport = connection.transport
        session.attach(transport, handshake)
        transport.heard = False  # silence is counted from here, not from its request
        if transport.receives:
            self._keep_alive.watch(connection)

    def _attach_poll(self, session: Session, connection: Connection, _: object) -> None:
        connection.timer = self._timers.schedule(
            self._config.poll_timeout, self._poll_due, connection
        )
        session.attach(connection.transport)

    def _separate(self, session: Session, connection: Connection, _: object) -> None:
        # It stays open, gets replies from an outbox of its own, and is kept alive.
        if not session.has_moved:  # else what waits goes to the process that serves the client
            session.flush_now()
        connection.outbox = own = Displaced(self._fanout, connection)
        session.detach(own)
        own.attach(connection.transport)

    def _reinstate(self, session: Session, connection: Connection, _: object) -> None:
        # Its polls displaced this socket, which was not cut, and are gone: it is the newest.
        own = connection.outbox
        if own is not None and own is not session:
            own.precede(session)
        self._not_displaced(session, connection)
        connection.outbox = session
        session.attach(connection.transport)

    def _close_behind(self, _: Session, connection: Connection, __: object) -> None:
        # Events were lost of which the socket was not told: a gap lies at a break.
        self.close(connection, 1013, "too far behind")

    def _start_grace_ws(self, session: Session, _: object, __: object) -> None:
        session.grace_ws = self._timers.schedule(
            self._config.grace_ws, self._ws_grace_over, session
        )

    def _stop_grace_ws(self, session: Session, _: object, __: object) -> None:
        self._timers.cancel(session.grace_ws)
        session.grace_ws = None

    def _start_grace_ajax(self, session: Session, _: object, __: object) -> None:
        self._timers.cancel(session.grace_ajax)
        session.grace_ajax = self._timers.schedule(
            self._config.grace_ajax, self._ajax_grace_over, session
        )

    def _stop_grace_ajax(self, session: Session, _: object, __: object) -> None:
        self._timers.cancel(session.grace_ajax)
        session.grace_ajax = None

    def _count_cut(self, _: Session, __: object, ___: object) -> None:
        self.cut += 1

    def _enter_ws(self, session: Session, connection: Connection, _: object) -> None:
        self.enter("ws", session.uid, connection)

    def _enter_ajax(self, session: Session, connection: Connection, _: object) -> None:
        self.enter("ajax", session.uid, connection)

    def _leave_ws(self, session: Session, last: Connection | None, _: object) -> None:
        self.leave("ws", session.uid, last)

    def _leave_ajax(self, session: Session, last: Connection | None, _: object) -> None:
        self.leave("ajax", session.uid, last)

    def _enter(self, kind: str, uid: UserId | None, connection: Connection) -> None:
        if self._presence._enter(kind, uid):
            self._announce(True, uid, connection)

    def _leave(self, kind: str, uid: UserId | None, last: Connection | None) -> None:
        if self._presence._leave(kind, uid) and last is not None:
            self._announce(False, uid, last)

    def _end_if_over(self, session: Session, _: object, __: object) -> None:
        if session.socket is Socket.NONE and session.polls is Polls.NONE:
            # A disconnect must still find what is displaced.
            self._on_life(session, On.ENDED if session.displaced is None else On.OVER)

    def _forget(self, session: Session) -> None:
        if session.at_end is not None:
            self._forget_moved(session)
            session.at_end()
            return
        self.table.forget(session)
        if not self.is_stopped:
            self._keep(session, session.inbox)

    def _quit(self, session: Session) -> None:
        if lost := session.drop("grace"):
            self._log_limit.info(log, "events_lost reason=grace events=%d of %r", lost, session)
        if not session.has_moved:
            self._fanout.leave(session)
        session.last = None
        self.table.away -= 1
