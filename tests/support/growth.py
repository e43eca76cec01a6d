"""How the cost of a call grows with its input: CPU time of this thread, so that other work on the
machine hardly counts; or the number of Python functions that it calls, which is always the same.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from time import thread_time
from typing import Any, TypeVar

T = TypeVar("T")


def cpu_time(call: Callable[[], object], repeats: int = 5) -> float:
    """Return the seconds of CPU time that `call` takes: the least of several measurements."""
    least = float("inf")
    was_enabled = gc.isenabled()
    gc.disable()  # a collection walks everything that is alive, whatever the input
    try:
        for _ in range(repeats):
            start = thread_time()
            call()
            least = min(least, thread_time() - start)
    finally:
        if was_enabled:
            gc.enable()
    return least


def growth(call: Callable[[T], object], small: T, large: T) -> float:
    """Return how many times as long `call(large)` takes as `call(small)`."""
    before = cpu_time(lambda: call(small))
    return cpu_time(lambda: call(large)) / before


def calls_of(call: Callable[[], T]) -> tuple[T, int]:
    """Return what a call returns, and how many functions of Python it calls."""
    calls = 0

    def note(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        found = call()
    finally:
        sys.setprofile(None)
    return found, calls
