"""How the suite is divided among processes: which tests stay together, and which begin first.

Read by conftest.py where pytest runs with `-n`. A unit is what one process runs as a whole:
a file, as a rule. No test here, and nothing of chansock.
"""

from __future__ import annotations

import re
from typing import Any

# Begun first, in this order: what mostly waits for networks and for Node, then what takes long.
FIRST = (
    "browser",
    "tests/browser/test_engines.py",
    "node",
    "tests/packaging/test_package.py",
)
BROWSER = "tests/browser/"
# Whose tests need no stage, but a browser of their own or none.
WITHOUT_STAGE = re.compile(r"tests/browser/test_(engines|chat_engines|proxy|reverse_proxies)\.py")
# One process has each server of tests/support/servers, for all files that use it.
SERVED = re.compile(r"tests/integration/test_served_\w+\.py::.*\[([a-z]+(?:-fast|-workers)?)\b")


def unit(nodeid: str) -> str:
    """Return the name of the unit that a test belongs to."""
    file = nodeid.partition("::")[0]
    if file.startswith(BROWSER) and not WITHOUT_STAGE.match(file):
        return "browser"  # one browser plays all scenarios, most of them at the same time
    if "/test_js" in file:
        return "node"
    if found := SERVED.match(nodeid):
        return f"served {found[1]}"
    return file


def order(nodeid: str) -> int:
    """Return the rank of a test's unit; units of the same rank keep their order."""
    name = unit(nodeid)
    return FIRST.index(name) if name in FIRST else len(FIRST)


def scheduler(config: Any, log: Any) -> Any:
    """Return a scheduler for pytest-xdist that hands out units in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # ours is by time, not by the number of tests
    return UnitScheduling(config, log)
