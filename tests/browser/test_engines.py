"""Pages in Chromium, Firefox, and WebKit come back soon after an outage, and lose nothing.

outages.py plays the scenarios; `ci/bench.sh browsers` prints what it measures. Firefox, WebKit,
and the scenarios that take long or that other files play in Chromium are of the full tier.
"""

from __future__ import annotations

import asyncio

import pytest
from breaks import PROMISED
from engines import ENGINES
from outages import SCENARIOS, Row, play
from pulse import SLACK

IN_TIME = (PROMISED + 2 * SLACK) / 1000
POLL = 18.0  # seconds; one may be parked for 20
NORMAL = ("restart", "30 s down", "6 Ajax tabs", "8 Ajax tabs")
OUTAGES = ("restart", "30 s down", "200 s down", "page cache", "asleep")
TABS = ("6 Ajax tabs", "8 Ajax tabs")

pytestmark = pytest.mark.slow

_rows: dict[str, dict[str, Row | Exception]] = {}


def each(*scenarios: str) -> pytest.MarkDecorator:
    """Run a test for each browser and scenario: it takes the row of `browser`, `scenario`."""
    params = []
    for browser in ENGINES:
        for scenario in scenarios:
            is_normal = browser == "chromium" and scenario in NORMAL
            mark = pytest.mark.browser if is_normal else pytest.mark.full
            name = f"{browser}-{scenario}"
            params.append(pytest.param((browser, scenario), marks=mark, id=name))
    return pytest.mark.parametrize("row", params, indirect=True)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row of one scenario; those of all chosen tests of a browser are played together."""
    browser, scenario = request.param
    if browser not in _rows:
        chosen = [item.callspec.params["row"] for item in request.session.items if _is_ours(item)]
        names = [name for name in SCENARIOS if (browser, name) in chosen]
        _rows[browser] = asyncio.run(play(browser, names))
    found = _rows[browser][scenario]
    if isinstance(found, Exception):
        raise found
    return found


def _is_ours(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.path.samefile(__file__)


@each(*SCENARIOS)
def test_no_event_is_lost_or_doubled(row: Row) -> None:
    assert (row.lost, row.doubled) == (0, 0)


@each(*OUTAGES)
def test_page_is_back_soon(row: Row) -> None:
    assert row.connected is not None
    assert row.connected < IN_TIME + row.lag


@each(*OUTAGES)
def test_page_is_soon_open_by_websocket_again(row: Row) -> None:
    assert row.socket is not None
    assert row.socket < IN_TIME + row.lag


@each("WebSocket blocked")
def test_page_goes_on_by_ajax_and_back_to_a_websocket(row: Row) -> None:
    assert None not in (row.connected, row.socket)


@each(*TABS)
def test_ajax_tabs_do_not_starve_each_other(row: Row) -> None:
    # A tab that waits for a poll to end waits for longer.
    assert row.slowest is not None
    assert row.slowest < min(IN_TIME + row.lag, POLL)
