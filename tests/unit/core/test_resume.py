"""Clients that resume get every kept event once and in order, and send each of theirs once.

By a World's clients, which do on the wire what chansock's own do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import chansock
from chansock import ALL, ChannelSocket, Config, EventMsg
from chansock.backplanes import Memory
from chansock.errors import ConfigError, HandshakeRefused
from chansock.testing import World
from chansock.testing.world import user_id

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


def channel(**settings: Any) -> ChannelSocket:
    chsk = ChannelSocket(Config(**settings), user_id=user_id)
    chsk.handled = []  # type: ignore[attr-defined]

    @chsk.on("t/e")
    def handle(msg: EventMsg[Any]) -> Any:
        chsk.handled.append((msg.data, msg.is_redelivered))  # type: ignore[attr-defined]
        return msg.data

    @chsk.on("t/slow")
    async def handle_slowly(msg: EventMsg[Any]) -> Any:
        chsk.handled.append((msg.data, msg.is_redelivered))  # type: ignore[attr-defined]
        await asyncio.sleep(10)
        return msg.data

    return chsk


@pytest.fixture
def chsk() -> ChannelSocket:
    return channel()


@pytest.fixture
def world(chsk: ChannelSocket) -> Iterator[World]:
    with World(chsk) as world:
        yield world


def data(client: Any) -> list[Any]:
    return [event.data for event in client.take()]


def count(start: int, end: int) -> list[int]:
    return list(range(start, end))


def send(chsk: ChannelSocket, start: int, end: int, to: Any = "a") -> None:
    for number in range(start, end):
        chsk.send(to, "t/n", number)


@BOTH
def test_what_was_written_to_a_dead_connection_comes_again(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    world.advance(1)
    assert client.was == "fresh"
    send(world.chsk, 0, 3)
    world.advance(1)
    client.delay(down=1)
    send(world.chsk, 3, 5)
    world.advance(0.5)  # written, and on the way
    client.cut()
    send(world.chsk, 5, 7)
    client.delay(0)
    client.reconnect()
    world.advance(1)
    assert client.was == "resumed"
    assert data(client) == count(0, 7)
    send(world.chsk, 7, 9)
    world.advance(1)
    assert data(client) == count(7, 9)
    assert world.chsk.stats.resumed == 1


@BOTH
def test_a_client_that_comes_back_after_its_grace_has_missed_nothing(
    world: World, transport: str
) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    world.advance(1)
    client.cut()
    send(world.chsk, 0, 3)
    send(world.chsk, 3, 6, to=ALL)
    world.advance(60)
    send(world.chsk, 6, 8)
    assert "a" not in world.chsk.connected.any
    client.reconnect()
    world.advance(1)
    assert (client.was, data(client)) == ("resumed", count(0, 8))


def test_a_poll_with_an_old_position_gets_the_same_events_again(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    send(world.chsk, 0, 3)
    client.poll()
    world.advance(1)
    assert client.resumption is not None
    position = client.resumption.position
    client.resumption.position = client.polls[0].value[1][1][chansock.Keyword("pos")]
    client.poll()
    world.advance(1)
    assert client.resumption.position == position
    assert data(client) == [*count(0, 3), *count(0, 3)]


@BOTH
@pytest.mark.parametrize("limit", ["events", "seconds", "bytes"])
def test_past_the_retention_a_client_is_told_of_a_gap(limit: str, transport: str) -> None:
    settings: dict[str, Any] = {
        "events": {"keep_events": 5},
        "seconds": {"keep_seconds": 20.0},
        "bytes": {"keep_bytes": 1500},
    }[limit]
    chsk = channel(**settings)
    with World(chsk) as world:
        client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
        world.advance(1)
        client.cut()
        if limit == "seconds":
            world.advance(5)  # past its grace, so that nothing waits for it
            send(chsk, 0, 1)
            world.advance(15)
            send(chsk, 1, 2)
            world.advance(10)
        else:
            world.advance(6)
            send(chsk, 0, 20)
        client.reconnect()
        world.advance(1)
        assert client.was == "gap"
        assert data(client) == []
        send(chsk, 20, 22)
        world.advance(1)
        assert data(client) == [20, 21]
        assert chsk.stats.gap == 1


def test_a_record_ends_after_keep_seconds(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.cut()
    world.advance(130)
    client.reconnect()
    assert client.was == "gap"


def test_an_event_that_is_not_kept_is_lost_with_the_connection(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.delay(down=1)
    world.chsk.send("a", "t/n", 1, keep=False)
    world.chsk.send("a", "t/n", 2)
    world.turn()
    client.cut()
    client.delay(0)
    client.reconnect()
    world.chsk.send("a", "t/n", 3, keep=False)
    world.turn()
    assert data(client) == [2, 3]


def test_a_replay_has_the_newest_of_a_latest_key(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.cut()
    world.advance(10)
    for number in range(4):
        world.chsk.send("a", "t/n", number, latest="k" if number != 1 else None)
    client.reconnect()
    assert data(client) == [1, 3]


@BOTH
def test_an_event_of_a_client_is_handled_once(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    for number in range(10):
        client.send("t/e", number)
        world.advance(0.2)
        if number % 3 == 0:
            client.cut()
            client.send("t/e", number + 100)
            client.reconnect()
            world.advance(0.2)
    expected = [n for k in range(10) for n in ([k, k + 100] if k % 3 == 0 else [k])]
    assert world.chsk.handled == [(n, False) for n in expected]  # type: ignore[attr-defined]


@BOTH
def test_an_event_that_the_break_took_is_sent_again(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    world.advance(0.2)
    client.delay(up=1)
    client.send("t/e", 1)
    client.send("t/e", 2)
    world.advance(0.5)
    client.cut()
    client.delay(0)
    client.reconnect()
    world.advance(1)
    client.send("t/e", 3)
    world.advance(1)
    assert world.chsk.handled == [(1, False), (2, False), (3, False)]  # type: ignore[attr-defined]


@BOTH
def test_a_handler_that_runs_is_not_started_twice_and_its_reply_arrives(
    world: World, transport: str
) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    reply = client.ask("t/slow", 1)
    world.advance(1)
    client.cut()
    world.advance(1)
    client.reconnect()
    later = client.ask("t/e", 2)
    assert reply.wait(20) == 1
    assert later.wait(20) == 2
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]
    assert world.chsk.stats.reply_lost == 0


@BOTH
def test_the_reply_of_a_session_that_had_ended_meanwhile_arrives(
    world: World, transport: str
) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    reply = client.ask("t/slow", 1)
    world.advance(1)
    client.cut()
    world.advance(7)
    assert "a" not in world.chsk.connected.any
    client.reconnect()
    assert reply.wait(20) == 1


@BOTH
def test_a_reply_that_was_lost_on_its_way_comes_again(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    client.delay(down=1)
    reply = client.ask("t/e", 1)
    world.advance(0.5)
    assert world.chsk.handled == [(1, False)]  # type: ignore[attr-defined]
    client.cut()
    client.delay(0)
    client.reconnect()
    assert reply.wait(20) == 1
    assert world.chsk.handled == [(1, False)]  # type: ignore[attr-defined]


def test_a_reply_over_a_change_of_transport(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.delay(down=1)
    reply = client.ask("t/e", 1)
    world.advance(0.5)
    client.cut()
    resumption, name = client.resumption or True, client.client_id
    other = world.ajax("a", client_id=name, is_polling=False, resumes=resumption)
    other.poll()
    world.advance(1)
    assert reply.value == 1
    assert other.was == "resumed"


def test_what_the_old_connection_still_brings_is_not_taken(world: World) -> None:
    client = world.ws("a", resumes=True)
    old = client._socket
    assert client.resumption is not None
    client.resumption.number(b"", None)
    client.resumption.sent = 1
    client.resumption.waiting[1] = client._packet(chansock.Keyword("t/e"), 1, None)
    second = world.ws("a", client_id=client.client_id, resumes=True)
    second.resumption = client.resumption
    second.connect()
    old.unread.append((client._packet(chansock.Keyword("t/e"), 1, None), True))
    world.inside(lambda: client._pump(old))
    world.turn()
    assert world.chsk.handled == [(1, False)]  # type: ignore[attr-defined]
    assert old.transport.closed_with == (4409, "another connection of this client")


@BOTH
def test_a_restart_with_the_same_engine_misses_nothing(transport: str) -> None:
    chsk = channel()
    with World(chsk) as world:
        client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
        client.send("t/e", 1)
        world.advance(1)
        resumption, client_id = client.resumption, client.client_id
        client.cut()
        send(chsk, 0, 3)
    with World(chsk) as world:
        send(chsk, 3, 5)
        client = world.connect(
            "a",
            transport=transport,  # type: ignore[arg-type]
            client_id=client_id,
            resumes=resumption or True,
        )
        client.send("t/e", 2)
        world.advance(1)
        assert client.was == "resumed"
        assert data(client) == count(0, 5)
    assert chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]


def test_events_that_a_stop_dropped_are_taken_again() -> None:
    chsk = channel(stop_timeout=1.0)
    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        for number in range(3):
            client.send("t/slow", number)
        world.turn()
        resumption, client_id = client.resumption, client.client_id
    assert chsk.handled == [(0, False)]  # type: ignore[attr-defined]
    with World(chsk) as world:
        world.ws("a", client_id=client_id, resumes=resumption or True)
        world.advance(30)
    assert chsk.handled == [(0, False), (1, False), (2, False)]  # type: ignore[attr-defined]


def test_another_engine_is_a_gap_and_marks_what_comes_again() -> None:
    chsk = channel()
    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        client.send("t/e", 1)
        world.turn()
        resumption, client_id = client.resumption, client.client_id
    other = channel()
    with World(other) as world:
        client = world.ws("a", client_id=client_id, resumes=resumption or True)
        client.send("t/e", 2)
        world.turn()
        assert client.was == "gap"
    assert other.handled == [(1, True), (2, False)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "params",
    [
        {"pos": "x"},
        {"pos": ""},
        {"pos": "1-"},
        {"pos": "1-2-3"},
        {"pos": "-1-2"},
        {"pos": "1-" + "9" * 16},
        {"pos": "0", "acked": "-1"},
        {"pos": "0", "sent": "1e3"},
        {"pos": "0", "waits": "x"},
        {"pos": "0", "acked": "2", "sent": "1"},
        {"pos": "0", "acked": "9" * 400},
    ],
)
def test_malformed_positions_and_numbers_are_refused(world: World, params: dict[str, str]) -> None:
    for connect in (world.ws, world.ajax):
        with pytest.raises(HandshakeRefused) as caught:
            connect("a", params=params)
        assert caught.value.status == 400
    assert world.chsk.stats.refused == {"resume": 2}


@pytest.mark.parametrize("position", ["future", "other epoch", "other user"])
def test_a_position_that_is_not_ours_is_a_gap(world: World, position: str) -> None:
    client = world.ws("a", resumes=True)
    assert client.resumption is not None
    epoch, seq = client.resumption.position.split("-")
    client.cut()
    client.resumption.position = {
        "future": f"{epoch}-{int(seq) + 5}",
        "other epoch": f"{(int(epoch) + 1) % 10**15}-{seq}",
        "other user": f"{epoch}-{seq}",
    }[position]
    if position == "other user":
        client._uid = "b"
    client.reconnect()
    assert client.was == "gap"
    world.chsk.send(ALL, "t/n", 1)
    world.turn()
    assert data(client) == [1]


def test_an_event_that_was_given_up_has_its_number_and_no_handler(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    keys = []
    world.chsk.on("t/key", lambda msg: keys.append(msg.key))
    client = world.connect("a", transport="ws", resumes=True)
    world.advance(1)
    client.feed("[[:t/key] nil]", "[[:chsk/refused] nil]", "[[:t/key] nil]")
    world.turn()
    assert keys == [f"{client.client_id}-1", f"{client.client_id}-3"]
    assert world.chsk.stats.forged == 0
    assert "forged" not in caplog.text


def test_numbers_that_were_never_sent_are_a_gap(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.send("t/e", 1)
    world.turn()
    assert client.resumption is not None
    client.resumption.sent = client.resumption.numbered = 0  # somebody else has this client-id
    client.resumption.waiting.clear()
    client.reconnect()
    assert client.was == "gap"


def test_what_waits_of_another_client_with_the_id_counts_for_that_one(world: World) -> None:
    first = world.ws("a", client_id="c", resumes=True)
    first.send("t/slow", "first")
    for _ in range(2):
        first.send("t/e", "first")
    world.turn()
    second = world.ws("a", client_id="c", resumes=True)
    assert second.resumption is not None
    second.send("t/e", "second")
    world.turn()
    handled = world.chsk.handled  # type: ignore[attr-defined]
    assert handled == [("first", False), ("second", False)]
    assert second.ping().wait() == ["pong", 1]
    world.advance(11)
    assert handled[2:] == [("first", False)] * 2
    assert second.ping().wait() == ["pong", 1]


def test_a_ping_with_another_count_closes_the_connection(world: World) -> None:
    client = world.ws("a", resumes=True)
    client.send("t/e", 1)
    world.turn()
    assert client.resumption is not None
    assert client.ping().wait() == ["pong", 1]
    assert client.resumption.acked == 1
    client.resumption.sent = 3
    client.ping()
    world.advance(1)
    assert client.close_code == 1011


def test_events_are_acknowledged_when_they_are_handled(world: World) -> None:
    client = world.ws("a", resumes=True)
    assert client.resumption is not None
    for number in range(400):
        client.send("t/e", number)
    world.turn()
    assert client.resumption.acked >= 255
    client.send("t/slow", 1)
    client.send("t/e", 2)
    assert client.ping().wait() == ["pong", 400]
    world.advance(11)
    assert client.ping().wait() == ["pong", 402]
    assert client.resumption.waiting == {}


def test_an_idle_ajax_client_is_told_what_was_handled(world: World) -> None:
    client = world.ajax("a", resumes=True)
    client.send("t/e", 1)
    world.advance(30)
    assert client.resumption is not None
    assert client.resumption.acked == 1


def test_a_parallel_handler_that_runs_holds_back_the_acknowledgment(chsk: ChannelSocket) -> None:
    @chsk.on("t/beside", parallel=True)
    async def handle(msg: EventMsg[Any]) -> None:
        await asyncio.sleep(10)

    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        client.send("t/e", 1)
        client.send("t/beside", 2)
        client.send("t/e", 3)
        assert client.ping().wait() == ["pong", 1]
        world.advance(11)
        assert client.ping().wait() == ["pong", 3]


def test_the_key_of_an_event_names_it_for_ever(chsk: ChannelSocket) -> None:
    keys: list[Any] = []

    @chsk.on("t/key")
    def handle(msg: EventMsg[Any]) -> None:
        keys.append(msg.key)

    with World(chsk) as world:
        client = world.ws("a", client_id="c", resumes=True)
        client.send("t/key", 1)
        client.send("t/key", 1)
        world.ws("a").send("t/key", 1)
        world.turn()
    assert keys == ["c-1", "c-2", None]


def test_the_server_hears_how_a_client_came_back(chsk: ChannelSocket) -> None:
    heard: list[Any] = []

    @chsk.on("chsk/resume")
    def handle(msg: EventMsg[Any]) -> None:
        heard.append((msg.uid, msg.data))

    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        client.reconnect()
        world.ajax("b", resumes=True)
        world.ws("c")
        world.turn()
    assert heard == [("a", "fresh"), ("a", "resumed"), ("b", "fresh")]


def test_a_client_may_resume_no_more_while_its_events_are_handled(world: World) -> None:
    client = world.ws("a", client_id="c", resumes=True)
    for number in range(3):
        client.send("t/slow", number)
    world.turn()
    sentes = world.ws("a", client_id="c")
    sentes.send("t/e", 3)
    world.advance(40)
    assert [n for n, _ in world.chsk.handled] == [0, 1, 2, 3]  # type: ignore[attr-defined]


def test_without_resume_a_client_is_served_as_sentes() -> None:
    chsk = channel(resume=False)
    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        assert client.was is None
        client.cut()
        world.advance(5)
        send(chsk, 0, 2)
        client.reconnect()
        assert data(client) == []


def test_sentes_clients_get_no_positions(world: World) -> None:
    ours, sentes = world.ws("a", resumes=True), world.ws("a")
    send(world.chsk, 0, 2)
    world.turn()
    assert b"chsk/pos" in ours.transport.arrived[-1]
    assert b"chsk/pos" not in sentes.transport.arrived[-1]


def test_one_engine_has_one_set_of_limits() -> None:
    engine = Memory()
    with World(ChannelSocket(Config(), user_id=user_id, backplane=engine)):
        pass
    with (
        pytest.raises(ConfigError, match="backplane"),
        World(ChannelSocket(Config(keep_events=5), user_id=user_id, backplane=engine)),
    ):
        pass


@BOTH
def test_stats_balance_over_breaks(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    for number in range(30):
        send(world.chsk, number, number + 1)
        world.advance(0.5 * (number % 3))
        if number % 4 == 0:
            client.reconnect()
    world.advance(2)
    assert data(client) == count(0, 30)
    stats = world.chsk.stats
    lost = sum(getattr(stats.lost, name) for name in type(stats.lost).__slots__)
    assert stats.sent == stats.written + stats.replaced + lost


def test_replies_of_a_client_that_never_acknowledges_are_bounded(world: World) -> None:
    client = world.ws("a", params={"pos": "0"})
    for _ in range(30):
        for _ in range(100):
            client.ask("t/e", "x" * 1000)
        world.turn()
    numbers = client.connection.inbox.numbers  # type: ignore[union-attr]
    assert numbers is not None
    assert numbers.received == 3000
    assert 0.9 * 2**20 <= sum(len(packet) for _, packet in numbers.replies_from(0)) <= 2**20
    assert numbers.nbytes <= 2 * 2**20
    kept = [number for number, _ in numbers.replies_from(0)]
    assert kept == count(kept[0], 3001)  # the newest, without a hole
    numbers.forget_replies(3001)
    assert numbers.nbytes == 0


def test_replies_of_all_clients_together_are_bounded() -> None:
    chsk = channel(keep_bytes=100_000)
    with World(chsk) as world:
        for index in range(20):
            client = world.ws(f"u{index}", params={"pos": "0"})
            for _ in range(30):
                client.ask("t/e", "x" * 1000)
            world.turn()
        assert 50_000 <= chsk._backplane._replies.nbytes <= 250_000  # type: ignore[union-attr]


@pytest.mark.parametrize("sizes", [(10, 5000, 10), (300_000, 300_000, 300_000, 300_000, 10)])
def test_kept_replies_are_whole_whatever_their_sizes(world: World, sizes: tuple[int, ...]) -> None:
    client = world.ws("a", params={"pos": "0"})
    for size in sizes:
        client.ask("t/e", "x" * size)
    world.turn()
    found = client.connection.inbox.numbers.replies_from(0)  # type: ignore[union-attr]
    for number, packet in found:
        assert f'"{"x" * sizes[number - 1]}"'.encode() in packet
    assert found[-1][0] == len(sizes)


def test_a_reply_that_is_too_large_to_keep_is_not_kept(world: World) -> None:
    client = world.ws("a", resumes=True)
    reply = client.ask("t/e", "x" * 1_048_000)
    assert len(reply.wait()) == 1_048_000
    assert client.connection.inbox.numbers.replies_from(0) == []  # type: ignore[union-attr]


def test_records_are_bounded() -> None:
    chsk = channel(keep_bytes=10 * 1024)
    with World(chsk) as world:
        for index in range(30):
            client = world.ws(f"u{index}", resumes=True)
            client.cut()
            world.advance(3)
        assert len(chsk._backplane._records) == 10  # type: ignore[union-attr]
        assert set(chsk._backplane._users) == {f"u{index}" for index in range(20, 30)}  # type: ignore[union-attr]
        world.advance(130)
        world.ws("v", resumes=True)
        assert not chsk._backplane._records  # type: ignore[union-attr]
        assert not chsk._backplane._users  # type: ignore[union-attr]


def test_a_new_client_with_an_old_client_id_begins_anew(world: World) -> None:
    client = world.ws("a", client_id="fixed", resumes=True)
    client.send("t/e", 1)
    world.turn()
    client.cut()
    client = world.ws("a", client_id="fixed", resumes=True)
    assert client.was == "fresh"
    client.send("t/e", 2)
    world.turn()
    assert client.ping().wait() == ["pong", 1]
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("wants_reply", [True, False])
def test_a_post_that_comes_twice_is_handled_once(world: World, wants_reply: bool) -> None:
    client = world.ajax("a", resumes=True)
    world.advance(1)
    cb_id = ":ajax" if wants_reply else "nil"
    udt = client._udt
    for event in ("t/e", "t/slow"):
        number = 1 if event == "t/e" else 2
        posts = [
            client.post(f"[[:{event} {number}] {cb_id}]", [("n", f"{udt}-{number}")])
            for _ in range(3)
        ]
        world.advance(12)
        # A POST that waits gives way to the next one of its number.
        assert {post.status for post in posts} <= {200, 503}
        assert posts[-1].status == 200
        if wants_reply:
            assert {post.value for post in posts if post.status == 200} == {number}
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]


def test_a_post_whose_predecessor_is_missing_is_refused_and_comes_again(world: World) -> None:
    client = world.ajax("a", resumes=True)
    udt = client._udt
    early = client.post("[[:t/e 2] nil]", [("n", f"{udt}-2")])
    world.advance(2)
    assert early.status == 503
    client.post("[[:t/e 1] nil]", [("n", f"{udt}-1")])
    client.post("[[:t/e 2] nil]", [("n", f"{udt}-2")])
    world.advance(1)
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]


def test_a_post_of_an_older_handshake_is_refused(world: World) -> None:
    client = world.ajax("a", resumes=True)
    old = client._udt
    waiting = client.post("[[:t/e 2] nil]", [("n", f"{old}-2")])  # behind the first
    client.shake_hands()
    world.turn()
    assert waiting.status == 410
    late = client.post("[[:t/e 1] nil]", [("n", f"{old}-1")])
    world.turn()
    assert late.status == 410
    assert world.chsk.handled == []  # type: ignore[attr-defined]


def later(chsk: ChannelSocket) -> list[EventMsg[Any]]:
    """Add a handler that replies later; return the events that it got."""
    found: list[EventMsg[Any]] = []

    @chsk.on("t/later")
    def handle(msg: EventMsg[Any]) -> Any:
        found.append(msg)
        return chansock.LATER

    return found


def test_a_post_sent_again_waits_for_the_reply_that_comes_later(world: World) -> None:
    found = later(world.chsk)
    client = world.ajax("a", resumes=True)
    reply = client.ask("t/later", 1)
    world.advance(1)
    assert client.resumption is not None
    client._post_numbered(1, client.resumption.waiting[1], reply)
    world.advance(1)
    assert len(found) == 1
    assert not reply.is_here
    found[0].reply(7)
    assert reply.wait(1) == 7


def test_the_reply_to_a_post_of_an_older_handshake_comes_as_an_event(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    client.poll()
    reply = client.ask("t/slow", 1)
    world.advance(1)
    client.shake_hands()  # the POST's connection stays open, and nobody reads it
    assert reply.status == 410
    client.poll()
    world.advance(10)
    assert reply.is_here


def test_a_reply_does_not_go_to_a_socket_that_its_client_has_given_up(world: World) -> None:
    old = world.ws("a", resumes=True)
    reply = old.ask("t/slow", 1)
    world.advance(1)
    assert old.resumption is not None
    world.ws("a", client_id=old.client_id, resumes=old.resumption)
    assert reply.wait(20) == 1


def test_a_reply_that_is_given_after_a_restart_arrives() -> None:
    chsk = channel()
    found = later(chsk)
    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        reply = client.ask("t/later", 1)
        world.advance(1)
        resumption, client_id = client.resumption, client.client_id
    with World(chsk) as world:
        client = world.ws("a", client_id=client_id, resumes=resumption or True)
        world.advance(1)
        found[0].reply(7)
        world.advance(1)
        assert reply.is_here


def test_a_poll_that_comes_late_takes_nothing_from_a_socket(world: World) -> None:
    ajax = world.ajax("a", is_polling=False, resumes=True)
    ajax.poll()
    send(world.chsk, 0, 2)
    world.advance(1)
    assert ajax.resumption is not None
    socket = world.ws("a", client_id=ajax.client_id, resumes=ajax.resumption)
    send(world.chsk, 2, 4)
    world.advance(1)
    ajax.resumption.position = ajax.polls[0].value[1][1][chansock.Keyword("pos")]
    late = ajax.poll()
    world.advance(1)
    send(world.chsk, 4, 6)
    world.advance(1)
    assert late.status == 503
    assert data(socket) == list(range(2, 6))


def test_a_poll_with_an_older_position_than_the_last_is_refused(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    assert client.resumption is not None
    first = client.resumption.position
    send(world.chsk, 0, 2)
    client.poll()
    world.advance(1)
    live = client.poll()
    client.resumption.position = first
    late = client.poll()
    assert (late.status, live.is_parked) == (503, True)


def test_a_poll_after_the_end_of_its_session_needs_a_handshake(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    client.send("t/e", 1)
    world.advance(10)
    assert client.poll().status == 503
    client.shake_hands()
    assert client.was == "resumed"


def test_a_client_that_shakes_hands_again_and_leaves_is_gone(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    client.poll()
    client.shake_hands()
    assert "a" in world.chsk.connected.any
    world.advance(60)
    assert "a" not in world.chsk.connected.any
    client.shake_hands()
    assert client.was == "resumed"


@BOTH
def test_what_still_waits_is_no_gap_though_the_log_has_less(transport: str) -> None:
    chsk = channel(keep_events=5)
    with World(chsk) as world:
        client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
        world.advance(1)
        client.cut()
        chsk.send("other", "t/n", 0)
        send(chsk, 0, 20)
        world.advance(1)  # within its grace
        client.reconnect()
        world.advance(1)
        assert (client.was, data(client)) == ("resumed", count(0, 20))


@BOTH
def test_what_was_written_and_lost_is_a_gap_past_the_retention(transport: str) -> None:
    chsk = channel(keep_events=5)
    with World(chsk) as world:
        client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
        world.advance(1)
        client.delay(down=1)
        send(chsk, 0, 20)
        world.advance(0.5)
        client.cut()
        client.delay(0)
        send(chsk, 20, 22)
        client.reconnect()
        world.advance(1)
        assert (client.was, data(client)) == ("gap", [20, 21])


@BOTH
def test_a_gap_is_told_again_if_its_answer_was_lost(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    assert client.resumption is not None
    world.advance(1)
    client.cut()
    send(world.chsk, 0, 3)
    world.advance(200)
    position = client.resumption.position
    client.reconnect()
    assert client.was == "gap"
    client.resumption.position = position
    for _ in range(2):
        client.reconnect()
        world.advance(1)
    assert (client.was, data(client)) == ("resumed", [])
    client.resumption.position = position
    client.reconnect()
    assert client.was == "gap"
    world.chsk.send("a", "t/n", 3)
    world.advance(1)
    assert data(client) == [3]


def test_a_client_that_leaves_between_handshake_and_poll_is_forgotten(world: World) -> None:
    client = world.ajax("a", resumes=True)
    world.advance(1)
    client.is_polling = False
    client.shake_hands()  # its poll is still parked
    world.advance(10)
    assert "a" not in world.chsk.connected.any
    core = world.chsk._core
    assert core is not None
    assert (len(core.hub.table), core.hub.table.away) == (0, 0)


def post_again(client: Any, number: int) -> Any:
    """Send a POST again, whose answer was lost: the server did not notice."""
    reply = client.resumption.replies[number]
    for connection, transport in client._posts:
        if connection.number == number:
            transport.on_arrival = lambda: None
    packet = client.resumption.waiting[number]
    client._post_numbered(number, packet, reply)
    return reply


def test_a_repeated_poll_gets_the_replies_again(world: World) -> None:
    client = world.ajax("a", is_polling=False, resumes=True)
    client.poll()
    reply = client.ask("t/slow", 1)
    world.turn()
    client.cut()
    client.shake_hands()
    client.poll().transport.on_arrival = lambda: None  # it is lost
    world.advance(11)
    assert not reply.is_here
    client.repeat_poll()
    world.advance(1)
    assert reply.value == 1


def test_a_repeated_post_gets_the_reply_that_its_first_connection_took(world: World) -> None:
    client = world.ajax("a", resumes=True)
    client.ask("t/slow", 1)
    world.advance(1)
    reply = post_again(client, 1)
    world.advance(15)
    assert reply.value == 1


def test_a_repeated_post_waits_for_a_later_reply(chsk: ChannelSocket) -> None:
    later: list[EventMsg[Any]] = []

    @chsk.on("t/later")
    def handle(msg: EventMsg[Any]) -> Any:
        later.append(msg)
        return chansock.LATER

    with World(chsk) as world:
        client = world.ajax("a", resumes=True)
        client.ask("t/later", 1)
        world.advance(1)
        reply = post_again(client, 1)
        world.advance(1)
        assert not reply.is_here
        world.inside(lambda: later[0].reply(2))
        world.advance(1)
        assert reply.value == 2


def test_a_reply_arrives_though_a_repeated_post_broke_off(world: World) -> None:
    client = world.ajax("a", resumes=True)
    client.ask("t/slow", 1)
    world.advance(1)
    reply = post_again(client, 1)
    world.advance(1)
    client.reconnect()
    world.advance(15)
    assert reply.value == 1


def test_an_acknowledgment_that_was_lost_comes_again(world: World) -> None:
    client = world.ajax("a", resumes=True)
    assert client.resumption is not None
    client.send("t/e", 1)
    client.delay(down=1)
    world.advance(20.5)  # the poll is answered, with the acknowledgment
    client.cut()
    client.delay(0)
    client.reconnect()
    world.advance(25)
    assert client.resumption.acked == 1


@pytest.mark.parametrize("seconds", [7, 200])
def test_a_poll_whose_session_is_over_is_followed_by_a_handshake(
    world: World, seconds: float
) -> None:
    client = world.ajax("a", resumes=True)
    client.send("t/e", 1)
    world.advance(1)
    client.is_polling = False
    world.advance(19.5 + seconds)  # its poll was answered, and its session has ended
    send(world.chsk, 0, 2)
    client.is_polling = True
    poll = client.poll()
    world.advance(1)
    assert poll.status == 503
    client.send("t/e", 2)
    world.advance(1)
    assert (client.was, data(client)) == (("resumed", [0, 1]) if seconds < 100 else ("gap", []))
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]


def test_a_ping_in_the_queue_does_not_hide_events_that_a_stop_dropped() -> None:
    chsk = channel(stop_timeout=1.0)

    @chsk.on("chsk/ws-ping")
    def hear(msg: EventMsg[Any]) -> None: ...

    with World(chsk) as world:
        client = world.ws("a", resumes=True)
        client.send("t/slow", 0)
        client.ping()
        client.send("t/slow", 1)
        world.turn()
        resumption, client_id = client.resumption, client.client_id
    with World(chsk) as world:
        world.ws("a", client_id=client_id, resumes=resumption or True)
        world.advance(30)
    assert chsk.handled == [(0, False), (1, False)]  # type: ignore[attr-defined]


@BOTH
def test_slow_events_are_acknowledged_once_all_are_handled(world: World, transport: str) -> None:
    client = world.connect("a", transport=transport, resumes=True)  # type: ignore[arg-type]
    assert client.resumption is not None
    client.send("t/slow", "x" * 70_000)  # past the bytes after which an acknowledgment is sent
    client.send("t/e", 1)
    world.advance(9)
    assert client.resumption.acked == 0
    world.advance(2)
    assert client.resumption.acked == 2


@pytest.mark.parametrize("seconds", [0, 10])
def test_a_handshake_that_comes_late_is_refused(world: World, seconds: float) -> None:
    client = world.ws("a", resumes=True)
    client.send("t/e", 1)
    world.turn()
    assert client.resumption is not None
    client.reconnect()
    before = str(client.resumption.attempt - 1)
    if seconds:
        client.cut()
        world.advance(seconds)  # its session has ended, its record has not
    for late in (world.ws, world.ajax):
        with pytest.raises(HandshakeRefused) as caught:
            late("a", client_id=client.client_id, params={"pos": "0", "try": before})
        assert caught.value.status == 409
    if seconds:
        client.reconnect()
    assert client.close_code is None
    client.send("t/e", 2)
    world.turn()
    assert world.chsk.handled == [(1, False), (2, False)]  # type: ignore[attr-defined]
    assert world.chsk.stats.refused == {"late_handshake": 2}


def test_what_a_client_repeats_after_another_with_its_client_id_is_marked(world: World) -> None:
    client = world.ws("a", client_id="c", resumes=True)
    client.send("t/e", 1)
    world.turn()
    world.ws("a", client_id="c", resumes=True)  # another program: its numbers begin anew
    client.reconnect()
    assert client.was == "gap"
    client.send("t/e", 2)
    world.turn()
    expected = [(1, False), (1, True), (2, False)]
    assert world.chsk.handled == expected  # type: ignore[attr-defined]


def test_a_stop_keeps_no_events_of_clients_whose_records_it_cannot_keep() -> None:
    chsk = channel(keep_bytes=3000)
    with World(chsk) as world:
        for uid in ("ann", "bob", "cat", "dan", "eve"):
            world.ws(uid, resumes=True)
            chsk.send(uid, "t/news", uid)
    engine = chsk._backplane
    assert isinstance(engine, Memory)
    kept = {client.uid for client in engine._records}
    assert kept == {"dan", "eve"}
    assert {uid for uid in engine._logs if isinstance(uid, str)} == kept
