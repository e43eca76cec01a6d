"""The built-in checks of a request: host, token, origin, client-id; and the fields of CORS.

A check gives None, or why not. Pure: a request and settings in, an answer out; what a
refusal looks like on the wire is the endpoint's business.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Final, TypeAlias, final
from urllib.parse import urlsplit

from chansock._core import subprotocol
from chansock.request import Request, is_token

__all__ = [
    "MAX_CLIENT_ID_LENGTH",
    "SELF",
    "SKIP",
    "Fields",
    "Skip",
    "check_client_id",
    "check_host",
    "check_origin",
    "check_token",
    "cors_fields",
    "given_token",
    "is_preflight",
    "preflight_fields",
]

Fields: TypeAlias = tuple[tuple[str, str], ...]

MAX_CLIENT_ID_LENGTH: Final = 256  # characters; a UUID has 36

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# What the clients send over Ajax, theirs and Sente's, beyond what any page may.
_OWN_FIELDS: Final = ("content-type", "x-csrf-token", "x-requested-with", "x-xsrf-token")
_MAX_FIELDS: Final = 32  # asked for in one preflight, which are echoed
_MAX_AGE: Final = 7200  # seconds; Chromium takes no more
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_UP_TO_PATH: Final = re.compile(r"([^/]*://[^/]*)/")  # of a Referer, which says where it ends
_SUBDOMAINS: Final = r"(?:[a-z0-9_-]+\.)+"  # as a browser spells them: lower case, punycode


@final
class Skip:
    """The type of SKIP."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "chansock.csrf.SKIP"


SKIP: Final = Skip()  # from a csrf_token hook: this request needs no token


SELF: Final = "self"  # in allowed_origins, as in CSP: the page's own


def check_client_id(request: Request) -> str | None:
    """Say what is wrong with the `client-id`, or None."""
    given = request.params.getall("client-id")
    if len(given) > 1:
        return f"expected one client-id, got {len(given)}"
    if not given or not given[0].strip():
        return "expected a client-id, got none"
    if len(given[0]) > MAX_CLIENT_ID_LENGTH:
        return (
            f"expected a client-id of 1 to {MAX_CLIENT_ID_LENGTH} characters, got {len(given[0])}"
        )
    return None


def check_host(
    request: Request, allowed: Collection[str] | None, *, is_loopback: bool
) -> str | None:
    """Say why this Host may not be asked for, or None.

    Without a list every name will do, but on a loopback address only its own names:
    a page of a stranger whose name was made to point here (DNS rebinding) has another.
    """
    if allowed is None and not is_loopback:
        return None
    if allowed is None:
        # The field itself, and no proxy's word: such a page could give that as well.
        host = _split_host(request.headers.get("host", ""))[0]
        if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
            return None
        return f"expected a loopback name as Host, got {host!r:.80}: see allowed_hosts"
    host = _split_host(request.host)[0]
    if "*" in allowed or host in allowed:
        return None
    return f"expected a Host of {list(allowed)}, got {host!r:.80}: see allowed_hosts"


def check_origin(request: Request, allowed: Collection[str] | None) -> str | None:
    """Say why this origin is refused, or None.

    Without a list: same origin, by Origin against Host, else by Sec-Fetch-Site; so it is
    where the list has `self`, before its other entries. With a list:
    Sente's rule, exact strings (and `https://*.a.example` for subdomains of any depth, but
    not for a.example itself); without an Origin header a Referer under `<allowed>/` will do.
    """
    headers = request.headers
    origins = headers.getall("origin")
    if allowed is None or SELF in allowed:
        why = _check_same_origin(request, origins)
        if why is None or allowed is None:
            return why
    if "*" in allowed:
        return None
    if origins:
        if len(origins) == 1 and _is_named(origins[0], allowed):
            return None
        return f"origin {' '.join(origins)!r:.80} is not in allowed_origins {list(allowed)}"
    found = _UP_TO_PATH.match(headers.get("referer", ""))
    if found is not None and _is_named(found[1], allowed):
        return None
    return f"no Origin, and Referer is not under allowed_origins {list(allowed)}"


def _check_same_origin(request: Request, origins: list[str]) -> str | None:
    if not origins:
        site = request.headers.get("sec-fetch-site", "none")
        if site in ("same-origin", "none"):
            return None
        return f"expected Sec-Fetch-Site same-origin, got {site!r:.80}: see allowed_origins"
    host = request.host
    if len(origins) == 1 and _is_same_origin(origins[0], host, request.scheme):
        return None
    given = " ".join(origins)
    return f"origin {given!r:.80} is not that of host {host!r:.80}: see allowed_origins"


def is_preflight(request: Request) -> bool:
    """Tell whether a browser asks what a page of another origin may send."""
    headers = request.headers
    return (
        request.method == "OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
    )


def cors_fields(request: Request, allowed: Collection[str] | None) -> Fields:
    """Give what every answer carries, so that a page of an allowed origin may read it.

    An origin that the list names, or `https://*.a.example` in it, may send cookies. What `*`
    lets in may not: every page on the Web could otherwise read what this user may.
    """
    if allowed is None:
        return ()
    origins = request.headers.getall("origin")
    vary = ("Vary", "Origin")
    if len(origins) != 1:
        return (vary,)
    if _is_named(origins[0], allowed):
        return (
            ("Access-Control-Allow-Origin", origins[0]),
            ("Access-Control-Allow-Credentials", "true"),
            vary,
        )
    return (("Access-Control-Allow-Origin", "*"), vary) if "*" in allowed else (vary,)


def preflight_fields(request: Request) -> Fields:
    """Give what the answer to a preflight carries besides `cors_fields`.

    A page may send what our clients do, and what it asks for: its origin is trusted.
    """
    asked = [
        name.strip(" \t").lower()
        for line in request.headers.getall("access-control-request-headers")
        for name in line.split(",", _MAX_FIELDS)
    ]
    names = [name for name in asked[:_MAX_FIELDS] if is_token(name)]
    return (
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", ", ".join(dict.fromkeys((*_OWN_FIELDS, *names)))),
        ("Access-Control-Max-Age", str(_MAX_AGE)),
    )


def _is_named(origin: str, allowed: Collection[str]) -> bool:
    """Tell whether an entry of the list other than `*` and `self` means this origin."""
    if "*" in origin or origin == SELF:
        return False
    return origin in allowed or any(
        _under(item).fullmatch(origin) for item in allowed if "*." in item
    )


@lru_cache(maxsize=64)
def _under(item: str) -> re.Pattern[str]:
    """Make of `https://*.a.example` an expression for the origins that it means."""
    before, after = item.split("*.")
    return re.compile(re.escape(before) + _SUBDOMAINS + re.escape(after))


def check_token(request: Request, reference: str | Skip | None) -> str | None:
    """Say why the request does not carry the reference token, or None; no token is told.

    Looked for in the param `csrf-token`, then the headers `x-csrf-token` and
    `x-xsrf-token`, as Sente does, and last in Sec-WebSocket-Protocol; the first that is there
    decides. Compared in constant time.
    """
    if isinstance(reference, Skip):
        return None
    if not reference:  # an empty one is none: anybody could send it
        return f"csrf_token: expected the token to compare with, got {reference!r}"
    place, given = given_token(request)
    if given is None:
        return f"expected a token as {', '.join(place for place, _ in _tokens(request))}, got none"
    if hmac.compare_digest(given.encode("utf-8"), reference.encode("utf-8")):
        return None
    return f"the token of {place} is not the one that csrf_token gave"


def given_token(request: Request) -> tuple[str, str | None]:
    """Give the token that a request carries, or None, and where it stands."""
    return next((found for found in _tokens(request) if found[1] is not None), ("", None))


def _tokens(request: Request) -> Iterator[tuple[str, str | None]]:
    headers = request.headers
    yield "param csrf-token", request.params.get("csrf-token")
    yield "x-csrf-token", headers.get("x-csrf-token")
    yield "x-xsrf-token", headers.get("x-xsrf-token")
    yield "Sec-WebSocket-Protocol", subprotocol.token_in(headers.getall("sec-websocket-protocol"))


@lru_cache(maxsize=64)  # most requests name one of a few
def _split_host(host: str) -> tuple[str, int | None]:
    """Split a Host field into name, without brackets and in lower case, and port; "" if it
    is none."""
    if host[:1] == "[":
        name, bracket, port = host[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            return "", None
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if not port:
        return name.lower(), None
    if len(port) > 5 or not (port.isascii() and port.isdigit()):
        return "", None
    return name.lower(), int(port)


@lru_cache(maxsize=64)
def _is_same_origin(origin: str, host: str, scheme: str) -> bool:
    if host and (origin == f"https://{host}" or (scheme == "http" and origin == f"http://{host}")):
        return True  # spelled alike, as nearly always
    try:
        parts = urlsplit(origin)
        origin_port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    # https reached us as https. http may have been https in front of a proxy.
    if scheme == "https" and parts.scheme != "https":
        return False
    default = _DEFAULT_PORTS[parts.scheme]
    name, port = _split_host(host)
    return parts.hostname == name and (origin_port or default) == (port or default)
