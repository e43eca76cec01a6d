"""Which users are connected, and how: three live sets of user ids.

A member is counted once for each session and kind, so that a user leaves with its last
session. Users without an id stand as the one member ANONYMOUS. Who comes and goes,
and when grace ends, is the hub's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from chansock.target import ANONYMOUS, UserId, _Anonymous

__all__ = ["Presence", "Users"]


class Users(Set[UserId | _Anonymous]):
    """User ids that are connected: `in` and `len` read the live set, iterating walks a copy."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[UserId | _Anonymous, int] = {}

    def __contains__(self, uid: object) -> bool:
        return uid in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[UserId | _Anonymous]:
        return iter(list(self._counts))

    def __repr__(self) -> str:
        return f"Users({list(self._counts)!r})"

    @classmethod
    def _from_iterable(cls, it: object) -> set[object]:  # type: ignore[override]
        # `connected.ws & friends` gives a plain set: nobody else keeps it up to date.
        return set(it)  # type: ignore[call-overload, no-any-return]

    def _remove(self, uid: UserId | _Anonymous) -> bool:
        count = self._counts[uid] - 1
        if count:
            self._counts[uid] = count
            return False
        del self._counts[uid]
        return True


class Presence:
    """Who is connected: `ws` by WebSocket, `ajax` by Ajax, `any` by either."""

    __slots__ = ("ajax", "any", "ws")

    def __init__(self) -> None:
        self.ws: Users = Users()
        self.ajax: Users = Users()
        self.any: Users = Users()

    def _enter(self, kind: str, uid: UserId | None) -> bool:
        """Count one more session of this kind; True if the user has just come."""
        member = ANONYMOUS if uid is None else uid
        counts = self.ws._counts if kind == "ws" else self.ajax._counts
        counts[member] = counts.get(member, 0) + 1
        counts = self.any._counts
        counts[member] = count = counts.get(member, 0) + 1
        return count == 1

    def _leave(self, kind: str, uid: UserId | None) -> bool:
        """Count one session of this kind less; True if the user has just gone."""
        member = ANONYMOUS if uid is None else uid
        (self.ws if kind == "ws" else self.ajax)._remove(member)
        return self.any._remove(member)

    def _clear(self) -> None:
        """Begin anew, with nobody."""
        for users in (self.ws, self.ajax, self.any):
            users._counts.clear()

    def __repr__(self) -> str:
        return f"Presence(ws={len(self.ws)}, ajax={len(self.ajax)}, any={len(self.any)})"
