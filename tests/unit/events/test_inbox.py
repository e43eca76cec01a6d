"""What one client's events hold while they wait for a handler, and when they are decoded."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import zlib
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from sample_channel import ON_LINUX, SlowPacker

from chansock import LATER, ChannelSocket, Config, EventMsg, Keyword
from chansock._core.posts import Post
from chansock._fast.events.dispatch import weigh
from chansock.errors import HandshakeRefused
from chansock.packers import EDN, Gzip, MessagePack
from chansock.testing import World, user_id
from chansock.testing.ajax import AjaxClient
from chansock.testing.client import PendingReply

MAX = 64 * 1024
SETS = [set() for _ in range(2000)]  # 6 KB of edn, 450 KB of memory


class Waits:
    """A handler that waits until it may go on; `begun` has what it was called with."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended = 0
        self.gate = asyncio.Event()

    async def __call__(self, msg: EventMsg[Any]) -> Any:
        self.begun.append(msg.data if isinstance(msg.data, int) else None)
        await self.gate.wait()
        self.ended += 1
        return "done"


class Counts:
    """A packer that counts what it unpacks."""

    def __init__(self) -> None:
        self.inner = EDN()
        self.unpacked: list[int] = []

    binary = False
    fragment = property(lambda self: self.inner.fragment)
    batch = property(lambda self: self.inner.batch)
    packet = property(lambda self: self.inner.packet)

    def unpack(self, view: memoryview) -> Any:
        self.unpacked.append(len(view))
        return self.inner.unpack(view)


def channel(packer: Any = None, **settings: Any) -> ChannelSocket:
    config = Config(**{"max_inbox_bytes": MAX, "max_message_bytes": MAX, **settings})
    return ChannelSocket(config, user_id=user_id, packer=packer)


def gzipped(packet: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=31)
    return b"\1" + stream.compress(packet) + stream.flush()


def packet_of(event_id: str, data: Any = SETS) -> bytes:
    return EDN().packet([Keyword(event_id), data], None)


FLOODS: dict[str, tuple[Callable[[], Any], Callable[[bytes], bytes]]] = {
    "edn": (EDN, bytes),
    "gzip": (lambda: Gzip(EDN()), gzipped),
}


@pytest.mark.parametrize("kind", ["serial", "parallel", "iterator", "behind"])
@pytest.mark.parametrize("name", FLOODS)
def test_a_client_holds_at_most_max_inbox_bytes_and_one_value(name: str, kind: str) -> None:
    make, wrap = FLOODS[name]
    chsk, waits, first = channel(make()), Waits(), Waits()
    chsk.on("t/first", first)
    chsk.on("t/serial", waits)
    chsk.on("t/parallel", waits, parallel=True)
    packet = wrap(packet_of(f"t/{'parallel' if kind == 'behind' else kind}"))

    async def never() -> None:
        async for _ in chsk:
            await asyncio.sleep(10_000)

    with World(chsk, raise_handler_errors=False) as world:
        reader = world.loop.create_task(never())
        world.turn()
        client = world.ws(uid="a")
        if kind == "iterator":
            client.feed(wrap(b"[[:t/iterator 1] nil]"))  # which it does not come back from
        world.turn()
        gc.collect()
        tracemalloc.start()
        if kind == "behind":
            client.feed(wrap(b"[[:t/first 1] nil]"))
        for _ in range(30):
            client.feed(packet)
        world.turn()
        if kind == "behind":
            first.gate.set()  # the packets behind it are decoded now
            world.turn()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        waits.gate.set()
        reader.cancel()
        world.turn()
    assert held < 1.5 * (MAX + weigh(SETS)) + 30 * len(packet)


def test_a_packet_is_decoded_when_it_is_its_turn_and_once() -> None:
    packer, waits = Counts(), Waits()
    chsk = channel(packer)
    chsk.on("t/e", waits)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        packet = b'[[:t/e "%s"] nil]' % (b"x" * 200)
        packer.unpacked.clear()  # the client has read its handshake
        for _ in range(5):
            client.feed(packet)
        world.turn()
        assert packer.unpacked == [len(packet)]
        waits.gate.set()
        world.turn()
        assert packer.unpacked == [len(packet)] * 5
        assert waits.ended == 5


@pytest.mark.parametrize("packer", [EDN(), MessagePack(), Gzip(EDN())], ids=repr)
def test_a_ping_is_answered_at_once_though_a_handler_waits(packer: Any) -> None:
    chsk, waits = channel(packer), Waits()
    chsk.on("t/e", waits)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.send("t/e", "x" * 300)
        client.send("t/e", "x" * 300)
        reply = client.ping()
        world.turn()
        assert reply.value == "pong"
        assert len(waits.begun) == 1
        waits.gate.set()


def test_a_small_packet_that_holds_much_waits_as_bytes() -> None:
    chsk, waits = channel(Gzip(EDN(), max_bytes=1 << 20), max_inbox_bytes=1 << 20), Waits()
    chsk.on("t/e", waits)
    bomb = gzipped(b'[[:t/e "%s"] nil]' % (b"x" * 60_000))
    assert len(bomb) <= 128
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.feed(*[bomb] * 10)
        world.turn()
        assert client.unread == 0
        assert client.connection.inbox.nbytes < 60_000 + 10 * 500
        waits.gate.set()
        world.turn()
        assert waits.ended == 10


def test_what_is_behind_a_handler_keeps_its_order_and_its_faults() -> None:
    chsk, waits = channel(), Waits()
    order: list[Any] = []
    chsk.on("t/wait", waits)
    chsk.on("t/say", lambda msg: order.append(msg.data[0]))
    pad = "y" * 200
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.send("t/wait")
        client.send("t/say", [1, pad])
        client.feed('[[:t/say "' + pad)  # no packet
        client.send("t/say", [2])
        client.feed(f'["{pad}" nil]')  # no event
        client.feed(f'[[:chsk/forged "{pad}"] nil]')
        client.send("t/say", [3, pad])
        world.turn()
        assert order == []
        waits.gate.set()
        world.turn()
        assert order == [1, 2, 3]
        stats = chsk.stats
        assert (stats.bad_packet, stats.bad_event, stats.forged) == (1, 1, 1)
        assert (client.connection.inbox.events, client.connection.inbox.nbytes) == (0, 0)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_all_that_was_taken_is_handled_in_order_however_much_it_holds(is_parallel: bool) -> None:
    chsk, waits, seen = channel(), Waits(), []
    chsk.on("t/wait", waits)

    @chsk.on("t/heavy", parallel=is_parallel)
    async def heavy(msg: EventMsg[Any]) -> None:
        seen.append(msg.data[0])
        await asyncio.sleep(1)

    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.send("t/wait")
        for n in range(20):
            client.send("t/heavy", [n, SETS])
        world.turn()
        waits.gate.set()
        world.advance(0.5)
        assert seen == [0]
        world.advance(60)
        assert seen == list(range(20))
        assert client.unread == 0
        assert client.connection.inbox.nbytes == 0


def test_a_handler_that_ends_at_once_is_not_weighed() -> None:
    chsk, weights = channel(), []

    @chsk.on("t/e")
    async def ends(msg: EventMsg[Any]) -> None:
        weights.append(msg._connection.inbox.nbytes)

    with World(chsk, raise_handler_errors=False) as world:
        world.ws(uid="a").feed(packet := packet_of("t/e"))
        assert weights == [len(packet)]


# -- POSTs


def number(client: AjaxClient, k: int, data: Any) -> PendingReply:
    return client.post(packet_of("t/e", data), [("n", f"77-{k}")])


def test_a_post_whose_value_has_no_room_waits_for_it_and_is_not_decoded_again_and_again() -> None:
    packer, waits = Counts(), Waits()
    chsk = channel(packer)
    chsk.on("t/e", waits)
    chsk.on("t/quick", lambda msg: None)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a")
        client.send("t/e")
        quick = [client.send("t/quick", n) for n in range(10)]
        packer.unpacked.clear()
        heavy = client.ask("t/e", SETS)
        world.advance(1)
        assert (heavy.status, len(packer.unpacked)) == (None, 1)
        waits.gate.set()
        world.turn()
        assert heavy.value == "done"
        assert [reply.status for reply in quick] == [200] * 10
        assert sum(size > 1000 for size in packer.unpacked) == 2


def test_a_bad_post_behind_a_handler_that_waits_gets_400_at_once() -> None:
    chsk, waits = channel(), Waits()
    chsk.on("t/e", waits)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a")
        client.send("t/e")
        bad = client.post("[[:t/e " + "x " * 300)
        assert bad.status == 400
        waits.gate.set()


def test_a_post_that_is_answered_later_counts_what_it_holds() -> None:
    chsk, kept = channel(), []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a")
        replies = [client.ask("t/later", SETS) for _ in range(3)]
        world.turn()
        assert len(kept) == 1
        kept[0].reply("now")
        world.turn()
        assert (replies[0].value, len(kept)) == ("now", 2)


def test_posts_that_came_too_early_are_bounded_in_bytes() -> None:
    chsk = channel()
    seen: list[Any] = []
    chsk.on("t/e", lambda msg: seen.append(len(msg.data)))
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        client.poll()
        early = [number(client, k, "x" * (MAX // 4)) for k in range(2, 10)]
        assert [reply.status for reply in early] == [None] * 3 + [503] * 5
        client.drop()  # their peers have left, and hold nothing any more
        again = [number(client, k, "x" * (MAX // 4)) for k in range(2, 5)]
        assert [reply.status for reply in again] == [None] * 3
        number(client, 1, "x")
        world.turn()
        assert [reply.status for reply in again] == [200] * 3
        assert seen == [1, *[MAX // 4] * 3]


def test_a_post_that_is_sent_again_while_the_first_waits_for_room_is_handled_once() -> None:
    chsk, waits = channel(), Waits()
    seen: list[int] = []
    chsk.on("t/wait", waits)
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        client.poll()
        client.send("t/wait", "x" * (MAX - 300))
        first, behind = number(client, 1, 1), number(client, 2, 2)
        again = number(client, 1, 1)
        assert (first.status, behind.status, again.status) == (503, None, None)
        waits.gate.set()
        world.turn()
        assert seen == [1, 2]
        assert (behind.status, again.status) == (200, 200)


def test_posts_whose_peers_leave_while_they_wait_for_room_are_forgotten() -> None:
    chsk = channel(max_inbox_events=1)
    gates: list[asyncio.Event] = []

    @chsk.on("t/wait")
    async def wait(msg: EventMsg[Any]) -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()

    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        for k in range(1, 100):
            client.send("t/wait")
            number(client, k, k)
            client.drop()
            gates[-1].set()
            world.turn()
        gc.collect()
        assert sum(type(held) is Post for held in gc.get_objects()) < 5
        assert number(client, 99, "came again").status == 200


def test_posts_that_wait_for_room_are_bounded_in_bytes() -> None:
    chsk, waits = channel(), Waits()
    chsk.on("t/e", waits)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a")
        client.send("t/e", "x" * (MAX - 100))
        waiting = [client.send("t/e", "x" * (MAX // 4)) for _ in range(8)]
        assert [reply.status for reply in waiting] == [None] * 3 + [503] * 5
        waits.gate.set()
        world.turn()
        assert [reply.status for reply in waiting[:3]] == [200] * 3
        assert waits.ended == 4


def test_a_post_whose_handler_waits_does_not_hold_its_form_again() -> None:
    chsk, kept = channel(), []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", params=[("csrf-token", "t")])
        client.ask("t/later", "x" * 10_000)
        params = kept[0].request.params
        assert "ppstr" not in params
        assert (params["client-id"], params["csrf-token"]) == (client.client_id, "t")
        too_much = client.post("[[:t/later] :ajax]", [("other", "y" * 5000)])
        assert too_much.status == 413


# -- what waits for room


def test_a_socket_that_has_closed_waits_for_room_no_more() -> None:
    chsk, waits = channel(max_inbox_events=1), Waits()
    chsk.on("t/e", waits)
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.send("t/e", 0)
        inbox = client.connection.inbox
        for n in range(5):
            client.send("t/e", n)
            assert inbox.stalled_count == 1
            client.cut()
            assert inbox.stalled_count == 0
            client.connect()
        client.send("t/e", 9)
        waits.gate.set()
        world.turn()
        assert waits.begun == [0, 9]


def test_what_no_handler_may_catch_does_not_hold_the_queue() -> None:
    class Ours(BaseException):
        pass

    chsk, waits, handled = channel(), Waits(), []
    chsk.on("t/wait", waits)
    chsk.on("t/good", lambda msg: handled.append(msg.data))

    @chsk.on("t/bad")
    def bad(msg: EventMsg[Any]) -> None:
        raise Ours

    with World(chsk, raise_handler_errors=False) as world:
        client = world.ws(uid="a")
        client.send("t/wait")
        client.send("t/bad")
        client.send("t/good", 1)
        waits.gate.set()
        world.turn()
        client.send("t/good", 2)
        world.turn()
        assert handled == [1, 2]


# -- how much is decoded in one turn


class Pace:
    """Counts how many packets a packer unpacks in each turn of a loop."""

    def __init__(self, world: World, packer: SlowPacker, total: int) -> None:
        self.world, self.packer, self.total = world, packer, total
        self.counts: list[int] = []
        self.before = packer.unpacked
        self.tick()

    def tick(self) -> None:
        self.counts.append(self.packer.unpacked - self.before)
        self.before = self.packer.unpacked
        if self.packer.unpacked < self.total:
            self.world.loop.call_soon(self.tick)


LONG = "x" * 200


@ON_LINUX
def test_what_waits_behind_handlers_is_decoded_a_little_in_each_turn() -> None:
    chsk, waits, got = channel(packer := SlowPacker()), Waits(), []
    chsk.on("t/first", waits)
    chsk.on("t/plain", lambda msg: got.append(msg.uid))
    with World(chsk, raise_handler_errors=False) as world:
        clients = [world.ws(uid=uid) for uid in "abc"]
        for client in clients:
            client.send("t/first", 1)
            for _ in range(3):
                client.send("t/plain", LONG)
        world.turn()
        assert packer.unpacked == 0
        waits.gate.set()
        pace = Pace(world, packer, 9)
        world.turn()
    assert max(pace.counts) == 1
    assert sorted(got) == [*"aaabbbccc"]
    assert got[:3] != [*"aaa"]  # each in its turn


@ON_LINUX
def test_posts_that_came_too_early_are_decoded_a_little_in_each_turn() -> None:
    chsk, got = channel(packer := SlowPacker()), []
    chsk.on("t/plain", lambda msg: got.append(msg.data))
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        posts = [
            client.post(f'[[:t/plain "{n}{LONG}"] :ajax]', [("n", f"77-{n}")])
            for n in (5, 3, 4, 2, 1)
        ]
        pace = Pace(world, packer, 5)
        world.turn()
        assert max(pace.counts) == 1
        assert [data[0] for data in got] == [*"12345"]
        assert all(post.is_here for post in posts)


@ON_LINUX
def test_posts_that_get_room_are_decoded_a_little_in_each_turn() -> None:
    chsk, waits, got = channel(packer := SlowPacker(), max_inbox_events=3), Waits(), []
    chsk.on("t/first", waits)
    chsk.on("t/plain", lambda msg: got.append(msg.data))
    with World(chsk, raise_handler_errors=False) as world:
        client = world.ajax(uid="a", is_polling=False)
        client.shake_hands("77")
        for n in (1, 2, 3):
            client.post("[[:t/first 1] nil]", [("n", f"77-{n}")])
        posts = [
            client.post(f'[[:t/plain "{n}{LONG}"] :ajax]', [("n", f"77-{n}")]) for n in (4, 5, 6)
        ]
        world.turn()
        assert packer.unpacked == 0
        waits.gate.set()
        pace = Pace(world, packer, 3)
        world.turn()
        assert max(pace.counts) == 1
        assert [data[0] for data in got] == [*"456"]
        assert all(post.is_here for post in posts)


@ON_LINUX
def test_what_goes_on_in_a_later_turn_sees_its_own_context_variables() -> None:
    chsk, waits, seen = channel(SlowPacker()), Waits(), []
    whose: ContextVar[Any] = ContextVar("whose", default=None)
    chsk.on("t/first", waits)
    chsk.on("t/plain", lambda msg: seen.append((msg.uid, whose.get())))
    with World(chsk, raise_handler_errors=False) as world:
        for uid in "abc":
            client, context = world.ws(uid=uid), copy_context()
            context.run(whose.set, uid)
            context.run(client.send, "t/first", 1)
            for _ in range(3):
                context.run(client.send, "t/plain", LONG)
        world.turn()
        waits.gate.set()
        world.turn()
    # The handler of the first client took an idle worker, which has the channel's context.
    assert sorted([pair for pair in seen if pair[0] != "a"]) == [(uid, uid) for uid in "bbbccc"]


# -- who came and went, behind a presence handler that waits


def test_nobody_new_is_admitted_while_too_many_presence_events_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chansock._core.endpoint.MAX_UNTOLD", 3)
    chsk, waits = channel(), Waits()
    chsk.on("chsk/uidport-open", waits)
    with World(chsk, raise_handler_errors=False) as world:
        first, *_ = [world.ws(uid=uid) for uid in "abc"]
        for connect in (world.ws, world.ajax):
            with pytest.raises(HandshakeRefused, match="503"):
                connect(uid="d")
        assert chsk.stats.refused == {"full": 2}
        first.cut()
        first.reconnect()  # to the place that it has
        world.turn()
        assert first.is_open
        waits.gate.set()
        world.turn()
        assert world.ws(uid="d").is_open
