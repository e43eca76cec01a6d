"""The channel's own events, on both sides: one test for each row of Sente's tables.

What the server's application is told comes from raw requests; what the client's is told, from
our client on a real port. The keys of the client's state and its reasons are driven one by one
in test_client_state.py; here stands which is which.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any, get_args

import pytest
from raw import DUMMY, Poll, Run, config, handshake, post
from sente_app import Served, serving

from chansock import (
    ChannelClosed,
    ChannelSocket,
    Event,
    EventMsg,
    InvalidEvent,
    ReplyError,
    ReplyTimeout,
    State,
    connect,
)
from chansock.client.state import ReasonKind

each_way = pytest.mark.parametrize("kind", ["ws", "post"])
each_transport = pytest.mark.parametrize("transport", ["ws", "ajax"])

NEVER = object()

# What the server's application receives

SENT: dict[str, tuple[str, Any]] = {
    "client event": ("[[:test/any {:a 1}] {cb}]", ("test/any", {"a": 1})),
    "client event without data": ("[[:test/any] {cb}]", ("test/any", None)),
    "chsk/ws-ping": ("[[:chsk/ws-ping] {cb}]", ("chsk/ws-ping", None)),
    "chsk/ws-ping with data": ("[[:chsk/ws-ping 1] {cb}]", ("chsk/ws-ping", 1)),
    "chsk/ws-pong": ("[[:chsk/ws-pong] {cb}]", ("chsk/ws-pong", None)),
    # Sente hands these to the application; here they are counted, and it never sees them.
    "chsk/bad-event": ("[[:any 1] {cb}]", NEVER),
    "chsk/bad-event, forged": ("[[:chsk/bad-event 1] {cb}]", NEVER),
    "chsk/uidport-open, forged": ('[[:chsk/uidport-open "x"] {cb}]', NEVER),
    # Up to 1.20.
    "chsk/bad-package": ("[[", NEVER),
}


@each_way
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("row", SENT)
def test_application_receives(row: str, is_asked: bool, kind: str, run: Run) -> None:
    packet, expected = SENT[row]
    cb_id = "nil" if not is_asked else '"c1"' if kind == "ws" else ":ajax"
    text = packet.replace("{cb}", cb_id)
    seen: list[EventMsg[Any]] = []

    def note(msg: EventMsg[Any]) -> None:
        # A ping that asks for its pong has it already.
        is_ponged = kind == "ws" and row == "chsk/ws-ping"
        assert msg.wants_reply is (is_asked and not is_ponged)
        seen.append(msg)

    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            for event_id in ("test/any", "chsk/ws-ping", "chsk/ws-pong"):
                served.chsk.on(event_id, note)
            if kind == "ws":
                await alice.say(text)
                await alice.say('[[:test/req 1] "last"]')
                while await alice.text() != '[1 "last"]':
                    pass
            else:
                async with served.peer() as wire:
                    await post(wire, text)
            if expected is NEVER:
                assert seen == []
                return
            (msg,) = seen
            assert (msg.id, msg.data) == expected
            assert (msg.uid, msg.client_id) == ("alice", "alice/1")
            assert msg.request.method == ("GET" if kind == "ws" else "POST")
            assert msg.request.params["client-id"] == "alice/1"

    run(main())


def test_client_s_ping_is_answered_pong_over_a_websocket_and_not_by_post(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice, served.peer() as wire:
            await alice.say('[[:chsk/ws-ping] "c1"]')
            assert await alice.text() == '["pong" "c1"]'
            assert (await post(wire, "[[:chsk/ws-ping] nil]")).text == DUMMY

    run(main())


class Presence:
    """What the application is told of a user's coming and going, in order."""

    def __init__(self, chsk: ChannelSocket) -> None:
        self.told: list[tuple[str, Any]] = []
        self.news = asyncio.Event()
        for event_id in ("chsk/uidport-open", "chsk/uidport-close"):
            chsk.on(event_id, self.note)

    def note(self, msg: EventMsg[Any]) -> None:
        assert (msg.data, msg.uid, msg.wants_reply) == ("alice", "alice", False)
        assert msg.request.params["client-id"] == msg.client_id
        self.told.append((msg.id, msg.client_id))
        self.news.set()

    async def until(self, count: int) -> None:
        while len(self.told) < count:
            self.news.clear()
            await self.news.wait()


@each_transport
def test_application_receives_uidport_open_and_close(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config(grace_ws=0, grace_ajax=0.05)) as served:
            presence = Presence(served.chsk)
            if transport == "ws":
                async with served.socket() as alice:
                    assert presence.told == [("chsk/uidport-open", "alice/1")]
                    await alice.bye()
            else:
                async with served.peer() as wire:
                    await handshake(wire)
                    assert presence.told == []  # the handshake alone makes nobody connected
                    poll = await Poll.park(served)
                    assert presence.told == [("chsk/uidport-open", "alice/1")]
                    await poll.drop()
            await presence.until(2)
            assert presence.told[1] == ("chsk/uidport-close", "alice/1")

    run(main())


def test_second_tab_and_second_transport_of_a_user_are_no_news(run: Run) -> None:
    async def main() -> None:
        async with serving(config(grace_ws=0, grace_ajax=0.05)) as served:
            presence = Presence(served.chsk)
            async with served.socket("alice/1") as one, served.peer() as wire:
                async with served.socket("alice/2") as two:
                    await two.bye()
                await handshake(wire)
                poll = await Poll.park(served)
                await one.bye()
                assert presence.told == [("chsk/uidport-open", "alice/1")]
                await poll.drop()
                await presence.until(2)
                assert presence.told[1][0] == "chsk/uidport-close"

    run(main())


# What the client's application receives


def client_of(served: Served, transport: Any, **options: Any) -> Any:
    url = f"ws://127.0.0.1:{served.port}/chsk"
    return connect(url, transport=transport, client_id="alice/1", **options)


@each_transport
def test_client_receives_handshake_with_first_once_for_each_client(
    transport: str, run: Run
) -> None:
    async def main() -> None:
        hooks = {"handshake_data": lambda _: {"motd": "hi"}}
        async with serving(config(), **hooks) as served:
            for _ in range(2):  # two clients
                client = client_of(served, transport)
                told: asyncio.Queue[Event[Any]] = asyncio.Queue()
                client.on("chsk/handshake", told.put_nowait)
                async with client:
                    for is_first in (True, False, False):
                        event = await told.get()
                        assert event == Event(
                            "chsk/handshake", ["alice", None, {"motd": "hi"}, is_first]
                        )
                        client.reconnect()

    run(main())


@each_transport
def test_client_receives_state_with_old_new_and_open_changed(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served:
            client = client_of(served, transport)
            told: list[Event[Any]] = []
            client.on("chsk/state", told.append)
            before = client.state
            async with client:
                assert await client.send("test/req", 1, timeout=60) == 1
                old, new, is_open_changed = told[0].data
                assert (old, new, is_open_changed) == (before, client.state, True)
                # From these come the transient :opened? :closed? :first-open? of Sente's new map.
                assert (old.open, new.open) == (False, True)
                assert (old.ever_opened, new.ever_opened) == (False, True)

    run(main())


def test_client_receives_the_server_s_ping(run: Run) -> None:
    async def main() -> None:
        async with serving(config(ws_ping_interval=0.05)) as served:
            client = client_of(served, "ws")
            told: asyncio.Queue[Event[Any]] = asyncio.Queue()
            client.on("chsk/ws-ping", told.put_nowait)
            async with client:
                assert await told.get() == Event("chsk/ws-ping", None)

    run(main())


@pytest.mark.parametrize(
    ("row", "event_id"),
    [
        # An option of Sente's that wraps each event in another; ours have their ids.
        ("chsk/recv", "chsk/recv"),
        # Told there of what the page itself sent; here its caller is told, at once.
        ("chsk/bad-event", "chsk/bad-event"),
        ("chsk/bad-package", "chsk/bad-package"),
    ],
)
def test_client_receives_no(row: str, event_id: str) -> None:
    with pytest.raises(InvalidEvent, match="expected one of chsk/handshake, chsk/state"):
        connect("ws://h/chsk").on(event_id, print)


@each_transport
@pytest.mark.parametrize("event_id", ["no-namespace", ":test/colon", "chsk/ws-ping", "", 5, None])
def test_invalid_event_of_the_client_is_told_to_its_caller(
    event_id: Any, transport: str, run: Run
) -> None:
    async def main() -> None:
        async with serving(config()) as served, client_of(served, transport) as client:
            with pytest.raises(InvalidEvent):
                await client.send(event_id, 1)
            assert await client.send("test/req", 1, timeout=60) == 1

    run(main())


# The values of a callback besides replies


@each_transport
def test_callback_closed(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, client_of(served, transport) as client:
            client.disconnect()
            with pytest.raises(ChannelClosed, match="requested-disconnect"):
                await client.send("test/req", 1, timeout=5)

    run(main())


@each_transport
def test_callback_timeout_of_the_client(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, client_of(served, transport) as client:
            with pytest.raises(ReplyTimeout):
                await client.send("test/no-reply", 1, timeout=0.05)

    run(main())


def test_callback_timeout_of_the_server_over_ajax(run: Run) -> None:
    async def main() -> None:
        settings = config(poll_timeout=0.05)
        async with serving(settings) as served, client_of(served, "ajax") as client:
            with pytest.raises(ReplyTimeout):
                await client.send("test/no-reply", 1, timeout=15)

    run(main())


@each_transport
def test_callback_error(transport: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, client_of(served, transport) as client:
            with pytest.raises(ReplyError):
                await client.send("test/throw", timeout=60)

    run(main())


# The state map

KEYS = {
    "type": "type",
    "open?": "open",
    "ever-opened?": "ever_opened",
    "uid": "uid",
    "handshake-data": "handshake_data",
    "csrf-token": "csrf_token",
    "last-ws-error": "last_ws_error",
    "last-ws-close": "last_ws_close",
    "last-close": "last_close",
    "udt-next-reconnect": "retry_at",
}


def test_each_key_of_sente_s_state_has_its_field() -> None:
    ours = {field.name for field in fields(State)}
    # Why it did not open, which Sente leaves out; how it came back, which Sente does not know.
    assert ours - set(KEYS.values()) == {"reason", "resumed"}
    assert set(KEYS.values()) <= ours


@pytest.mark.parametrize(
    "reason",
    [
        "clean",
        "unexpected",
        "requested-disconnect",
        "requested-reconnect",
        "downgrading-ws-to-ajax",
        "ws-ping-timeout",
        "ws-error",
    ],
)
def test_each_reason_of_sente_s_is_one(reason: str) -> None:
    assert reason in get_args(ReasonKind)
