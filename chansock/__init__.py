"""chansock: channel sockets, one event pipe between a server and all clients of its users.

WebSocket, with Ajax long-polling where that is blocked, on one URL and behind one API;
the wire is Sente's, byte for byte. `ChannelSocket` and its `send` are the server's side,
`connect` the client's (`connect_sync` where code waits). What is public stands in `__all__`.

`import chansock` imports nothing else. Each name is imported when you first use it, so that a
server does not load the client, nor a client the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chansock import aiohttp as aiohttp
    from chansock import asgi, csrf, edn, packers
    from chansock import django as django
    from chansock import errors as errors
    from chansock import testing as testing
    from chansock import uvicorn as uvicorn
    from chansock._core.handlers import CallNext
    from chansock._core.presence import Presence
    from chansock._fast.events.dispatch import LATER, EventMsg
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
        BackplaneDown,
        BackplaneError,
        BackplaneFull,
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

__version__ = "0.1.0"

__all__ = [
    "ALL",
    "ANONYMOUS",
    "LATER",
    "BackplaneDown",
    "BackplaneError",
    "BackplaneFull",
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

_MODULES = frozenset(
    {"aiohttp", "asgi", "csrf", "django", "edn", "errors", "packers", "testing", "uvicorn"}
)
_EXPORTS = {  # module -> its names of __all__
    "_core.handlers": ("CallNext",),
    "_core.presence": ("Presence",),
    "_fast.events.dispatch": ("LATER", "EventMsg"),
    "channel": ("ChannelSocket",),
    "client": (
        "Client",
        "ClientConfig",
        "Event",
        "Reason",
        "State",
        "SyncClient",
        "connect",
        "connect_sync",
    ),
    "config": ("Compression", "Config"),
    "errors": (
        "BackplaneDown",
        "BackplaneError",
        "BackplaneFull",
        "BadData",
        "ChannelClosed",
        "ChansockError",
        "ConfigError",
        "ConnectionLost",
        "EdnDecodeError",
        "EdnError",
        "EncodeError",
        "HandshakeRefused",
        "InvalidEvent",
        "ReplyError",
        "ReplyTimeout",
    ),
    "request": ("Headers", "Params", "Request", "Response"),
    "routing": ("Router",),
    "server": ("Listener", "run", "serve"),
    "stats": ("Lost", "Stats"),
    "target": ("ALL", "ANONYMOUS", "ClientTarget", "Target", "UserId"),
    "values": ("Char", "FrozenDict", "Keyword", "List", "StrDict", "Symbol", "Tagged"),
}
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what `name` stands for (PEP 562), and keep it as an attribute."""
    if name in _MODULES:
        return import_module(f"chansock.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"chansock.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__, *_MODULES})
