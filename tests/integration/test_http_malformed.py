"""Malformed heads and bodies: each ends in its status and a close, however it is cut up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest
from http_cases import MALFORMED, MAX_BODY, MAX_FIELDS, MAX_HEAD
from peer import Peer
from raw import Run, config
from sente_app import Served, serving

from chansock import Config
from chansock._edge.http1 import judge_head
from chansock._fast.http.request_reader import RequestReader

GOOD = b"GET /chsk?client-id=a&handshake%3F=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def limited() -> Config:
    # 3 * 1000 + 4096 bytes of body: MAX_BODY
    return config(max_head_bytes=MAX_HEAD, max_header_fields=MAX_FIELDS, max_message_bytes=1000)


def status_of(pieces: Iterable[bytes]) -> Any:
    """What a reader says at last of a stream that comes in these pieces."""
    reader = RequestReader(judge_head, MAX_HEAD, MAX_FIELDS, MAX_BODY)
    waiting = b""
    for piece in pieces:
        waiting += piece
        while waiting:
            found, used = reader.read(waiting)
            waiting = waiting[used:]
            if isinstance(found, tuple):
                return found[0]
            if not used:
                break
    return None


def test_there_are_more_than_a_hundred() -> None:
    assert len(MALFORMED) > 100


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_request_is_refused_alike_whole_byte_by_byte_and_split(case: str) -> None:
    data, status = MALFORMED[case]
    assert status_of([data]) == status
    assert status_of(data[k : k + 1] for k in range(len(data))) == status
    for k in range(1, len(data)):
        assert status_of([data[:k], data[k:]]) == status, f"split at {k}"


async def refused(served: Served, data: bytes, step: int) -> int:
    """Send data, and give the status of the one answer that comes before the end."""
    async with served.peer() as wire:
        for k in range(0, len(data), step):
            wire.writer.write(data[k : k + step])
            await asyncio.sleep(0)
        answer = await wire.answer()
        assert answer.header("connection") == "close"
        assert answer.header("x-content-type-options") == "nosniff"
        assert "\n" not in answer.text
        assert await wire.rest() == b""
        return answer.status


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/chsk", b"/page"])
@pytest.mark.parametrize("step", [1 << 20, 1])
def test_malformed_request_ends_in_its_status_and_a_close(
    step: int, path: bytes, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(limited()) as served, served.peer() as bystander:
            for case, (data, status) in MALFORMED.items():
                data = data.replace(b"/chsk", path)
                assert await refused(served, data, step) == status, case
            await bystander.send(GOOD)
            assert (await bystander.answer()).status == 200

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/chsk", b"/page"])
def test_malformed_request_behind_a_good_one_ends_in_its_status_too(path: bytes, run: Run) -> None:
    async def main() -> None:
        async with serving(limited()) as served:
            for case, (data, status) in MALFORMED.items():
                async with served.peer() as wire:
                    await wire.send(GOOD + data.replace(b"/chsk", path))
                    assert (await wire.answer()).status == 200, case
                    assert (await wire.answer()).status == status, case
                    assert await wire.rest() == b"", case

    run(main())


def test_what_breaks_off_in_the_middle_leaves_nothing_behind(run: Run) -> None:
    async def main() -> None:
        async with serving(limited()) as served:
            for data, _ in MALFORMED.values():
                for how in (Peer.fin, Peer.reset):
                    async with served.peer() as wire:
                        await wire.send(data[: len(data) // 2])
                        how(wire)
            async with served.peer() as wire:
                await wire.send(GOOD)
                assert (await wire.answer()).status == 200

    run(main())
