"""The loops on which the suite runs. Everything else a test needs stands in its own file.

`run(coro)` drives a coroutine to its end on a fresh loop of each kind, so a test that
takes it runs twice: on asyncio's own loop and on uvloop (skipped where there is none).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None

LIMIT = 20.0  # a test that hangs fails by itself, well before the CI job is killed


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop" and uvloop is None:
        pytest.skip("uvloop is not installed")
    return request.param


@pytest.fixture
def run(loop_kind: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Give run(coro) -> result: a fresh loop for each call, at most 20 s."""
    factory = uvloop.new_event_loop if loop_kind == "uvloop" else asyncio.new_event_loop

    def run(coro: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await coro

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return run
