"""The cookies that one server has set: kept from its answers, sent with later requests.

Read by RFC 6265 section 5.2, as browsers do: http.cookies drops a whole cookie for one odd
attribute. One origin at a time: a cookie never goes to another host, scheme or port than set it.
"""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from typing import Final

__all__ = ["Jar"]

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

        What the application gives wins by name: its credentials may be newer.
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
