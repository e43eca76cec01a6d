"""Which tests each tier runs: `--quick`, the default, and `--full`.

quick: no socket, no other process, one loop; under a minute.
default: all that guards behavior. Tests of what is decided above the sockets run on one loop.
full: each on every loop, and what needs Firefox, WebKit, nginx, or HAProxy, or compiles.

Read by conftest.py. No test here.
"""

from __future__ import annotations

from types import ModuleType

import pytest

LOOPS = ("asyncio", "uvloop", "epoll")
ONE_LOOP = "epoll"  # uvloop with sockets served by `_fast/epoll`, as `chansock.serve` has it

# Tests of what is decided above the sockets: checks, hooks, events, and packets. Their bytes come
# over sockets that other files test on every loop; what is read, written, and closed, by either
# side, and the recordings stay on all of them.
ABOVE_SOCKETS = frozenset(
    {
        "test_answers",
        "test_asgi",
        "test_channel",
        "test_csrf",
        "test_docs_aiohttp",
        "test_docs_sente",
        "test_example_chat",
        "test_http_cors",
        "test_http_proxies",
        "test_http_secrets",
        "test_log_limit",
        "test_msgpack_packet",
        "test_packers",
        "test_router_served",
        "test_sente_checks",
        "test_sente_errors",
        "test_sente_events",
        "test_sente_older",
        "test_subprotocol",
    }
)

# A module that imports one of these, or a name of one, opens sockets or starts programs.
_OUTSIDE = frozenset(
    {
        "chansock.server",
        "chansock.sockets",
        "chansock.client",
        "command",
        "differential",
        "docs_typed",
        "django_site",
        "hostile",
        "echoing",
        "peer",
        "playwright",
        "raw",
        "raw_listener",
        "readme_pair",
        "redis_server",
        "replay",
        "sente_app",
        "sente_script",
        "servers",
        "socket",
        "stage",
        "subprocess",
        "timed_replay",
    }
)
_FIXTURES = frozenset({"served", "stage", "run", "drive", "loop_kind", "pytester"})
_outside: dict[ModuleType, bool] = {}


def loops(module: str, is_full: bool) -> tuple[str, ...]:
    """Return the loops on which the tests of a module run."""
    return (ONE_LOOP,) if module in ABOVE_SOCKETS and not is_full else LOOPS


def is_quick(item: pytest.Item) -> bool:
    """Is it of the quick tier?"""
    if item.get_closest_marker("slow") or item.get_closest_marker("browser"):
        return False
    if not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return False
    module = getattr(item, "module", None)
    if module not in _outside:
        _outside[module] = any(_is_outside(value) for value in vars(module).values())
    return not _outside[module]


def _is_outside(value: object) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and name in _OUTSIDE
