"""A larger application on real sockets, over both transports: routers, middleware, types."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from chansock import CallNext, ChannelSocket, EventMsg, ReplyError, Router, connect, serve

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


@dataclass
class Say:
    text: str
    room: int = 0


def application(seen: list[Any]) -> ChannelSocket:
    async def timed(msg: EventMsg, call_next: CallNext) -> Any:
        result = await call_next(msg)
        seen.append(msg.id)
        return result

    def members(msg: EventMsg, call_next: CallNext) -> Any:
        if msg.request.params.get("member") != "1":
            return "for members"
        return call_next(msg)

    chat = Router(prefix="chat", middleware=[members])

    @chat.on("say")
    async def say(msg: EventMsg[Say]) -> str:
        seen.append(msg.data)
        await asyncio.sleep(0)
        msg.chsk.send(msg.client, "chat/said", msg.data.text)
        return msg.data.text

    @chat.on("room/size", thread=True)
    def size(msg: EventMsg[int]) -> int:
        return msg.data + 1

    chsk = ChannelSocket()
    chsk.middleware(timed)
    chsk.include(chat, prefix="app")
    return chsk


@BOTH
def test_handlers_of_routers_answer_over_the_wire(run, transport):
    seen: list[Any] = []
    chsk = application(seen)

    async def main():
        async with (
            serve(chsk, port=0) as listener,
            connect(listener.url, transport=transport, params={"member": "1"}) as client,
            connect(listener.url, transport=transport) as stranger,
        ):
            assert await client.send("app.chat/say", {"text": "hi"}, timeout=60) == "hi"
            assert await client.send("app.chat.room/size", 1, timeout=60) == 2
            assert await stranger.send("app.chat/say", {"text": "hi"}, timeout=60) == "for members"
            with pytest.raises(ReplyError, match=r"data: expected str, got nil at \['text'\]$"):
                await client.send("app.chat/say", {"text": None}, timeout=60)
            async for msg in client:
                assert (msg.id, msg.data) == ("chat/said", "hi")
                break

    run(main())
    assert seen == [Say("hi"), "app.chat/say", "app.chat.room/size", "app.chat/say"]
    assert chsk.stats.bad_data == 1
