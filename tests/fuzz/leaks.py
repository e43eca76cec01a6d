"""Finds what an input leaves behind: memory that grows each time it is given again.

Python never frees all at its end, so a sanitizer's own search for leaks says nothing; this one
compares what is held before and after. Knows no target and no fuzzer.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from time import thread_time

EVERY = 512  # inputs: it takes some 20 more runs and a few collections each time
TIMES = (16, 64, 256, 1024, 4096)
PATIENCE = 4.0  # seconds; a hang is 20
# Under AddressSanitizer bytes are counted, and no object has fewer than 16; else Python's blocks.
allocated = getattr(ctypes.pythonapi, "__sanitizer_get_current_allocated_bytes", None)
LEAST = 1
if allocated is not None:
    allocated.restype = ctypes.c_size_t
    LEAST = 16


def held() -> int:
    """Return how much memory is held."""
    gc.collect()
    return int(allocated()) if allocated is not None else sys.getallocatedblocks()


def growth(check: Callable[[bytes], None], data: bytes, times: int) -> int:
    """Return how much more is held after checking data so many times."""
    check(data)
    before = held()
    for _ in range(times):
        check(data)
    return held() - before


def assert_no_leak(check: Callable[[bytes], None], data: bytes, patience: float = PATIENCE) -> None:
    """Raise AssertionError if each check of data leaves something behind."""
    # Tables and free lists grow for a while; what leaks does so each time, without an end.
    start, done = thread_time(), 0
    for times in TIMES:
        spent = thread_time() - start
        if done and spent + spent / done * times > patience:
            return  # a slow input: no verdict
        done += times + 1
        grown = growth(check, data, times)
        if grown < LEAST * times:
            return
    raise AssertionError(f"expected nothing left behind, got {grown} in {times} checks")


def watched(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return check, with every so many inputs looked at for what they leave behind."""
    count = 0
    gc.collect()
    gc.freeze()  # what is here already is not gone through again

    def call(data: bytes) -> None:
        nonlocal count
        check(data)
        count += 1
        if count % EVERY == 0:
            assert_no_leak(check, data)

    return call
