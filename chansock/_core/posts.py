"""The order of one session's numbered POSTs: who is next, who must wait.

Our clients number their POSTs `n=<udt of the last handshake GET>-<1, 2, 3 ...>`, since
several may be under way at once. Pure: numbers in, numbers out; no clock, no request.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

__all__ = ["PostOrder", "parse_number"]

T = TypeVar("T")

_NUMBER: Final = re.compile(r"([^-]{1,32})-([1-9][0-9]{0,15})")


def parse_number(text: str | None) -> tuple[str, int] | None:
    """Split `<udt>-<number>`; None if it is anything else."""
    found = None if text is None else _NUMBER.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))


class PostOrder(Generic[T]):
    """Which number of one handshake is next, and what came too early."""

    __slots__ = ("next", "udt", "waiting")

    def __init__(self, udt: str) -> None:
        self.udt = udt
        self.next = 1
        self.waiting: dict[int, T] = {}

    def must_wait(self, number: int) -> bool:
        """Tell whether a number before this one is still missing."""
        return number > self.next

    def pass_by(self, number: int) -> None:
        """Count a number as handled; one that was passed already changes nothing."""
        self.next = max(self.next, number + 1)

    def go_back(self, number: int) -> None:
        """Expect a number again that was refused and will come once more."""
        self.next = min(self.next, number)

    def pop_next(self) -> T | None:
        """Take out what waits for its turn and has it now."""
        return self.waiting.pop(self.next, None)

    def skip(self) -> None:
        """Wait no longer for those missing: go on with the smallest that is here."""
        if self.waiting:
            self.next = max(self.next, min(self.waiting))
