"""What clients hear when a server that carries the channel stops, as its users stop it."""

from __future__ import annotations

import asyncio
import time
from signal import SIGINT, SIGTERM

import peer
import pytest
from peer import CLOSE, Peer
from raw import Run
from servers import SERVERS, Served, post, started, target, user, who

pytestmark = pytest.mark.slow  # each test starts a server of its own


async def _last_words(socket: Peer) -> list[str]:
    words = []
    while not words or not words[-1].startswith("close"):
        found = await socket.frame()
        if found.opcode == CLOSE:
            words.append(f"close {found.code}")
            await socket.send(peer.frame(CLOSE, found.payload))
        elif found.opcode == peer.TEXT:
            words.append(found.text)
    return words


async def _stop(served: Served, number: int) -> None:
    me, other, third = who("alice"), who("bob"), who("carol")
    async with (
        served.socket(me) as socket,
        served.peer() as polling,
        served.peer() as posting,
        served.peer("packed") as packed,
    ):
        await served.shake(polling, other)
        await polling.send(peer.request("GET", target(other), host=polling.host))
        await served.until(f'[:served/polls "{other}"]', "[true nil]")
        form = [("client-id", third), ("ppstr", "[[:test/no-reply] :ajax]")]
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        body = peer.urlencoded(form).encode()
        await posting.send(peer.request("POST", "/chsk", [kind], body, host=posting.host))
        await served.until("[:served/posts]", "[2 nil]")
        assert (await packed.upgrade(target(me, "packed"))).status == 101
        await packed.frame()
        packet = f'[[:test/push-to {{:uid "{user(me)}", :data "last"}}] nil]'
        async with served.peer() as page:
            await post(page, who("dora"), packet)
        asks = '[[:served/stop "{}"] "{}"]'
        for data, cb_id in (("one", "a"), ("two", "b")):
            await socket.send(peer.frame(peer.TEXT, asks.format(data, cb_id).encode()))
        await served.until(f'[:served/holds "{user(me)}"]', "[true nil]")
        waiting = [
            asyncio.create_task(_last_words(socket)),
            asyncio.create_task(_last_words(packed)),
        ]
        for process in served.processes:
            process.send_signal(number)
        closed = f"close {served.closes(1012)[0]}"
        # What it took is handled one after the other, and answered, before it closes.
        assert await waiting[0] == [
            '[[[:test/pushed "last"]] nil]',
            '["one" "a"]',
            '["two" "b"]',
            closed,
        ]
        assert await waiting[1] == [closed]
        assert (await polling.answer()).status == 503
        answer = await posting.answer()
        assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")


@pytest.mark.parametrize(
    ("name", "number"), [*((name, SIGTERM) for name in SERVERS), ("uvicorn", SIGINT)]
)
def test_sockets_hear_1012_and_polls_503_and_the_server_ends_in_time(
    name: str, number: int, drive: Run
) -> None:
    with started(name, poll_timeout=300, stop_timeout=300) as served:
        served.needs("stop")
        began = time.monotonic()
        drive(_stop(served, number))
        for process in served.processes:
            assert process.wait(120) in (0, -number), served.log()
        assert served.faults() == [], served.log()
        # Nobody waited for a poll_timeout, nor for stop_timeout.
        assert time.monotonic() - began < 150
