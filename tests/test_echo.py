"""chansock.testing.echo: the raw echo, by its program and on sockets of both loops."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest
from echoing import Fed, client, echoing, frames_of
from raw_ground import BINARY, CLOSE, GET, PING, PONG, TEXT, UPGRADE, Run
from websockets.sync.client import connect

from chansock._fast.frames import close_payload, frame

SIZES = [0, 1, 125, 126, 65_535, 65_536, 65_537, 300_000, 1 << 20]


@pytest.mark.slow
def test_the_program_tells_where_it_listens_and_echoes() -> None:
    command = [sys.executable, "-m", "chansock.testing.echo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            found = re.fullmatch(r"listening on (ws://127\.0\.0\.1:\d+/)\n", line)
            assert found
            with connect(found[1] + "any/path?at=all", compression=None) as socket:
                for message in ("héllo", b"\xff\x00", "", b""):
                    socket.send(message)
                    assert socket.recv(timeout=10) == message
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
        fed = Fed()
        writes: list[bytes] = []
        fed.transport.write = writes.append  # type: ignore[method-assign]
        fed.feed([client(TEXT, b"one") + client(BINARY, b"two" * 10_000) + client(TEXT, b"")])
        assert [frames_of(data) for data in writes] == [
            [(TEXT, b"one"), (BINARY, b"two" * 10_000), (TEXT, b"")]
        ]
        fed.close()

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
