"""What a type checker says of the public names; tests/support/docs_typed.py has two look."""

# pyright: strict

from dataclasses import dataclass
from typing import Any, assert_type

import chansock
from chansock import CallNext, ChannelSocket, EventMsg, Router


@dataclass
class Say:
    text: str


chsk = ChannelSocket()
router = Router(prefix="chat")


@router.on("say")
async def say(msg: EventMsg[Say]) -> str:
    assert_type(msg.data, Say)
    assert_type(msg.chsk, ChannelSocket)
    assert_type(msg.uid, chansock.UserId | None)
    msg.chsk.send(msg.client, "chat/said", msg.data, latest="said", flush=True)
    return msg.data.text


@chsk.on("t/any", thread=True)
def any_data(msg: EventMsg) -> None:
    assert_type(msg.data, Any)
    assert_type(msg.request.scope["session"], Any)


@chsk.middleware
async def timed(msg: EventMsg, call_next: CallNext) -> Any:
    return await call_next(msg)


chsk.on("t/plain", lambda msg: msg.uid)
chsk.include(router, prefix="app")


@router.on("bad")  # type: ignore[type-var]
def bad(msg: str) -> None: ...


async def client_side(client: chansock.Client) -> None:
    @client.on("chat/said")
    async def said(event: chansock.Event) -> None:
        assert_type(event.id, str)
        assert_type(await client.send("math/double", 21, timeout=5), Any)
        await client.send("chat/say", {"text": "hi"})

    @client.on_state
    def changed(state: chansock.State) -> None:
        assert_type(state.open, bool)

    async for event in client:
        assert_type(event, chansock.Event)
    await said(chansock.Event("chat/said"))
    changed(client.state)


def waiting(client: chansock.SyncClient) -> None:
    assert_type(client.recv(timeout=5), chansock.Event)
    assert_type(client.send("math/double", 21, timeout=5), Any)
