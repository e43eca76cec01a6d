"""A chat on Litestar: the channel is an ASGI handler, and knows the session's user."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, asgi, get, post
from litestar.enums import RequestEncodingType
from litestar.exceptions import PermissionDeniedException
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import Body
from litestar.response import File, Redirect
from litestar.types import Receive, Scope, Send

import chansock

PAGE = Path(__file__).with_name("index.html")
SECRET = os.environ.get("CHAT_SECRET") or secrets.token_hex()


class Login(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=24, pattern=r"\S")]


class Say(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


# -- the channel

said: deque[dict[str, Any]] = deque(maxlen=50)  # for those who come later


def current_user(request: chansock.Request) -> str | None:
    name: str | None = request.scope["session"].get("name")
    return name


def here() -> list[str]:
    return sorted(uid for uid in chsk.connected.any if isinstance(uid, str))


def welcome(_request: chansock.Request) -> dict[str, Any]:
    """Return the handshake data: a client that comes back has missed nothing."""
    return {"here": here(), "said": list(said)}


chsk = chansock.ChannelSocket(user_id=current_user, handshake_data=welcome)


@chsk.on("chsk/uidport-open")
@chsk.on("chsk/uidport-close")
def tell_who_is_here(_msg: chansock.EventMsg) -> None:
    chsk.send(chansock.ALL, "chat/here", here(), latest="here")


@chsk.on("chat/say")
def say(msg: chansock.EventMsg[Say]) -> dict[str, Any]:
    """Pass `{:text "hi"}` on to everybody; the reply is how many there are to read it."""
    if msg.uid is None:
        return {"error": "sign in first"}
    said.append({"from": msg.uid, "text": msg.data.text})
    chsk.send(chansock.ALL, "chat/said", said[-1])
    return {"readers": len(here())}


channel = chansock.asgi.app(chsk)


# -- the application


@asgi(["/chsk", "/chsk/chansock.js"], copy_scope=True)
async def serve_channel(scope: Scope, receive: Receive, send: Send) -> None:
    await channel(scope, receive, send)


@get("/")
async def page() -> File:
    return File(PAGE, media_type="text/html", content_disposition_type="inline")


@post("/login")
async def login(
    request: Request[Any, Any, Any],
    data: Annotated[Login, Body(media_type=RequestEncodingType.URL_ENCODED)],
) -> Redirect:
    request.set_session({"name": data.name.strip()})
    return Redirect("/", status_code=303)


@post("/wave", status_code=204)
async def wave(request: Request[Any, Any, Any]) -> None:
    """Push from an ordinary route."""
    if "name" not in request.session:
        raise PermissionDeniedException("sign in first")
    chsk.send(chansock.ALL, "chat/waved", request.session["name"])


@asynccontextmanager
async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
    async with chsk:
        yield


sessions = CookieBackendConfig(secret=sha256(SECRET.encode()).digest())
app = Litestar(
    [serve_channel, page, login, wave],
    lifespan=[lifespan],
    middleware=[sessions.middleware],
)
