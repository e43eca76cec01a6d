"""Names of targets and clients, as the processes of one channel and their engine know them.

    *           everybody                  s<text>  i<number>  u<uuid>   a user
    -           those without a user id    c<client-id>                  a client without a user id

A client's name is its user's, a slash, and its client-id. What these names are used for is not
known here.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId

__all__ = ["ANONYMOUS_KEY", "client_key", "key_of", "keys_of", "target_of", "uid_of", "user_key"]

ALL_KEY: Final = "*"
ANONYMOUS_KEY: Final = "-"


def user_key(uid: UserId | None) -> str:
    """Return the name of a user; None: of those without a user id."""
    if uid is None:
        return ANONYMOUS_KEY
    if isinstance(uid, str):
        return f"s{uid}"
    return f"u{uid.hex}" if isinstance(uid, UUID) else f"i{uid}"


def uid_of(key: str) -> UserId | None:
    """Return the user id that a user's name stands for. Raises ValueError for any other text."""
    kind, text = key[:1], key[1:]
    if key == ANONYMOUS_KEY:
        return None
    if kind == "s":
        return text
    if kind == "i":
        return int(text)
    if kind == "u":
        return UUID(hex=text)
    raise ValueError(f"expected the name of a user, got {key!r:.80}")


def key_of(to: Target) -> tuple[str, str]:
    """Return the name of the target whose log has what is sent to `to`, and the one client-id
    that it is for, or an empty one."""
    if type(to) is str:  # nearly always
        return f"s{to}", ""
    if to is ALL:
        return ALL_KEY, ""
    if to is ANONYMOUS:
        return ANONYMOUS_KEY, ""
    if isinstance(to, ClientTarget):
        # A user's clients share a log; those without a user id are strangers to each other.
        key = f"c{to.client_id}" if to.uid is None else user_key(to.uid)
        return key, to.client_id
    return user_key(to), ""  # type: ignore[arg-type]


def target_of(key: str, only: str) -> Target:
    """Return what `key_of` was called with. Raises ValueError for names that it does not make."""
    if key == ALL_KEY:
        return ALL
    if key.startswith("c"):
        return ClientTarget(None, key[1:])
    uid = uid_of(key)
    if only:
        return ClientTarget(uid, only)
    return ANONYMOUS if uid is None else uid


def keys_of(client: ClientTarget) -> tuple[str, ...]:
    """Return the names of all targets that a client belongs to."""
    if client.uid is None:
        return ALL_KEY, ANONYMOUS_KEY, f"c{client.client_id}"
    return ALL_KEY, user_key(client.uid)


def client_key(client: ClientTarget) -> str:
    """Return the name of a client."""
    return f"{user_key(client.uid)}/{client.client_id}"
