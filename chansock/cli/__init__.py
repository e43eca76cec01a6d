"""The command line: `serve`, `connect` and `send`, each in a room of its own.

Here stands only how a command is found and how a program ends; what all commands end with
is in `status`. Nothing else in the package may import from here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import chansock
from chansock.cli import connect, send, serve
from chansock.cli.status import CLOSED_PIPE, INTERRUPTED

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give the status to exit with. Usage errors exit with 2 by themselves."""
    parser = argparse.ArgumentParser(
        prog="chansock",
        description="Serve a channel, or talk to one. COMMAND --help tells more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chansock {chansock.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, connect, send):
        command.add(commands)
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone. What is still buffered would raise again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return status
