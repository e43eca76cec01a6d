"""The stage of the browser tests. A test that stands on it is slow, and marked browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Stage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests on the stage, and run them first.

    Scenarios are played while one of these tests waits for its own. A test without the stage in
    between would stop them all in the middle, proxies included, while the browser goes on.
    """

    def is_elsewhere(item: pytest.Item) -> bool:
        is_here = item.path.is_relative_to(HERE)
        return not (is_here and "stage" in getattr(item, "fixturenames", ()))

    for item in items:
        if not is_elsewhere(item):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)
    items.sort(key=is_elsewhere)


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(request.session.items) as stage:
        yield stage
