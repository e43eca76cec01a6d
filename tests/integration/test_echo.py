"""chansock.testing.echo: the raw echo, by its program and on sockets of both loops."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import peer
import pytest
from deflated import plain, raw
from echoing import Fed, client, echoing, frames_of
from raw_listener import BINARY, CLOSE, GET, PING, PONG, TEXT, UPGRADE, Run
from websockets.sync.client import connect

from chansock._fast.ws.frames import close_payload, frame
from chansock.config import Compression

LARGE = 4 << 20
SIZES = [0, 1, 125, 126, 65_535, 65_536, 65_537, 300_000, 1 << 20]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--deflate",)])
def test_the_program_tells_where_it_listens_and_echoes(options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "chansock.testing.echo", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            found = re.fullmatch(r"listening on (ws://127\.0\.0\.1:\d+/)\n", line)
            assert found
            with connect(found[1] + "any/path?at=all", compression="deflate") as socket:
                extensions = [extension.name for extension in socket.protocol.extensions]
                assert extensions == (["permessage-deflate"] if options else [])
                for message in ("héllo", b"\xff\x00", "", b"", "long " * 100, b"long" * 100_000):
                    socket.send(message)
                    assert socket.recv(timeout=60) == message
        finally:
            process.terminate()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_size_comes_back(size: int, opcode: int, run: Run) -> None:
    payload = b"0123456789abcdef-" * (size // 17 + 1)
    payload = payload[:size]

    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            wire.send(client(opcode, payload))
            assert await wire.frame() == (opcode, payload)
            wire.send(client(PING, b"p"))
            assert await wire.frame() == (PONG, b"p")

    run(main())


def test_all_echoes_of_one_read_go_out_in_one_send(run: Run) -> None:
    async def main() -> None:
        for _ in range(100):  # a process that has to wait within a read leaves the rest to a turn
            fed = Fed()
            writes: list[bytes] = []
            fed.transport.write = writes.append  # type: ignore[method-assign]
            fed.feed([client(TEXT, b"one") + client(BINARY, b"two" * 10_000) + client(TEXT, b"")])
            fed.close()
            if len(writes) == 1:
                break
        assert [frames_of(data) for data in writes] == [
            [(TEXT, b"one"), (BINARY, b"two" * 10_000), (TEXT, b"")]
        ]

    run(main())


def test_a_small_message_before_a_large_one_comes_before_it(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            messages = [(TEXT, b"x" * size) for size in (5, 100_000, 7, 65_537, 65_536, 9, 500_000)]
            wire.send(*(client(*message) for message in messages * 3))
            assert [await wire.frame() for _ in messages * 3] == messages * 3

    run(main())


def test_a_peer_that_does_not_read_is_not_read(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            payloads = [bytes([k]) * (100_000 + k) for k in range(200)]
            for payload in payloads:
                wire.send(client(BINARY, payload))
            while not (backlog := place.protocols[0].backlog()):
                await asyncio.sleep(0)
            assert backlog < 1 << 20
            for payload in payloads:
                assert await wire.frame() == (BINARY, payload)
            assert backlog < 1 << 20

    run(main())


@pytest.mark.parametrize("takeover", [False, True])
def test_a_deflated_message_comes_back_deflated_after_all_before_it(
    run: Run, takeover: bool
) -> None:
    async def main() -> None:
        options = Compression(threshold=0, client_takeover=takeover)
        async with echoing(
            compression=options, max_message_bytes=LARGE, max_inbox_bytes=LARGE
        ) as place:
            wire = await place.connect()
            wire.send(UPGRADE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            assert b"Sec-WebSocket-Extensions: permessage-deflate;" in await wire.head()
            texts = [b"so long, " * size for size in (5, 1000, 200_000, 3)] * 20
            for text in texts:
                wire.send(peer.frame(TEXT, raw(text), rsv=4), client(PING, b"p"))
            for text in texts:
                found = await peer.read_frame(wire.reader)
                while found.opcode == PONG:
                    found = await peer.read_frame(wire.reader)
                assert (found.opcode, plain(found.payload)) == (TEXT, text)
                assert found.rsv == 4

    run(main())


def test_a_request_that_is_no_upgrade_is_told_so(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.connect()
            wire.send(GET % b"/", UPGRADE.replace(b"Version: 13", b"Version: 12"), UPGRADE)
            assert (await wire.response())[0] == 426
            assert (await wire.response())[0] == 426
            assert (await wire.head()).startswith(b"HTTP/1.1 101 ")

    run(main())


def test_what_came_before_a_broken_frame_or_a_close_is_echoed(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            for code, last in ((1002, frame(TEXT, b"")), (4000, client(CLOSE, b"\x0f\xa0"))):
                wire = await place.client()
                wire.send(client(TEXT, b"before"), last, client(TEXT, b"behind"))
                assert await wire.frame() == (TEXT, b"before")
                opcode, payload = await wire.frame()
                assert (opcode, payload[:2]) == (CLOSE, close_payload(code))
                assert await wire.eof() == b""

    run(main())


def test_what_a_broken_echo_gathered_goes_to_nobody(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            one, other = await place.client(), await place.client()
            # More pongs than are gathered: they are sent in the middle of the read, and fail.
            one.send(client(TEXT, b"secret"), client(PING, b"p") * 1500)
            one.reset()
            while len(place.service) > 1:
                await asyncio.sleep(0)
            other.send(client(TEXT, b"own"))
            assert await other.frame() == (TEXT, b"own")

    run(main())
