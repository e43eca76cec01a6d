"""The words of ASGI: a scope as Request, a Response as messages.

What is the channel's path, and what stands in a request: nothing that waits for anybody,
but for the server to take an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

from chansock._core import http1
from chansock._core.forwarded import Proxies
from chansock._core.guard import Fields
from chansock.request import Request, Response

__all__ = [
    "App",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "body_chunks",
    "left",
    "path_below_root",
    "request_of",
    "respond",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCHEMES = {"ws": "http", "wss": "https"}
_IN_A_PATH = "/!$&'()*+,:;=@~"  # RFC 3986 section 3.3: what need not be escaped


def path_below_root(scope: Scope) -> str:
    """Give the path that routes are made of: without the root_path, if it stands there."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def request_of(scope: Scope, proxies: Proxies | None) -> Request:
    """Make the Request of an http or websocket scope, as the server tells of it.

    The target is the whole path, root_path included, escaped anew, since not every server
    gives it as it was sent.
    """
    target = quote(scope["path"], safe=_IN_A_PATH).encode()
    if query := scope.get("query_string", b""):
        target += b"?" + query
    client = scope.get("client")
    request = Request.from_fields(
        scope.get("method", "GET"),
        target,
        scope.get("headers", ()),
        client=(client[0], client[1]) if client else None,
        scope=scope,
    )
    scheme = scope.get("scheme")
    if scheme is None:
        # daphne keeps it for itself at a WebSocket: then the page's own word has to do.
        scheme = request.headers.get("origin", "http").partition(":")[0]
    request.scheme = _SCHEMES.get(scheme, scheme)
    if proxies is not None:
        proxies.apply(request)
    return request


async def body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Give the body of a request as it comes. Raises ConnectionError where the peer leaves."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def left(receive: Receive) -> None:
    """Wait until the peer leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(
    send: Send,
    response: Response,
    fields: Fields = (),
    *,
    head_only: bool = False,
    kind: str = "http.response",
) -> None:
    """Send an answer; `kind` "websocket.http.response" refuses a WebSocket with it."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in http1.fields_of(response, fields)
    ]
    await send({"type": f"{kind}.start", "status": response.status, "headers": headers})
    body = b"" if head_only else http1.body_of(response)
    await send({"type": f"{kind}.body", "body": body})
