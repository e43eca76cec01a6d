"""ASGI's side of a request: a scope as Request, a Response as messages.

Nothing here waits, except for the server to accept a message. Peers and proxies write much of
a scope: no value in it raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from chansock._core.guard import Fields
from chansock._edge import http1
from chansock._edge.forwarded import Proxies, client_of, scheme_of
from chansock.request import Request, Response

__all__ = [
    "App",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "body_chunks",
    "end_unanswered",
    "left",
    "path_below_root",
    "request_of",
    "respond",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# Each framework has types of its own for the three, which no two agree on.
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

# nginx's: the peer left before it had an answer. Seen by middleware and access logs alone.
_GONE: Final = Response(499)
_IN_A_PATH = "/!$&'()*+,:;=@~"  # RFC 3986 section 3.3: what need not be escaped


def path_below_root(scope: Scope) -> str:
    """Return the path that routes are made of: without the root_path, if it stands there."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def request_of(scope: Scope, proxies: Proxies | None) -> Request:
    """Make the Request of an http or websocket scope.

    The target is the whole path, root_path included. It is quoted again, since not every
    server passes it on as it was sent.
    """
    target = quote(scope["path"], safe=_IN_A_PATH, errors="replace").encode()
    if query := scope.get("query_string", b""):
        target += b"?" + query
    request = Request.from_fields(
        scope["method"] if scope["type"] == "http" else "GET",
        target,
        scope.get("headers", ()),
        client=client_of(scope.get("client")),
        scope=scope,
    )
    scheme = scope.get("scheme")
    if scheme is None:
        # daphne leaves it out for a WebSocket: take the page's.
        scheme = request.headers.get("origin", "").partition(":")[0]
    request.scheme = scheme_of(scheme)
    if proxies is not None:
        proxies.apply(request)
    return request


async def body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body of a request as it comes. Raises ConnectionError where the peer leaves.

    Nothing here refers to a chunk that was yielded: it may be dropped while the next is awaited.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        more = message.get("more_body", False)
        body = [message.get("body", b"")]
        del message
        yield body.pop()


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


async def end_unanswered(send: Send) -> None:
    """End a request whose peer has left, with an answer that nobody reads.

    Middleware between us and the server needs one: Starlette's BaseHTTPMiddleware raises
    without it. Servers drop it, or raise OSError, as ASGI allows; hypercorn sends it to a peer
    that only closed its sending side.
    """
    with suppress(OSError):
        await respond(send, _GONE)
