"""What came in by HTTP and what goes back: Request, its Headers and Params, Response.

Every edge makes a Request and every hook of the application gets one. It keeps the
head as it came, as one bytes, and parses on demand: a session holds its Request for as
long as it lives, and a hundred thousand of them should cost the bytes of their heads.
No socket, no framework, no rule of the channel is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from re import compile as pattern
from typing import Any, Final, Self, TypeVar, overload
from urllib.parse import unquote_to_bytes

from chansock._fast.head import add_params, cookies, decoded, method, target, value, values

__all__ = ["Headers", "Params", "Request", "Response", "is_token", "is_utf8"]

T = TypeVar("T")

MAX_PARAMS: Final = 256  # names of one request; more cost time and mean nothing

_BAD_VALUE = pattern(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110 section 5.5
_TOKEN = pattern(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_BREAKS = bytes.maketrans(b"\r\n\0", b"   ")
_OF_THE_EDGE = frozenset({"connection", "content-length", "transfer-encoding"})


class Headers(Mapping[str, str]):
    """The fields of a head, by name in any case; a view that searches the bytes.

    `[]` and `get` give the first value of a name, `getall` each of them in order.
    Iterating gives each name once, in lower case. Values are read as latin-1, as
    RFC 9110 section 5.5 has it, without the white space around them.
    """

    __slots__ = ("_head",)

    def __init__(self, raw: bytes) -> None:
        self._head = raw

    def __getitem__(self, name: str) -> str:
        found = value(self._head, name)
        if found is None:
            raise KeyError(name)
        return found

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: T, /) -> str | T: ...
    def get(self, name: str, default: object = None, /) -> object:
        """Give the first value of name, or the default; without an exception on the way."""
        return value(self._head, name, default)

    def getall(self, name: str) -> list[str]:
        """Give every value of name, in the order received; [] if there is none."""
        return values(self._head, name)

    def fields(self) -> list[tuple[str, str]]:
        """Give every field as (name as sent, value), in the order received."""
        pairs = []
        for line in self._head.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and value(self._head, name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self.fields()))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.fields()})

    def __repr__(self) -> str:
        # Names only: a value may be a cookie or a token, and a repr ends in a log.
        return f"Headers({', '.join(self)})"


class Params(Mapping[str, str]):
    """The parameters of a request: those of the query, then those of a form.

    `[]` and `get` give the first value of a name, `getall` each of them in order.
    Names and values are percent-decoded as UTF-8, `+` is a space, a broken escape is
    kept as it is. Past the first 256 parameters of a part the rest is not looked at.
    """

    __slots__ = ("_values",)

    def __init__(self, *parts: bytes) -> None:
        self._values: dict[str, list[bytes]] = {}  # decoded when asked for: one may be long
        for part in parts:
            add_params(self._values, part, MAX_PARAMS)

    def __getitem__(self, name: str) -> str:
        return decoded(self._values[name][0])

    def getall(self, name: str) -> list[str]:
        """Give every value of name, in the order received; [] if there is none."""
        return [decoded(given) for given in self._values.get(name, ())]

    def raw(self, name: str) -> list[bytes]:
        """Give every value of name as it was sent, still percent-encoded."""
        return list(self._values.get(name, ()))

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({', '.join(map(repr, self))})"


class Request:
    """One HTTP request, as hooks and handlers see it.

    `client` is (host, port) or None (a Unix socket), `scheme` "http" or "https",
    `scope` the ASGI scope where there is one. `state` is a dict for the application's
    own use. Once a request is admitted, the properties parse at each access: keep the result
    if you need it often.
    """

    __slots__ = (
        "_form",
        "_head",
        "_headers",
        "_host",
        "_is_settled",
        "_params",
        "_state",
        "client",
        "scheme",
        "scope",
    )

    def __init__(
        self,
        head: bytes,
        client: tuple[str, int] | None = None,
        scheme: str = "http",
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a head as received, request line to empty line, lines ended by CR LF."""
        self._head = head
        self._form: bytes | None = None
        self._headers: Headers | None = None
        self._host: str | None = None
        self._is_settled = False
        self._params: Params | None = None
        self._state: dict[Any, Any] | None = None
        self.client = client
        self.scheme = scheme
        self.scope = scope

    @classmethod
    def from_fields(
        cls,
        method: str,
        target: str | bytes,
        fields: Iterable[tuple[str | bytes, str | bytes]] = (),
        *,
        client: tuple[str, int] | None = None,
        scheme: str = "http",
        scope: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a Request where the edge has no raw head.

        `target` is raw: still percent-encoded, with its query. A line break in a value
        (no server lets one through) becomes a space, so that no field can make another.
        """
        lines = [b"%s %s HTTP/1.1" % (_raw(method), _raw(target).replace(b" ", b"%20"))]
        lines += [b"%s: %s" % (_raw(name), _raw(value)) for name, value in fields]
        return cls(b"\r\n".join([*lines, b"", b""]), client, scheme, scope)

    def set_form(self, body: bytes) -> None:
        """Add the parameters of an application/x-www-form-urlencoded body to `params`."""
        self._form = body
        self._params = None

    def settle(self) -> None:
        """Forget what was parsed, now that the checks are done: a session keeps its Request."""
        self._headers = self._params = None
        self._is_settled = True

    def set_host(self, host: str) -> None:
        """Say what `host` is: an edge that believes a proxy does."""
        self._host = host

    @property
    def head(self) -> bytes:
        """The head as received."""
        return self._head

    @property
    def method(self) -> str:
        """The method as sent: `GET`."""
        return method(self._head)

    @property
    def target(self) -> str:
        """The request target as sent, percent-encoded, with its query."""
        return target(self._head).decode("latin-1")

    @property
    def host(self) -> str:
        """The host that was asked for, with its port if one was named: `chat.example:8000`.

        A trusted proxy's word, else the target's in absolute form, else Host; "" if none.
        """
        if self._host is not None:
            return self._host
        asked = target(self._head)
        if asked[:1] not in (b"/", b"*") and b"://" in asked:
            authority = asked.partition(b"://")[2]
            return authority.partition(b"/")[0].partition(b"?")[0].decode("latin-1")
        return value(self._head, "host", "")

    @property
    def path(self) -> str:
        """The path, percent-decoded, without the query."""
        path = target(self._head).partition(b"?")[0]
        if path[:1] != b"/" and b"://" in path:  # absolute form, RFC 9112 section 3.2.2
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return unquote_to_bytes(path).decode("utf-8", "replace")

    def _query(self) -> bytes:
        return target(self._head).partition(b"?")[2]

    @property
    def query(self) -> str:
        """What follows the `?` in the target, as sent; "" if nothing does."""
        return self._query().decode("latin-1")

    @property
    def headers(self) -> Headers:
        """The fields of the head."""
        headers = self._headers
        if headers is None:
            headers = Headers(self._head)
            if not self._is_settled:
                self._headers = headers
        return headers

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, as sent but for quotes around a value; the first of a name counts."""
        return cookies(self._head)

    @property
    def params(self) -> Params:
        """The parameters of the query, then those of a form."""
        params = self._params
        if params is None:
            form = self._form
            params = Params(self._query()) if form is None else Params(self._query(), form)
            if not self._is_settled:
                self._params = params
        return params

    @property
    def state(self) -> dict[Any, Any]:
        """A dict for the application, made on first use."""
        if self._state is None:
            self._state = {}
        return self._state

    def __repr__(self) -> str:
        # Without the query: a token may stand in it.
        return f"Request({self.method} {self.path!r})"


def is_token(text: str) -> bool:
    """Tell whether text may name a method or a field."""
    return _TOKEN.fullmatch(text) is not None


def is_utf8(text: str) -> bool:
    """Tell whether text can be sent: a lone surrogate, which edn's \\ud800 makes, cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _raw(text: str | bytes) -> bytes:
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return raw.translate(_BREAKS)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer: status, body, content type and further fields.

    Raises ValueError, naming the field, if a field could not be sent as it is (CR, LF, NUL
    or another control, a character outside latin-1, a name that is no token), or if it is one
    that the edge sets itself (Connection, Content-Length, Transfer-Encoding), and if the body
    is a str with surrogates. Raises TypeError if the body is neither bytes nor str.
    """

    status: int = 200
    body: bytes | str = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
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


def _check_value(name: str, value: str) -> None:
    found = _BAD_VALUE.search(value)
    if found:
        # Not the value: a cookie may stand in it, and this in a log.
        raise ValueError(
            f"{name}: expected latin-1 without controls, got {found[0]!r} at {found.start()}"
        )
