"""What the channel logged in a World: the causes of what a test then misses.

A handler that raises is logged and answered, and so is a hook, and a check that refuses says
in the log what would mend it. A test's author finds them with the error that they led to.
"""

from __future__ import annotations

import logging
from typing import TypeVar

__all__ = ["Blame"]

E = TypeVar("E", bound=BaseException)

LOG = logging.getLogger("chansock")


class Blame(logging.Handler):
    """Keeps the warnings and errors of the channel that were not told yet."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []  # what handlers and hooks raised
        self._untold: list[logging.LogRecord] = []
        self._shown: set[int] = set()  # ids of errors that an error of the test had as its cause

    def emit(self, record: logging.LogRecord) -> None:
        self._untold.append(record)
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])

    def begin(self) -> None:
        """Listen to what is logged."""
        LOG.addHandler(self)

    def end(self) -> None:
        """Listen no more."""
        LOG.removeHandler(self)

    def told(self, error: E) -> E:
        """Return the error with what was logged since the last one: as notes, and as its cause."""
        untold, self._untold = self._untold, []
        for record in untold:
            error.add_note(f"logged by {record.name}: {record.getMessage()}")
            if record.exc_info is not None:
                error.__cause__ = record.exc_info[1]
                self._shown.add(id(record.exc_info[1]))
        return error

    def unseen(self) -> list[BaseException]:
        """Return what is left in `errors` and was the cause of no other error."""
        return [error for error in self.errors if id(error) not in self._shown]
