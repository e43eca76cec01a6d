"""The loops on which the suite runs, and the servers that carry a channel in one of its parts.
Everything else a test needs stands in its own file.

`run(coro)` drives a coroutine to its end on a fresh loop of each kind, so a test that
takes it runs three times: on asyncio's own loop, on uvloop (skipped where there is none), and
on uvloop with sockets served by epoll; once where the loop makes no difference (tiers.py).
`served` is a server of `servers` as a process: a test that takes it runs once for each, and
each is started once in a process of pytest.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import hypothesis
import pytest
from parallel import order, scheduler
from servers import SERVERS, Served, started
from tiers import is_quick, loops

from chansock._fast.io.epoll import IS_AVAILABLE

try:
    import uvloop
except ImportError:
    uvloop = None

# Who starts a suite in the background may have it ignore Ctrl+C, and so all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine an example takes long, or even the first ten.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

LIMIT = 120.0  # a test that hangs fails by itself, well before the CI job is killed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="run only tests without sockets, other processes, and more than one loop",
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="run every test on every loop, and those marked full: Firefox, WebKit, nginx, HAProxy",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_kind" in metafunc.fixturenames:
        kinds = loops(metafunc.module.__name__, metafunc.config.getoption("--full"))
        metafunc.parametrize("loop_kind", kinds, indirect=True)


@pytest.hookimpl(trylast=True)  # when other files have set their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = items
    if not config.getoption("--full"):
        kept = [item for item in kept if not item.get_closest_marker("full")]
    if config.getoption("--quick"):
        kept = [item for item in kept if is_quick(item)]
    if len(kept) < len(items):
        keeps = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in keeps])
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        kept = sorted(kept, key=lambda item: order(item.nodeid))
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture
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
    """Return run(coro) -> result: a fresh loop for each call, at most LIMIT."""
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
    """Yield a server that carries the application of `servers`, shared by all its tests."""
    with started(request.param) as found:
        yield found
        assert all(process.poll() is None for process in found.processes)
        assert found.faults() == [], found.log()


@pytest.fixture
def drive() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return drive(coro) -> result for a peer whose loop does not matter, at most LIMIT."""

    def drive(coro: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await coro

        return asyncio.run(limited())

    return drive
