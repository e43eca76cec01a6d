"""Where the channel is: a URL taken apart, and the requests of one attempt written out.

`Attempt` holds what every request of one attempt carries, spelled as Sente 1.22 spells it.
Text only: no socket, no loop, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import quote, urlsplit

from chansock._core import subprotocol, wire
from chansock.client.cookies import Jar
from chansock.client.proxy import Proxy
from chansock.errors import ConfigError

__all__ = ["Address", "Attempt", "Pairs", "TokenPlace", "check_headers", "check_params"]

Pairs: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
TokenPlace: TypeAlias = Literal["param", "header", "subprotocol"]

WHY: Final = (wire.WHY, "1")  # a reply of `:chsk/error` may say why; Sente's servers ignore it
EXAMPLE: Final = "ws://localhost:8000/chsk"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
# These say how the connection is used, which is decided here.
_OWN_FIELDS: Final = frozenset(
    {"connection", "content-length", "content-type", "transfer-encoding", "upgrade"}
)


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
            raise ConfigError(f"url: expected a URL, got {_shown(url)}: {exc}") from None
        if parts.scheme not in ("ws", "wss", "http", "https"):
            what = f"{parts.scheme}://" if "://" in url else f"{_shown(url)}, which has no scheme"
            raise ConfigError(f"url: expected a URL like {EXAMPLE} or https://..., got {what}")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("url: expected no user or password (use headers), got some")
        if not parts.hostname or parts.fragment:
            what = "no fragment" if parts.hostname else "a host"
            raise ConfigError(f"url: expected {what}, got {_shown(url)}")
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

    def upgrade(self, key: str) -> bytes:
        """Write a WebSocket's request: `GET /chsk?client-id=...&csrf-token=...&why=1`.

        The application's parameters come first. The token is a header, or the subprotocol,
        unless the URL has it.
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
        own.append(WHY)
        return self._head("GET", self.address.target([*self._extra(own), *own]), fields)

    def get(self, udt: int, *, wants_handshake: bool) -> bytes:
        """Write a poll: `GET /chsk?udt=...&client-id=...[&handshake%3F=1]`."""
        own = [("udt", str(udt)), ("client-id", self.client_id)]
        if wants_handshake:
            own.append(("handshake?", "1"))
        return self._head(
            "GET", self.address.target([*own, *self._extra(own)]), self._ajax_fields()
        )

    def post_form(self, udt: int, number: str, packet: bytes) -> bytes:
        """Write a POST with the packet in the form field `ppstr`."""
        fields = [("udt", str(udt)), ("client-id", self.client_id), ("n", number), WHY]
        body = f"{encode_pairs(fields)}&ppstr={quote(packet, safe=_PLAIN)}".encode("ascii")
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
        self, udt: int, number: str, packet: bytes, content_type: str | None = None
    ) -> bytes:
        """Write a POST with the packet as its body, and the fields in the query.

        Without a content type the packet is a binary packer's: `binary?=true`, as Sente's. With
        one it is text: `raw=true`, which only chansock's server takes.
        """
        fields = [
            ("udt", str(udt)),
            ("client-id", self.client_id),
            ("binary?" if content_type is None else "raw", "true"),
            ("n", number),
            WHY,
        ]
        head = self._head(
            "POST",
            self.address.target([*fields, *self._extra(fields)]),
            [
                ("Content-Type", content_type or "application/octet-stream"),
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


_PLAIN: Final = "!'()*"  # what JavaScript's encodeURIComponent leaves, beside letters and -._~


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Write `name=value&...`, percent-encoded as encodeURIComponent does."""
    return "&".join(f"{quote(n, safe=_PLAIN)}={quote(v, safe=_PLAIN)}" for n, v in pairs)


def check_headers(headers: Pairs | None) -> tuple[tuple[str, str], ...]:
    """Return the fields as pairs. Raises ConfigError if one could not be sent as it is.

    The message names the field, and never shows its value: it may be a credential.
    """
    pairs = _pairs("headers", headers)
    for name, value in pairs:
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"headers: expected a field name, got {_shown(name)}")
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


def _shown(text: str) -> str:
    """Return a text without what may be a secret: query, user, and password."""
    return repr(text.partition("?")[0].rpartition("@")[2][:80])
