"""Start a process that ends with its parent, even if the parent is killed.

Linux only: prctl(2) has the kernel send a signal to the child when its parent is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

__all__ = ["SIGNALS", "Child", "Forked", "die_with", "spawn"]

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
# What the parent takes from the queue; a child begins with them unblocked.
SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})

# Looked up before any fork: a child of a fork must not load a library.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


class Child(Protocol):
    """A process that was started: Popen's part that is needed here."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal, or None while it runs."""

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""


def die_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)


def spawn(command: Sequence[str], number: signal.Signals, **options: Any) -> Child:
    """Run a program that gets a signal when this process ends.

    It has a process group of its own, so that a terminal's Ctrl+C reaches the parent alone.
    """
    parent = os.getpid()

    def prepare() -> None:
        die_with(parent, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    return subprocess.Popen(
        command,
        preexec_fn=prepare,  # noqa: PLW1509
        process_group=0,
        **options,
    )


class Forked:
    """A copy of this process that calls one function and exits."""

    def __init__(self, main: Callable[[], object]) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_status_of(main, parent))

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _status_of(main: Callable[[], object], parent: int) -> int:
    """Run a forked child to its end; nothing that it raises may reach the caller's frames."""
    try:
        os.setpgid(0, 0)
        die_with(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        main()
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
