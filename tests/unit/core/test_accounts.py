"""No event goes without a word: for each way in which one can, its counter and its log line.

Both transports, in virtual time. What the words are is the application's to search for.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from chansock import ALL, ChannelSocket, Config, InvalidEvent
from chansock.testing import World, user_id

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "chansock")


def channel(**settings: Any) -> ChannelSocket:
    return ChannelSocket(Config(**settings), user_id=user_id)


def lines(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith(start)]


def is_balanced(chsk: ChannelSocket) -> bool:
    stats = chsk.stats
    lost = stats.lost
    return stats.sent == (
        stats.written + stats.replaced + lost.too_slow + lost.budget + lost.grace + lost.stopped
    )


def leave(client: Any, transport: str) -> None:
    client.cut() if transport == "ws" else client.drop()


def data(client: Any) -> list[Any]:
    return [event.data for event in client.take()]


@BOTH
def test_latest_replaces_what_still_waits_and_is_counted(transport: str) -> None:
    chsk = channel()
    with World(chsk) as world:
        client = getattr(world, transport)(uid="a")
        leave(client, transport)
        for price in range(10):
            chsk.send("a", "price/is", price, latest="price")
            chsk.send("a", "other/event", price)
        world.turn()
        client.connect() if transport == "ws" else client.poll()
        world.turn()
        assert data(client) == [*range(9), 9, 9]
        assert chsk.stats.replaced == 9
        assert is_balanced(chsk)


@BOTH
def test_what_waits_when_the_grace_ends_is_lost_and_said(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    chsk = channel()
    with World(chsk) as world:
        client = getattr(world, transport)(uid="a")
        leave(client, transport)
        for number in range(7):
            chsk.send("a", "t/e", number)
        assert lines(caplog, "events_lost") == []
        world.advance(6)
        assert chsk.stats.lost.grace == 7
        assert is_balanced(chsk)
    [line] = lines(caplog, "events_lost")
    assert line.startswith("events_lost reason=grace events=7 of Session(uid='a'")


@BOTH
@pytest.mark.parametrize("limit", [{"max_backlog_events": 100}, {"max_backlog_bytes": 20_000}])
def test_too_much_for_one_who_is_away_empties_its_outbox(
    transport: str, limit: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    chsk = channel(**limit)
    with World(chsk) as world:
        client = getattr(world, transport)(uid="a")
        leave(client, transport)
        for number in range(300):
            chsk.send("a", "t/e", number)
        world.turn()
        cuts = lines(caplog, "session_cut reason=too_slow")
        assert cuts
        lost = sum(int(line.split("events=")[1].split()[0]) for line in cuts)
        assert chsk.stats.lost.too_slow == lost
        assert "a" in chsk.connected.any
        if transport == "ws":
            client.connect()
        else:
            assert client.poll().status == 503, "a gap lies at a break"
            client.shake_hands()
            client.poll()
        world.turn()
        got = data(client)
        assert got == list(range(lost, 300)), "what is missing is one run"
        assert chsk.stats.written == len(got)
        assert is_balanced(chsk)


@BOTH
def test_past_the_budget_of_all_the_largest_wait_is_lost(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    chsk = channel(max_total_backlog_bytes=2_000)
    with World(chsk) as world:
        clients = [getattr(world, transport)(uid=uid) for uid in "abcde"]
        for client in clients:
            leave(client, transport)
        for number in range(60):
            chsk.send("a", "t/e", number)
        for number in range(60):
            chsk.send(ALL, "t/e", number)
            assert chsk.stats.waiting_bytes <= 2_000
        world.turn()
        assert chsk.stats.lost.budget > 0
        world.advance(6)
        assert is_balanced(chsk)
    assert lines(caplog, "session_cut reason=budget")[0].endswith(
        f"of Session(uid='a', client={clients[0].client_id[:8]!r})"
    )


@BOTH
def test_an_unclaimed_event_is_counted_said_once_and_answered(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    chsk = channel()
    with World(chsk) as world:
        client = getattr(world, transport)(uid="a")
        replies = [client.ask("un/known", number) for number in range(3)]
        world.advance(1)
        assert [reply.value for reply in replies] == [["chsk/error", "unclaimed"]] * 3
        assert chsk.stats.unclaimed == 3
    assert lines(caplog, "unclaimed_event") == ["unclaimed_event id='un/known'"]


@BOTH
def test_an_event_past_the_limit_raises_where_it_is_sent(transport: str) -> None:
    chsk = channel(max_backlog_bytes=1_200)
    with World(chsk) as world:
        client = getattr(world, transport)(uid="a")
        for to in ("a", ALL):
            with pytest.raises(InvalidEvent, match="max_backlog_bytes"):
                chsk.send(to, "t/e", "x" * 1_100)
        chsk.send("a", "t/e", "x" * 900)
        world.advance(1)
        assert [len(text) for text in data(client)] == [900]
        assert chsk.stats.sent == chsk.stats.written == 1


def test_a_stop_with_a_thousand_sockets_and_two_hundred_polls_accounts_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chsk = channel()
    with World(chsk) as world:
        sockets = [world.ws(uid=f"ws{i}") for i in range(1000)]
        polls = [world.ajax(uid=f"ajax{i}") for i in range(200)]
        away = [world.ws(uid=f"away{i}") for i in range(50)]
        for client in away:
            client.cut()
        parked = [client.parked for client in polls]
        chsk.send(ALL, "t/e", 1)
        assert chsk.stats.sent == 1250
    stats = chsk.stats
    assert stats.written == 1200
    assert stats.lost.stopped == 50
    assert is_balanced(chsk)
    assert all(client.transport.closed_with == (1012, "service restart") for client in sockets)
    assert all(data(client) == [1] for client in sockets)
    assert [poll.status for poll in parked if poll is not None] == [200] * 200, "with the event"
    assert stats.closed == {1006: 50, 1012: 1000}
    assert lines(caplog, "events_lost") == ["events_lost reason=stopped events=50"]
