"""Sente's constants, as times that pass and counts that are reached: one test for each row.

The server's rows run in virtual time, the client's against a scripted server with its loop's
time put forward; both with the defaults. Where ours differ, the test says what Sente's are.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from sample_channel import channel
from sente_script import over_ajax, over_ws, scripted_in_virtual_time, turn_until, turns, until

from chansock import Keyword, connect
from chansock.client.packets import Pending
from chansock.client.timing import delay
from chansock.testing import World

MOMENT = 0.01


def world() -> World:
    return World(channel())


# -- the server's


def test_ws_kalive_ms_25000_halved_is_12_5_s() -> None:
    with world() as w:
        alice = w.ws(uid="alice")
        w.advance(12.5 - MOMENT)
        assert alice.pings == 0
        w.advance(2 * MOMENT)
        assert alice.pings == 1


def test_server_ws_ping_timeout_ms_10000() -> None:
    """Close code 1011; Sente's 1000 has its clients take it for a clean end."""
    with world() as w:
        alice = w.ws(uid="alice")
        alice.answers_pings = False
        w.advance(22.5 - MOMENT)
        assert alice.is_open
        w.advance(2 * MOMENT)
        assert (alice.is_open, alice.close_code) == (False, 1011)


def test_lp_timeout_ms_20000_of_a_poll() -> None:
    with world() as w:
        alice = w.ajax(uid="alice", is_polling=False)
        poll = alice.poll()
        w.advance(20 - MOMENT)
        assert poll.is_parked
        w.advance(2 * MOMENT)
        assert (poll.status, poll.value) == (200, Keyword("chsk/timeout"))


def test_lp_timeout_ms_20000_of_an_unanswered_callback() -> None:
    with world() as w:
        alice = w.ajax(uid="alice")
        reply = alice.ask("test/slow", 100)
        w.advance(20 - MOMENT)
        assert not reply.is_here
        w.advance(2 * MOMENT)
        assert reply.value == Keyword("chsk/timeout")


def test_send_buf_ms_ws_30_is_the_end_of_the_turn_here() -> None:
    """Sente waits 30 ms for more; here a push leaves at the end of the loop's turn."""
    with world() as w:
        alice = w.ws(uid="alice")
        for n in (1, 2):
            w.chsk.send("alice", "test/note", n)
        assert alice.take() == []
        w.turn()
        assert alice.take() == [("test/note", 1), ("test/note", 2)]
        assert alice.transport.writes[-1] == 1  # in one packet


def test_send_buf_ms_ajax_100() -> None:
    with world() as w:
        alice = w.ajax(uid="alice")
        w.chsk.send("alice", "test/note", 1)
        w.advance(0.05)
        w.chsk.send("alice", "test/note", 2)
        w.advance(0.05 - MOMENT)
        assert alice.take() == []
        w.advance(2 * MOMENT)  # since the first
        assert alice.take() == [("test/note", 1), ("test/note", 2)]


@pytest.mark.parametrize(("transport", "grace"), [("ws", 2.5), ("ajax", 5.0)])
def test_reconnect_grace_ws_2500_ajax_5000(transport: str, grace: float) -> None:
    with world() as w:
        if transport == "ws":
            w.ws(uid="alice").close()
        else:
            w.ajax(uid="alice").drop()
        w.advance(grace - MOMENT)
        assert w.chsk.told == ["+alice"]
        w.advance(2 * MOMENT)
        assert w.chsk.told == ["+alice", "-alice"]


@pytest.mark.parametrize(("transport", "grace"), [("ws", 2.5), ("ajax", 5.0)])
def test_push_retry_backoffs_are_one_wait_until_the_grace_ends(
    transport: str, grace: float
) -> None:
    """Sente tries six times in 2 to 4 s, and may overtake itself. Here what waits goes out, in
    order, as soon as the client is back, however late in its grace, and else counts as lost."""
    with world() as w:
        for is_back in (True, False):
            client = (w.ws if transport == "ws" else w.ajax)("alice", client_id="a")
            client.close() if transport == "ws" else client.drop()
            for n in range(3):
                w.chsk.send("alice", "test/note", n)
                w.advance(0.5)
            w.advance(grace - 1.5 + (-MOMENT if is_back else MOMENT))
            again = (w.ws if transport == "ws" else w.ajax)("alice", client_id="a")
            w.advance(0.2)
            expected = [("test/note", n) for n in range(3)] if is_back else []
            assert again.take() == expected
        assert w.chsk.stats.lost.grace == 3


def test_server_event_queue_sliding_1000_is_a_full_inbox_here() -> None:
    """Sente drops the oldest silently. Here 32 events wait to be handled, what follows is not
    read until there is room, and nothing is dropped."""
    with world() as w:
        alice = w.ws(uid="alice")
        replies = [alice.ask("test/slow", 0.01) for _ in range(1500)]
        assert alice.unread == 1500 - 32
        w.advance(20)
        assert alice.unread == 0
        assert all(reply.is_here for reply in replies)


# -- the client's


@scripted_in_virtual_time
async def test_client_ws_kalive_ms_20000_halved_is_a_tick_of_10_s(played):
    """The first tick never pings: it has no tick before it."""
    loop = asyncio.get_running_loop()
    async with over_ws(played, connect(played.url)) as connection:
        asking = asyncio.create_task(connection.frame())
        loop.turn(10.0)
        await turns()
        assert not asking.done()
        loop.turn(9.0)
        await turns()
        assert not asking.done()
        loop.turn(1.0)
        assert re.fullmatch(r'\[\[:chsk/ws-ping\] "[0-9a-f]{6}"\]', (await asking).text)


@scripted_in_virtual_time
async def test_client_ws_ping_timeout_ms_5000(played):
    loop = asyncio.get_running_loop()
    client = connect(played.url)
    async with over_ws(played, client) as connection:
        for _ in range(2):
            loop.turn(10.0)
            await turns()
        assert "ws-ping" in (await connection.frame()).text
        loop.turn(4.5)
        await turns()
        assert client.state.open
        loop.turn(0.5)
        await until(client, lambda state: not state.open)
        assert client.state.reason.kind == "ws-ping-timeout"


@scripted_in_virtual_time
async def test_client_ajax_timeout_60000(played):
    """It polls again, and is open all the while."""
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        loop.turn(59.0)
        await turns()
        assert len(played.connections) == 1
        loop.turn(1.0)
        again = await played.accept()
        request = await again.request()
        assert "handshake?" not in request.query
        assert client.state.open


@pytest.mark.parametrize("n", range(2, 40))
def test_client_reconnect_delay_is_from_2_to_the_n_minus_1_to_2_to_the_n(n: int) -> None:
    """At once for n = 1 (test_client_reconnect); in life capped at 10 s, where Sente's WebSocket
    clients start anew every 10 s and its Ajax clients wait for hours."""
    top = 2.0 ** min(n, 36)
    assert delay(n, 0.0, cap=1e12) == top / 2
    assert delay(n, 0.5, cap=1e12) == top * 0.75
    assert delay(n, 0.999, cap=1e12) < top
    assert delay(n, 0.999) < 10.0


def test_cb_id_is_6_hex_characters() -> None:
    async def main() -> None:
        pending = Pending()
        made = [pending.new(60.0) for _ in range(1000)]
        assert len({cb_id for cb_id, _ in made}) == 1000
        assert all(re.fullmatch(r"[0-9a-f]{6}", cb_id) for cb_id, _ in made)
        for _, future in made:
            future.cancel()

    asyncio.run(main())


@scripted_in_virtual_time
async def test_client_event_queues_sliding_2048_and_512_are_a_full_inbox_here(played):
    """Sente drops the oldest silently. Here a thousand events wait to be taken, what follows
    is not read until there is room, and nothing is dropped."""
    client = connect(played.url)
    async with over_ws(played, client) as connection:
        for n in range(3000):
            connection.send(f"[[[:test/note {n}]] nil]")
        got = [(await anext(client)).data for _ in range(3000)]
        assert got == list(range(3000))


@scripted_in_virtual_time
async def test_callback_s_own_time_out_is_what_send_was_given(played):
    """Sente's cb-timeout-ms; `send` without one asks for no reply."""
    loop = asyncio.get_running_loop()
    client = connect(played.url)
    async with over_ws(played, client) as connection:
        asking = asyncio.create_task(client.send("test/req", 1, timeout=8))
        await connection.frame()
        loop.turn(7.5)
        await turns()
        assert not asking.done()
        loop.turn(0.5)
        await turn_until(asking.done)
        assert isinstance(asking.exception(), TimeoutError)
