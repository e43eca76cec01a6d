"""The channel that the tests in turned time talk to."""

from __future__ import annotations

import asyncio
from typing import Any

from chansock import ALL, ChannelSocket, Config, EventMsg, testing


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
