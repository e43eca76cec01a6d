"""The application that ran behind Sente's server when the recordings were made,
on chansock's public API. The replay and the raw tests talk to it.

A user is the part of the client-id before `/`; a client-id without `/` has none.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from peer import Peer, urlencoded

import chansock
from chansock import ANONYMOUS, LATER, ChannelSocket, Config, EventMsg, Request
from chansock.values import Keyword

OWN_EVENTS = ("chsk/uidport-open", "chsk/uidport-close", "chsk/ws-ping", "chsk/ws-pong")

RECORDED = Config(allowed_origins=("*",))  # Sente's default: any origin


def user_of_client_id(request: Request) -> str | None:
    user, slash, _ = request.params.get("client-id", "").partition("/")
    return user if slash else None


def user_of_param(request: Request) -> str | None:
    """The user as in the scenario `params`: what the page put into its URL."""
    return request.params.get("uid") or user_of_client_id(request)


def make(
    config: Config = RECORDED,
    *,
    told: Callable[[EventMsg[Any]], object] | None = None,
    **hooks: Any,
) -> ChannelSocket:
    """Make the channel with all its handlers; `told` sees first what each of them gets,
    and the channel's own events too."""
    chsk = ChannelSocket(config, **{"user_id": user_of_client_id, **hooks})
    on = chsk.on if told is None else partial(_on, chsk, told)
    if told is not None:
        for event_id in OWN_EVENTS:
            chsk.on(event_id, partial(_only, told))

    def sender(msg: EventMsg[Any]) -> chansock.Target:
        return ANONYMOUS if msg.uid is None else msg.uid

    @on("test/echo")
    def echo(msg: EventMsg[Any]) -> None:
        chsk.send(sender(msg), "test/echo", msg.data)

    @on("test/req")
    def req(msg: EventMsg[Any]) -> Any:
        return msg.data

    @on("test/req-slow")
    async def req_slow(msg: EventMsg[Any]) -> Any:
        await asyncio.sleep(0)
        return msg.data

    @on("test/push-me")
    def push_me(msg: EventMsg[Any]) -> None:
        for i in range(msg.data["n"]):
            chsk.send(sender(msg), "test/pushed", {"i": i})

    @on("test/bcast")
    def bcast(msg: EventMsg[Any]) -> None:
        chsk.send(chansock.ALL, "test/bcast", msg.data)

    @on("test/close-me")
    def close_me(msg: EventMsg[Any]) -> None:
        chsk.disconnect(sender(msg))

    @on("test/no-reply")
    def no_reply(msg: EventMsg[Any]) -> Any:
        return LATER

    @on("test/push-nil-uid")
    def push_nil_uid(msg: EventMsg[Any]) -> None:
        pass  # nothing came of it

    @on("test/uids")
    def uids(msg: EventMsg[Any]) -> Any:
        if msg.uid is None:
            return LATER  # nor of this, where nobody has a uid
        live = chsk.connected
        return {"ws": set(live.ws), "ajax": set(live.ajax), "any": set(live.any)}

    @on("test/throw")
    def throw(msg: EventMsg[Any]) -> None:
        raise RuntimeError("test/throw was asked to")

    @on("test/push-then-reply")
    def push_then_reply(msg: EventMsg[Any]) -> Any:
        chsk.send(sender(msg), "test/pushed", msg.data)
        return msg.data

    @on("test/reply-twice")
    def reply_twice(msg: EventMsg[Any]) -> Any:
        msg.reply(1)
        msg.reply(2)
        return LATER

    @on("test/reply-later")
    def reply_later(msg: EventMsg[Any]) -> Any:
        answer = [Keyword("late"), msg.data]
        asyncio.get_running_loop().call_later(msg.data["ms"] / 1000, msg.reply, answer)
        return LATER

    @on("test/flush")
    def flush(msg: EventMsg[Any]) -> None:
        chsk.send(sender(msg), "test/pushed", 1)
        chsk.send(sender(msg), "test/pushed", 2, flush=True)
        chsk.send(sender(msg), "test/pushed", 3)

    @on("test/push-chsk")
    def push_chsk(msg: EventMsg[Any]) -> None:
        chsk.send(sender(msg), "chsk/evil", msg.data)

    @on("test/push-to")
    def push_to(msg: EventMsg[Any]) -> None:
        chsk.send(msg.data["uid"], "test/pushed", msg.data["data"])

    return chsk


def _only(told: Callable[[EventMsg[Any]], object], msg: EventMsg[Any]) -> Any:
    told(msg)
    return LATER


def _on(
    chsk: ChannelSocket, told: Callable[[EventMsg[Any]], object], event_id: str
) -> Callable[[Callable[..., Any]], object]:
    def register(handler: Callable[..., Any]) -> object:
        def handle(msg: EventMsg[Any]) -> Any:
            told(msg)
            return handler(msg)

        async def handle_async(msg: EventMsg[Any]) -> Any:
            told(msg)
            return await handler(msg)

        is_async = inspect.iscoroutinefunction(handler)
        return chsk.on(event_id, handle_async if is_async else handle)

    return register


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
