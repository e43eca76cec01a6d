"""Between the client and its transports: what each asks of the other.

Interfaces and the settings that both halves share. Nothing runs here.
"""

from __future__ import annotations

import ssl as ssl_module
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from chansock._core.log_limit import LogLimit, call_later
from chansock._fast.packet import Packer
from chansock.client.inbox import MAX_EVENTS
from chansock.client.keepalive import PING_INTERVAL, PING_TIMEOUT
from chansock.client.packets import Handshake, Inbound
from chansock.client.state import Reason, TransportType

__all__ = ["Link", "Owner", "Settings"]

MIB: Final = 1024 * 1024
CONNECT_TIMEOUT: Final = 10.0  # after which Sente's client gives a hanging WebSocket up
AJAX_TIMEOUT: Final = 60.0  # Sente's; a server's poll_timeout must lie well below
CLOSE_TIMEOUT: Final = 5.0  # wait for the other side's close frame
# A server sends all that waits for a client as one batch: well past its 1 MiB of backlog.
MAX_MESSAGE_BYTES: Final = 16 * MIB
MAX_POSTS: Final = 4  # connections for POSTs: a held reply keeps no later event back


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What does not change from attempt to attempt; seconds and bytes."""

    packer: Packer
    ssl: ssl_module.SSLContext | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    close_timeout: float = CLOSE_TIMEOUT
    ajax_timeout: float = AJAX_TIMEOUT
    ws_ping_interval: float | None = PING_INTERVAL
    ws_ping_timeout: float = PING_TIMEOUT
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_inbox_events: int = MAX_EVENTS
    max_posts: int = MAX_POSTS
    # Of the lines that a server can cause, whatever thread they come from.
    log_limit: LogLimit = field(default_factory=lambda: LogLimit(time.monotonic, call_later))


class Owner(Protocol):
    """The client, as a link sees it."""

    def opened(self, link: Link, handshake: Handshake, /) -> None:
        """Take a handshake: the first opens the channel, a later one renews it."""

    def received(self, link: Link, inbound: Inbound, /) -> None:
        """Take anything else that the server sent, in the order of arrival."""

    def would_fill(self, events: int, /) -> bool:
        """Tell whether that many events more are too many to ask for others meanwhile."""


class Link(Protocol):
    """One connection to the server, over one transport, from one attempt to its end."""

    type: TransportType
    is_reached: bool  # whether a server answered at all, be it with a refusal

    async def run(self) -> Reason:
        """Connect, shake hands, live; give the reason of the end. Raises only if cancelled."""

    def stop(self, reason: Reason, /) -> None:
        """End it from our side; `run` gives that reason soon."""

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """End the connection from below, as a network might; a socket says `code`.

        Not noticed: the link takes itself for open until it is used.
        """

    async def send(self, value: object, timeout: float | None, /) -> object:
        """Send an event as packers take it; with a timeout, wait for its reply.

        Raises ChannelClosed, ReplyTimeout, ReplyError, EncodeError.
        """

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on reading. May be called twice with the same value."""

    async def gone(self) -> None:
        """Wait until nothing of it is left on the network."""
