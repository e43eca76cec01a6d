"""`python -m chansock` as a process of its own: started, read line by line, and its end.

`called` and `usage_error` run a command in this process instead, which takes a tenth of the time:
for tests of what a command says. Signals, terminals, and pipes need `started` or `done`.
"""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from dist_content import ROOT

from chansock.__main__ import main

LIMIT = 60.0  # a process that hangs is killed, and its test fails by what it did not write
MODULE_LIMIT = 20 * LIMIT  # one that serves all tests of a module
COMMAND = (sys.executable, "-m", "chansock")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextmanager
def started(
    *arguments: str, command: Sequence[str] = COMMAND, limit: float = LIMIT, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m chansock ARGUMENTS` meanwhile; stdout is a pipe, stderr another."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": ENVIRONMENT,
        # Of its own: the terminal from which the tests are run is not that of the program.
        "start_new_session": True,
        **options,
    }
    with subprocess.Popen([*command, *arguments], **options) as program:
        watchdog = threading.Timer(limit, program.kill)
        watchdog.start()
        try:
            yield program
        finally:
            watchdog.cancel()
            if program.poll() is None:
                program.kill()


def done(*arguments: str, input: str | None = None, **options: Any) -> tuple[int, str, str]:
    """Run a command to its end; give its status, and what it wrote to stdout and stderr."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with started(*arguments, **options) as program:
        out, err = program.communicate(input)
    return program.returncode, out, err


def called(*arguments: str, input: str = "") -> tuple[int, str, str]:
    """Run `send` or `connect` in this process; return its status, its stdout, and its stderr."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin, pytest.MonkeyPatch.context() as m:
        stdin.write(input)
        stdin.seek(0)
        for name, stream in (("stdin", stdin), ("stdout", out), ("stderr", err)):
            m.setattr(sys, name, stream)
        # As in a process of its own: what has no handler goes to stderr.
        for logger in (logging.getLogger(), logging.getLogger("chansock")):
            m.setattr(logger, "handlers", [])
        status = main(arguments)
    return status, out.getvalue(), err.getvalue()


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that exits with 2 before it does anything; give its last line on stderr."""
    with pytest.raises(SystemExit) as found:
        main(arguments)
    out, err = capsys.readouterr()
    assert (found.value.code, out) == (2, "")
    return err.splitlines()[-1]


@contextmanager
def serving(
    app: str, *arguments: str, cwd: Path, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `serve` meanwhile, on a free port unless told otherwise; give its URL as well."""
    if not any(option.startswith(("--port", "--uds", "--fd")) for option in arguments):
        arguments = (*arguments, "--port=0")
    with started("serve", app, *arguments, cwd=cwd, **options) as program:
        yield program, served_url(program)


def served_url(program: subprocess.Popen[str]) -> str:
    """Read the line that says where it serves, and give the URL."""
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line.startswith("chansock: serving "):
        program.kill()
        raise AssertionError(f"expected the URL, got {line!r}: {program.communicate()}")
    return line.split()[2]


SIZE = struct.pack("HHHH", 24, 80, 0, 0)  # rows, columns
ESCAPE = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\x1b[78]")
# Makes the terminal at its stdin its controlling one, as a login does; then runs the rest.
LOGIN = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'chansock', *sys.argv[1:]])"
)


class Terminal:
    """The other end of a pseudo-terminal: what is typed, and what is shown."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._all = ""
        self.shown = ""  # since the last mark

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_to(self, mark: str) -> str:
        """Read until the mark was shown; give what was, from the last mark on."""
        while mark not in self.shown:
            more = self._read()
            assert more, f"expected {mark!r}, got the end behind {self.shown!r}"
            self.shown += more
        before, _, self.shown = self.shown.partition(mark)
        return before + mark

    def wait_for(self, mark: str, count: int = 1) -> str:
        """Read until the mark was shown so many times in all; give all, without its escapes."""
        while (plain := ESCAPE.sub("", self._all)).count(mark) < count:
            more = self._read()
            assert more, f"expected {count} times {mark!r}, got the end behind {plain!r}"
            self.shown += more
        return plain

    def rest(self) -> str:
        """Read to the end."""
        while more := self._read():
            self.shown += more
        return self.shown

    def _read(self) -> str:
        try:
            more = os.read(self._fd, 4096).decode()
        except OSError:  # EIO: nobody is at the other end any more
            return ""
        self._all += more
        return more

    def echoes(self) -> bool:
        """Return whether the terminal shows what is typed, as before and after a program."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)


@contextmanager
def in_terminal(
    *arguments: str, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """Run `python -m chansock ARGUMENTS` in a terminal of 80 columns meanwhile."""
    leader, follower = os.openpty()
    ioctl(follower, termios.TIOCSWINSZ, SIZE)
    command = [sys.executable, "-c", LOGIN]
    options |= {"stdin": follower, "stdout": follower, "stderr": follower}
    options["env"] = {**ENVIRONMENT, "TERM": "xterm"}
    try:
        with started(*arguments, command=command, **options) as program:
            os.close(follower)  # else nothing would end with the program
            yield program, Terminal(leader)
    finally:
        os.close(leader)
