"""HTTP/1.1 in words: an answer as bytes, the WebSocket handshake, a refusal.

Bytes and values only, for every edge that speaks HTTP itself. Where a request ends is not
decided here, and no route, hook or rule of the channel is known; the one thing taken from
outside is the wall time, for Date.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from chansock._core import subprotocol
from chansock._core.request_fields import (
    has_body,
    has_token,
    is_form,
    lost_fields,
    wants_upgrade,
)
from chansock._fast.events.packet import Packet
from chansock._fast.ws.frames import switch
from chansock.errors import ConfigError
from chansock.request import Request, Response, is_token

__all__ = [
    "CONTINUE",
    "NO_BODY",
    "answer_of",
    "body_of",
    "check_path",
    "check_upgrade",
    "fields_of",
    "has_body",
    "is_form",
    "judge_head",
    "lost_fields",
    "refuse",
    "render",
    "switch",
    "wants_upgrade",
    "with_extension",
    "with_subprotocol",
]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# The bytes behind such a head could be read as the body, or as frames.
NO_BODY: Final = Response(400, "expected no body in the request for a WebSocket")

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_WITHOUT_BODY: Final = frozenset({204, 304})
_BODILESS: Final = _WITHOUT_BODY | {205}  # which says that it is empty
_DEFAULTS: Final = (
    ("X-Content-Type-Options", "nosniff"),  # what a peer sent must never run as a script
    ("Cache-Control", "no-store"),
)


@lru_cache(maxsize=1)  # a second is the same for all that is answered in it
def _http_date(second: int) -> str:
    """Return `Sun, 06 Nov 1994 08:49:37 GMT`."""
    return formatdate(second, usegmt=True)


def fields_of(
    response: Response, fields: tuple[tuple[str, str], ...] = ()
) -> list[tuple[str, str]]:
    """Return the fields of an answer; without Date and Connection, which are the server's.

    Adds Content-Type, Content-Length, `X-Content-Type-Options: nosniff`,
    `Cache-Control: no-store` and `fields` where the answer does not say otherwise (a Vary of
    its own stands beside ours).
    """
    own = {name.lower() for name, _ in response.headers}
    found: list[tuple[str, str]] = []
    if response.status not in _WITHOUT_BODY:
        if "content-type" not in own:
            found.append(("Content-Type", response.content_type))
        found.append(("Content-Length", str(len(body_of(response)))))
    for field in (*_DEFAULTS, *fields):
        if field[0].lower() not in own or field[0] == "Vary":
            found.append(field)
    return [*found, *response.headers]


def body_of(response: Response) -> bytes:
    """Return the body that an answer of its status may have (RFC 9110 section 15)."""
    return b"" if response.status in _BODILESS else response.body_bytes


def render(
    response: Response,
    *,
    keep_alive: bool,
    head_only: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Make the bytes of an answer, with its `fields_of`.

    `head_only` is for HEAD: the same head, Content-Length included, without the body.
    Adds Date where the answer does not say otherwise, and `Connection: close` unless kept
    alive.
    """
    status = response.status
    parts = [_LINES.get(status) or f"HTTP/1.1 {status} Status {status}\r\n"]
    if not any(name.lower() == "date" for name, _ in response.headers):
        parts.append(f"Date: {_http_date(int(time()))}\r\n")
    parts += [f"{name}: {value}\r\n" for name, value in fields_of(response, fields)]
    if not keep_alive:
        parts.append("Connection: close\r\n")
    parts.append("\r\n")
    head = "".join(parts).encode("latin-1")
    return head if head_only else head + body_of(response)


def answer_of(packet: Packet) -> Response:
    """Make the answer that a packet is, to a GET or a POST."""
    kind = "application/octet-stream" if packet.binary else "application/edn"
    return Response(200, packet.body(), kind)


def check_path(path: str) -> str:
    """Return the path of a channel as it is. Raises ConfigError if it is none."""
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ConfigError(f"path: expected a path like '/chsk', got {path!r}")
    return path


def judge_head(head: bytes) -> int:
    """Check a head with llhttp, request line to empty line: 0, or the status that refuses it.

    400, or 501 for a method that it does not know. The parser gets no callbacks, so that no
    object is made for a field.
    """
    try:
        HttpRequestParser(None).feed_data(head)
    except HttpParserUpgrade:
        return 0  # how it says that a head asks for an upgrade
    except HttpParserInvalidMethodError:
        return 501 if is_token(head.partition(b" ")[0].decode("latin-1")) else 400
    except HttpParserError:
        return 400
    return 0


def refuse(status: int, text: str) -> Response:
    """Make an answer of one line of plain text."""
    return Response(status, text)


def check_upgrade(request: Request) -> Response | bytes:
    """Check a WebSocket handshake: the bytes of the 101, or the answer that refuses.

    RFC 6455 section 4.2.1. What was offered beyond that is for `with_subprotocol` and
    `with_extension`.
    """
    headers = request.headers
    if b" HTTP/1.0\r\n" in request.head[: request.head.find(b"\r\n") + 2]:
        return refuse(400, "expected HTTP/1.1 for a WebSocket")
    if request.method != "GET":
        return Response(405, "expected GET for a WebSocket", headers=(("Allow", "GET"),))
    if not wants_upgrade(request):
        return refuse(400, "expected Upgrade: websocket")
    if not has_token(headers.getall("connection"), "upgrade"):
        return refuse(400, "expected Connection: Upgrade")
    if has_body(request):
        return NO_BODY
    versions = headers.getall("sec-websocket-version")
    if versions != ["13"]:
        return Response(
            426,
            f"expected Sec-WebSocket-Version 13, got {', '.join(versions)[:80]!r}",
            headers=(("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")),
        )
    keys = headers.getall("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return refuse(400, "expected one Sec-WebSocket-Key of 16 bytes in base64")
    return switch(keys[0].encode("latin-1"))


def with_extension(switch: bytes, extension: str) -> bytes:
    """Add the agreed extension, with its parameters, to a 101."""
    return _with_field(switch, f"Sec-WebSocket-Extensions: {extension}")


def with_subprotocol(switch: bytes, request: Request) -> bytes:
    """Add the chosen subprotocol to a 101, if one of the offered ones is known."""
    spoken = subprotocol.answered(request.headers.getall("sec-websocket-protocol"))
    return switch if spoken is None else _with_field(switch, f"Sec-WebSocket-Protocol: {spoken}")


def _with_field(switch: bytes, line: str) -> bytes:
    return switch[:-2] + f"{line}\r\n\r\n".encode("latin-1")


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key.encode("latin-1"), validate=True)) == 16
    except Base64Error:
        return False
