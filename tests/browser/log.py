"""What somebody tells, line by line, and how to wait for a line of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Log(list[Any]):
    """Lines in the order in which they were told."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[Callable[[Any], bool], asyncio.Future[Any]]] = []

    def add(self, line: Any) -> None:
        self.append(line)
        for is_meant, future in tuple(self._waiting):
            if not future.done() and is_meant(line):
                future.set_result(line)

    async def until(self, is_meant: Callable[[Any], bool], start: int = 0) -> Any:
        """Return the first line meant, from the `start`th on, as soon as there is one."""
        for line in self[start:]:
            if is_meant(line):
                return line
        waiting = is_meant, asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting[1]
        finally:
            self._waiting.remove(waiting)
