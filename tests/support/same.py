"""Whether two edn values are the same value: types told apart, order where order counts.

Python calls 1, 1.0 and True equal, and a keyword equals its text; edn does not. So both
sides are turned into trees whose leaves name their type, and the trees are compared.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

from chansock import edn
from chansock.values import Char, Keyword, List, StrDict, Symbol, Tagged


def tree(value: Any) -> Hashable:
    """Return a hashable tree that is equal exactly for the same edn values."""
    match value:
        case Keyword():
            return ("keyword", str.__str__(value))
        case Symbol():
            return ("symbol", str.__str__(value))
        case Char():
            return ("char", str.__str__(value))
        case float():
            return ("float", "nan" if math.isnan(value) else value.hex())
        case List():
            return ("list", tuple(map(tree, value)))
        case list() | tuple():
            return ("vector", tuple(map(tree, value)))
        case set() | frozenset():
            return ("set", frozenset(map(tree, value)))
        case dict():
            # a plain str key is a keyword, but in a StrDict it is a string
            strings = isinstance(value, StrDict)
            return ("map", frozenset((_key(k, strings), tree(v)) for k, v in value.items()))
        case datetime():
            return ("inst", value.astimezone(UTC).isoformat())
        case Tagged():
            return ("tagged", value.tag, tree(value.value))
        case _:
            return (type(value).__name__, str(value))


def _key(key: Any, strings: bool) -> Hashable:
    return ("keyword", key) if type(key) is str and not strings else tree(key)


class Mismatch(AssertionError):
    """The server did something else than the recorded one."""


def values(packet: str | bytes) -> list[Any]:
    """Read a packet `[value cb-id]`."""
    value = edn.loads(packet)
    if not isinstance(value, list) or len(value) != 2:
        raise Mismatch(f"expected a packet of two, got {packet!r:.200}")
    return value


def is_batch(value: Any) -> bool:
    """Return whether it is a batch of pushes, not a handshake or a reply that is a vector."""
    return isinstance(value, list) and all(isinstance(item, list) for item in value)


def event(value: list[Any]) -> Hashable:
    """An event's id and data; `[id]` and `[id nil]` are one event."""
    return tree(value if len(value) == 2 else [*value, None])
