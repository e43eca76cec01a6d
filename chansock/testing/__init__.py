"""Test an application on chansock without sockets and without waiting.

`World` holds a channel and its clients in time that is turned by hand: see there.
`serve_in_thread` serves one on a real port, for clients with sockets; `plugin` is for pytest.
docs/testing.md shows their use. Nothing of it runs in production.
"""

from __future__ import annotations

from chansock.testing.ajax import AjaxClient, Poll
from chansock.testing.client import Client, Event, Handshake, Reply
from chansock.testing.live import Served, serve_in_thread
from chansock.testing.loop import TurnedLoop
from chansock.testing.network import Delay
from chansock.testing.transport import RecordingTransport
from chansock.testing.world import Connect, Transport, World, user_id
from chansock.testing.ws import WsClient

__all__ = [
    "AjaxClient",
    "Client",
    "Connect",
    "Delay",
    "Event",
    "Handshake",
    "Poll",
    "RecordingTransport",
    "Reply",
    "Served",
    "Transport",
    "TurnedLoop",
    "World",
    "WsClient",
    "serve_in_thread",
    "user_id",
]
