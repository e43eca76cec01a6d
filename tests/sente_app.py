"""The application that ran behind Sente's server when the recordings were made,
on chansock's public API. The replay and the raw tests talk to it.

A user is the part of the client-id before `/`; a client-id without `/` has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from peer import Peer, urlencoded

import chansock
from chansock import ANONYMOUS, LATER, ChannelSocket, Config, EventMsg, Request

RECORDED = Config(allowed_origins=("*",))  # Sente's default: any origin


def user_of_client_id(request: Request) -> str | None:
    user, slash, _ = request.params.get("client-id", "").partition("/")
    return user if slash else None


def user_of_param(request: Request) -> str | None:
    """The user as in the scenario `params`: what the page put into its URL."""
    return request.params.get("uid") or user_of_client_id(request)


def make(config: Config = RECORDED, **hooks: Any) -> ChannelSocket:
    """Make the channel with all its handlers."""
    chsk = ChannelSocket(config, **{"user_id": user_of_client_id, **hooks})

    def sender(msg: EventMsg[Any]) -> chansock.Target:
        return ANONYMOUS if msg.uid is None else msg.uid

    @chsk.on("test/echo")
    def echo(msg: EventMsg[Any]) -> None:
        chsk.send(sender(msg), "test/echo", msg.data)

    @chsk.on("test/req")
    def req(msg: EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("test/req-slow")
    async def req_slow(msg: EventMsg[Any]) -> Any:
        await asyncio.sleep(0)
        return msg.data

    @chsk.on("test/push-me")
    def push_me(msg: EventMsg[Any]) -> None:
        for i in range(msg.data["n"]):
            chsk.send(sender(msg), "test/pushed", {"i": i})

    @chsk.on("test/bcast")
    def bcast(msg: EventMsg[Any]) -> None:
        chsk.send(chansock.ALL, "test/bcast", msg.data)

    @chsk.on("test/close-me")
    def close_me(msg: EventMsg[Any]) -> None:
        chsk.disconnect(sender(msg))

    @chsk.on("test/no-reply")
    def no_reply(msg: EventMsg[Any]) -> Any:
        return LATER

    @chsk.on("test/uids")
    def uids(msg: EventMsg[Any]) -> Any:
        live = chsk.connected
        return {"ws": set(live.ws), "ajax": set(live.ajax), "any": set(live.any)}

    @chsk.on("test/throw")
    def throw(msg: EventMsg[Any]) -> None:
        raise RuntimeError("test/throw was asked to")

    @chsk.on("test/push-then-reply")
    def push_then_reply(msg: EventMsg[Any]) -> Any:
        chsk.send(sender(msg), "test/pushed", msg.data)
        return msg.data

    @chsk.on("test/push-to")
    def push_to(msg: EventMsg[Any]) -> None:
        chsk.send(msg.data["uid"], "test/pushed", msg.data["data"])

    return chsk


@asynccontextmanager
async def serving(config: Config = RECORDED, **hooks: Any) -> AsyncIterator[Served]:
    """Serve the application on a port of this machine."""
    chsk = make(config, **hooks)
    async with chansock.serve(chsk, port=0) as listener:
        yield Served(chsk, listener.port)


@dataclass(frozen=True, slots=True)
class Served:
    """A channel on a real port, and how a raw peer comes to it."""

    chsk: ChannelSocket
    port: int

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        async with await Peer.connect(self.port) as found:
            yield found

    @asynccontextmanager
    async def socket(self, client_id: str = "alice/1", **params: str) -> AsyncIterator[Peer]:
        """A WebSocket whose handshake was read."""
        async with self.peer() as found:
            target = "/chsk?" + urlencoded([("client-id", client_id), *params.items()])
            answer = await found.upgrade(target)
            if answer.status != 101:
                raise ValueError(f"expected 101, got {answer!r}")
            handshake = await found.text()
            if not handshake.startswith("[[:chsk/handshake ["):
                raise ValueError(f"expected a handshake, got {handshake!r}")
            yield found
