"""Peers that mean no good, at the raw echo: what they cost is bounded."""

from __future__ import annotations

import asyncio

import pytest
from echoing import Fed, client, echoing, frames_of
from raw_listener import BINARY, CLOSE, PING, PONG, TEXT, Run

from chansock._fast.ws.frames import close_payload


def test_who_pings_and_does_not_read_makes_no_pile_of_pongs(run: Run) -> None:
    flood = b"".join(client(PING, b"%0100d" % k) for k in range(10_000))

    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            transport = wire.writer.transport
            transport.pause_reading()  # type: ignore[attr-defined]
            transport.set_write_buffer_limits(0)
            most = 0
            for _ in range(20):  # 21 MB, of which the kernel takes some
                wire.send(flood)
                await wire.writer.drain()
                most = max(most, place.protocols[0].backlog())
            wire.send(client(PING, b"last"))
            await wire.writer.drain()
            assert 0 < most < 512 * 1024
            transport.resume_reading()  # type: ignore[attr-defined]
            while (found := await wire.frame()) != (PONG, b"last"):
                assert found[0] == PONG

    run(main())


def test_pongs_of_one_read_are_gathered_up_to_a_bound() -> None:
    async def main() -> None:
        fed = Fed()
        writes: list[list[tuple[int, bytes]]] = []
        fed.transport.write = lambda data: writes.append(frames_of(data))  # type: ignore[method-assign]
        fed.feed([client(PING, b"") * 30_000])
        while sum(map(len, writes)) < 30_000:
            await asyncio.sleep(0)
        assert max(map(len, writes)) == 1000
        fed.close()

    asyncio.run(main())


def test_empty_fragments_without_end_are_closed_with_1008(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            wire.send(client(TEXT, b"x", fin=False), client(0, fin=False) * 100_000)
            opcode, payload = await wire.frame()
            assert (opcode, payload[:2]) == (CLOSE, close_payload(1008))
            assert await wire.eof() == b""

    run(main())


def test_a_fragmented_message_takes_no_more_than_its_bytes(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            wire.send(client(BINARY, b"x", fin=False), client(0, b"x", fin=False) * 99_999)
            wire.send(client(0))
            assert await wire.frame() == (BINARY, b"x" * 100_000)

    run(main())


@pytest.mark.slow
def test_a_large_frame_that_comes_byte_by_byte_takes_linear_work(run: Run) -> None:
    text = "aé€𝄞 ".encode() * 100_000
    data = client(TEXT, text)

    async def main() -> None:
        fed = Fed(poisons=False)
        for start in range(0, len(data), 1000):
            fed.feed(data[k : k + 1] for k in range(start, min(start + 1000, len(data))))
            await asyncio.sleep(0)  # if each byte cost a copy of all before it, `run` ends this
        assert frames_of(bytes(fed.transport.written)) == [(TEXT, text)]
        fed.close()

    run(main())


def test_a_large_text_is_refused_before_it_has_come(run: Run) -> None:
    async def main() -> None:
        async with echoing() as place:
            wire = await place.client()
            wire.send(client(TEXT, b"x" * 500_000 + b"\xff" + b"x" * 500_000)[:600_000])
            opcode, payload = await wire.frame()
            assert (opcode, payload[:2]) == (CLOSE, close_payload(1007))

    run(main())


@pytest.mark.parametrize("goes_on", [False, True])
def test_who_does_not_answer_a_close_is_cut_off(goes_on: bool, run: Run) -> None:
    async def main() -> None:
        async with echoing(close_timeout=0.05) as place:
            wire = await place.client()
            place.protocols[0].close(1001, "going away")
            assert await wire.frame() == (CLOSE, close_payload(1001, "going away"))
            while goes_on and not wire.reader.at_eof() and wire.reader.exception() is None:
                wire.send(client(TEXT, b"still here"), client(PING, b"hello?"))
                await asyncio.sleep(0)
            while len(place.service):
                await asyncio.sleep(0)

    run(main())


def test_who_sends_without_an_end_lets_others_have_their_turn() -> None:
    message = client(BINARY, bytes(60_000))

    async def main() -> None:
        fed = Fed(takes_turns=True)
        total = 0
        for _ in range(3):
            read = 0
            while not fed.transport.is_paused:
                fed.feed([message])
                read += len(message)
                assert read <= 1 << 20
            assert read > 1 << 18
            total += read
            assert len(frames_of(fed.transport.written)) <= total // len(message)
            while fed.transport.is_paused:
                await asyncio.sleep(0)
            assert len(frames_of(fed.transport.written)) == total // len(message)
        fed.close()

    asyncio.run(main())
