"""The clients of a World, as an application's author uses them: one test on both transports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sample_channel import channel

from chansock import ALL, ANONYMOUS, ChannelSocket, Config, csrf, packers
from chansock.errors import (
    ChannelClosed,
    ConfigError,
    EncodeError,
    HandshakeRefused,
    InvalidEvent,
    ReplyError,
    ReplyTimeout,
)
from chansock.testing import AjaxClient, World, WsClient


@pytest.fixture(params=["ws", "ajax"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def world(transport: Any) -> Iterator[World]:
    with World(channel(), transport=transport) as world:
        yield world


# -- the same words on both


def test_connect_uses_the_worlds_transport_or_its_own(world: World, transport: str) -> None:
    kinds = {"ws": WsClient, "ajax": AjaxClient}
    assert type(world.connect("alice")) is kinds[transport]
    assert type(world.connect("alice", transport="ws")) is WsClient
    assert type(world.connect("alice", transport="ajax")) is AjaxClient
    assert [client.uid for client in world.clients] == ["alice"] * 3


def test_send_with_a_timeout_gives_the_reply_in_virtual_time(world: World) -> None:
    alice = world.connect("alice")
    assert alice.send("test/req", {"x": [1]}, timeout=5) == {"x": [1]}
    before, began = world.now, time.monotonic()
    assert alice.send("test/slow", 19, timeout=20) == 19
    assert world.now - before == pytest.approx(19)
    assert time.monotonic() - began < 18


def test_expect_waits_no_longer_than_it_must_and_takes_what_it_gives(world: World) -> None:
    alice, bob = world.connect("alice"), world.connect("bob")
    before = world.now
    alice.send("test/say", 1)
    alice.send("test/say", 2)
    assert bob.expect("test/said") == 1
    assert bob.expect("test/said") == 2
    assert world.now - before < 0.25  # Config.flush_delay_ajax
    assert bob.take() == []
    assert alice.expect("test/said") == 1
    assert alice.take() == [("test/said", 2)]


def test_expect_leaves_events_of_other_ids(world: World) -> None:
    alice = world.connect("alice")
    for n, event_id in enumerate(["test/a", "test/b", "test/c"]):
        world.chsk.send("alice", event_id, n)
    assert alice.expect("test/b") == 1
    assert alice.take() == [("test/a", 0), ("test/c", 2)]


def test_ask_goes_on_while_the_handler_waits(world: World) -> None:
    alice, bob = world.connect("alice"), world.connect("bob")
    slow = alice.ask("test/slow", 3)
    assert bob.send("test/req", 1, timeout=1) == 1
    assert not slow.is_here
    assert slow.wait() == slow.value == 3


def test_reconnect_in_grace_brings_what_was_missed(world: World) -> None:
    alice = world.connect("alice")
    world.turn()
    for leave in (alice.cut, alice.close):
        leave()
        assert not alice.is_open
        world.chsk.send("alice", "test/note", 1)
        world.advance(2)
        alice.reconnect()
        assert alice.expect("test/note") == 1
    assert world.chsk.told == ["+alice"]
    assert alice.breaks == 2


def test_who_does_not_come_back_leaves_after_the_grace(world: World) -> None:
    world.connect("alice").cut()
    world.advance(6)
    assert world.chsk.told == ["+alice", "-alice"]


def test_reconnect_of_one_that_is_open_cuts_the_former(world: World) -> None:
    alice = world.connect("alice")
    alice.reconnect()
    world.chsk.send("alice", "test/note", 1)
    assert alice.expect("test/note") == 1
    alice.expect_nothing()
    assert alice.breaks == 1


def test_disconnected_by_the_server_a_client_counts_a_break(world: World) -> None:
    alice = world.connect("alice")
    world.turn()
    world.chsk.disconnect("alice")
    world.turn()
    assert alice.breaks == 1
    alice.reconnect()
    assert alice.send("test/req", 1, timeout=5) == 1


def test_the_channels_packer_is_the_clients(transport: Any) -> None:
    chsk = ChannelSocket(packer=packers.MessagePack())
    chsk.on("test/req", lambda msg: msg.data)
    with World(chsk, transport=transport) as world:
        assert world.connect("a").send("test/req", {"n": [1, "x"]}, timeout=5) == {"n": [1, "x"]}


# -- the application's hooks


def hooked() -> ChannelSocket:
    return ChannelSocket(
        user_id=lambda request: request.cookies.get("login") or request.params.get("who"),
        authorize=lambda request: request.headers.get("x-key", "right") == "right",
        handshake_data=lambda request: {"path": request.path},
    )


def test_the_applications_hooks_run_as_in_life(transport: Any) -> None:
    chsk = hooked()
    seen: list[Any] = []
    chsk.on("test/say", lambda msg: seen.append(msg.uid))
    with World(chsk, transport=transport, path="/talk") as world:
        clients = [
            world.connect(cookies={"login": "ada"}),
            world.connect(params={"who": "bob"}),
            world.connect(params=[("who", "carl")], headers={"X-Key": "right"}),
            world.connect(),
            world.connect("eve", cookies={"login": "ada"}),
            world.connect(7),
            world.connect(ANONYMOUS, cookies={"login": "ada"}),
        ]
        uids = ["ada", "bob", "carl", None, "eve", 7, None]
        assert [client.uid for client in clients] == uids
        for client in clients:
            assert client.handshake is not None
            assert client.handshake.data == {"path": "/talk"}
            client.send("test/say")
        world.turn()
        assert seen == uids
        with pytest.raises(HandshakeRefused) as caught:
            world.connect("eve", headers={"X-Key": "wrong"})
        assert caught.value.status == 401


def test_what_asgi_middleware_knows_is_given_as_the_scope(transport: Any) -> None:
    chsk = ChannelSocket(user_id=lambda request: request.scope["session"].get("name"))
    seen: list[Any] = []
    chsk.on("test/say", lambda msg: seen.append((msg.uid, msg.request.scope["session"])))
    with World(chsk, transport=transport) as world:
        alice = world.connect(scope={"session": {"name": "alice"}})
        alice.send("test/say")
        assert seen == [("alice", {"name": "alice"})]
        with pytest.raises(HandshakeRefused, match="500") as caught:
            world.connect()
        assert isinstance(caught.value.__cause__, AttributeError)
        assert "scope={...}" in str(caught.value.__cause__)


def test_who_the_test_says_is_known_in_the_world_alone(transport: Any) -> None:
    chsk = hooked()
    with World(chsk, transport=transport) as world:
        world.connect("eve")
    with World(chsk, transport=transport) as world:
        assert world.connect(cookies={"login": "ada"}).uid == "ada"


def test_a_csrf_token_is_sent_where_real_clients_send_it(transport: Any) -> None:
    tokens = csrf.Tokens(b"s" * 32)
    token = tokens.issue()
    cookie = tokens.set_cookie(token)[1].partition(";")[0].partition("=")
    chsk = ChannelSocket(csrf_token=tokens.csrf_token)
    chsk.on("test/req", lambda msg: msg.data)
    with World(chsk, transport=transport) as world:
        cookies = {cookie[0]: cookie[2]}
        client = world.connect(cookies=cookies, csrf_token=token)
        assert client.send("test/req", 1, timeout=5) == 1
        with pytest.raises(HandshakeRefused, match="403"):
            world.connect(cookies=cookies)
        with pytest.raises(HandshakeRefused, match="403"):
            world.connect(cookies=cookies, csrf_token=tokens.issue())


def test_host_and_origin_are_allowed_ones_unless_given(transport: Any) -> None:
    config = Config(
        allowed_hosts=("*.a.example", "chat.example"),
        allowed_origins=("https://*.a.example", "https://chat.example"),
    )
    chsk = ChannelSocket(config, user_id=lambda request: request.headers["origin"])
    with World(chsk, transport=transport) as world:
        assert world.connect().uid == "https://chat.example"
        with pytest.raises(HandshakeRefused, match="Unauthorized origin"):
            world.connect(headers={"Origin": "https://evil.example"})
        with pytest.raises(HandshakeRefused, match="Unauthorized host"):
            world.connect(headers={"host": "evil.example"})


# -- what an author of tests does wrong, and what is told


def test_what_was_expected_and_what_was_got_stand_in_the_error(world: World) -> None:
    alice = world.connect("alice", client_id="a1")
    world.chsk.send(ALL, "test/said", {"text": "hi"})
    with pytest.raises(AssertionError) as caught:
        alice.expect("test/joined", within=2)
    assert str(caught.value) == (
        "expected test/joined within 2 s, got [test/said {'text': 'hi'}] (client 'a1', open)"
    )
    alice.take()
    alice.cut()
    with pytest.raises(AssertionError, match=r"got nothing \(client 'a1', closed"):
        alice.expect("test/said")


def test_expect_nothing_lets_time_pass_and_tells_what_came(world: World) -> None:
    alice = world.connect("alice")
    before = world.now
    alice.expect_nothing()
    assert world.now - before == pytest.approx(1)
    world.chsk.send("alice", "test/note", 1)
    alice.expect_nothing("test/other", within=0.5)
    with pytest.raises(AssertionError, match=r"expected no test/note within .*got \[test/note 1\]"):
        alice.expect_nothing("test/note")
    with pytest.raises(AssertionError, match=r"expected no event within .*got \[test/note 1\]"):
        alice.expect_nothing()


def test_a_reply_that_does_not_come_and_one_that_is_an_error(world: World) -> None:
    def fail(msg: Any) -> None:
        raise KeyError("room")

    world.chsk.on("test/fail", fail)
    alice = world.connect("alice")
    with pytest.raises(ReplyTimeout, match="expected a reply to test/slow within 2 s, got none"):
        alice.send("test/slow", 3, timeout=2)
    world.advance(2)
    with pytest.raises(ReplyError, match="expected a reply to test/fail") as caught:
        alice.send("test/fail", timeout=5)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "handler_error id=Keyword('test/fail')" in caught.value.__notes__[-1]
    assert [type(error) for error in world.errors] == [KeyError]


def test_an_event_that_its_handler_failed_to_send_names_the_handlers_error(world: World) -> None:
    def fail(msg: Any) -> None:
        world.chsk.send(ALL, "test/said", {1: object()})

    world.chsk.on("test/fail", fail)
    alice = world.connect("alice")
    alice.send("test/fail")
    with pytest.raises(AssertionError, match="expected test/said") as caught:
        alice.expect("test/said")
    assert isinstance(caught.value.__cause__, EncodeError)
    assert any("handler_error id=Keyword('test/fail')" in note for note in caught.value.__notes__)


def test_a_reply_whose_connection_broke_is_not_waited_for(world: World) -> None:
    alice = world.connect("alice")
    reply = alice.ask("test/slow", 2)
    alice.cut()
    before = world.now
    with pytest.raises(ChannelClosed, match="expected a reply to test/slow, got a break"):
        reply.wait()
    assert world.now == before


def test_a_post_that_its_handler_keeps_longer_than_a_poll_is_timed_out() -> None:
    with World(channel(poll_timeout=3), transport="ajax") as world:
        with pytest.raises(ReplyTimeout, match="expected a reply to test/slow, got chsk/timeout"):
            world.connect("alice").send("test/slow", 10, timeout=20)


def test_a_socket_that_is_closed_sends_nothing() -> None:
    with World(channel()) as world:
        alice = world.connect("alice", client_id="a1")
        alice.close()
        with pytest.raises(ChannelClosed, match=r"got <WsClient 'a1' uid='alice' closed \(1000\)>"):
            alice.send("test/say", 1)
        with pytest.raises(ChannelClosed):
            alice.send("test/req", 1, timeout=5)


def test_a_post_that_is_refused_is_told() -> None:
    allowed = [True]
    chsk = ChannelSocket(authorize=lambda request: allowed[0])
    with World(chsk, transport="ajax") as world:
        alice = world.connect("alice")
        allowed.clear()
        allowed.append(False)
        with pytest.raises(ReplyError, match="a reply to test/req, got 401 Unauthorized request"):
            alice.send("test/req", 1, timeout=5)


def test_a_hook_that_raised_is_the_cause_of_the_refusal(transport: Any) -> None:
    def user_id(request: Any) -> str:
        raise LookupError("no such session")

    with World(ChannelSocket(user_id=user_id), transport=transport) as world:
        with pytest.raises(HandshakeRefused, match="500") as caught:
            world.connect()
        assert repr(caught.value.__cause__) == "LookupError('no such session')"


def test_a_refusal_names_the_setting_that_would_mend_it(transport: Any) -> None:
    chsk = ChannelSocket(Config(allowed_hosts=("chat.example",)))
    with World(chsk, transport=transport) as world:
        with pytest.raises(HandshakeRefused) as caught:
            world.connect(headers={"Host": "localhost"})
        (note,) = caught.value.__notes__
        assert "expected a Host of ['chat.example'], got 'localhost': see allowed_hosts" in note


def test_wrong_arguments_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="transport: expected 'ws' or 'ajax', got 'websocket'"):
        world.connect(transport="websocket")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="transport"):
        World(world.chsk, transport="http")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="uid: expected a user id, ANONYMOUS or None, got True"):
        world.connect(True)
    with pytest.raises(ConfigError, match="chsk: expected a ChannelSocket, got None"):
        World(None)  # type: ignore[arg-type]
    alice = world.connect("alice")
    with pytest.raises(InvalidEvent):
        alice.send("say")
    for client in (alice, world.connect("bob", transport="ajax")):
        for call in (client.send, client.ask):
            with pytest.raises(InvalidEvent, match="outside the namespace chsk, got 'chsk/x'"):
                call("chsk/x")
    with pytest.raises(InvalidEvent):
        alice.expect("said")
    with pytest.raises(InvalidEvent):
        alice.expect_nothing(":test/said")
    with pytest.raises(ConfigError, match="up: expected seconds of 0 or more, got -1"):
        alice.delay(-1)
    with pytest.raises(ValueError, match="seconds: expected 0 or more, got -1"):
        world.advance(-1)


def test_a_channel_that_runs_already_is_not_taken(world: World) -> None:
    with pytest.raises(ConfigError, match="expected a ChannelSocket that does not run yet"):
        with World(world.chsk):
            pass
    assert world.connect("alice").is_open


def test_time_is_not_turned_from_a_handler(world: World) -> None:
    world.chsk.on("test/turn", lambda msg: world.turn())
    alice = world.connect("alice")
    with pytest.raises(ReplyError) as caught:
        alice.send("test/turn", timeout=5)
    assert "expected a call from outside of the loop" in str(caught.value.__cause__)


# -- threads, and other loops


def test_a_handler_in_a_thread_is_awaited_while_time_stands(world: World) -> None:
    def work(msg: Any) -> Any:
        time.sleep(0.05)  # the thread is the point: virtual time must not run away from it
        world.chsk.send("alice", "test/done", msg.data)
        return msg.data + 1

    world.chsk.on("test/thread", work, thread=True)
    alice = world.connect("alice")
    before = world.now
    assert alice.send("test/thread", 1, timeout=0.01) == 2
    assert alice.expect("test/done") == 1
    assert world.now - before < 0.25
    alice.send("test/thread", 5)
    assert alice.expect("test/done", within=0.2) == 5


def test_to_thread_is_awaited_too(world: World) -> None:
    @world.chsk.on("test/thread")
    async def work(msg: Any) -> Any:
        await asyncio.to_thread(time.sleep, 0.05)
        return msg.data

    assert world.connect("alice").send("test/thread", 1, timeout=0.01) == 1


def test_a_world_is_turned_from_a_coroutine_of_another_loop(world: World) -> None:
    async def test() -> None:
        alice = world.connect("alice")
        alice.send("test/say", 1)
        assert alice.expect("test/said") == 1
        assert alice.send("test/slow", 9, timeout=10) == 9
        await asyncio.sleep(0)  # this loop goes on as before
        assert asyncio.get_running_loop() is not world.loop
        assert await asyncio.to_thread(lambda: 7) == 7

    asyncio.run(test())


def test_world_as_a_whole_lives_within_another_loop(transport: Any) -> None:
    async def test() -> Any:
        with World(channel(), transport=transport) as world:
            await asyncio.sleep(0)
            return world.connect("alice").send("test/req", 1, timeout=5)

    assert asyncio.run(test()) == 1


def test_what_a_client_sends_while_a_handler_runs_comes_behind_what_it_handles():
    chsk, handled = ChannelSocket(), []

    @chsk.on("t/first")
    def first(msg):
        client.send("t/second")
        handled.append(msg.id)

    @chsk.on("t/second")
    def second(msg):
        handled.append(msg.id)

    with World(chsk) as world:
        client = world.ws()
        client.send("t/first")
        assert handled == ["t/first", "t/second"]


def test_a_question_of_a_client_that_resumes_gets_its_own_reply_in_the_next_world():
    chsk = ChannelSocket()

    @chsk.on("t/echo")
    async def echo(msg):
        await asyncio.sleep(0.5)
        return msg.data

    with World(chsk) as world:
        client = world.ws("alice", client_id="tab", resumes=True)
        client.cut()
        first = client.ask("t/echo", 1)
    with World(chsk) as world:
        again = world.ws("alice", client_id="tab", resumes=client.resumption)
        second = again.ask("t/echo", 2)
        world.advance(2)
        assert (first.value, second.value) == (1, 2)
