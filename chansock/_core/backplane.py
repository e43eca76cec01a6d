"""What a backplane does: it keeps events and the records of sessions, and orders all events.

The interface between the core and the engines in `chansock/backplanes/`, and the position that
a client presents. No engine is known here, and no session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from chansock._fast.events.dispatch import Inbox, Numbers
from chansock._fast.events.fanout import Fragment
from chansock.clock import Clock
from chansock.config import Config
from chansock.target import ClientTarget, Target

__all__ = ["MAX_DIGITS", "Backplane", "Position"]

MAX_DIGITS = 15  # of a number on the wire: JavaScript holds it exactly


class Position(NamedTuple):
    """What a client has: all events of its targets up to `seq`, of the counter of `epoch`."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that `str` wrote, or None for any other text."""
        epoch, dash, seq = text.partition("-")
        if not (dash and is_number(epoch) and is_number(seq)):
            return None
        return cls(int(epoch), int(seq))


def is_number(text: str) -> bool:
    """Return whether a text is a number on the wire: ASCII digits, at most 15."""
    return 0 < len(text) <= MAX_DIGITS and text.isascii() and text.isdigit()


class Backplane(Protocol):
    """One for each channel; it outlives the channel's stop. Called on the loop's thread.

    Between `open` and `close`, a client that resumes is known by its uid and client-id: from
    `hold` or `claim`, while it has a session, until `keep` and some time after, when it has none.
    The events of its targets are kept for as long.
    """

    def open(self, clock: Clock, config: Config, has_session: Callable[[Target], bool]) -> None:
        """Begin to keep events. `has_session(target)`: whether a client of a user, or this one
        client, has a session and resumes."""

    @property
    def outlives_records(self) -> bool:
        """Whether the events of a client are kept without a record of it, too."""

    @property
    def newest(self) -> int:
        """The number of the newest event."""

    def position_of(self, number: int) -> Position:
        """Return the position of who has all events up to this number."""

    def number_of(self, position: Position) -> int | None:
        """Return the number up to which a position has all events; None: it is of another life."""

    def mark(self) -> None:
        """Advance the position by one, as an event does that nobody gets."""

    def append(self, to: Target, fragments: tuple[Fragment, ...]) -> None:
        """Number events, and keep them if clients may ask for them."""

    def read(self, client: ClientTarget, since: int, before: int) -> list[Fragment] | None:
        """Return the kept events of a client's targets after `since` and before `before`.

        They are in order. `before` 0: up to the newest. None: events may be missing.
        """

    def numbers(self, received: int, redelivered: int) -> Numbers:
        """Make the numbers of a client, whose replies count among what is kept."""

    def hold(self, client: ClientTarget) -> None:
        """Keep events for a client without a record, which has a session from now on."""

    def drop(self, client: ClientTarget) -> None:
        """Keep nothing for a client any more: it has no record, or does not resume."""

    def find(self, client: ClientTarget) -> Inbox | None:
        """Return the record of a client, and leave it where it is; None: there is none."""

    def claim(self, client: ClientTarget) -> Inbox | None:
        """Return the record of a client, which has a session from now on; None: there is none."""

    def keep(self, client: ClientTarget, inbox: Inbox) -> None:
        """Keep the record of a client whose session has ended."""

    def ended(self, client: ClientTarget) -> None:
        """Note that the session of a client has ended that does not resume."""
