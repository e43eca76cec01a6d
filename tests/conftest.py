"""The loops on which the suite runs, and the servers that carry a channel in one of its parts.
Everything else a test needs stands in its own file.

`run(coro)` drives a coroutine to its end on a fresh loop of each kind, so a test that
takes it runs three times: on asyncio's own loop, on uvloop (skipped where there is none), and
on uvloop with sockets served by epoll. `served` is a server of `servers` as a process: a test
that takes it runs once for each, and each is started once.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from servers import SERVERS, Served, started

from chansock._fast.io.epoll import IS_AVAILABLE

try:
    import uvloop
except ImportError:
    uvloop = None

# Who starts a suite in the background may have it ignore Ctrl+C, and so all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LIMIT = 60.0  # a test that hangs fails by itself, well before the CI job is killed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="run the tests marked full too: Firefox, WebKit, nginx, HAProxy",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(params=["asyncio", "uvloop", "epoll"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a loop whose own transports serve; or uvloop with those of `_fast/io/epoll`."""
    if request.param != "asyncio" and uvloop is None:
        pytest.skip("uvloop is not installed")
    if request.param == "epoll" and not IS_AVAILABLE:
        pytest.skip("there is no epoll on this system")
    monkeypatch.setattr("chansock.server.USES_EPOLL", request.param == "epoll")
    return request.param


@pytest.fixture
def run(loop_kind: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Give run(coro) -> result: a fresh loop for each call, at most a minute."""
    factory = asyncio.new_event_loop if loop_kind == "asyncio" else uvloop.new_event_loop

    def run(coro: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await coro

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return run


@pytest.fixture(scope="session", params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Give a server that carries the application of `servers`, shared by all its tests."""
    with started(request.param) as found:
        yield found
        assert found.process.poll() is None
        assert found.faults() == [], found.log()


@pytest.fixture
def drive() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Give drive(coro) -> result for a peer whose loop does not matter, at most a minute."""

    def drive(coro: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await coro

        return asyncio.run(limited())

    return drive
