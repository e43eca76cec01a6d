"""Between the client and its transports: what each asks of the other.

Interfaces and the settings that both halves share. Nothing runs here.
"""

from __future__ import annotations

import ssl as ssl_module
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from chansock._core.log_limit import LogLimit, call_later
from chansock._fast.events.packet import Packer
from chansock.client.config import ClientConfig
from chansock.client.packets import Handshake, Inbound
from chansock.client.state import Reason, TransportType

__all__ = ["Link", "Owner", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What does not change from attempt to attempt."""

    packer: Packer
    # Of a POST whose body is a packet of text; None: such packets are sent as forms.
    text_type: str | None = None
    ssl: ssl_module.SSLContext | None = None
    config: ClientConfig = field(default_factory=ClientConfig)
    # Of the lines that a server can cause, whatever thread they come from.
    log_limit: LogLimit = field(default_factory=lambda: LogLimit(time.monotonic, call_later))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a link calls: the client's side."""

    # Take a handshake: the first opens the channel, a later one renews it.
    opened: Callable[[Link, Handshake], None]
    # Take anything else that the server sent, in the order of arrival.
    received: Callable[[Link, Inbound], None]
    # Say whether that many events more are too many to ask for others meanwhile.
    would_fill: Callable[[int], bool]


class Link(Protocol):
    """One connection to the server, over one transport, from one attempt to its end."""

    type: TransportType
    is_reached: bool  # whether a server answered at all, be it with a refusal

    async def run(self) -> Reason:
        """Connect, shake hands, live; return the reason of the end. Raises only if cancelled."""

    def stop(self, reason: Reason, /) -> None:
        """End it from our side; `run` returns that reason soon."""

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """End the connection from below, as a network might; a socket says `code`.

        Not noticed: the link takes itself for open until it is used.
        """

    async def send(self, value: object, timeout: float | None, /) -> object:
        """Send an event as packers take it; with a timeout, wait for its reply.

        An event whose `send` is cancelled before its turn is not sent. Raises ChannelClosed,
        ConnectionLost, ReplyTimeout, ReplyError, EncodeError.
        """

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on reading. May be called twice with the same value."""

    async def gone(self) -> None:
        """Wait until nothing of it is left on the network; if cancelled, drop the rest."""
