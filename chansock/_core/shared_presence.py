"""Who is connected on any node: the users of this node go to the engine, and all come back.

A member is a kind of transport and a user: `ws:sann`, `ajax:-`. Presence is what the engine says,
so it is the same on all nodes; the handler of a user who came or went runs on one of them: where
its first member came from, or its last one was. When a session counts is decided in the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from chansock._core.cluster_keys import uid_of, user_key
from chansock._core.engine import Engine
from chansock._core.presence import Presence, Users
from chansock._fast.events.dispatch import Connection
from chansock.target import ANONYMOUS, UserId, _Anonymous

__all__ = ["SharedPresence"]

log = logging.getLogger("chansock.presence")

Announce = Callable[[bool, UserId | None, Connection | None], None]


class SharedPresence:
    """Keeps `presence` as the engine has it; calls `announce` where this node has to."""

    def __init__(self, presence: Presence, engine: Engine, announce: Announce) -> None:
        self._presence = presence
        self._engine = engine
        self._announce = announce
        self._own = Presence()  # the sessions of this node
        # Whose request the handler gets: of users that came or went, and nobody has heard it yet.
        self._first: dict[UserId | None, Connection] = {}
        self._last: dict[UserId | None, Connection] = {}

    # -- the hub says

    def enter(self, kind: str, uid: UserId | None, connection: Connection) -> None:
        """Count one more session of this node."""
        if self._own._enter(kind, uid):
            self._first[uid] = connection
        if _users(self._own, kind)._counts[_name(uid)] == 1:
            self._engine.enter(f"{kind}:{user_key(uid)}")

    def leave(self, kind: str, uid: UserId | None, last: Connection | None) -> None:
        """Count one session of this node less."""
        if self._own._leave(kind, uid) and last is not None:
            self._last[uid] = last
        if _name(uid) not in _users(self._own, kind):
            self._engine.leave(f"{kind}:{user_key(uid)}")

    # -- the engine says

    def entered(self, member: str, origin: str) -> None:
        """Note that a member has come, on the node `origin`."""
        found = _parse(member)
        if found is not None and self._presence._enter(*found):
            self._changed(found[1], origin, True)

    def left(self, member: str, origin: str) -> None:
        """Note that a member has gone; `origin` was its last node, or cleared up after that."""
        found = _parse(member)
        if found is not None and self._presence._leave(*found):
            self._changed(found[1], origin, False)

    def _changed(self, uid: UserId | None, origin: str, is_open: bool) -> None:
        connection = (self._first if is_open else self._last).pop(uid, None)
        if origin == self._engine.node_id:
            self._announce(is_open, uid, connection)

    def present(self, members: Iterable[str]) -> None:
        """Begin anew with all members."""
        self._presence._clear()
        for member in members:
            found = _parse(member)
            if found is not None:
                self._presence._enter(*found)


def _name(uid: UserId | None) -> UserId | _Anonymous:
    return ANONYMOUS if uid is None else uid


def _users(presence: Presence, kind: str) -> Users:
    return presence.ws if kind == "ws" else presence.ajax


def _parse(member: str) -> tuple[str, UserId | None] | None:
    """Return the kind of transport and the user of a member; None: it is none."""
    kind, _, key = member.partition(":")
    if kind not in ("ws", "ajax"):
        return None
    try:
        return kind, uid_of(key)
    except ValueError:
        return None
