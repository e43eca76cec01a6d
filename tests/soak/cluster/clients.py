"""The raw clients of `soak.resume` at a slower pace, and plain ones that have no position."""

from __future__ import annotations

import asyncio
from typing import Any

from soak.resume.raw import Ended, RawClient, read_handshake
from soak.resume.raw_ajax import AjaxLink
from soak.resume.raw_ws import WsLink

WILD = 0.2  # the share of the links that the client breaks itself


class Client(RawClient):
    """A raw client that sends less: there are hundreds."""

    is_willing = True  # it may break connections itself

    @property
    def is_wild(self) -> bool:  # type: ignore[override]
        return self.is_willing and self.random.random() < WILD

    @is_wild.setter
    def is_wild(self, value: bool) -> None:
        self.is_willing = value

    def make_event(self) -> None:
        if self.random.random() < 0.03:
            super().make_event()


class RoamingAjaxLink(AjaxLink):
    """Polls and POSTs, each on any of the idle connections or a new one: to any worker."""

    async def ask(self, *args: Any, **more: Any) -> Any:
        random = self.client.random
        random.shuffle(self.idle)
        if self.idle and random.random() < 0.2:
            self.idle.pop().writer.close()
        return await super().ask(*args, **more)


class PlainClient(Client):
    """A client without a position, like Sente's; it sends nothing."""

    def params(self, *, of_handshake: bool) -> str:
        return ""

    def counts(self, written: int) -> str:
        return "nil"

    def make_event(self) -> None:
        pass

    def shook(self, packet: bytes) -> int:
        if read_handshake(packet) is not None or not packet.startswith(b"[[:chsk/handshake "):
            self.account.fault("confused", f"expected a plain handshake, got {packet[:200]!r}")
        self.account.handshake(None, {})
        return 1


class PlainWsLink(WsLink):
    """The WebSocket of a plain client."""

    async def ping(self) -> None:
        while True:
            await asyncio.sleep(20)
            await self.say("[[:chsk/ws-ping] nil]")

    async def take(self, packet: list[Any]) -> None:
        value, _ = packet
        if value in ("chsk/ws-ping", ["chsk/ws-ping"]):
            await self.say("[[:chsk/ws-pong] nil]")
        elif value in ("chsk/ws-pong", ["chsk/ws-pong"]):
            return
        elif value == "chsk/close":
            raise Ended
        else:
            self.client.took(value)
