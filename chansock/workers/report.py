"""What a worker says to its parent: lines in a pipe.

`engine` once if its channel has no backplane of its own, then `listening <url>`.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["BACKPLANE", "Report"]

BACKPLANE: Final = "CHANSOCK_BACKPLANE"  # the engine's address, for channels that name none


class Report:
    """A worker's end of the pipe, and the address of the engine that its parent can start."""

    def __init__(self, fd: int, engine: str) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd
        self._engine = engine

    def need_engine(self) -> None:
        """Request the private engine, and make it the one of channels that name none."""
        os.environ[BACKPLANE] = self._engine
        os.write(self._fd, b"engine\n")

    def listening(self, url: str) -> None:
        """Report that connections are accepted from now on."""
        os.write(self._fd, f"listening {url}\n".encode())
        os.close(self._fd)
