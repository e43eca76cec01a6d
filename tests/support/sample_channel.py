"""The channel that the tests in virtual time talk to."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from chansock import ALL, ChannelSocket, Config, EventMsg, testing
from chansock.packers import EDN


class Channel(ChannelSocket):
    """`told`: who came (`+alice`) and went (`-alice`), in order."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, user_id=testing.user_id)
        self.told: list[str] = []
        self.on("chsk/uidport-open", lambda msg: self.told.append(f"+{msg.data}"))
        self.on("chsk/uidport-close", lambda msg: self.told.append(f"-{msg.data}"))


def channel(**settings: Any) -> Channel:
    chsk = Channel(Config(**settings))

    @chsk.on("test/req")
    def req(msg: EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("test/slow")
    async def slow(msg: EventMsg[Any]) -> Any:
        await asyncio.sleep(msg.data)
        return msg.data

    @chsk.on("test/say")
    def say(msg: EventMsg[Any]) -> None:
        chsk.send(ALL, "test/said", msg.data)

    return chsk


COARSE = 6  # Linux's CLOCK_MONOTONIC_COARSE, by which the engine measures what takes long
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no such clock")


def spin() -> None:
    """Take more than ten milliseconds, as the engine sees them."""
    end, spent = time.clock_gettime_ns(COARSE) + 12_000_000, time.thread_time_ns() + 12_000_000
    while time.clock_gettime_ns(COARSE) < end or time.thread_time_ns() < spent:
        pass


class SlowPacker:
    """A packer that needs ten milliseconds for each packet of more than 100 bytes."""

    def __init__(self) -> None:
        self.inner = EDN()
        self.unpacked = 0

    binary = False
    fragment = property(lambda self: self.inner.fragment)
    batch = property(lambda self: self.inner.batch)
    packet = property(lambda self: self.inner.packet)

    def unpack(self, view: memoryview) -> Any:
        if len(view) > 100:
            self.unpacked += 1
            spin()
        return self.inner.unpack(view)
