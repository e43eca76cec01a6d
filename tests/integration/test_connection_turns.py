"""Connections that have much to say let others have their turn, and lose nothing by it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from deflated import raw
from echoing import client
from raw_listener import GET, HELLO, TEXT, TLS, UPGRADE, Client, Ground, Run, ground
from sample_channel import ON_LINUX, spin

from chansock.request import Request, Response


def deflated(text: bytes) -> bytes:
    found = bytearray(client(TEXT, raw(text)))
    found[0] |= 0x40  # RSV1
    return bytes(found)


def test_a_read_full_of_bombs_lets_others_have_their_turn(run: Run) -> None:
    """50 MB of text in 50 KB: one read, and no more than a few messages in a turn."""
    turns: list[int] = []
    turn = 0

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tick() -> None:
            nonlocal turn
            turn += 1
            if not done.is_set():
                loop.call_soon(tick)

        def note(msg: Any) -> None:
            turns.append(turn)
            if len(turns) == 50:
                done.set()

        turns.clear()
        async with ground(compression=True) as place:
            place.door.on("t/note", note)
            wire = await place.client(
                UPGRADE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
            )
            await wire.head()
            assert await wire.frame() == (TEXT, HELLO)
            tick()
            wire.send(deflated(b'[[:t/note "%s"] nil]' % (b"x" * 1_000_000)) * 50)
            await done.wait()
        assert len(set(turns)) >= 20

    run(main())


def test_over_tls_nothing_is_lost_behind_a_burst(run: Run) -> None:
    """More than a burst, and the end, come in one turn, while the loop stands still."""
    message = client(TEXT, b'[[:t/note "%s"] nil]' % (b"x" * 1000))
    many = 1250

    async def main() -> None:
        is_open, may_send, is_sent = threading.Event(), threading.Event(), threading.Event()
        context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        context.check_hostname = False

        def peer(port: int) -> None:
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain) as wire,
            ):
                wire.sendall(UPGRADE)
                wire.recv(4096)
                is_open.set()
                may_send.wait(60)
                wire.sendall(message * many)
                wire.shutdown(socket.SHUT_WR)
                is_sent.set()
                wire.recv(4096)

        async with ground(tls=True) as place:
            place.door.on("t/note", lambda msg: None)
            task = asyncio.create_task(asyncio.to_thread(peer, place.port))
            while not is_open.is_set():
                await asyncio.sleep(0)
            assert await place.door.told.get() == "open"
            may_send.set()
            assert is_sent.wait(60)  # without a turn of the loop
            await place.door.told.get()
            assert len(place.door.events) == many
        await asyncio.wait([task])

    run(main())


class Turns:
    """Counts what is done in each turn of the loop."""

    def __init__(self, total: int) -> None:
        self.counts: Counter[int] = Counter()
        self.done = asyncio.Event()
        self.total = total
        self.turn = 0

    def note(self, what: object = None) -> None:
        self.counts[self.turn] += 1
        if self.counts.total() == self.total:
            self.done.set()

    def tick(self) -> None:
        self.turn += 1
        if not self.done.is_set():
            asyncio.get_running_loop().call_soon(self.tick)


async def flood(place: Ground, clients: list[Client], data: bytes, turns: Turns) -> None:
    """Send data on all at once, so that the kernel has it before the server reads."""
    for each in clients:
        sock = each.writer.get_extra_info("socket")
        sent = socket.socket(fileno=sock.fileno())
        try:
            assert sent.send(data) == len(data)
        finally:
            sent.detach()
    turns.tick()
    await turns.done.wait()


def test_pipelined_requests_let_others_have_their_turn(run: Run) -> None:
    """8 connections with 1000 requests each: one turn takes some of them from each."""

    async def main() -> None:
        turns = Turns(8 * 1000)

        def other(request: Request) -> Response:
            turns.note()
            return Response(200, "")

        async with ground(fallback=other) as place:
            clients = [await place.client() for _ in range(8)]
            await flood(place, clients, GET % b"/x" * 1000, turns)
        assert max(turns.counts.values()) <= 200

    run(main())


def test_polls_that_are_answered_at_once_count_as_well(run: Run) -> None:
    async def main() -> None:
        turns = Turns(8 * 500)
        async with ground() as place:

            def refuse(request: Request) -> Response:
                turns.note()
                return Response(403, "no")

            place.door.answer = refuse
            clients = [await place.client() for _ in range(8)]
            await flood(place, clients, GET % b"/chsk?client-id=a" * 500, turns)
        assert max(turns.counts.values()) <= 200

    run(main())


@asynccontextmanager
async def sockets(number: int) -> AsyncIterator[tuple[Ground, list[Client]]]:
    async with ground() as place:
        yield place, [await place.ws() for _ in range(number)]


def test_many_sockets_that_flood_share_a_turn(run: Run) -> None:
    async def main() -> None:
        turns = Turns(16 * 2000)
        async with sockets(16) as (place, clients):
            place.door.on("t/note", turns.note)
            await flood(place, clients, client(TEXT, b"[[:t/note 1] nil]") * 2000, turns)
        assert max(turns.counts.values()) <= 2500

    run(main())


def test_many_sockets_with_long_messages_share_a_turn(run: Run) -> None:
    async def main() -> None:
        turns = Turns(16 * 4)
        async with sockets(16) as (place, clients):
            place.door.on("t/note", turns.note)
            message = client(TEXT, b'[[:t/note "%s"] nil]' % (b"x" * 50_000))
            await flood(place, clients, message * 4, turns)
        assert max(turns.counts.values()) <= 10

    run(main())


@ON_LINUX
def test_messages_that_take_long_share_a_turn_and_a_short_one_passes_them(run: Run) -> None:
    """6 sockets send 2 messages each of more than ten milliseconds; one sends a short one last."""

    async def main() -> None:
        turns, seen = Turns(13), []

        def take_long(msg: Any) -> None:
            spin()
            turns.note()

        def be_short(msg: Any) -> None:
            seen.append(turns.counts.total())
            turns.note()

        async with sockets(7) as (place, [*clients, other]):
            place.door.on("t/long", take_long)
            place.door.on("t/short", be_short)
            long = client(TEXT, b'[[:t/long "%s"] nil]' % (b"x" * 200))
            short = client(TEXT, b"[[:t/short 1] nil]")
            asyncio.get_running_loop().call_soon(other.send, short)  # behind the others
            await flood(place, clients, long * 2, turns)
        assert max(turns.counts.values()) <= 2
        assert seen[0] <= 3

    run(main())


def test_pings_count_as_well(run: Run) -> None:
    """Behind 1000 pings on each of 16 sockets there is an event; it comes many turns later."""

    async def main() -> None:
        turns = Turns(16)
        async with sockets(16) as (place, clients):
            place.door.on("t/note", turns.note)
            data = client(9, b"p" * 100) * 1000 + client(TEXT, b"[[:t/note 1] nil]")
            await flood(place, clients, data, turns)
        assert max(turns.counts) >= 12

    run(main())


def test_what_is_taken_turn_by_turn_is_taken_once_and_in_order(run: Run) -> None:
    many = 3000
    data = b"".join(client(TEXT, b'[[:t/echo %d] "c"]' % number) for number in range(many))

    async def main() -> None:
        async with sockets(4) as (_, clients):
            for each in clients:
                each.send(data)
            for each in clients:
                for number in range(many):
                    assert await each.frame() == (TEXT, b'[%d "c"]' % number)

    run(main())


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_pipelined_bodies_are_taken_once_and_in_order(size: int, run: Run) -> None:
    many = 40

    async def main() -> None:
        async with ground(fallback=lambda request: Response(200, request.query)) as place:
            clients = [await place.client() for _ in range(4)]
            post = b"POST /x?%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
            for each in clients:
                each.send(*(post % (k, size) + b"b" * size for k in range(many)))
            for each in clients:
                for number in range(many):
                    assert await each.response() == (200, b"%d" % number)

    run(main())
