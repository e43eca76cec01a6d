"""The chat without sockets, on both transports, by the fixtures of chansock's pytest plugin."""

from __future__ import annotations

import app
import pytest

from chansock import ANONYMOUS, ChannelSocket
from chansock.testing import Connect


@pytest.fixture
def chsk() -> ChannelSocket:
    app.said.clear()
    return app.chsk


def test_two_users_see_each_other_and_chat(chsk_connect: Connect) -> None:
    ada = chsk_connect(cookies={"name": app.names.dumps("ada")})
    assert ada.expect("chat/here") == ["ada"]
    bob = chsk_connect(cookies={"name": app.names.dumps("bob")})
    assert ada.expect("chat/here") == ["ada", "bob"]
    assert bob.send("chat/say", {"text": "hi"}, timeout=5) == {"readers": 2}
    assert ada.expect("chat/said") == {"from": "bob", "text": "hi"}


def test_who_is_not_signed_in_reads_and_cannot_speak(chsk_connect: Connect) -> None:
    ada, guest = chsk_connect("ada"), chsk_connect(ANONYMOUS)
    assert guest.send("chat/say", {"text": "hi"}, timeout=5) == {"error": "sign in first"}
    ada.send("chat/say", {"text": "hello"})
    assert guest.expect("chat/said") == {"from": "ada", "text": "hello"}
