"""Who is connected on any node: the users of this node go to the engine, and all come back.

A member is a kind of transport and a user: `ws:sann`, `any:-`. Presence is what the engine says, so
it is the same on all nodes; the handler of a user who came or went runs on one of them. When a
session counts is decided in the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from chansock._core.cluster_keys import uid_of, user_key
from chansock._core.engine import Engine
from chansock._core.presence import Presence, Users
from chansock._fast.events.dispatch import Connection
from chansock.target import ANONYMOUS, UserId, _Anonymous

__all__ = ["SharedPresence"]

log = logging.getLogger("chansock.presence")

ANY: Final = "any"

Announce = Callable[[bool, UserId | None, Connection | None], None]


class SharedPresence:
    """Keeps `presence` as the engine has it; calls `announce` where this node has to."""

    def __init__(self, presence: Presence, engine: Engine, announce: Announce) -> None:
        self._presence = presence
        self._engine = engine
        self._announce = announce
        self._own = Presence()  # the sessions of this node
        self._last: dict[UserId | None, Connection] = {}  # of users that come or go

    # -- the hub says

    def enter(self, kind: str, uid: UserId | None, connection: Connection) -> None:
        """Count one more session of this node."""
        member = ANONYMOUS if uid is None else uid
        is_new = member not in self._users(self._own, kind)
        if self._own._enter(kind, uid):
            self._last[uid] = connection
            self._engine.enter(f"{ANY}:{user_key(uid)}")
        if is_new:
            self._engine.enter(f"{kind}:{user_key(uid)}")

    def leave(self, kind: str, uid: UserId | None, last: Connection | None) -> None:
        """Count one session of this node less."""
        member = ANONYMOUS if uid is None else uid
        is_gone = self._own._leave(kind, uid)
        if member not in self._users(self._own, kind):
            self._engine.leave(f"{kind}:{user_key(uid)}")
        if is_gone:
            if last is not None:
                self._last[uid] = last
            self._engine.leave(f"{ANY}:{user_key(uid)}")

    # -- the engine says

    def entered(self, member: str, origin: str) -> None:
        """Note that a member has come, on the node `origin`."""
        self._changed(member, origin, True)

    def left(self, member: str, origin: str) -> None:
        """Note that a member has gone; `origin` was its last node, or cleared up after that."""
        self._changed(member, origin, False)

    def _changed(self, member: str, origin: str, is_open: bool) -> None:
        kind, _, key = member.partition(":")
        try:
            uid = uid_of(key)
        except ValueError:
            return
        users = self._users(self._presence, kind)
        name: UserId | _Anonymous = ANONYMOUS if uid is None else uid
        if is_open:
            users._counts[name] = 1
        else:
            users._counts.pop(name, None)
        if kind == ANY and origin == self._engine.node_id:
            self._announce(is_open, uid, self._last.pop(uid, None))

    def present(self, members: Iterable[str]) -> None:
        """Begin anew with all members."""
        self._presence._clear()
        for member in members:
            kind, _, key = member.partition(":")
            try:
                uid = uid_of(key)
            except ValueError:
                continue
            name: UserId | _Anonymous = ANONYMOUS if uid is None else uid
            self._users(self._presence, kind)._counts[name] = 1

    @staticmethod
    def _users(presence: Presence, kind: str) -> Users:
        return presence.ws if kind == "ws" else presence.ajax if kind == "ajax" else presence.any
