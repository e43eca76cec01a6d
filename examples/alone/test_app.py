"""The chat without sockets, on both transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import app
import pytest

from chansock.testing import World


@pytest.fixture
def world() -> Iterator[World]:
    app.said.clear()
    with World(app.chsk) as world:
        yield world


@pytest.fixture(params=["ws", "ajax"])
def come(request: pytest.FixtureRequest, world: World) -> Callable[[str], Any]:
    """Give come(name): a client that is signed in."""
    connect = getattr(world, request.param)
    return lambda name: connect(headers=[("Cookie", f"name={app.sign(name)}")])


def test_two_users_see_each_other_and_chat(world: World, come: Callable[[str], Any]) -> None:
    ada, bob = come("ada"), come("bob")
    reply = ada.ask("chat/say", {"text": "hello"})
    world.advance(0.1)  # Ajax gathers pushes for so long
    assert reply.value == {"readers": 2}
    assert ada.take()[-1] == bob.take()[-1] == ("chat/said", {"from": "ada", "text": "hello"})
    assert come("cy").handshake.data == {
        "here": ["ada", "bob"],
        "said": [{"from": "ada", "text": "hello"}],
    }
