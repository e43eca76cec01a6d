"""What a client runs beside its attempts: last goodbyes, and state handlers that are coroutines.

Each runs to its end; none is waited for but when the client is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from chansock._core.log_limit import LogLimit

__all__ = ["Beside"]

log = logging.getLogger("chansock.client.beside")


class Beside:
    """Tasks that are kept until they are done; what one raises is logged."""

    __slots__ = ("_log_limit", "_tasks")

    def __init__(self, log_limit: LogLimit) -> None:
        self._log_limit = log_limit
        self._tasks: set[asyncio.Task[Any]] = set()

    def keep(self, awaitable: Awaitable[Any], /) -> None:
        """Run something to its end beside the rest."""
        task = asyncio.get_running_loop().create_task(self._run_logged(awaitable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, timeout: float) -> None:
        """Give all `timeout` seconds, then cancel them; but not the one that asks."""
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()

    async def _run_logged(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception:
            self._log_limit.exception(log, "task_failed")
