"""Keyboard and screen of `connect`: lines in while lines come out.

With a terminal at both ends there is a prompt, readline edits it, and what comes meanwhile
is put above it; in a pipe there is neither. Knows nothing of channels.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Final, TextIO
from unicodedata import combining, east_asian_width

from chansock.cli.spoken import printable

try:
    import readline
except ImportError:  # no GNU readline on this system: lines without history
    readline = None  # type: ignore[assignment]
try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

__all__ = ["Keyboard", "Screen"]

PROMPT: Final = "> "
READ_BYTES: Final = 64 * 1024  # a pipe's capacity


class Screen:
    """stdout for what the server said, stderr for notes; both above the prompt, if any."""

    def __init__(self) -> None:
        self.is_interactive: bool = sys.stdin.isatty() and sys.stdout.isatty()
        self._is_prompting = False

    @contextmanager
    def terminal(self) -> Iterator[None]:
        """Restore the terminal: readline may be left in the middle of a line."""
        found = None
        if self.is_interactive and termios is not None:
            found = termios.tcgetattr(sys.stdin)
        try:
            yield
        finally:
            if found is not None:
                termios.tcsetattr(sys.stdin, termios.TCSANOW, found)

    def say(self, text: str) -> None:
        """Show a line on stdout."""
        self._write(sys.stdout, text)

    def note(self, text: str) -> None:
        """Show a line on stderr."""
        self._write(sys.stderr, text)

    def prompt(self) -> None:
        """From now on a line is typed."""
        self._is_prompting = self.is_interactive

    def entered(self) -> None:
        """The line was typed: the cursor stands below it."""
        self._is_prompting = False

    def end(self) -> None:
        """Leave the prompt, if one is shown."""
        if self._is_prompting:
            self._is_prompting = False
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def _write(self, stream: TextIO, text: str) -> None:
        lines = [printable(line) for line in text.split("\n")]
        if self._is_prompting and stream.isatty():
            stream.write(_above(lines))
        else:
            stream.write("\n".join(lines) + "\n")
        stream.flush()


def _above(lines: list[str]) -> str:
    """Make what writes lines above the line that the cursor is in, and leaves it there.

    The cursor's place is saved; as many lines are made below it, by scrolling if need be, as
    many are inserted above; and the cursor goes back to its place, which is that much lower.
    """
    columns = get_terminal_size().columns
    rows = sum(max(1, -(-_width(line) // columns)) for line in lines)
    made = "\n" * rows + f"\x1b[{rows}A"
    return f"\x1b7{made}\x1b[{rows}L\r" + "\r\n".join(lines) + f"\x1b8\x1b[{rows}B"


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


class Keyboard:
    """The lines of stdin, as bytes without their end. The next is read when it is asked for."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Semaphore(0)
        self._lines: asyncio.Queue[bytes | OSError | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # A daemon, since nothing can end a thread that reads.
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._wanted.release()
            line = await self._lines.get()
            if line is None:
                return
            if isinstance(line, OSError):
                raise line
            yield line

    def _read(self) -> None:
        lines = _typed(self._screen) if self._screen.is_interactive else _piped()
        line: bytes | OSError | None = b""
        while isinstance(line, bytes):
            self._wanted.acquire()
            try:
                line = next(lines, None)
            except OSError as error:
                line = error
            try:
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            except RuntimeError:  # the loop has ended
                return


def _typed(screen: Screen) -> Iterator[bytes]:
    while True:
        screen.prompt()
        try:
            line = input(PROMPT)
        except EOFError:
            return
        finally:
            screen.entered()
        yield line.encode(errors="surrogateescape")


def _piped() -> Iterator[bytes]:
    # From the descriptor: a thread that waits in a buffered reader holds its lock at the exit.
    rest = bytearray()
    while piece := os.read(sys.stdin.fileno(), READ_BYTES):
        *ended, begun = piece.split(b"\n")
        for end in ended:
            yield bytes(rest) + end
            rest.clear()
        rest += begun
    if rest:
        yield bytes(rest)
