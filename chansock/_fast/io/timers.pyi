from collections.abc import Callable
from typing import Any, TypeVar, final

from chansock._core.log_limit import LogLimit
from chansock.clock import Clock

_A = TypeVar("_A")

@final
class Entry: ...

@final
class Queue:
    def __new__(cls, delay: float) -> Queue: ...

@final
class TimerQueue:
    lag: float
    is_late: bool
    log_limit: LogLimit
    def __init__(self, clock: Clock) -> None: ...
    def schedule(self, delay: float, call: Callable[[_A], Any], arg: _A) -> Entry: ...
    def cancel(self, entry: Entry | None) -> None: ...
    def run(self) -> None: ...
    def run_slice(self) -> None: ...
