"""The state of a channel as its application sees it, and who is told of its changes.

What the state is to be is decided in client.py; nothing travels here.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock.client.state import State

__all__ = ["StateHandler", "Watch"]

StateHandler: TypeAlias = Callable[[State], Awaitable[object] | object]

log = logging.getLogger("chansock.client.watch")


class Watch:
    """The present State, its handlers, and `told(old, new)` behind them.

    A plain handler is called at once; what a coroutine handler gives goes to `keep`, which runs
    it beside the rest. A handler may cause a change: that is told when all have heard of this one.
    """

    def __init__(
        self,
        state: State,
        told: Callable[[State, State], None],
        keep: Callable[[Awaitable[Any]], None],
        log_limit: LogLimit,
    ) -> None:
        self.state = state
        self.handlers: list[StateHandler] = []
        self._untold: deque[tuple[State, State]] = deque()
        self._is_telling = False
        self._told = told
        self._keep = keep
        self._log_limit = log_limit

    def change(self, **changes: Any) -> None:
        """Make the changes, and tell of them if there are any."""
        old, new = self.state, dataclasses.replace(self.state, **changes)
        if new == old:
            return
        self.state = new
        self._untold.append((old, new))
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._untold:
                self._tell(*self._untold.popleft())
        finally:
            self._is_telling = False

    def _tell(self, old: State, new: State) -> None:
        for handler in tuple(self.handlers):
            try:
                result = handler(new)
            except Exception:
                self._log_limit.exception(log, "state_handler_failed")
                continue
            if inspect.isawaitable(result):
                self._keep(result)
        self._told(old, new)
