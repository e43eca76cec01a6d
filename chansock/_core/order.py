"""The positions of an engine's epochs in one row of numbers, as this process counts events.

An engine that lost its newest events opens a new epoch, in which numbers may begin below those that
this process has seen. Outboxes and sessions compare plain numbers: here, each position gets one,
and later events always get higher ones.
"""

from __future__ import annotations

from chansock._core.backplane import Position

__all__ = ["Order"]

MAX_EPOCHS = 16  # that are remembered; clients that come back from before them have a gap


class Order:
    """Numbers for positions, and positions for numbers."""

    def __init__(self) -> None:
        self.newest = 0  # of what was heard
        self._epochs: list[tuple[int, int, int]] = []  # the first number, the epoch, what to add

    def note(self, position: Position, count: int = 0) -> int:
        """Note that all up to a position was heard, `count` events with it; return its number."""
        number = self.number_of(position)
        if number is None:
            # The first keeps its numbers: clients come back with positions before it.
            base = self.newest - max(0, position.seq - count) if self._epochs else 0
            self._epochs.append((self.newest + 1, position.epoch, base))
            del self._epochs[:-MAX_EPOCHS]
            number = position.seq + base
        self.newest = max(self.newest, number)
        return number

    @property
    def epoch(self) -> int:
        """The newest epoch; 0: none yet."""
        return self._epochs[-1][1] if self._epochs else 0

    def number_of(self, position: Position) -> int | None:
        """Return the number of a position; None: its epoch was never heard."""
        for _, epoch, base in reversed(self._epochs):
            if epoch == position.epoch:
                return position.seq + base
        return None

    def position_of(self, number: int) -> Position:
        """Return the position of a number."""
        for first, epoch, base in reversed(self._epochs):
            if number >= first - 1:
                return Position(epoch, max(0, number - base))
        return Position(0, 0)
