"""Sec-WebSocket-Protocol: the one that the server answers, and the CSRF token beside it.

    new WebSocket(url, ["chansock", "csrf.<token>"])

It is the one field of a WebSocket's request that a page can set, and unlike a parameter it
stands in no access log. A token that HTTP's grammar does not let stand there travels as
`csrf64.<base64url of its UTF-8, without padding>`. Words only: whether the token is right is
the guard's business.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from re import compile as pattern
from typing import Final

from chansock.request import is_token

__all__ = ["NAME", "answered", "offer", "token_in"]

NAME: Final = "chansock"

_PLAIN: Final = "csrf."
_ENCODED: Final = "csrf64."
_BASE64URL: Final = pattern(r"[A-Za-z0-9_-]*")  # b64decode itself passes over other characters


def offer(token: str) -> str:
    """Write what a client offers whose CSRF token is to travel so."""
    if is_token(token):
        return f"{NAME}, {_PLAIN}{token}"
    return f"{NAME}, {_ENCODED}{urlsafe_b64encode(token.encode()).decode().rstrip('=')}"


def answered(fields: Iterable[str]) -> str | None:
    """Return what the server answers to an offer; None: nothing, so that there is none.

    A browser gives up a connection whose offer was not answered; what it sent as a token
    is never said back.
    """
    return NAME if NAME in _names(fields) else None


def token_in(fields: Iterable[str]) -> str | None:
    """Find the CSRF token of an offer: the first; "" for one that cannot be read."""
    for name in _names(fields):
        if name.startswith(_PLAIN):
            return name[len(_PLAIN) :]
        if name.startswith(_ENCODED):
            return _decoded(name[len(_ENCODED) :])
    return None


def _names(fields: Iterable[str]) -> Iterator[str]:
    return (name.strip(" \t") for line in fields for name in line.split(","))


def _decoded(text: str) -> str:
    if not _BASE64URL.fullmatch(text):
        return ""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:  # of the base64 or of the UTF-8 in it
        return ""
