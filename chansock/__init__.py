"""chansock: channel sockets, one event pipe between a server and all clients of its users.

WebSocket, with Ajax long-polling where that is blocked, on one URL and behind one API;
the wire is Sente's, byte for byte. `ChannelSocket` and its `send` are the server's side,
`connect` the client's (`connect_sync` where code waits). What is public stands in `__all__`.
`chansock.aiohttp`, `.django`, `.uvicorn`, and `.testing` are imported when you first use them,
since each needs a framework or a test.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
    EdnError,
    EncodeError,
    HandshakeRefused,
    InvalidEvent,
    ReplyError,
    ReplyTimeout,
)
from chansock.request import Headers, Params, Request, Response
from chansock.routing import Router
from chansock.server import Listener, run, serve
from chansock.stats import Lost, Stats
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId
from chansock.values import Char, FrozenDict, Keyword, List, StrDict, Symbol, Tagged

if TYPE_CHECKING:
    from chansock import aiohttp as aiohttp
    from chansock import django as django
    from chansock import testing as testing
    from chansock import uvicorn as uvicorn

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
    "EdnError",
    "EncodeError",
    "Event",
    "EventMsg",
    "FrozenDict",
    "HandshakeRefused",
    "Headers",
    "InvalidEvent",
    "Keyword",
    "List",
    "Listener",
    "Lost",
    "Params",
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

_ON_USE: Final = frozenset({"aiohttp", "django", "testing", "uvicorn"})


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return import_module(f"chansock.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ON_USE, "__version__"})
