"""What an application passes to `connect`, `send`, and `on`, checked: limits, URLs, ids, times.

`ClientConfig` has the limits; `Address` and `Proxy` are URLs taken apart. Only checks and parsing
here: no connection, and nothing that changes from attempt to attempt.
"""

from __future__ import annotations

import difflib
import functools
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import isfinite
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from chansock import edn
from chansock._core import event
from chansock.client.inbox import ANY
from chansock.client.resume import MAX_BYTES, MAX_EVENTS
from chansock.client.timing import MAX_DELAY, PING_INTERVAL, PING_TIMEOUT
from chansock.errors import ConfigError, EncodeError, InvalidEvent
from chansock.values import Keyword

__all__ = [
    "UNESCAPED",
    "Address",
    "ClientConfig",
    "Proxy",
    "ProxySetting",
    "check_close_code",
    "check_event",
    "check_handled_id",
    "check_proxy",
    "check_timeout",
    "encode_pairs",
    "nearest",
    "proxy_for",
    "socks_connector",
    "without_secrets",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Limits and times of one client.

    - connect_timeout: for address, proxy, TLS, and handshake of one attempt
    - close_timeout: wait this long for the server's close frame
    - ajax_timeout: a POST without an answer fails after this; a poll is sent again, and the
      second one without an answer closes the channel
    - ws_ping_interval: ping if nothing was received for this long; None: never ping
    - ws_ping_timeout: close if nothing is received within this time after a ping
    - max_backoff: the longest wait between two attempts, and between polls without an event
    - max_message_bytes: the largest message, or body of an HTTP response, that is read
    - max_empty_fragments: fragments of a message in succession that hold no byte
    - max_inbox_events: stop reading while so many events wait for a handler or for `async for`,
      or while so many coroutines of `on_state` run
    - max_inbox_bytes: the same, for the memory that the data of these events holds
    - max_backlog_bytes: `send` waits while the socket's write buffer holds more
    - max_unacked_events: `send` waits while the server has not acknowledged so many events, or
      while the client is not connected and so many wait; with a server that resumes
    - max_unacked_bytes: the same, for their packets; a single event may be larger. The server
      acknowledges every 256 events or 64 KiB. If a limit is below that, the client asks what is
      handled; over Ajax it waits for the end of a poll
    - max_posts: POSTs under way at once over Ajax; further ones wait

    Raises ConfigError for a field that does not exist, or whose type or range is wrong.
    """

    connect_timeout: float = 10.0  # after which Sente's client gives up a hanging WebSocket
    close_timeout: float = 5.0  # as Config's
    ajax_timeout: float = 60.0  # Sente's; a server's poll_timeout must lie well below
    ws_ping_interval: float | None = PING_INTERVAL
    ws_ping_timeout: float = PING_TIMEOUT
    max_backoff: float = MAX_DELAY
    # A server sends all that waits for a client as one batch: well past its 1 MiB of backlog.
    max_message_bytes: int = 16 * MIB
    max_empty_fragments: int = 100  # as Config's
    max_inbox_events: int = 1000  # Sente keeps 512 and then drops the oldest; we stop reading
    max_inbox_bytes: int = 64 * MIB  # four messages of the largest size
    max_backlog_bytes: int = 64 * KIB  # asyncio's own limit
    max_unacked_events: int = MAX_EVENTS
    max_unacked_bytes: int = MAX_BYTES
    max_posts: int = 4  # a held reply keeps no later event back

    def __post_init__(self) -> None:
        for limit in fields(self):
            _check(limit.name, getattr(self, limit.name))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean 'x'?` if a known name is like this one, else all of them."""
    names = list(known)
    if found := difflib.get_close_matches(name, names, 1):
        return f": did you mean {found[0]!r}?"
    return f", expected one of {', '.join(names)}"


def _check(name: str, value: object) -> None:
    if value is None and name == "ws_ping_interval":
        return
    kinds = int if name.startswith("max_") and name != "max_backoff" else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        what = "an int" if kinds is int else "a number"
        raise ConfigError(f"{name}: expected {what}, got {value!r:.80}")
    if not isfinite(value) or value <= 0:
        raise ConfigError(f"{name}: expected a positive number, got {value!r:.80}")


def _refuse_unknown(init: Any) -> Any:
    names = [field.name for field in fields(ClientConfig)]

    @functools.wraps(init)
    def checked(self: ClientConfig, *args: object, **given: object) -> None:
        for name in given:
            if name not in names:
                raise ConfigError(f"ClientConfig: unknown field {name!r}{nearest(name, names)}")
        init(self, *args, **given)

    return checked


ClientConfig.__init__ = _refuse_unknown(ClientConfig.__init__)  # type: ignore[method-assign]


# -- the URL of a channel

UNESCAPED: Final = "!'()*"  # what JavaScript's encodeURIComponent leaves, beside letters and -._~
EXAMPLE: Final = "ws://localhost:8000/chsk"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL of a channel; ws and http, wss and https mean the same place."""

    is_secure: bool
    host: str  # an IPv6 address without brackets
    port: int
    authority: str  # what Host says
    path: str
    query: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a ws, wss, http or https URL apart. Raises ConfigError if it is none."""
        if not isinstance(url, str):
            raise ConfigError(f"url: expected a URL like {EXAMPLE}, got {type(url).__name__}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"url: expected a URL, got {without_secrets(url)}: {exc}") from None
        if parts.scheme not in ("ws", "wss", "http", "https"):
            what = (
                f"{parts.scheme}://"
                if "://" in url
                else f"{without_secrets(url)}, which has no scheme"
            )
            raise ConfigError(f"url: expected a URL like {EXAMPLE} or https://..., got {what}")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("url: expected no user or password (use headers), got some")
        if not parts.hostname or parts.fragment:
            what = "no fragment" if parts.hostname else "a host"
            raise ConfigError(f"url: expected {what}, got {without_secrets(url)}")
        try:
            host = parts.hostname.encode("ascii" if parts.hostname.isascii() else "idna").decode()
        except UnicodeError:
            raise ConfigError(f"url: expected a host name, got {parts.hostname!r}") from None
        is_secure = parts.scheme in ("wss", "https")
        authority = f"[{host}]" if ":" in host else host
        if port is not None:
            authority = f"{authority}:{port}"
        return cls(
            is_secure=is_secure,
            host=host,
            port=port if port is not None else (443 if is_secure else 80),
            authority=authority,
            # ";" would be taken for the path's parameters by some URL parsers, and dropped
            path=quote(parts.path or "/", safe="/%:@!$&'()*+,=-._~"),
            query=quote(parts.query, safe="/%:@!$&'()*+,;=-._~?"),
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port: how far cookies go."""
        return f"{'https' if self.is_secure else 'http'}://{self.host}:{self.port}"

    def target(self, pairs: Iterable[tuple[str, str]]) -> str:
        """Return the request target: path, own query, then pairs (space is %20, as Sente's)."""
        query = "&".join(filter(None, (self.query, encode_pairs(pairs))))
        return f"{self.path}?{query}" if query else self.path

    def __str__(self) -> str:
        """Without the query, which may hold secrets: for logs."""
        return f"{'https' if self.is_secure else 'http'}://{self.authority}{self.path}"


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Write `name=value&...`, percent-encoded as encodeURIComponent does."""
    return "&".join(f"{quote(n, safe=UNESCAPED)}={quote(v, safe=UNESCAPED)}" for n, v in pairs)


def without_secrets(text: str) -> str:
    """Return the repr of a URL without what may be a secret: query, user, and password."""
    return repr(text.partition("?")[0].rpartition("@")[2][:80])


# -- the URL of a proxy

# True: by the environment; a URL; None: no proxy.
ProxySetting: TypeAlias = bool | str | None
EXPECTED: Final = "http://host:port, socks5://host:port or socks5h://host:port"
_FOR_TLS: Final = ("wss", "socks", "https", "all")  # names in urllib.request.getproxies
_FOR_PLAIN: Final = ("ws", "socks", "https", "http", "all")
_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL taken apart."""

    scheme: str  # http, socks5, or socks5h: the proxy resolves the host's name
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Take a proxy's URL apart. Raises ConfigError, which shows no password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"proxy: expected {EXPECTED}, got no URL ({exc})") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            what = "one without a host"
            if parts.scheme not in _PORTS:
                what = f"{parts.scheme}://" if "://" in url else "a URL without scheme"
            raise ConfigError(f"proxy: expected {EXPECTED}, got {what}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"proxy: expected {EXPECTED}, got more behind the port")
        user = None if parts.username is None else unquote(parts.username)
        password = None if user is None else unquote(parts.password or "")
        port = _PORTS[parts.scheme] if port is None else port
        return cls(parts.scheme, parts.hostname, port, user, password)

    @property
    def is_socks(self) -> bool:
        return self.scheme != "http"

    @property
    def is_remote_dns(self) -> bool:
        return self.scheme == "socks5h"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def check_proxy(setting: ProxySetting) -> ProxySetting:
    """Return the setting. Raises ConfigError for one that cannot be."""
    if setting is True or setting is None:
        return setting
    if not isinstance(setting, str):
        raise ConfigError(f"proxy: expected True, None, or {EXPECTED}, got {setting!r:.80}")
    if Proxy.parse(setting).is_socks:
        _socks_package()
    return setting


def proxy_for(host: str, port: int, setting: ProxySetting, *, is_secure: bool) -> Proxy | None:
    """Return the proxy to use for a host. Raises ConfigError for one that cannot be.

    For `True` the order is that of the websockets package, with ALL_PROXY behind it: ws_proxy or
    wss_proxy, SOCKS, https_proxy, and http_proxy unless TLS is used.
    """
    if setting is not True:
        return Proxy.parse(setting) if isinstance(setting, str) else None
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    proxies = urllib.request.getproxies()
    for name in _FOR_TLS if is_secure else _FOR_PLAIN:
        if url := proxies.get(name):
            if name == "socks" and url.startswith("http://"):  # how macOS and Windows name it
                url = "socks5h://" + url.removeprefix("http://")
            return Proxy.parse(url if "://" in url else f"http://{url}")
    return None


def socks_connector(proxy: Proxy) -> Any:
    """Return python-socks' object for a proxy. Raises ConfigError if it is not installed."""
    connector, kinds = _socks_package()
    return connector(
        kinds.SOCKS5, proxy.host, proxy.port, proxy.user, proxy.password, proxy.is_remote_dns
    )


def _socks_package() -> tuple[Any, Any]:
    try:
        from python_socks import ProxyType
        from python_socks.async_.asyncio import Proxy as Connector
    except ImportError:
        raise ConfigError(
            "proxy: expected python-socks for a SOCKS proxy, which is not installed: "
            "pip install 'chansock[socks]'"
        ) from None
    return Connector, ProxyType


# -- events and times

# Of the channel's own events, those that reach a handler.
OWN_EVENTS: Final = frozenset({"chsk/handshake", "chsk/state", "chsk/ws-ping"})


def check_event(event_id: str, data: object) -> list[object]:
    """Return the event to send: `[:id]` if data is NO_DATA, else `[:id data]`.

    Raises InvalidEvent for an id that `_check_id` refuses.
    """
    return [*event.event_of(_check_id(event_id), data)]


def _check_id(event_id: str) -> Keyword:
    """Return the id of an event to send as a Keyword.

    Raises InvalidEvent unless it is a namespaced keyword outside `chsk` that edn can spell.
    """
    if not isinstance(event_id, str):
        raise InvalidEvent(f"expected an event id (str), got {event_id!r:.80}")
    return _spelled(event_id)


def check_handled_id(event_id: str) -> str:
    """Return the id of an event to handle: what `check_event` takes, OWN_EVENTS, and ANY."""
    if isinstance(event_id, str):
        if event_id == ANY:
            return event_id
        if event_id in OWN_EVENTS:
            return Keyword(event_id)
        if event_id.startswith("chsk/"):
            known = ", ".join(sorted(OWN_EVENTS))
            raise InvalidEvent(f"expected one of {known}, or none in chsk, got {event_id!r:.80}")
    return _check_id(event_id)


def check_timeout(timeout: float | None) -> float | None:
    """Return the seconds to wait for a reply. Raises InvalidEvent unless None or above 0."""
    if timeout is None:
        return None
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not timeout > 0:  # nan is not above 0 either
        raise InvalidEvent(f"timeout: expected a positive number of seconds, got {timeout!r:.80}")
    return timeout


def check_close_code(code: int) -> int:
    """Return the code. Raises ValueError unless an application may close with it."""
    is_code = isinstance(code, int) and not isinstance(code, bool)
    if not is_code or not (code == 1000 or 3000 <= code <= 4999):
        raise ValueError(f"close code: expected 1000, or 3000 to 4999, got {code!r:.80}")
    return code


@lru_cache(maxsize=1024)  # an application has few ids; those made from input must not pile up
def _spelled(event_id: str) -> Keyword:
    keyword = event.check_id(event_id)
    try:
        edn.dumps(keyword)
    except EncodeError as exc:
        raise InvalidEvent(f"event id: {exc}") from None
    return keyword
