"""Routers: prefixes, include, and who is told of two handlers for one id."""

import re

import pytest

from chansock import ChannelSocket, ConfigError, InvalidEvent, Router
from chansock.testing import World, user_id

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


def answer(chsk, event_id, data=None, transport="ws"):
    """Ask a channel that was never started."""
    with World(chsk) as world:
        reply = getattr(world, transport)(uid="a").ask(event_id, data)
        world.turn()
        return reply.value


def including(*routers, **kwargs):
    chsk = ChannelSocket(user_id=user_id)
    for router in routers:
        chsk.include(router, **kwargs)
    return chsk


@BOTH
def test_a_handler_of_a_router_answers_under_its_prefix(transport):
    router = Router(prefix="chat")

    @router.on("say")
    def say(msg):
        return [msg.id, msg.data, msg.uid]

    assert answer(including(router), "chat/say", 5, transport) == ["chat/say", 5, "a"]
    assert say.__name__ == "say"  # the decorator gives it back as it was


def test_a_prefix_may_be_positional():
    assert Router("board").prefix == Router(prefix="board").prefix == "board"


@pytest.mark.parametrize(
    ("outer", "inner", "event_id", "expected"),
    [
        ("", "", "chat/say", "chat/say"),
        ("", "chat", "say", "chat/say"),
        ("chat", "", "say", "chat/say"),
        ("", "chat", "room/join", "chat.room/join"),
        ("app", "chat", "say", "app.chat/say"),
        ("app", "", "chat/say", "app.chat/say"),
        ("my.app", "chat.v1", "room.x/say", "my.app.chat.v1.room.x/say"),
        ("app", "chat", "chsk/uidport-open", "chsk/uidport-open"),
    ],
)
def test_prefixes_join_to_one_namespace(outer, inner, event_id, expected):
    for how in ("include", "router"):
        router = Router(prefix=inner)
        router.on(event_id, lambda msg: None)
        if how == "include":
            chsk = including(router, prefix=outer)
        else:
            around = Router(prefix=outer)
            around.include(router)
            chsk = including(around)
        with pytest.raises(InvalidEvent, match=f"expected one handler for '{expected}', got"):
            chsk.on(expected, lambda msg: None)


def test_the_channels_own_events_reach_a_router():
    came = []
    router = Router(prefix="chat")
    router.on("chsk/uidport-open", lambda msg: came.append(msg.data))
    with World(including(router, prefix="app")) as world:
        world.ws(uid="a")
        world.turn()
    assert came == ["a"]


@pytest.mark.parametrize(
    "prefix", ["chsk", "a/b", "/", ".", "a.", ".a", "a..b", ":a", "a b", 5, None, b"a"]
)
def test_a_prefix_that_is_no_namespace_is_refused(prefix):
    with pytest.raises(InvalidEvent, match=f"got {re.escape(repr(prefix))}"):
        Router(prefix=prefix)
    with pytest.raises(InvalidEvent, match=f"got {re.escape(repr(prefix))}"):
        Router().include(Router(), prefix=prefix)


@pytest.mark.parametrize("prefix", ["", "chat"])
@pytest.mark.parametrize("event_id", ["", "/", "/say", "say/", ":say", ":a/b", "a b", "chsk/x", 7])
def test_an_id_that_can_never_come_is_refused_where_it_stands(prefix, event_id):
    with pytest.raises(InvalidEvent, match="expected"):
        Router(prefix=prefix).on(event_id, lambda msg: None)


def test_an_id_without_a_namespace_needs_a_prefix_somewhere():
    router = Router()
    router.on("say", lambda msg: None)
    with pytest.raises(InvalidEvent, match=r"expected a namespaced event id .*, got 'say'"):
        including(router)


def first(msg):
    return 1


def other(msg):
    return 2


def test_two_handlers_for_one_id_are_both_named():
    one, two = Router(prefix="chat"), Router()
    one.on("say", first)
    two.on("chat/say", other)
    text = (
        f"expected one handler for 'chat/say', got a second: {__name__}.first has it, "
        f"and so would {__name__}.other"
    )
    chsk = including(one)
    router = Router(prefix="chat")
    router.on("say", first)
    with pytest.raises(InvalidEvent, match=re.escape(text)):
        chsk.include(two)
    with pytest.raises(InvalidEvent, match=re.escape(text)):
        chsk.on("chat/say", other)
    with pytest.raises(InvalidEvent, match=re.escape(text)):
        router.on("say", other)


def test_an_include_that_is_refused_takes_nothing():
    chsk = ChannelSocket()
    chsk.on("chat/b", first)
    router = Router(prefix="chat")
    router.on("a", first)
    router.on("b", other)
    with pytest.raises(InvalidEvent):
        chsk.include(router)
    chsk.on("chat/a", other)
    assert answer(chsk, "chat/a") == 2
    router.on("c", other)  # and the router is still open


def test_one_router_may_be_included_under_two_prefixes_and_in_two_channels():
    router = Router()
    router.on("list", lambda msg: msg.id)
    chsk = ChannelSocket()
    chsk.include(router, prefix="users")
    chsk.include(router, prefix="rooms")
    assert answer(chsk, "rooms/list") == "rooms/list"
    again = ChannelSocket()
    again.include(router, prefix="users")
    assert answer(again, "users/list") == "users/list"


def test_what_comes_after_the_include_is_refused_and_not_forgotten():
    router = Router(prefix="chat")
    router.on("say", first)
    including(router)
    for late in (
        lambda: router.on("late", other),
        lambda: router.include(Router()),
        lambda: router.middleware(lambda msg, call_next: None),
    ):
        with pytest.raises(ConfigError, match="before it is included, got a"):
            late()


def test_routers_cannot_include_each_other_in_a_ring():
    one, two = Router(prefix="a"), Router(prefix="b")
    one.on("x", first)
    one.include(two)
    with pytest.raises(ConfigError):
        two.include(one)
    with pytest.raises((ConfigError, InvalidEvent)):
        two.include(two)


def test_a_router_may_be_included_while_the_channel_runs():
    router = Router(prefix="chat")
    router.on("say", first)
    chsk = ChannelSocket(user_id=user_id)
    with World(chsk) as world:
        alice = world.ws(uid="a")
        before = alice.ask("chat/say")
        world.turn()
        chsk.include(router)
        after = alice.ask("chat/say")
        world.turn()
        assert (before.value, after.value) == (["chsk/error", "unclaimed"], 1)


def test_parallel_and_thread_hold_in_a_router():
    router = Router(prefix="t")
    order = []

    @router.on("slow", parallel=True)
    async def slow(msg):
        order.append("slow")

    @router.on("blocking", thread=True)
    def blocking(msg):
        return "from a thread"

    chsk = including(router)
    with World(chsk) as world:
        alice = world.ws(uid="a")
        reply = alice.ask("t/blocking")
        world.until(lambda: reply.is_here)
        assert reply.value == "from a thread"


@pytest.mark.parametrize("given", [None, "chat", ChannelSocket])
def test_what_is_no_router_is_refused(given):
    with pytest.raises(TypeError, match="expected a Router, got"):
        ChannelSocket().include(given)


def test_what_is_no_handler_is_refused():
    with pytest.raises(TypeError, match=r"expected a handler for 'say', like .* got 5"):
        Router(prefix="chat").on("say", 5)


def test_a_router_shows_its_prefix():
    router = Router(prefix="chat")
    router.on("say", first)
    assert repr(router) == "<Router prefix='chat' 1 handlers>"
