"""Every packer on both transports: the channel's own words and an application's events, between
a real server and a real client, and in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chansock import ALL, ANONYMOUS, ChannelSocket, EncodeError, ReplyError, packers, testing
from chansock.client import connect
from chansock.server import serve
from chansock.values import FrozenDict, Keyword, StrDict

Run = Callable[[Any], Any]

PACKERS = {
    "edn": packers.EDN(),
    "transit": packers.Transit(),
    "transit-verbose": packers.Transit(verbose=True),
    "msgpack": packers.MessagePack(),
    "json": packers.JSON(),
    "gzip": packers.Gzip(packers.EDN()),
    "gzip-transit": packers.Gzip(packers.Transit()),
    "gzip-msgpack": packers.Gzip(packers.MessagePack()),
}
packed = pytest.mark.parametrize("packer", PACKERS.values(), ids=list(PACKERS))
both = pytest.mark.parametrize("kind", ["ws", "ajax"])

DATA = {"text": "hi é漢😀 " * 400, "list": [1, -1.5, None, True, {"n": 2**40}], "empty": {}}


def channel(packer: packers.Packer, **hooks: Any) -> ChannelSocket:
    chsk = ChannelSocket(packer=packer, **hooks)

    @chsk.on("test/echo")
    def echo(msg: Any) -> Any:
        return msg.data

    @chsk.on("test/say")
    def say(msg: Any) -> None:
        chsk.send(ALL, "test/said", msg.data)
        chsk.send(ALL, "test/said-more")

    @chsk.on("test/fail")
    def fail(msg: Any) -> None:
        raise RuntimeError("as asked")

    return chsk


@packed
@both
def test_events_replies_and_pushes_pass(run: Run, packer: packers.Packer, kind: Any) -> None:
    async def main() -> None:
        chsk = channel(packer, handshake_data=lambda request: DATA)
        async with (
            serve(chsk, port=0) as listener,
            connect(listener.url, transport=kind, packer=packer) as client,
        ):
            assert (client.state.uid, client.state.handshake_data) == (None, DATA)
            assert await client.send("test/echo", DATA, timeout=60) == DATA
            assert await client.send("test/echo", timeout=60) is None
            with pytest.raises(ReplyError):
                await client.send("test/fail", timeout=60)
            await client.send("test/say", DATA)
            said = [await anext(client), await anext(client)]
            assert [(event.id, event.data) for event in said] == [
                ("test/said", DATA),
                ("test/said-more", None),
            ]

    run(main())


@packed
@both
def test_the_words_of_the_channel_pass(packer: packers.Packer, kind: str) -> None:
    chsk = channel(packer, user_id=testing.user_id)
    with testing.World(chsk, packer=packer, raise_handler_errors=False) as world:
        client = world.ws() if kind == "ws" else world.ajax()
        assert type(client.handshake.uid) is Keyword
        assert client.handshake == (Keyword("sente/nil-uid"), None)
        assert client.ask("test/echo", [1]).value == [1]
        failed = client.ask("test/fail").value
        assert (type(failed), failed) == (Keyword, "chsk/error")
        chsk.send(ANONYMOUS, "test/note", [1])
        chsk.send(ANONYMOUS, "test/note")
        if kind == "ws":
            assert client.ping().value == "pong"
            world.advance(1)
            assert client.take() == [("test/note", [1]), ("test/note", None)]
            world.advance(60)
            assert client.pings
            assert client.is_open
        else:
            posted = client.send("test/say", 1).value
            assert (type(posted), posted) == (Keyword, "chsk/dummy-cb-200")
            world.advance(1)
            assert len(client.take()) == 4
            polls = len(client.polls)
            world.advance(30)
            timed_out = client.polls[polls - 1].value
            assert (type(timed_out), timed_out) == (Keyword, "chsk/timeout")


NOTES = {  # the first with None, the second without data
    "edn": b"[[[:test/note nil] [:test/note]] nil]",
    "transit": b'[[["~:test/note",null],["~:test/note"]],null]',
    "transit-verbose": b'[[["~:test/note",null],["~:test/note"]],null]',
    "msgpack": bytes.fromhex("929292c70900") + b"test/note" + bytes.fromhex("c091c70900")
    + b"test/note\xc0",
    "json": b'[[["test/note",null],["test/note"]],null]',
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_none_is_written_as_nil_and_no_data_is_left_out(name: str) -> None:
    packer = PACKERS[name]
    chsk = channel(packer, user_id=testing.user_id)
    with testing.World(chsk, packer=packer, raise_handler_errors=False) as world:
        client = world.ws(uid="ada")
        chsk.send("ada", "test/note", None)
        chsk.send("ada", "test/note")
        world.advance(1)
        assert client.transport.written[-1] == NOTES[name]
        assert [event.data for event in client.take()] == [None, None]


class Recorder:
    """EDN, and what was given to be packed."""

    binary = False
    unpack = staticmethod(packers.EDN().unpack)
    fragment = staticmethod(packers.EDN().fragment)
    batch = staticmethod(packers.EDN().batch)

    def __init__(self) -> None:
        self.values: list[Any] = []

    def packet(self, value: Any, cb_id: Any) -> bytes:
        self.values.append(value)
        return packers.EDN().packet(value, cb_id)


EVENTS = [["test/echo", None], ["test/echo"], ["test/echo", None], ["test/echo"]]


@both
def test_a_client_writes_none_as_nil_and_leaves_no_data_out(run: Run, kind: Any) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with (
            serve(channel(packers.EDN()), port=0) as listener,
            connect(listener.url, transport=kind, packer=recorder) as client,
        ):
            await client.send("test/echo", None)
            await client.send("test/echo")
            await client.send("test/echo", None, timeout=60)
            await client.send("test/echo", timeout=60)

    run(main())
    assert recorder.values == EVENTS


@both
def test_a_testing_client_writes_none_as_nil_and_leaves_no_data_out(kind: str) -> None:
    recorder = Recorder()
    with testing.World(channel(packers.EDN()), packer=recorder) as world:
        client = world.ws() if kind == "ws" else world.ajax()
        client.send("test/echo", None)
        client.send("test/echo")
        client.ask("test/echo", None).wait()
        client.ask("test/echo").wait()
    assert recorder.values == EVENTS


@packed
def test_what_is_no_packet_is_dropped_and_a_post_of_it_gets_400(packer: packers.Packer) -> None:
    chsk = channel(packer)
    with testing.World(chsk, packer=packer, raise_handler_errors=False) as world:
        client, poller = world.ws(), world.ajax()
        for packet in (b"\x01[", b"\xff\xff", b"[[", b"\x00[["):
            client.feed(packet)
        assert client.is_open
        assert client.ask("test/echo", 1).value == 1
        assert chsk.stats.bad_packet == 4
        assert poller.post(b"[[").status == 400


def nested(depth: int, shell: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = shell(value)
    return value


def shells(packer: packers.Packer) -> list[Callable[[Any], Any]]:
    plain: list[Callable[[Any], Any]] = [
        lambda value: [value],
        lambda value: {"a": value},
        lambda value: StrDict({"a b": value}),
    ]
    if isinstance(packer, packers.JSON):
        return plain
    return [
        *plain,
        lambda value: frozenset((value,)),
        lambda value: FrozenDict({"a": value}),
        lambda value: FrozenDict({value: 1}),
    ]


def deepest_written(packer: packers.Packer, shell: Callable[[Any], Any]) -> int:
    """Return how many shells around a value the packer writes in an event."""
    written, refused = 0, 600
    while refused - written > 1:
        depth = (written + refused) // 2
        try:
            packer.fragment(("a/b", nested(depth, shell)))
        except EncodeError:
            refused = depth
        else:
            written = depth
    return written


@packed
def test_what_is_written_in_any_depth_is_read_in_a_batch(packer: packers.Packer) -> None:
    for shell in shells(packer):
        deepest = deepest_written(packer, shell)
        assert 100 < deepest <= 497
        with pytest.raises(EncodeError, match="expected at most 500") as caught:
            packer.fragment(("a/b", nested(deepest + 1, shell)))
        assert caught.value.path
        fragment = packer.fragment(("a/b", nested(deepest, shell)))
        batch = packer.batch([fragment, fragment, packer.fragment(("a/c", 1))])
        events, _ = packer.unpack(memoryview(batch))
        assert [event[0] for event in events] == ["a/b", "a/b", "a/c"]
        with pytest.raises(EncodeError, match="expected at most 500"):
            packer.packet(nested(deepest + 3, shell), "1a2b3c")
        reply, cb_id = packer.unpack(memoryview(packer.packet(nested(deepest, shell), "1a2b3c")))
        assert (len(reply), cb_id) == (1, "1a2b3c")


@packed
@both
def test_a_push_that_is_too_deep_costs_no_other_event(
    run: Run, packer: packers.Packer, kind: Any
) -> None:
    async def main() -> list[str]:
        chsk = channel(packer)
        async with serve(chsk, port=0) as served:
            url = f"http://127.0.0.1:{served.port}/chsk"
            async with connect(url, transport=kind, packer=packer) as client:
                chsk.send(ALL, "test/first")
                with pytest.raises(EncodeError, match="expected at most 500"):
                    chsk.send(ALL, "test/deep", nested(498, lambda value: [value]))
                chsk.send(ALL, "test/deepest", nested(497, lambda value: [value]))
                chsk.send(ALL, "test/last")
                got = [(await anext(client)).id for _ in range(3)]
                assert client.state.open
                return got

    assert run(main()) == ["test/first", "test/deepest", "test/last"]
