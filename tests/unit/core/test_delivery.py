"""The seam between "something was sent" and "an outbox has it"."""

import pytest

from chansock import ALL, ChannelSocket
from chansock._core.delivery import Close
from chansock._core.session_state import ImpossibleTrigger, On
from chansock._fast.events.fanout import Fragment
from chansock.testing import World, user_id


@pytest.fixture
def chsk():
    return ChannelSocket(user_id=user_id)


@pytest.fixture
def world(chsk):
    with World(chsk) as world:
        yield world


def fragments(*numbers):
    return tuple(Fragment(b"[:t/e %d]" % number) for number in numbers)


def data(client):
    return [event.data for event in client.take()]


def test_events_of_one_delivery_arrive_in_order_and_in_one_batch(chsk, world):
    one, two, other = world.ws(uid="a"), world.ws(uid="a"), world.ws(uid="b")
    chsk._core.deliver("a", fragments(1, 2, 3))
    world.turn()
    assert [data(client) for client in (one, two, other)] == [[1, 2, 3], [1, 2, 3], []]
    assert one.transport.writes == [1, 1]  # the handshake, and one batch
    assert chsk.stats.sent == chsk.stats.written == 6


def test_a_delivery_to_all_keeps_the_order_too(chsk, world):
    clients = world.ws(uid="a"), world.ws()
    chsk._core.deliver(ALL, fragments(1, 2), flush=True)
    assert [data(client) for client in clients] == [[1, 2], [1, 2]]


def test_a_close_comes_after_the_events_of_its_delivery(chsk, world):
    client, other = world.ws(uid="a"), world.ws(uid="b")
    chsk._core.deliver("a", fragments(1), close=Close(4401, "over"))
    world.turn()
    assert data(client) == [1]
    assert client.transport.closed_with == (4401, "over")
    assert other.is_open


@pytest.mark.parametrize("to", [ALL, "ghost"])
def test_each_event_for_nobody_is_counted(chsk, world, to):
    chsk._core.deliver(to, fragments(1, 2))
    chsk._core.deliver(to, (), close=Close(1000, ""))
    assert chsk.stats.nobody == 2


def test_what_is_delivered_after_the_stop_is_lost_and_counted(chsk):
    with World(chsk) as world:
        world.ws(uid="a")
        chsk.stop()
        for to in (ALL, "a"):
            chsk._core.deliver(to, fragments(1))
        assert chsk.stats.lost.stopped == 2


def test_a_trigger_that_cannot_happen_is_an_error(chsk, world):
    world.ws("a", client_id="tab")
    hub = chsk._core.hub
    session = hub.table.find("a", "tab")
    with pytest.raises(ImpossibleTrigger, match="in state CURRENT, got OPENED"):
        hub._on_socket(session, On.OPENED)
