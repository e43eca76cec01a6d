"""What every request of one attempt to connect carries, and the requests written out.

`Credentials` asks the application's functions for it, `Attempt` spells it as Sente 1.22 does, and
`Jar` keeps the server's cookies between attempts. Text only: no socket and no loop.
"""

from __future__ import annotations

import email.utils
import inspect
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import quote

from chansock._core import subprotocol, wire
from chansock.client.arguments import (
    UNESCAPED,
    Address,
    Proxy,
    ProxySetting,
    check_proxy,
    encode_pairs,
    proxy_for,
    without_secrets,
)
from chansock.errors import ConfigError

__all__ = [
    "Attempt",
    "Credentials",
    "Jar",
    "Pairs",
    "Source",
    "TokenPlace",
    "check_headers",
    "check_params",
]

Pairs: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
_Fields: TypeAlias = Iterable[tuple[str, str]]
TokenPlace: TypeAlias = Literal["param", "header", "subprotocol"]

WHY: Final = (wire.WHY, "1")  # a reply of `:chsk/error` may say why; Sente's servers ignore it
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
# These say how the connection is used, which is decided here.
_OWN_FIELDS: Final = frozenset(
    {"connection", "content-length", "content-type", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What every request of one attempt carries."""

    address: Address
    client_id: str
    csrf_token: str | None
    params: tuple[tuple[str, str], ...]  # the application's
    headers: tuple[tuple[str, str], ...]  # the application's
    jar: Jar
    token_place: TokenPlace = "param"  # of a WebSocket; over Ajax it is always a header
    proxy: Proxy | None = None

    def upgrade(self, key: str, more: _Fields = ()) -> bytes:
        """Write a WebSocket's request: `GET /chsk?client-id=...&csrf-token=...&why=1` and `more`.

        The application's parameters come first. The token is in the URL, a header, or the
        subprotocol.
        """
        own = [("client-id", self.client_id)]
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        if self.csrf_token is not None:
            if self.token_place == "param":
                own.append(("csrf-token", self.csrf_token))
            elif self.token_place == "header":
                fields.append(("x-csrf-token", self.csrf_token))
            else:
                fields.append(("Sec-WebSocket-Protocol", subprotocol.offer(self.csrf_token)))
        own += (WHY, *more)
        return self._head("GET", self.address.target([*self._extra(own), *own]), fields)

    def get(self, udt: int, *, wants_handshake: bool, more: _Fields = ()) -> bytes:
        """Write a poll: `GET /chsk?udt=...&client-id=...[&handshake%3F=1]` and `more`."""
        own = [("udt", str(udt)), ("client-id", self.client_id)]
        if wants_handshake:
            own.append(("handshake?", "1"))
        own += more
        target = self.address.target([*own, *self._extra(own)])
        return self._head("GET", target, self._ajax_fields())

    def post_form(self, udt: int, packet: bytes, more: _Fields = ()) -> bytes:
        """Write a POST with the packet in the form field `ppstr`, behind `more` fields."""
        fields = [("udt", str(udt)), ("client-id", self.client_id), *more, WHY]
        body = f"{encode_pairs(fields)}&ppstr={quote(packet, safe=UNESCAPED)}".encode("ascii")
        head = self._head(
            "POST",
            self.address.target(self._extra(fields)),
            [
                ("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8"),
                ("Content-Length", str(len(body))),
                *self._ajax_fields(),
            ],
        )
        return head + body

    def post_body(
        self, udt: int, packet: bytes, kind: str | None = None, more: _Fields = ()
    ) -> bytes:
        """Write a POST with the packet as its body, and the fields in the query.

        Without a content type (`kind`) the packet is a binary packer's: `binary?=true`, as
        Sente's. With one it is text: `raw=true`, which only chansock's server takes.
        """
        fields = [
            ("udt", str(udt)),
            ("client-id", self.client_id),
            ("binary?" if kind is None else "raw", "true"),
            *more,
            WHY,
        ]
        head = self._head(
            "POST",
            self.address.target([*fields, *self._extra(fields)]),
            [
                ("Content-Type", kind or "application/octet-stream"),
                ("Content-Length", str(len(packet))),
                *self._ajax_fields(),
            ],
        )
        return head + packet

    def keep_cookies(self, fields: list[str]) -> None:
        """Keep what the `Set-Cookie` fields of an answer say."""
        self.jar.take(self.address.origin, fields)

    def _ajax_fields(self) -> list[tuple[str, str]]:
        fields = [("x-requested-with", "XMLHTTPRequest")]  # Sente's spelling
        if self.csrf_token is not None:
            fields.insert(0, ("x-csrf-token", self.csrf_token))
        return fields

    def _extra(self, own: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        # With POSTs too, which Sente's own client leaves out: a uid that comes from a
        # param must be the same on both transports.
        names = {name for name, _ in own}
        return [pair for pair in self.params if pair[0] not in names]

    def _with_cookie(self) -> list[tuple[str, str]]:
        given = "; ".join(value for name, value in self.headers if name.lower() == "cookie")
        cookie = self.jar.header(self.address.origin, self.address.path, given)
        fields = [pair for pair in self.headers if pair[0].lower() != "cookie"]
        if cookie:
            fields.append(("Cookie", cookie))
        return fields

    def _head(self, method: str, target: str, fields: list[tuple[str, str]]) -> bytes:
        given = self._with_cookie()
        own = list(fields)
        if not any(name.lower() == "host" for name, _ in given):
            own.insert(0, ("Host", self.address.authority))
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (*own, *given)]
        return "\r\n".join((*lines, "", "")).encode("ascii")


def check_headers(headers: Pairs | None) -> tuple[tuple[str, str], ...]:
    """Return the fields as pairs. Raises ConfigError if one could not be sent as it is.

    The message names the field, and never shows its value: it may be a credential.
    """
    pairs = _pairs("headers", headers)
    for name, value in pairs:
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"headers: expected a field name, got {without_secrets(name)}")
        if name.lower() in _OWN_FIELDS or name.lower().startswith("sec-websocket-"):
            raise ConfigError(f"headers: expected a field that is not the connection's, got {name}")
        if not _FIELD_VALUE.fullmatch(value):
            raise ConfigError(
                f"headers: expected printable ASCII as value of {name}, got other bytes"
            )
    return pairs


def check_params(params: Pairs | None) -> tuple[tuple[str, str], ...]:
    """Return the query parameters as pairs. Raises ConfigError unless all are str."""
    return _pairs("params", params)


def check_token(token: object) -> str | None:
    """Return the CSRF token. Raises ConfigError unless it can stand in a header."""
    if token is None:
        return None
    if not isinstance(token, str) or not _FIELD_VALUE.fullmatch(token):
        raise ConfigError("csrf_token: expected printable ASCII, got something else")
    return token


def check_token_place(place: TokenPlace) -> TokenPlace:
    """Return where a WebSocket carries the token. Raises ConfigError for another place."""
    if place not in get_args(TokenPlace):
        expected = ", ".join(map(repr, get_args(TokenPlace)))
        raise ConfigError(f"csrf_token_in: expected one of {expected}, got {place!r:.80}")
    return place


def _pairs(what: str, given: Pairs | None) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    items = given.items() if isinstance(given, Mapping) else given
    pairs = tuple((name, value) for name, value in items)
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(
                f"{what}: expected str for str, got {type(value).__name__} for {name!r}"
            )
    return pairs


# -- credentials: values, or functions that are called anew for each attempt

T = TypeVar("T")
Source: TypeAlias = T | Callable[[], T | Awaitable[T]]

MAX_CLIENT_ID_LENGTH: Final = 256  # characters: what a server takes


class Credentials:
    """Makes an `Attempt` of what the application gave, and of the cookies so far.

    Checks values at once, and what functions return at each attempt. Raises ConfigError.
    """

    def __init__(
        self,
        url: Source[str],
        *,
        headers: Source[Pairs | None] = None,
        params: Source[Pairs | None] = None,
        csrf_token: Source[str | None] = None,
        csrf_token_in: TokenPlace = "param",
        client_id: str | None = None,
        proxy: ProxySetting = True,
    ) -> None:
        if not callable(url):
            Address.parse(url)
        if not callable(headers):
            headers = check_headers(headers)  # kept as pairs: an iterator is read only once
        if not callable(params):
            params = check_params(params)
        if not callable(csrf_token):
            check_token(csrf_token)
        if client_id is None:
            client_id = str(uuid.uuid4())
        elif not isinstance(client_id, str) or not 1 <= len(client_id) <= MAX_CLIENT_ID_LENGTH:
            raise ConfigError("client_id: expected a str of 1 to 256 characters, got another")
        self.client_id = client_id
        self._url = url
        self._headers = headers
        self._params = params
        self._csrf_token = csrf_token
        self._token_place = check_token_place(csrf_token_in)
        self._proxy = check_proxy(proxy)
        self._jar = Jar()

    def renew_client_id(self) -> None:
        """Take a random client-id: another client uses this one."""
        self.client_id = str(uuid.uuid4())

    async def attempt(self) -> Attempt:
        """Call the application's functions; return what every request of one attempt carries.

        Raises ConfigError, and whatever a function raises.
        """
        address = Address.parse(await _value(self._url))
        return Attempt(
            address=address,
            client_id=self.client_id,
            csrf_token=check_token(await _value(self._csrf_token)),
            params=check_params(await _value(self._params)),
            headers=check_headers(await _value(self._headers)),
            jar=self._jar,
            token_place=self._token_place,
            proxy=proxy_for(address.host, address.port, self._proxy, is_secure=address.is_secure),
        )


async def _value(source: Source[T]) -> T:
    if not callable(source):
        return source
    given = source()
    return await given if inspect.isawaitable(given) else given


# -- cookies, kept from the server's answers and sent with later requests
#
# Read by RFC 6265 section 5.2, as browsers do: http.cookies drops a whole cookie for one odd
# attribute. One origin at a time: a cookie never goes to another host, scheme, or port.

# What RFC 6265 section 6.1 asks for at least.
MAX_COOKIES: Final = 50  # of one server
MAX_COOKIE_CHARACTERS: Final = 4096  # of a name and its value together; browsers allow no more


@dataclass(frozen=True, slots=True)
class _Cookie:
    value: str
    path: str
    is_secure: bool
    ends: float | None  # seconds since the epoch; None: with this process


class Jar:
    """Cookies by name, of one origin."""

    __slots__ = ("_cookies", "_origin")

    def __init__(self) -> None:
        self._origin = ""
        self._cookies: dict[str, _Cookie] = {}

    def take(self, origin: str, fields: list[str], now: float | None = None) -> None:
        """Keep what `Set-Cookie` fields say; what is no cookie is ignored."""
        if origin != self._origin:
            self._origin = origin
            self._cookies.clear()
        now = time.time() if now is None else now
        for field in fields:
            pair, *attributes = field.split(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not name or not (name + value).isprintable():
                continue
            if len(name) + len(value) > MAX_COOKIE_CHARACTERS:
                continue
            cookie = _read(value, attributes, now)
            if cookie.ends is not None and cookie.ends <= now:
                self._cookies.pop(name, None)  # how a server deletes one
            elif (name + value).isascii():
                self._cookies[name] = cookie
                if len(self._cookies) > MAX_COOKIES:
                    del self._cookies[next(iter(self._cookies))]

    def header(self, origin: str, path: str, given: str = "", now: float | None = None) -> str:
        """Return the `Cookie` field's value: the application's own, then what was kept.

        A cookie of the application's replaces one of the same name: it may be newer.
        """
        pairs = [pair.strip() for pair in given.split(";") if pair.strip()]
        if origin != self._origin:
            return "; ".join(pairs)
        now = time.time() if now is None else now
        names = {pair.partition("=")[0].strip() for pair in pairs}
        for name, cookie in self._cookies.items():
            if name in names or (cookie.ends is not None and cookie.ends <= now):
                continue
            if cookie.is_secure and not origin.startswith("https:"):
                continue
            if _covers(cookie.path, path):
                pairs.append(f"{name}={cookie.value}")
        return "; ".join(pairs)


def _read(value: str, attributes: list[str], now: float) -> _Cookie:
    """Read the attributes; one that cannot be read counts as absent, the last of a name wins."""
    path, is_secure = "", False
    max_age: float | None = None
    expires: float | None = None
    for attribute in attributes:
        name, _, text = (part.strip() for part in attribute.partition("="))
        match name.lower():
            case "path":
                path = text
            case "secure":
                is_secure = True
            case "max-age" if text.removeprefix("-").isdecimal():
                max_age = now + int(text[:12])
            case "expires":
                try:
                    expires = email.utils.parsedate_to_datetime(text).timestamp()
                except (ValueError, OverflowError):
                    continue
    return _Cookie(value, path, is_secure, max_age if max_age is not None else expires)


def _covers(cookie_path: str, path: str) -> bool:
    """Return whether a cookie's Path covers a request path (RFC 6265 section 5.1.4)."""
    if not cookie_path.startswith("/") or cookie_path == path:
        return True
    stem = cookie_path if cookie_path.endswith("/") else cookie_path + "/"
    return path.startswith(stem)
