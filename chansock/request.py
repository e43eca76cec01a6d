"""What came in by HTTP and what goes back: Request, its Headers and Params, Response.

Every edge makes a Request and every hook of the application gets one; they are of the engine
(`_fast/http/request`). No socket, no framework, no rule of the channel is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from re import compile as pattern

from chansock._fast.http.request import Headers, Params, Request

__all__ = ["Headers", "Params", "Request", "Response", "is_token", "is_utf8"]

_BAD_VALUE = pattern(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110 section 5.5
_TOKEN = pattern(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_OF_THE_EDGE = frozenset({"connection", "content-length", "transfer-encoding"})


def is_token(text: str) -> bool:
    """Return whether text may name a method or a field."""
    return _TOKEN.fullmatch(text) is not None


def is_utf8(text: str) -> bool:
    """Return whether text can be sent: a lone surrogate, which edn's \\ud800 makes, cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """An HTTP answer: status, body, content type and further fields.

    Pass `headers` as a dict, or as pairs if a field occurs twice (Set-Cookie); the attribute is
    a tuple of pairs.

    Raises ValueError, naming the field, if a field could not be sent as it is (CR, LF, NUL
    or another control, a character outside latin-1, a name that is no token), or if it is one
    that the edge sets itself (Connection, Content-Length, Transfer-Encoding), and if the body
    is a str with surrogates. Raises TypeError if the body is neither bytes nor str, or a header
    no pair of str.
    """

    status: int
    body: bytes | str
    content_type: str
    headers: tuple[tuple[str, str], ...]

    def __init__(
        self,
        status: int = 200,
        body: bytes | str = b"",
        content_type: str = "text/plain; charset=utf-8",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        put = object.__setattr__  # it is frozen
        put(self, "status", status)
        put(self, "body", body)
        put(self, "content_type", content_type)
        put(self, "headers", _pairs(headers))
        self._check()

    def _check(self) -> None:
        is_int = isinstance(self.status, int) and not isinstance(self.status, bool)
        if not is_int or not 200 <= self.status <= 599:
            raise ValueError(f"status: expected 200 to 599, got {self.status!r}")
        if not isinstance(self.body, bytes | str):
            raise TypeError(f"body: expected bytes or str, got {self.body!r:.80}")
        if isinstance(self.body, str) and not is_utf8(self.body):
            raise ValueError(f"body: expected text without surrogates, got {self.body!r:.80}")
        _check_value("content_type", self.content_type)
        for name, content in self.headers:
            if not is_token(name):
                raise ValueError("headers: expected a token as the name of each field")
            if name.lower() in _OF_THE_EDGE:
                raise ValueError(f"{name}: expected no such field, the server sets it")
            _check_value(name, content)

    @property
    def body_bytes(self) -> bytes:
        """The body as it travels; a str as UTF-8."""
        return self.body.encode() if isinstance(self.body, str) else self.body


def _pairs(headers: object) -> tuple[tuple[str, str], ...]:
    items = headers.items() if isinstance(headers, Mapping) else headers
    pairs = tuple(items) if isinstance(items, Iterable) and not isinstance(items, str) else (None,)
    for pair in pairs:
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(part, str) for part in pair):
            # Not the value: a cookie may stand in it, and this in a log.
            raise TypeError(
                f"headers: expected a dict of str, or pairs like (('Vary', 'Origin'),), "
                f"got {type(headers).__name__} of {type(pair).__name__}"
            )
    return pairs


def _check_value(name: str, value: str) -> None:
    found = _BAD_VALUE.search(value)
    if found:
        # Not the value: a cookie may stand in it, and this in a log.
        raise ValueError(
            f"{name}: expected latin-1 without controls, got {found[0]!r} at {found.start()}"
        )
