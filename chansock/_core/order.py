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
        self._ended: Position | None = None  # where an epoch ended
        self._epochs: list[tuple[int, int, int]] = []  # the first number, the epoch, what to add

    def note(self, position: Position, count: int = 0) -> int:
        """Note that all up to a position was heard, `count` events with it; return its number."""
        number = self.number_of(position)
        if number is None:
            self._begin(position.epoch, position.seq - count)
            number = position.seq + self._epochs[-1][2]
        self.newest = max(self.newest, number)
        return number

    def ended(self, position: Position) -> None:
        """Note where an epoch ended: the next one begins behind it."""
        self._ended = position
        if not self._epochs:  # nothing was heard of it, and yet clients may come with its positions
            self._begin(position.epoch, 0)

    def _begin(self, epoch: int, seq: int) -> None:
        """Begin an epoch, of which this process first hears what follows `seq`."""
        if not self._epochs:
            # The first keeps its numbers: clients come back with positions before it.
            self._epochs.append((self.newest + 1, epoch, 0))
            return
        _, before, base = self._epochs[-1]
        if self._ended is not None and self._ended.epoch == before and self._ended.seq:
            # Clients may have heard more of the older epoch at other processes.
            seq = self._ended.seq
        # Numbers of an epoch begin behind all of the one before.
        base = max(base, self.newest - max(0, seq))
        self._epochs.append((max(0, seq) + base + 1, epoch, base))
        del self._epochs[:-MAX_EPOCHS]

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
