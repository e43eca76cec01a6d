"""Servers that speak wrongly, stall, or flood: what they cost the client is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc

import pytest
from sente_script import (
    CLOSE,
    HANDSHAKE,
    PING,
    TEXT,
    entered,
    frame,
    over_ajax,
    over_ws,
    scripted,
    scripted_in_virtual_time,
    turn_until,
    turns,
    until,
)

from chansock.client import ClientConfig, Event, connect
from chansock.client.packets import LARGE
from chansock.errors import ChannelClosed, ReplyTimeout

IDLE = "[:chsk/timeout nil]"


def ws(played, **options):
    return connect(played.url, transport="ws", **options)


# polls


@contextlib.asynccontextmanager
async def answering(played, body):
    """Answer every request at once with what `body(request)` returns; yield their times."""
    times, tasks = [], []
    loop = asyncio.get_running_loop()

    async def answer(connection):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await connection.request()
                times.append(loop.time())
                connection.respond(200, body(request))

    async def accept():
        while True:
            tasks.append(asyncio.create_task(answer(await played.accept())))

    tasks.append(asyncio.create_task(accept()))
    try:
        yield times
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize(
    "body", [IDLE, "[nil nil]", "[[] nil]", HANDSHAKE, "[[[:bare 1] 2] nil]", '["late" "abcdef"]']
)
@scripted_in_virtual_time
async def test_polls_that_bring_no_event_go_out_slower_and_slower(played, body):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with entered(played, client) as entering:
        connection = await played.accept_ajax()
        await entering
        for pause in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
            await connection.request()
            connection.respond(200, body)
            next_poll = asyncio.create_task(connection.reader.read(1))
            await turns()
            loop.turn(pause - 0.5)
            await turns()
            assert not next_poll.done()
            loop.turn(0.5)
            assert await next_poll == b"G"
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.respond(200, "[[[:n/n 1]] nil]")
        await connection.request()  # at once: there was an event
        connection.respond(200, IDLE)
        next_poll = asyncio.create_task(connection.reader.read(1))
        await turns()
        loop.turn(1.0)
        assert await next_poll == b"G"


@scripted_in_virtual_time
async def test_a_poll_that_the_server_held_is_followed_by_the_next_at_once(played):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        for _ in range(5):
            await connection.request()
            await turns()
            loop.turn(20.0)
            connection.respond(200, IDLE)


@pytest.mark.parametrize("body", ["", IDLE, HANDSHAKE, "no packet"])
@scripted_in_virtual_time
async def test_no_more_than_five_requests_a_second_without_events(played, body):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    has_opened = False

    def answer(request):
        nonlocal has_opened
        if "handshake?" in request.query and not has_opened:
            has_opened = True
            return HANDSHAKE
        return HANDSHAKE if "handshake?" in request.query else body

    async with answering(played, answer) as times, entered(played, client) as entering:
        await entering
        for _ in range(120):
            await turns()
            loop.turn(0.25)
        assert len(times) > 3
        for at in times:
            assert sum(at <= other < at + 1.0 for other in times) <= 5


@scripted_in_virtual_time
async def test_polls_without_any_answer_close_the_channel(played):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        await connection.request()
        await turns()
        loop.turn(60.0)
        again = await played.accept()
        assert "handshake?" not in (await again.request()).query
        assert client.state.open
        await turns()
        loop.turn(60.0)
        await until(client, lambda state: not state.open)
        assert client.state.reason.kind == "unexpected"
        assert client.state.reason.text.startswith("expected an answer to a poll, got none to 2")
        await played.accept_ajax()


# keep-alive


@scripted_in_virtual_time
async def test_what_the_client_writes_is_no_sign_of_the_servers_life(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client):
        for _ in range(4):
            await client.send("chat/say", "are you there?")
            loop.turn(5.0)
            await turns()
        await client.send("chat/say", "are you there?")
        await turns()
        loop.turn(5.0)
        await until(client, lambda state: not state.open)
        assert client.state.reason.kind == "ws-ping-timeout"


@scripted_in_virtual_time
async def test_a_large_message_that_comes_slowly_is_a_sign_of_life(played):
    loop = asyncio.get_running_loop()
    client = ws(played)
    async with over_ws(played, client) as connection:
        data = frame(TEXT, b'[[[:n/n "' + b"x" * 100_000 + b'"]] nil]')
        for at in range(0, len(data), 10_000):
            connection.writer.write(data[at : at + 10_000])
            await turns()
            loop.turn(4.0)
            await turns()
        assert len((await anext(client)).data) == 100_000
        assert client.state.open


# what waits to be sent


async def filled(client, connection):
    """Send until the next event waits for room; the server reads nothing."""
    connection.writer.transport.pause_reading()
    tasks = []
    while True:
        tasks.append(asyncio.create_task(client.send("fill/it", "x" * 500_000)))
        await turns()
        if not tasks[-1].done():
            return tasks


async def frames_until(connection, text):
    """Read what the client sends up to an event with this in it."""
    connection.writer.transport.resume_reading()
    seen = []
    while not seen or text not in seen[-1]:
        head = await connection.reader.readexactly(2)
        assert head[0] == 0x80 | TEXT
        width = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
        size = (
            int.from_bytes(await connection.reader.readexactly(width)) if width else head[1] & 0x7F
        )
        key = await connection.reader.readexactly(4)
        data = await connection.reader.readexactly(size)
        seen.append(bytes(byte ^ key[i % 4] for i, byte in enumerate(data[:40])).decode())
    return seen


@scripted
async def test_a_send_that_is_cancelled_or_timed_out_while_it_waits_is_not_sent(played):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: complaints.append(found))
    client = ws(played)
    async with over_ws(played, client) as connection:
        waiting = await filled(client, connection)
        gone = [asyncio.create_task(client.send("gone/it", 1, timeout=60)) for _ in range(3)]
        gone += [asyncio.create_task(client.send("gone/it", 1)) for _ in range(3)]
        late = asyncio.create_task(client.send("late/it", 1, timeout=0.01))
        last = asyncio.create_task(client.send("last/it", 1))
        await turns()
        for task in gone:
            task.cancel()
        with pytest.raises(ReplyTimeout, match="the event was not sent"):
            await late
        seen = await frames_until(connection, "last/it")
        assert not [text for text in seen if "gone" in text or "late" in text]
        assert len(seen) == len(waiting) + 1
        await asyncio.gather(*waiting, last)
        # One that is cancelled as the connection breaks.
        waiting = await filled(client, connection)
        both = asyncio.create_task(client.send("gone/it", 1, timeout=60))
        await turns()
        client.disconnect()
        both.cancel()
        await asyncio.gather(*waiting, both, return_exceptions=True)
    del both, waiting
    gc.collect()
    assert complaints == []


@scripted
async def test_sends_that_nobody_waits_for_any_more_hold_no_memory(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        waiting = await filled(client, connection)
        tracemalloc.start()
        try:
            for number in range(40):
                timeout = None if number % 2 else 60
                task = asyncio.create_task(client.send("gone/it", "y" * 500_000, timeout=timeout))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2_000_000
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


@scripted
async def test_a_server_that_pings_and_reads_nothing_makes_no_pongs_pile_up(played):
    client = ws(played)
    async with over_ws(played, client) as connection:
        waiting = await filled(client, connection)
        flood = frame(PING, b"x" * 100) * 2000
        tracemalloc.start()
        try:
            for _ in range(20):
                connection.writer.write(flood)
                await connection.writer.drain()
                await turns()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2_000_000
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


@scripted
async def test_empty_fragments_without_end_are_closed_with_1008(played):
    client = ws(played, config=ClientConfig(max_empty_fragments=10))
    async with over_ws(played, client) as connection:
        empty = frame(0, b"", is_last=False)
        connection.writer.write(frame(TEXT, b"[[[:n/n 1]] ", is_last=False) + empty * 10)
        connection.writer.write(frame(0, b"nil]"))
        assert await anext(client) == Event("n/n", 1)
        connection.writer.write(frame(TEXT, b"[", is_last=False) + empty * 11)
        closing = await connection.frame()
        assert (closing.opcode, closing.close[0]) == (CLOSE, 1008)


@scripted
async def test_coroutines_of_on_state_stop_the_reading_at_the_limit(played):
    client = ws(played, config=ClientConfig(max_inbox_events=10))
    begun = 0
    gate = asyncio.Event()

    @client.on_state
    async def changed(state):
        nonlocal begun
        begun += 1
        await gate.wait()

    async with over_ws(played, client) as connection:
        for _ in range(500):
            connection.send(HANDSHAKE)
        await turns()
        assert 10 <= begun <= 20
        gate.set()
        await turn_until(lambda: begun > 900)


# turns of the loop


class Turns:
    """Counts the turns of the loop between the first and the last call of `work`."""

    def __init__(self) -> None:
        self.count = self.first = self.last = 0
        self.calls = 0

    def work(self, _=None) -> None:
        self.calls += 1
        self.first = self.first or self.count
        self.last = self.count
        time.sleep(0.001)

    async def go_round(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    @property
    def between(self) -> int:
        return self.last - self.first


@contextlib.asynccontextmanager
async def counted():
    found = Turns()
    task = asyncio.create_task(found.go_round())
    try:
        yield found
    finally:
        task.cancel()


@pytest.mark.parametrize("kind", ["plain", "coroutine", "frames", "handshakes"])
@scripted
async def test_a_flood_of_work_is_done_in_slices(played, kind):
    client = ws(played)
    async with counted() as found, over_ws(played, client) as connection:
        if kind == "coroutine":

            @client.on("n/n")
            async def handle(event):
                found.work()

        elif kind == "handshakes":
            client.on_state(found.work)
        else:
            client.on("n/n", found.work)
        if kind == "frames":
            connection.writer.write(frame(TEXT, b"[[[:n/n]] nil]") * 100)
        elif kind == "handshakes":
            connection.writer.write(frame(TEXT, HANDSHAKE.encode()) * 50)
        else:
            connection.send(f"[[{'[:n/n]' * 100}] nil]")
        await turn_until(lambda: found.calls == 100)
        assert found.between >= 4


@scripted
async def test_a_batch_of_bad_events_is_read_in_slices_with_few_log_lines(played, caplog):
    client = ws(played)
    async with counted() as found, over_ws(played, client) as connection:
        client.on("n/n", found.work)
        connection.send(f"[[[:n/n]{'[:bare]' * 60_000}[:n/n]] nil]")
        await turn_until(lambda: found.calls == 2)
        assert found.between >= 3
    assert len([r for r in caplog.records if "bad_event" in r.getMessage()]) < 30


@scripted
async def test_a_batch_past_the_inbox_limit_stays_unread_until_it_is_taken(played):
    client = ws(played, config=ClientConfig(max_inbox_events=10))
    async with over_ws(played, client) as connection:
        connection.send(f"[[{' '.join(f'[:n/n {n}]' for n in range(500))}] nil]")
        connection.send("[[[:n/n 500]] nil]")
        assert [(await anext(client)).data for _ in range(501)] == list(range(501))


FILL = '[:fill/it "' + "x" * LARGE + '"]'


@pytest.mark.parametrize("transport", ["ws", "ajax"])
@scripted
async def test_a_fault_in_a_large_batch_costs_what_stands_behind_it(played, transport):
    client = connect(played.url, transport=transport)
    batch = f"[[[:n/n 1] {FILL} [:n/n 2] ) [:n/n 3]] nil]"
    if transport == "ws":
        async with over_ws(played, client) as connection:
            connection.send(batch)
            assert (await connection.frame()).close[0] == 1007
            connection.end()
            found = [(await anext(client)).id for _ in range(3)]
            await until(client, lambda state: state.reason is not None)
            reason = client.state.reason
    else:
        async with over_ajax(played, client) as connection:
            await connection.request()
            connection.respond(200, batch)
            found = [(await anext(client)).id for _ in range(3)]
            await until(client, lambda state: state.reason is not None)
            reason = client.state.reason
    assert found == ["n/n", "fill/it", "n/n"]
    assert reason.text.startswith("cannot read a packet: expected an event in edn, got none")


@scripted_in_virtual_time
async def test_large_batches_are_polled_for_at_once_with_events_and_slowly_without(played):
    loop = asyncio.get_running_loop()
    client = connect(played.url, transport="ajax")
    async with over_ajax(played, client) as connection:
        for number in range(3):
            await connection.request()
            connection.respond(200, f"[[{FILL} [:n/n {number}]] nil]")
            assert (await anext(client)).id == "fill/it"
            assert await anext(client) == Event("n/n", number)
        for pause in (1.0, 1.0):
            await connection.request()
            connection.respond(200, f"[[{FILL.replace(':fill/it', ':bare')}] nil]")
            next_poll = asyncio.create_task(connection.reader.read(1))
            await turns()
            loop.turn(pause - 0.5)
            await turns()
            assert not next_poll.done()
            loop.turn(0.5)
            assert await next_poll == b"G"
            await connection.reader.readuntil(b"\r\n\r\n")
            connection.respond(200, f"[[{FILL}] nil]")
            assert (await anext(client)).id == "fill/it"
        await connection.request()


# leaving


@scripted
async def test_a_cancel_while_it_is_left_leaves_the_client_closed_and_usable(played):
    client = ws(played)
    handling, ended = asyncio.Event(), asyncio.Event()

    @client.on("n/n")
    async def handle(event):
        handling.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    entering = asyncio.create_task(client.__aenter__())
    connection = await played.accept_ws()
    await entering
    connection.send("[[[:n/n 1]] nil]")
    await handling.wait()
    leaving = asyncio.create_task(client.__aexit__(None, None, None))
    assert (await connection.frame()).opcode == CLOSE  # and it gets no answer
    await turns()
    assert not leaving.done()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await ended.wait()
    assert await connection.at_end() == b""
    with pytest.raises(ChannelClosed, match="got one that is closed"):
        await client.send("n/n")
    async with over_ws(played, client):
        assert client.state.open


@scripted
async def test_a_handler_that_closes_its_client_says_goodbye_and_runs_to_its_end(played):
    client = ws(played)
    ended = asyncio.Event()

    @client.on("n/n")
    async def handle(event):
        await client.close()
        ended.set()

    entering = asyncio.create_task(client.open())
    connection = await played.accept_ws()
    await entering
    connection.send("[[[:n/n 1] [:n/n 2]] nil]")
    assert (await connection.frame()).close == (1000, "CLOSE_NORMAL")
    assert not ended.is_set()
    connection.close_frame(1000)
    await ended.wait()
    with pytest.raises(StopAsyncIteration):
        await anext(client)
