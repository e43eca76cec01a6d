"""chansock: channel sockets, one event pipe between a server and all clients of its users.

WebSocket, with Ajax long-polling where that is blocked, on one URL and behind one API;
the wire is Sente's, byte for byte. `ChannelSocket` and its `send` are the server's side,
`connect` the client's (`connect_sync` where code waits). What is public stands in `__all__`.
"""

from chansock import asgi, csrf, edn, packers
from chansock._core.handlers import CallNext
from chansock._core.presence import Presence
from chansock._fast.dispatch import LATER, EventMsg
from chansock.channel import ChannelSocket
from chansock.client import (
    Client,
    ClientConfig,
    Event,
    Reason,
    State,
    SyncClient,
    connect,
    connect_sync,
)
from chansock.config import Compression, Config
from chansock.errors import (
    BadData,
    ChannelClosed,
    ChansockError,
    ConfigError,
    ConnectionLost,
    EdnDecodeError,
    EdnEncodeError,
    EdnError,
    FrameError,
    HandshakeRefused,
    InvalidEvent,
    PacketError,
    PeerError,
    ReplyError,
    ReplyTimeout,
)
from chansock.request import Headers, Params, Request, Response
from chansock.routing import Router
from chansock.server import Listener, run, serve
from chansock.stats import Lost, Stats
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId
from chansock.values import Char, FrozenDict, Keyword, List, StrDict, Symbol, Tagged

__version__ = "0.1.0"

__all__ = [
    "ALL",
    "ANONYMOUS",
    "LATER",
    "BadData",
    "CallNext",
    "ChannelClosed",
    "ChannelSocket",
    "ChansockError",
    "Char",
    "Client",
    "ClientConfig",
    "ClientTarget",
    "Compression",
    "Config",
    "ConfigError",
    "ConnectionLost",
    "EdnDecodeError",
    "EdnEncodeError",
    "EdnError",
    "Event",
    "EventMsg",
    "FrameError",
    "FrozenDict",
    "HandshakeRefused",
    "Headers",
    "InvalidEvent",
    "Keyword",
    "List",
    "Listener",
    "Lost",
    "PacketError",
    "Params",
    "PeerError",
    "Presence",
    "Reason",
    "ReplyError",
    "ReplyTimeout",
    "Request",
    "Response",
    "Router",
    "State",
    "Stats",
    "StrDict",
    "Symbol",
    "SyncClient",
    "Tagged",
    "Target",
    "UserId",
    "asgi",
    "connect",
    "connect_sync",
    "csrf",
    "edn",
    "packers",
    "run",
    "serve",
]
