"""Test an application on chansock without sockets and without waiting.

`World` holds a channel and its clients in time that is turned by hand; see there.
Nothing of it runs in production.
"""

from __future__ import annotations

from chansock.testing.ajax import AjaxClient, Poll
from chansock.testing.client import Event, Handshake, Reply
from chansock.testing.loop import TurnedLoop
from chansock.testing.transport import RecordingTransport
from chansock.testing.world import World, user_id
from chansock.testing.ws import WsClient

__all__ = [
    "AjaxClient",
    "Event",
    "Handshake",
    "Poll",
    "RecordingTransport",
    "Reply",
    "TurnedLoop",
    "World",
    "WsClient",
    "user_id",
]
