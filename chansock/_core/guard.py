"""The built-in checks of a request: host, token, origin, client-id; and the fields of CORS.

A check gives None, or why not. Pure: a request and settings in, an answer out; what a
refusal looks like on the wire is the endpoint's business.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from chansock.request import Request, is_token

__all__ = [
    "MAX_CLIENT_ID_LENGTH",
    "Fields",
    "check_client_id",
    "check_host",
    "check_origin",
    "check_token",
    "cors_fields",
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

    Without a list: same origin, by Origin against Host, else by Sec-Fetch-Site. With one:
    Sente's rule, exact strings; without an Origin header a Referer that starts with
    `<allowed>/` will do.
    """
    headers = request.headers
    origins = headers.getall("origin")
    if allowed is None:
        if not origins:
            site = headers.get("sec-fetch-site", "none")
            if site in ("same-origin", "none"):
                return None
            return f"expected Sec-Fetch-Site same-origin, got {site!r:.80}: see allowed_origins"
        host = request.host
        if len(origins) == 1 and _is_same_origin(origins[0], host, request.scheme):
            return None
        given = " ".join(origins)
        return f"origin {given!r:.80} is not that of host {host!r:.80}: see allowed_origins"
    if "*" in allowed:
        return None
    if origins:
        if len(origins) == 1 and origins[0] in allowed:
            return None
        return f"origin {' '.join(origins)!r:.80} is not in allowed_origins {list(allowed)}"
    referer = headers.get("referer", "")
    if any(referer.startswith(item + "/") for item in allowed):
        return None
    return f"no Origin, and Referer is not under allowed_origins {list(allowed)}"


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

    An origin that is named in the list may send cookies. What `*` lets in may not: every
    page on the Web could otherwise read what this user may.
    """
    if allowed is None:
        return ()
    origins = request.headers.getall("origin")
    vary = ("Vary", "Origin")
    if len(origins) != 1:
        return (vary,)
    if origins[0] in allowed and origins[0] != "*":
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


def check_token(request: Request, reference: str | None) -> bool:
    """Tell whether the request carries the reference token; without one none is right.

    Looked for in the param `csrf-token`, then the headers `x-csrf-token` and
    `x-xsrf-token`; the first that is there decides. Compared in constant time.
    """
    given = request.params.get("csrf-token")
    if given is None:
        given = request.headers.get("x-csrf-token")
    if given is None:
        given = request.headers.get("x-xsrf-token")
    if reference is None or given is None:
        return False
    return hmac.compare_digest(given.encode("utf-8"), reference.encode("utf-8"))


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
