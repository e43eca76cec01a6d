"""The life of a session as tables: state and trigger to the next state and its actions.

    SOCKET    its newest WebSocket
    POLLS     its Ajax client: handshakes and long polls
    SESSION   the session itself: connected, away, or gone

A session is in one state of each. The hub pulls the triggers: it looks up
`table[state][trigger]`, sets the new state, and then runs the actions in their order. A trigger
that a state does not list cannot happen there: it raises ImpossibleTrigger. docs/sessions.md
draws the tables.

One fact is not in the tables, since it holds beside any state of POLLS: `Session.has_gap`.

Nothing here knows a clock, a connection, or a Session.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

__all__ = [
    "POLLS",
    "SESSION",
    "SOCKET",
    "Action",
    "Do",
    "ImpossibleTrigger",
    "Life",
    "On",
    "Polls",
    "Socket",
    "State",
    "Table",
    "Trigger",
    "following",
]


class _Named:
    # Plain objects, compared by identity: hashing an Enum's member would take a Python call.
    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        if not hasattr(self, "_name"):  # else another class has it as a default
            self._name = name

    def __repr__(self) -> str:
        return self._name


class State(_Named):
    """A row of a table."""

    __slots__ = ()


class Trigger(_Named):
    """What happens to a session."""

    __slots__ = ()


class Action(_Named):
    """What the hub does after a state has changed."""

    __slots__ = ()


class Socket:
    """The states of a session's newest WebSocket."""

    NONE: Final = State()
    CURRENT: Final = State()  # open; pushes go to it
    DISPLACED: Final = State()  # open; pushes go to polls, its replies to an outbox of its own
    BEHIND: Final = State()  # displaced, and the session has lost events since
    CUT: Final = State()  # open; too much waited for it, so nothing is written to it any more
    GRACE: Final = State()  # closed; the client may return until grace_ws is over


class Polls:
    """The states of a session's Ajax client."""

    NONE: Final = State()
    HANDSHAKEN: Final = State()  # grace_ajax runs until the first poll; not in presence yet
    PARKED: Final = State()  # a poll is parked; pushes go to it
    CUT: Final = State()  # a poll is parked; too much waited for it, so it gets nothing any more
    GRACE: Final = State()  # no poll is parked; the next one may come until grace_ajax is over
    ANSWERED: Final = State()  # the same, and nobody knows whether the last answer arrived


class Life:
    """The states of a session as a whole."""

    CONNECTED: Final = State()  # a socket is open, or a poll is parked
    AWAY: Final = State()  # neither; a grace period runs, and events wait
    GONE: Final = State()  # nothing is sent to it; it stays for displaced connections
    FORGOTTEN: Final = State()  # the hub knows it no more


class On:
    """All triggers."""

    # a connection comes
    OPENED: Final = Trigger()  # a WebSocket has opened
    HANDSHAKE: Final = Trigger()  # an Ajax client has its handshake
    CONFIRMED: Final = Trigger()  # a poll comes, so the answer to the last one has arrived
    PARKED: Final = Trigger()  # a poll is parked
    DISPLACED: Final = Trigger()  # a newer connection takes its place
    # a connection goes
    ANSWERED: Final = Trigger()  # the parked poll took a batch
    CLOSED: Final = Trigger()  # the socket closed; the parked poll broke, timed out, or was ended
    GRACE_OVER: Final = Trigger()  # nobody has returned
    POLLS_OVER: Final = Trigger()  # the Ajax client of this socket's session has not returned
    # too much waited, and the fanout emptied an outbox
    OUTBOX_CUT: Final = Trigger()  # that of the session
    REPLIES_CUT: Final = Trigger()  # that of a displaced socket
    # the session as a whole
    RETURNED: Final = Trigger()  # the client of a session that is gone has come back
    CAME: Final = Trigger()  # a socket or a poll is about to open
    LEFT: Final = Trigger()  # no socket is open and no poll is parked any more
    OVER: Final = Trigger()  # and no grace period runs; displaced connections are left
    ENDED: Final = Trigger()  # the same, and none is left
    EMPTIED: Final = Trigger()  # no displaced connection is left


class Do:
    """All actions; the hub has a method for each."""

    ATTACH: Final = Action()  # write to the new connection from now on
    SEPARATE: Final = Action()  # give a displaced socket an outbox of its own, for its replies
    REINSTATE: Final = Action()  # write to the displaced socket again
    CLOSE: Final = Action()  # close it with 1013: a gap must lie at a break
    START_GRACE: Final = Action()  # or start it anew
    STOP_GRACE: Final = Action()
    COUNT_CUT: Final = Action()  # count the answer to the last poll as cut
    ENTER: Final = Action()  # count the session in presence
    END: Final = Action()  # pull OVER or ENDED, if SOCKET and POLLS both are in NONE
    LEAVE: Final = Action()  # count the session in presence no more
    JOIN: Final = Action()  # send to it what is sent to all
    QUIT: Final = Action()  # send nothing to it; what waits is lost
    FORGET: Final = Action()


Table: TypeAlias = dict[State, dict[Trigger, tuple[State, tuple[Action, ...]]]]

SOCKET: Final[Table] = {
    Socket.NONE: {
        On.OPENED: (Socket.CURRENT, (Do.ATTACH, Do.ENTER)),
        On.OUTBOX_CUT: (Socket.NONE, ()),
        On.POLLS_OVER: (Socket.NONE, ()),
    },
    Socket.CURRENT: {
        On.DISPLACED: (Socket.DISPLACED, (Do.SEPARATE,)),
        On.OUTBOX_CUT: (Socket.CUT, ()),
        On.POLLS_OVER: (Socket.CURRENT, ()),
        On.CLOSED: (Socket.GRACE, (Do.START_GRACE,)),
    },
    Socket.DISPLACED: {
        On.OPENED: (Socket.CURRENT, (Do.ATTACH,)),
        On.OUTBOX_CUT: (Socket.BEHIND, ()),
        On.REPLIES_CUT: (Socket.CUT, ()),
        On.POLLS_OVER: (Socket.CURRENT, (Do.REINSTATE,)),
        On.CLOSED: (Socket.GRACE, (Do.START_GRACE,)),
    },
    Socket.BEHIND: {
        On.OPENED: (Socket.CURRENT, (Do.ATTACH,)),
        On.OUTBOX_CUT: (Socket.BEHIND, ()),
        On.REPLIES_CUT: (Socket.CUT, ()),
        On.POLLS_OVER: (Socket.BEHIND, (Do.CLOSE,)),
        On.CLOSED: (Socket.GRACE, (Do.START_GRACE,)),
    },
    Socket.CUT: {
        On.OPENED: (Socket.CURRENT, (Do.ATTACH,)),
        On.OUTBOX_CUT: (Socket.CUT, ()),
        On.POLLS_OVER: (Socket.CUT, ()),
        On.CLOSED: (Socket.GRACE, (Do.START_GRACE,)),
    },
    Socket.GRACE: {
        On.OPENED: (Socket.CURRENT, (Do.STOP_GRACE, Do.ATTACH)),
        On.OUTBOX_CUT: (Socket.GRACE, ()),
        On.POLLS_OVER: (Socket.GRACE, ()),
        On.GRACE_OVER: (Socket.NONE, (Do.END, Do.LEAVE)),
    },
}

POLLS: Final[Table] = {
    Polls.NONE: {
        On.HANDSHAKE: (Polls.HANDSHAKEN, (Do.START_GRACE,)),
        On.OUTBOX_CUT: (Polls.NONE, ()),
    },
    Polls.HANDSHAKEN: {
        On.HANDSHAKE: (Polls.HANDSHAKEN, (Do.START_GRACE,)),
        On.PARKED: (Polls.PARKED, (Do.STOP_GRACE, Do.ATTACH, Do.ENTER)),
        On.OUTBOX_CUT: (Polls.HANDSHAKEN, ()),
        On.GRACE_OVER: (Polls.NONE, (Do.END,)),
    },
    Polls.PARKED: {
        On.HANDSHAKE: (Polls.PARKED, ()),
        On.DISPLACED: (Polls.GRACE, (Do.START_GRACE,)),
        On.ANSWERED: (Polls.ANSWERED, (Do.START_GRACE,)),
        On.OUTBOX_CUT: (Polls.CUT, ()),
        On.CLOSED: (Polls.GRACE, (Do.START_GRACE,)),
    },
    Polls.CUT: {
        On.HANDSHAKE: (Polls.CUT, ()),
        On.PARKED: (Polls.PARKED, (Do.ATTACH,)),
        On.OUTBOX_CUT: (Polls.CUT, ()),
        On.CLOSED: (Polls.GRACE, (Do.START_GRACE,)),
    },
    Polls.GRACE: {
        On.HANDSHAKE: (Polls.GRACE, (Do.START_GRACE,)),
        On.PARKED: (Polls.PARKED, (Do.STOP_GRACE, Do.ATTACH)),
        On.OUTBOX_CUT: (Polls.GRACE, ()),
        On.GRACE_OVER: (Polls.NONE, (Do.END, Do.LEAVE)),
    },
    Polls.ANSWERED: {
        On.HANDSHAKE: (Polls.GRACE, (Do.COUNT_CUT, Do.START_GRACE)),
        On.CONFIRMED: (Polls.GRACE, ()),
        On.OUTBOX_CUT: (Polls.ANSWERED, ()),
        On.GRACE_OVER: (Polls.NONE, (Do.COUNT_CUT, Do.END, Do.LEAVE)),
    },
}

SESSION: Final[Table] = {
    Life.CONNECTED: {
        On.CAME: (Life.CONNECTED, ()),
        On.LEFT: (Life.AWAY, ()),
        On.EMPTIED: (Life.CONNECTED, ()),
    },
    Life.AWAY: {
        On.CAME: (Life.CONNECTED, ()),
        On.OVER: (Life.GONE, (Do.QUIT,)),
        On.ENDED: (Life.FORGOTTEN, (Do.QUIT, Do.FORGET)),
        On.EMPTIED: (Life.AWAY, ()),
    },
    Life.GONE: {
        On.RETURNED: (Life.AWAY, (Do.JOIN,)),
        On.EMPTIED: (Life.FORGOTTEN, (Do.FORGET,)),
    },
    Life.FORGOTTEN: {},
}


class ImpossibleTrigger(RuntimeError):
    """A state and a trigger that cannot meet: a mistake in the hub, not of a peer."""

    def __init__(self, state: State, trigger: Trigger, possible: Iterable[Trigger]) -> None:
        self.state, self.trigger = state, trigger
        super().__init__(f"expected one of {list(possible)} in state {state!r}, got {trigger!r}")


def following(table: Table, state: State, trigger: Trigger) -> State:
    """Return the next state, for a step without actions. Raises ImpossibleTrigger."""
    try:
        return table[state][trigger][0]
    except KeyError:
        raise ImpossibleTrigger(state, trigger, table[state]) from None
