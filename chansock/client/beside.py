"""What a client runs beside its attempts: last goodbyes, and state handlers that are coroutines.

Each runs to its end; the client waits for them only when it is left.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from chansock._core.log_limit import LogLimit
from chansock.client.handlers import close_unstarted

__all__ = ["Beside"]

log = logging.getLogger("chansock.client.beside")


class Beside:
    """Tasks that are kept until they are done; what one raises is logged.

    `changed()` is called when `limit` of them run, and when fewer do again: the client stops
    reading, for each state that the server causes may begin another one.
    """

    __slots__ = ("_changed", "_limit", "_log_limit", "_tasks")

    def __init__(self, limit: int, changed: Callable[[], None], log_limit: LogLimit) -> None:
        self._limit = limit
        self._changed = changed
        self._log_limit = log_limit
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_full(self) -> bool:
        """Whether no more should be begun."""
        return len(self._tasks) >= self._limit

    def keep(self, awaitable: Awaitable[Any], /) -> None:
        """Run something to its end beside the rest."""
        task = asyncio.get_running_loop().create_task(self._run_logged(awaitable))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._forget, awaitable))
        if len(self._tasks) == self._limit:
            self._changed()

    async def end(self, timeout: float) -> None:
        """Wait `timeout` seconds for all, but not for the one that calls this."""
        if tasks := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=timeout)

    def cancel(self) -> None:
        """Cancel those that still run, but not the one that calls this."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _forget(self, awaitable: Awaitable[Any], task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        close_unstarted(awaitable)
        if len(self._tasks) == self._limit - 1:
            self._changed()

    async def _run_logged(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception:
            self._log_limit.exception(log, "task_failed")
