"""What the fields of a request say: a form, a body, or a WebSocket, and what a proxy removed.

Read from a Request, without a decision: whether it may come in is the endpoint's to say.
"""

from __future__ import annotations

from typing import Final

from chansock.request import Request

__all__ = ["FORM", "essence", "has_body", "has_token", "is_form", "lost_fields", "wants_upgrade"]

FORM: Final = "application/x-www-form-urlencoded"


def essence(content_type: str) -> str:
    """Return `text/plain` of `Text/Plain; charset=UTF-8`."""
    return content_type.partition(";")[0].strip().lower()


def is_form(request: Request) -> bool:
    """Return whether the body of a request holds parameters."""
    return essence(request.headers.get("content-type", "")) == FORM


def has_token(values: list[str], token: str) -> bool:
    """Return whether a field that is a list holds a token; `token` is in lower case."""
    return any(part.strip(" \t").lower() == token for line in values for part in line.split(","))


def wants_upgrade(request: Request) -> bool:
    """Return whether a request asks for a WebSocket, rightly or not."""
    return has_token(request.headers.getall("upgrade"), "websocket")


def lost_fields(request: Request) -> list[str]:
    """Return which fields a proxy removed from the request for a WebSocket; [] if none.

    Upgrade and Connection are meant for the next hop alone, so a proxy forwards them only if it
    is configured to. Sec-WebSocket-Key stays, and no other request has it.
    """
    headers = request.headers
    if "sec-websocket-key" not in headers or request.method != "GET":
        return []
    has_connection = has_token(headers.getall("connection"), "upgrade")
    kept = (("Upgrade", wants_upgrade(request)), ("Connection", has_connection))
    return [name for name, is_there in kept if not is_there]


def has_body(request: Request) -> bool:
    """Return whether a request announces a body, even an empty chunked one."""
    headers = request.headers
    lengths = headers.getall("content-length")
    return "transfer-encoding" in headers or any(text.strip("0") for text in lengths)
