"""What the raw tests of both transports share: requests as Sente's clients write them,
a parked poll, and what an answer and a log must show. No test here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import peer
import pytest
from peer import Answer, Peer
from sente_app import Served

from chansock import Config

Run = Callable[[Coroutine[Any, Any, Any]], Any]

POLL = "/chsk?udt=1&client-id=alice%2F1"
SHAKE = POLL + "&handshake%3F=1"

WHO = ("alice", "bob")

DUMMY = "[:chsk/dummy-cb-200 nil]"


def config(**settings: Any) -> Config:
    """Sente's default origins; pushes gathered for less than its 0.1 s, for the tests' sake."""
    return Config(**{"allowed_origins": ("*",), "flush_delay_ajax": 0.005, **settings})


async def handshake(client: Peer, target: str = SHAKE) -> Answer:
    answer = await client.ask("GET", target)
    assert answer.status == 200, answer
    assert answer.text.startswith("[[:chsk/handshake [")
    return answer


async def post(client: Peer, packet: str, client_id: str = "alice/1", **more: str) -> Answer:
    fields = [("udt", "2"), ("client-id", client_id), ("ppstr", packet), *more.items()]
    return await client.post_form("/chsk", fields)


class Poll:
    """A GET that is parked, on a connection of its own."""

    def __init__(self, wire: Peer) -> None:
        self.wire = wire
        self.answer = asyncio.create_task(wire.answer())

    @classmethod
    async def park(cls, served: Served, target: str = POLL) -> Poll:
        """Send it, and come back when the server has read it."""
        wire = await Peer.connect(served.port)
        await wire.send(peer.request("GET", target, host=wire.host))
        await round_trip(served)
        return cls(wire)

    async def drop(self, how: Callable[[], None] | None = None) -> None:
        """Leave without an answer: by FIN, or as told."""
        self.answer.cancel()
        await asyncio.gather(self.answer, return_exceptions=True)
        (how or self.wire.fin)()
        assert await self.wire.rest() == b""
        await self.wire.close()

    async def text(self) -> str:
        answer = await self.answer
        await self.wire.close()
        assert answer.status == 200
        return answer.text


async def round_trip(served: Served) -> None:
    """Ask and be answered: what was sent before on any connection is read by then."""
    async with served.peer() as wire:
        await wire.ask("GET", "/nowhere")


def assert_refusal(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert (
        answer.header(
            "content-type",
        ).partition(";")[0]
        == "text/plain"
    )  # type: ignore[union-attr]
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"
    assert answer.text
    assert "\n" not in answer.text.strip()


def assert_answer_of_the_channel(answer: peer.Answer) -> None:
    kind = answer.header("content-type") or ""
    assert kind.partition(";")[0] in ("text/plain", "application/edn", "application/octet-stream")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"


def records(caplog: pytest.LogCaptureFixture, log_id: str) -> int:
    """How many records of chansock start with this fixed id."""
    return sum(
        record.name.startswith("chansock.") and record.getMessage().split(" ")[0] == log_id
        for record in caplog.records
        if record.levelno >= logging.INFO
    )
