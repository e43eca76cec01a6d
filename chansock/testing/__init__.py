"""Test an application on chansock without sockets and without waiting.

`World` holds a channel and its clients in virtual time: see there.
`serve_in_thread` serves one on a real port, for clients with sockets; `plugin` is for pytest.
docs/testing.md shows their use. Nothing of it runs in production.
"""

from __future__ import annotations

from chansock.testing.ajax import AjaxClient, Poll
from chansock.testing.client import Handshake, PendingReply, ReceivedEvent, WorldClient
from chansock.testing.live import Served, serve_in_thread
from chansock.testing.loop import VirtualTimeLoop
from chansock.testing.network import Delay
from chansock.testing.transport import RecordingTransport
from chansock.testing.world import Connect, Transport, World, user_id
from chansock.testing.ws import WsClient

__all__ = [
    "AjaxClient",
    "Connect",
    "Delay",
    "Handshake",
    "PendingReply",
    "Poll",
    "ReceivedEvent",
    "RecordingTransport",
    "Served",
    "Transport",
    "VirtualTimeLoop",
    "World",
    "WorldClient",
    "WsClient",
    "serve_in_thread",
    "user_id",
]
