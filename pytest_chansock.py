"""The pytest plugin: fixtures for tests of an application, on `chansock.testing`.

pytest imports it in every run wherever chansock is installed. So it stands outside of the
package, and imports nothing of it until a fixture is asked for: whoever uses none of them pays
nothing. `chansock.testing.plugin` gives it to runs that load no plugins by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chansock import ChannelSocket
    from chansock.testing import Connect, Served, Transport, World

__all__ = ["chsk", "chsk_connect", "chsk_server", "chsk_transport", "chsk_world"]

NO_CHSK = """\
expected a fixture `chsk` that gives the ChannelSocket under test, got none; in conftest.py:

    import pytest
    import app  # where your channel is made

    @pytest.fixture
    def chsk():
        return app.chsk
"""


@pytest.fixture
def chsk() -> ChannelSocket:
    """The ChannelSocket under test: yours to define, in conftest.py or in a test's module."""
    pytest.fail(NO_CHSK, pytrace=False)


@pytest.fixture(params=["ws", "ajax"])
def chsk_transport(request: pytest.FixtureRequest) -> Transport:
    """Run the test twice, on "ws" and on "ajax": `chsk_world.connect` uses it."""
    found: Transport = request.param
    return found


@pytest.fixture
def chsk_world(request: pytest.FixtureRequest, chsk: ChannelSocket) -> Iterator[World]:
    """A chansock.testing.World around `chsk`: clients without sockets, in virtual time.

    Its clients are on WebSocket; on both, one after the other, if the test asks for
    `chsk_transport` or `chsk_connect` too.
    """
    from chansock.testing import World

    names = request.fixturenames
    is_on_both = "chsk_transport" in names
    kind: Transport = request.getfixturevalue("chsk_transport") if is_on_both else "ws"
    with World(chsk, transport=kind) as world:
        yield world


@pytest.fixture
def chsk_connect(chsk_world: World, chsk_transport: Transport) -> Connect:
    """`chsk_world.connect`, for a test on "ws" and on "ajax": `chsk_connect("alice")`."""
    return chsk_world.connect


@pytest.fixture
def chsk_server(chsk: ChannelSocket) -> Iterator[Served]:
    """A real server for `chsk` in a thread, on a free port: `chsk_server.url`."""
    from chansock.testing import serve_in_thread

    with serve_in_thread(chsk) as served:
        yield served
