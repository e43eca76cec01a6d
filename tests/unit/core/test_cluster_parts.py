"""What the nodes of a cluster agree on: names, numbers of positions, and what a home leaves."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock import ALL, ANONYMOUS, ClientTarget
from chansock._core.backplane import Position
from chansock._core.cluster_keys import client_key, key_of, keys_of, target_of, uid_of, user_key
from chansock._core.homes import State
from chansock._core.order import MAX_EPOCHS, Order
from chansock._core.packing import PackingError, Reader, Writer

UIDS = st.one_of(st.text(min_size=1, max_size=20), st.integers(), st.uuids())
NUMBERS = st.integers(0, 10**15)

# -- names


@given(uid=st.none() | UIDS)
def test_the_name_of_a_user_is_read_as_that_user(uid):
    assert uid_of(user_key(uid)) == uid


def test_users_of_different_types_have_different_names():
    uid = UUID(int=5)
    assert len({user_key(each) for each in ("5", 5, uid, uid.hex, None, "-", "*")}) == 7


@given(uid=st.none() | UIDS, client_id=st.text("abc/-*", min_size=1))
def test_a_target_is_found_again_by_its_name(uid, client_id):
    client = ClientTarget(uid, client_id)
    for to in (ALL, ANONYMOUS, client, *([] if uid is None else [uid])):
        assert target_of(*key_of(to)) == to
    assert key_of(client)[0] in keys_of(client)
    assert key_of(ALL)[0] in keys_of(client)


def test_two_clients_have_different_names():
    clients = [ClientTarget("a", "b"), ClientTarget("a/b", "c"), ClientTarget(None, "b")]
    assert len({client_key(client) for client in clients}) == 3


@pytest.mark.parametrize("text", ["", "x1", "iX", "u12", "i"])
def test_no_other_text_is_the_name_of_a_user(text):
    with pytest.raises(ValueError):
        uid_of(text)


# -- positions


def test_the_first_epoch_keeps_its_numbers():
    order = Order()
    assert order.note(Position(7, 100)) == 100
    assert order.number_of(Position(7, 40)) == 40
    assert order.position_of(40) == Position(7, 40)


def test_a_later_epoch_has_higher_numbers_even_if_it_begins_below():
    order = Order()
    order.note(Position(7, 100))
    assert order.note(Position(8, 61), count=1) == 101
    assert order.note(Position(8, 65), count=2) == 105
    assert order.position_of(103) == Position(8, 63)
    assert order.position_of(99) == Position(7, 99)
    assert order.number_of(Position(9, 1)) is None


def test_an_epoch_begins_behind_all_of_the_last_one_that_anybody_heard():
    order = Order()
    order.note(Position(7, 100))
    order.ended(Position(7, 140))
    order.note(Position(8, 150))
    came_with = order.number_of(Position(7, 130))
    assert 100 < came_with < order.number_of(Position(8, 141))
    assert order.position_of(came_with) == Position(7, 130)


def test_an_epoch_of_which_nothing_was_heard_has_numbers_once_it_ended():
    order = Order()
    order.ended(Position(7, 140))
    order.note(Position(8, 150))
    assert order.position_of(order.number_of(Position(7, 130))) == Position(7, 130)


def test_an_epoch_begins_behind_what_was_lost_of_the_last_one():
    order = Order()
    order.note(Position(7, 100))
    order.ended(Position(7, 90))
    order.note(Position(8, 120))
    assert order.number_of(Position(8, 91)) == 101
    assert order.position_of(99) == Position(7, 99)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=60))
def test_numbers_only_grow_and_come_from_one_position_each(steps):
    order, epoch, seq, newest = Order(), 1, 0, 0
    for is_new, count in steps:
        if is_new == 3:
            epoch, seq = epoch + 1, seq // 2
        seq += count
        number = order.note(Position(epoch, seq), count)
        assert number >= newest + (count if newest else 0)
        newest = number
        assert order.position_of(number) == Position(epoch, seq)
        assert order.number_of(Position(epoch, seq)) == number


def test_old_epochs_are_forgotten():
    order = Order()
    for epoch in range(1, MAX_EPOCHS + 3):
        order.note(Position(epoch, 10), 10)
    assert order.number_of(Position(1, 10)) is None


# -- what a home leaves


@given(
    position=st.builds(Position, NUMBERS, NUMBERS),
    received=st.integers(-1, 10**15),
    numbers=st.tuples(NUMBERS, NUMBERS),
    since=st.builds(Position, NUMBERS, NUMBERS),
    replies=st.lists(st.tuples(NUMBERS, st.binary(max_size=40)), max_size=4),
    waiting=st.lists(st.binary(max_size=40), max_size=4),
)
def test_a_state_is_read_as_it_was(position, received, numbers, since, replies, waiting):
    state = State(position, received, *numbers, since, replies, waiting)
    data = state.encode()
    assert State.decode(data) == state
    assert State.decode(data[:-1]) is None
    assert State.decode(data + b"x") is None


@given(st.binary(max_size=60))
def test_any_other_bytes_are_no_state(data):
    found = State.decode(data)
    assert found is None or found.encode() == data or len(found.encode()) <= len(data)


def test_a_number_of_too_many_bytes_is_refused():
    with pytest.raises(PackingError, match="below"):
        Reader(b"\xff" * 12 + b"\x01").number()
    out = Writer()
    out.put_number((1 << 62) + 5)
    assert Reader(bytes(out)).number() == (1 << 62) + 5
