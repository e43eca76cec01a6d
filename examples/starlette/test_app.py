"""The chat without sockets, on both transports."""

from __future__ import annotations

from collections.abc import Iterator

import app
import pytest

from chansock import ANONYMOUS
from chansock.testing import World


@pytest.fixture(params=["ws", "ajax"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    app.said.clear()
    with World(app.chsk, transport=request.param) as world:
        yield world


def test_two_users_see_each_other_and_chat(world: World) -> None:
    ada = world.connect("ada")
    assert ada.expect("chat/here") == ["ada"]
    bob = world.connect("bob")
    assert ada.expect("chat/here") == ["ada", "bob"]
    assert bob.send("chat/say", {"text": "hi"}, timeout=5) == {"readers": 2}
    assert ada.expect("chat/said") == {"from": "bob", "text": "hi"}


def test_who_is_not_signed_in_reads_and_cannot_speak(world: World) -> None:
    ada, guest = world.connect("ada"), world.connect(ANONYMOUS)
    assert guest.send("chat/say", {"text": "hi"}, timeout=5) == {"error": "sign in first"}
    ada.send("chat/say", {"text": "hello"})
    assert guest.expect("chat/said") == {"from": "ada", "text": "hello"}
