"""The built-in checks of a request: host, token, origin, cookies, client-id; and CORS fields.

A check returns None, or the reason to refuse. Pure: it takes a request and settings. The
endpoint decides what a refusal looks like on the wire.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Final, TypeAlias, final

from chansock._core import subprotocol
from chansock._fast.http.request_reader import is_host
from chansock.request import Request, is_token

__all__ = [
    "MAX_CLIENT_ID_LENGTH",
    "SELF",
    "SKIP",
    "Fields",
    "Skip",
    "check_client_id",
    "check_cookies",
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

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# What the clients send over Ajax, theirs and Sente's, beyond what any page may.
_OWN_FIELDS: Final = ("content-type", "x-csrf-token", "x-requested-with", "x-xsrf-token")
_MAX_FIELDS: Final = 32  # asked for in one preflight, which are echoed
_MAX_AGE: Final = 7200  # seconds; Chromium takes no more
_OWN_SITES: Final = ("same-origin", "none")  # in Sec-Fetch-Site; none: the user, not a page
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
    """Return what is wrong with the `client-id`, or None."""
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
    """Return why this Host is refused, or None.

    Without a list any name passes, but on a loopback address only loopback names: a page of
    another site whose name was made to resolve to it (DNS rebinding) has another name. The
    port and the dot at the end of a full name are ignored.
    """
    if allowed is None:
        if not is_loopback:
            return None
        # The header itself, not a proxy's word for it: such a page could send that as well.
        host = request.headers.get("host", "")
        name = _split_host(host)[0].removesuffix(".")
        if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
            return None
        return f"expected a loopback name as Host, got {host!r:.80}: see allowed_hosts"
    host = request.host
    name = _split_host(host)[0]
    if "*" in allowed or (name and (name in allowed or name.removesuffix(".") in allowed)):
        return None
    return f"expected a Host of {list(allowed)}, got {host!r:.80}: see allowed_hosts"


def check_origin(request: Request, allowed: Collection[str] | None) -> str | None:
    """Return why this origin is refused, or None.

    Without a list: same origin, by Origin compared with Host, else by Sec-Fetch-Site and Referer: a
    poll has no Origin, and what would refuse its client's first POST must refuse its handshake. The
    same rule applies to `self` in a list, before its other entries. With a list: Sente's rule,
    exact strings (and `https://*.a.example` for subdomains of any depth, but not for a.example
    itself); without an Origin header, a Referer under `<allowed>/` passes.
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
        if site not in _OWN_SITES:
            return f"expected Sec-Fetch-Site same-origin, got {site!r:.80}: see allowed_origins"
        page = _UP_TO_PATH.match(request.headers.get("referer", ""))
        if page is None or _split_origin(page[1]) is None:
            return None
        return _check_host_of_page(request, page[1])
    given = " ".join(origins)
    if len(origins) != 1 or _split_origin(given) is None:
        wanted = "expected an Origin like https://a.example:8443"
        return f"{wanted}, got {given!r:.80}: see allowed_origins"
    return _check_host_of_page(request, given)


def _check_host_of_page(request: Request, origin: str) -> str | None:
    host = request.host
    if _is_same_origin(origin, host, request.scheme):
        return None
    return (
        f"origin {origin!r:.80} is not that of Host {host!r:.80}: if a proxy changes Host, let it "
        f"pass the page's on with its port (nginx: proxy_set_header Host $http_host;), otherwise "
        f"see allowed_origins"
    )


def check_cookies(request: Request, kind: str, allowed: Collection[str] | None) -> str | None:
    """Return why `*` in the list does not let this Ajax request carry its cookies, or None.

    Any page may send a form, and the browser adds the user's cookies. So a request with cookies
    must come from a page of the same origin, of an origin in the list, or from no page at all.
    Sec-Fetch-Site decides, since pages cannot set it; without it, Origin is compared with Host.
    A request with neither comes from a program, or from the same origin in an older browser.

    A WebSocket ("ws") passes: a page cannot keep the browser from adding cookies to it.
    """
    headers = request.headers
    if kind == "ws" or allowed is None or "*" not in allowed or "cookie" not in headers:
        return None
    origins = headers.getall("origin")
    if len(origins) == 1 and _is_named(origins[0], allowed):
        return None
    site = headers.get("sec-fetch-site")
    if site is None:
        if not origins or _check_same_origin(request, origins) is None:
            return None
    elif site in _OWN_SITES:
        return None
    given = " ".join(origins)
    return (
        f"expected no cookies from a page of another origin under '*', got some from "
        f"{given!r:.80}: name that origin in allowed_origins"
    )


def is_preflight(request: Request) -> bool:
    """Return whether a browser asks what a page of another origin may send."""
    headers = request.headers
    return (
        request.method == "OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
    )


def cors_fields(request: Request, allowed: Collection[str] | None) -> Fields:
    """Return what every answer carries, so that a page of an allowed origin may read it.

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
    """Return what the answer to a preflight carries besides `cors_fields`.

    A page may send what our clients do, and what it asks for: its origin is trusted.
    """
    wanted = [
        name.strip(" \t").lower()
        for line in request.headers.getall("access-control-request-headers")
        for name in line.split(",", _MAX_FIELDS)
    ]
    names = [name for name in wanted[:_MAX_FIELDS] if is_token(name)]
    return (
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", ", ".join(dict.fromkeys((*_OWN_FIELDS, *names)))),
        ("Access-Control-Max-Age", str(_MAX_AGE)),
    )


def _is_named(origin: str, allowed: Collection[str]) -> bool:
    """Return whether an entry of the list other than `*` and `self` means this origin."""
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
    """Return why the request does not carry the reference token, or None; never a token itself.

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
    """Return the token that a request carries, or None, and where it stands."""
    return next((found for found in _tokens(request) if found[1] is not None), ("", None))


def _tokens(request: Request) -> Iterator[tuple[str, str | None]]:
    headers = request.headers
    yield "param csrf-token", request.params.get("csrf-token")
    yield "x-csrf-token", headers.get("x-csrf-token")
    yield "x-xsrf-token", headers.get("x-xsrf-token")
    yield "Sec-WebSocket-Protocol", subprotocol.token_in(headers.getall("sec-websocket-protocol"))


@lru_cache(maxsize=64)  # most requests name one of a few
def _split_host(host: str) -> tuple[str, int | None]:
    """Split a Host (RFC 9110 section 7.2) into its name, in lower case and without brackets, and
    its port, None if it has none or an empty one. The name is "" if the text is not a Host."""
    if not is_host(host.encode("latin-1", "replace")):
        return "", None
    if host[0] == "[":
        name, _, port = host[1:].partition("]")
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    return name.lower(), int(port) if port else None


@lru_cache(maxsize=64)
def _split_origin(origin: str) -> tuple[str, str, int] | None:
    """Split `https://a.example:8443` into scheme, name, and port, as browsers write it (RFC 6454
    section 6.2: lower case, nothing before the host or behind the port); None for anything else,
    `null` included."""
    scheme, _, authority = origin.partition("://")
    if scheme not in _DEFAULT_PORTS or authority != authority.lower():
        return None
    name, port = _split_host(authority)
    if not name or authority[-1] == ":":
        return None
    return scheme, name, _DEFAULT_PORTS[scheme] if port is None else port


@lru_cache(maxsize=64)
def _is_same_origin(origin: str, host: str, scheme: str) -> bool:
    found = _split_origin(origin)
    # Behind a proxy that ends TLS, a request of https reaches us as http; never the reverse.
    if found is None or (scheme == "https" and found[0] != "https"):
        return False
    name, port = _split_host(host)
    return found[1:] == (name, _DEFAULT_PORTS[found[0]] if port is None else port)
