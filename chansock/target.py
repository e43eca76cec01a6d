"""Whom a `send` is for: a user id, ALL, ANONYMOUS, or one client.

Each special target is a type of its own, so that no user id can equal one.
Knows nothing of who is connected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, final
from uuid import UUID

__all__ = ["ALL", "ANONYMOUS", "ClientTarget", "Target", "UserId", "is_user_id"]

UserId: TypeAlias = str | int | UUID

MAX_USER_ID_LENGTH: Final = 256  # characters; longer ones are surely a mistake (a token, a record)


@final
class _All:
    """The target that means every client, anonymous ones included.

    `chsk.send(chansock.ALL, "chat/said", data)` is a broadcast.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "chansock.ALL"


@final
class _Anonymous:
    """The target that means every client without a user id, for which `msg.uid` is None.

    It also stands for them in `chsk.connected` and as the data of `chsk/uidport-open`. On the
    wire it is `:sente/nil-uid`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "chansock.ANONYMOUS"


ALL: Final = _All()
ANONYMOUS: Final = _Anonymous()


@final
@dataclass(frozen=True, slots=True)
class ClientTarget:
    """One session: this client-id of this user (`uid` None: an anonymous one).

    The client-id of an anonymous client is its bearer secret, so `repr` cuts it.
    """

    uid: UserId | None
    client_id: str

    def __repr__(self) -> str:
        return f"ClientTarget(uid={self.uid!r}, client_id={self.client_id[:8]!r})"


Target: TypeAlias = UserId | _All | _Anonymous | ClientTarget


def is_user_id(value: object) -> bool:
    """Return whether value can name a user: str of 1 to 256 characters, int (no bool), UUID."""
    if isinstance(value, str):
        return 0 < len(value) <= MAX_USER_ID_LENGTH
    return isinstance(value, int | UUID) and not isinstance(value, bool)
