"""A connection that has much to say lets others have their turn, and loses nothing by it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any

from deflated import raw
from echoing import client
from raw_ground import HELLO, TEXT, TLS, UPGRADE, Run, ground


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
                may_send.wait(20)
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
            assert is_sent.wait(20)  # without a turn of the loop
            await place.door.told.get()
            assert len(place.door.events) == many
        await asyncio.wait([task])

    run(main())
