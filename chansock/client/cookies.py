"""The cookies that one server has set: kept from its answers, sent with later requests.

One origin at a time: a cookie never goes to another host, scheme or port than set it.
"""

from __future__ import annotations

import email.utils
import time
from http.cookies import CookieError, Morsel, SimpleCookie

__all__ = ["Jar"]


class Jar:
    """Cookies by name, of one origin."""

    __slots__ = ("_cookies", "_origin")

    def __init__(self) -> None:
        self._origin = ""
        self._cookies: dict[str, tuple[Morsel[str], float | None]] = {}

    def take(self, origin: str, fields: list[str], now: float | None = None) -> None:
        """Keep what `Set-Cookie` fields say; one that cannot be read is ignored."""
        if origin != self._origin:
            self._origin = origin
            self._cookies.clear()
        now = time.time() if now is None else now
        for field in fields:
            cookie: SimpleCookie = SimpleCookie()
            try:
                cookie.load(field)
            except CookieError:
                continue
            for name, morsel in cookie.items():
                ends = _ends(morsel, now)
                if ends is not None and ends <= now:
                    self._cookies.pop(name, None)  # how a server deletes one
                else:
                    self._cookies[name] = (morsel, ends)

    def header(self, origin: str, path: str, given: str = "", now: float | None = None) -> str:
        """Give the `Cookie` field's value: the application's own, then what was kept.

        What the application gives wins by name: its credentials may be newer.
        """
        pairs = [pair.strip() for pair in given.split(";") if pair.strip()]
        if origin != self._origin:
            return "; ".join(pairs)
        now = time.time() if now is None else now
        names = {pair.partition("=")[0].strip() for pair in pairs}
        for name, (morsel, ends) in self._cookies.items():
            if name in names or (ends is not None and ends <= now):
                continue
            if morsel["secure"] and not origin.startswith("https:"):
                continue
            if _covers(morsel["path"], path):
                pairs.append(f"{name}={morsel.coded_value}")
        return "; ".join(pairs)


def _ends(morsel: Morsel[str], now: float) -> float | None:
    """Give the time at which a cookie ends; Max-Age goes before Expires (RFC 6265)."""
    max_age = str(morsel["max-age"])
    if max_age.lstrip("-").isdecimal():
        return now + int(max_age)
    if morsel["expires"]:
        try:
            return email.utils.parsedate_to_datetime(morsel["expires"]).timestamp()
        except ValueError:
            return None
    return None


def _covers(cookie_path: str, path: str) -> bool:
    """Tell whether a cookie's Path covers a request path (RFC 6265 section 5.1.4)."""
    if not cookie_path.startswith("/") or cookie_path == path:
        return True
    stem = cookie_path if cookie_path.endswith("/") else cookie_path + "/"
    return path.startswith(stem)
