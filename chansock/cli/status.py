"""What the commands exit with, and the error that makes one line on stderr of it.

The numbers are documented (docs/cli.md) and scripts go by them: they never change.
"""

from __future__ import annotations

import sys
from typing import Final

from chansock.cli import spoken
from chansock.errors import (
    ConfigError,
    EdnDecodeError,
    EdnError,
    EncodeError,
    InvalidEvent,
    ReplyError,
    ReplyTimeout,
)

__all__ = [
    "CLOSED",
    "CLOSED_PIPE",
    "INTERRUPTED",
    "NOT_STARTED",
    "NO_REPLY",
    "OK",
    "REPLY_ERROR",
    "USAGE",
    "NotStarted",
    "complain",
    "of_error",
    "one_line",
    "reason",
]

OK: Final = 0
CLOSED: Final = 1  # refused, unreachable, or closed before it was done
USAGE: Final = 2  # argparse's, too: options, edn, an event that cannot be sent
NO_REPLY: Final = 3  # send, connect: no reply in time
NOT_STARTED: Final = 3  # serve: as uvicorn's, which knows nothing of replies
REPLY_ERROR: Final = 4  # the handler on the other side failed
INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell has it
CLOSED_PIPE: Final = 141  # 128 + SIGPIPE


class NotStarted(Exception):
    """What `serve` was told to serve, or where, cannot be had; the text is a sentence."""


def of_error(error: Exception) -> int:
    """Return the status that a failed send or connect ends with."""
    if isinstance(error, ReplyTimeout):
        return NO_REPLY
    if isinstance(error, ReplyError):
        return REPLY_ERROR
    if isinstance(error, ConfigError | InvalidEvent | EdnError | EncodeError):
        return USAGE
    return CLOSED


def one_line(error: Exception) -> str:
    """Return the text of an error without the lines that point at the place in edn."""
    text = str(error)
    return text.partition("\n")[0] if isinstance(error, EdnDecodeError) else text


def reason(error: OSError) -> str:
    """Return the system's own reason: `no such file or directory`."""
    return (error.strerror or str(error)).lower()


def complain(command: str, text: str) -> None:
    """Write one line to stderr: `chansock send: expected ...`."""
    print(f"chansock {command}: {spoken.printable(text)}", file=sys.stderr)
