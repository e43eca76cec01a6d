"""chansock._core.presence: users come once and go once, whatever the number of sessions."""

from chansock._core.presence import Presence
from chansock.target import ANONYMOUS


def test_a_user_comes_with_the_first_session_and_goes_with_the_last():
    presence = Presence()
    assert presence._enter("ws", "alice")
    assert not presence._enter("ws", "alice")
    assert not presence._enter("ajax", "alice")
    assert not presence._leave("ws", "alice")
    assert not presence._leave("ws", "alice")
    assert "alice" not in presence.ws
    assert "alice" in presence.ajax
    assert presence._leave("ajax", "alice")
    assert len(presence.any) == 0


def test_users_without_an_id_stand_as_one_member():
    presence = Presence()
    presence._enter("ws", None)
    presence._enter("ws", None)
    assert list(presence.any) == [ANONYMOUS]


def test_1_and_the_string_1_are_two_users():
    presence = Presence()
    presence._enter("ws", 1)
    presence._enter("ws", "1")
    assert len(presence.any) == 2


def test_iterating_walks_a_copy():
    presence = Presence()
    for uid in ("a", "b"):
        presence._enter("ws", uid)
    for uid in presence.any:
        presence._leave("ws", uid)
    assert len(presence.any) == 0


def test_set_operations_give_plain_sets():
    presence = Presence()
    presence._enter("ws", "a")
    assert presence.any & {"a", "b"} == {"a"}
    assert type(presence.any & {"a"}) is set
