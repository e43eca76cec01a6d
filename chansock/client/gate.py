"""Make senders write one after the other while a socket's write buffer has room.

Senders hold their own events until their turn comes, so nothing encoded waits here. The link
says whether there is room; nothing is written here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

__all__ = ["Gate"]


class Gate:
    """Turns to write, in the order of `enter`.

    A sender that gives up leaves the queue at once, and has written nothing.
    """

    __slots__ = ("_has_room", "_turns")

    def __init__(self) -> None:
        self._has_room = True
        self._turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def has_room(self) -> bool:
        """Whether a sender may write now."""
        return self._has_room and not self._turns

    def enter(self) -> asyncio.Future[None] | None:
        """Return None if the caller may write now, else the future of its turn.

        Call `leave` after the turn, or to give it up.
        """
        if self.has_room:
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[turn] = None
        return turn

    def leave(self, turn: asyncio.Future[None]) -> None:
        """End a turn, or leave the queue before it came."""
        self._turns.pop(turn, None)
        if turn.done() and not turn.cancelled():
            turn.exception()  # asyncio logs an exception that nobody has looked at
        self._wake()

    def set_room(self, on: bool) -> None:
        """Note whether the write buffer has room."""
        self._has_room = on
        self._wake()

    def fail(self, exc: Exception) -> None:
        """End every wait with exc."""
        turns, self._turns = self._turns, OrderedDict()
        for turn in turns:
            if not turn.done():
                turn.set_exception(exc)

    def _wake(self) -> None:
        if self._has_room and self._turns:
            first = next(iter(self._turns))
            if not first.done():
                first.set_result(None)
