"""Choices taken from bytes, so that a fuzzer which changes bytes changes choices."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar
from zlib import crc32

T = TypeVar("T")


class Draw:
    """Reads choices from bytes; past their end every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return max(len(self.data) - self.at, 0)

    def byte(self) -> int:
        return self.integer(1)

    def integer(self, size: int) -> int:
        """Return an unsigned integer of `size` bytes."""
        return int.from_bytes(self.bytes(size), "big")

    def below(self, limit: int) -> int:
        """Return 0 to limit - 1; limit is at most 65,536."""
        return self.integer(1 if limit <= 256 else 2) % limit

    def flip(self) -> bool:
        return bool(self.byte() & 1)

    def of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def bytes(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken


def pieces_of(data: bytes, most: int = 8) -> list[bytes]:
    """Split data at places that depend on it alone; sometimes after each byte."""
    chance = Random(crc32(data))
    if len(data) <= 256 and chance.random() < 0.2:
        cuts = list(range(1, len(data)))
    else:
        cuts = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, most)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
