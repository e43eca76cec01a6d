"""A chat on Starlette: the channel is among the routes, and knows the session's user."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

import chansock

PAGE = Path(__file__).with_name("index.html")
SECRET = os.environ.get("CHAT_SECRET") or secrets.token_hex()


# -- the channel


@dataclass
class Say:
    text: str


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
    if not 1 <= len(msg.data.text) <= 500:
        return {"error": "a message has 1 to 500 characters"}
    said.append({"from": msg.uid, "text": msg.data.text})
    chsk.send(chansock.ALL, "chat/said", said[-1])
    return {"readers": len(here())}


# -- the application


async def page(_request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def login(request: Request) -> Response:
    async with request.form() as form:
        name = str(form.get("name", "")).strip()
    if not 1 <= len(name) <= 24:
        raise HTTPException(400, "a name has 1 to 24 characters")
    request.session["name"] = name
    return RedirectResponse("/", status_code=303)


async def wave(request: Request) -> Response:
    """Push from an ordinary route."""
    name = request.session.get("name")
    if name is None:
        raise HTTPException(403, "sign in first")
    chsk.send(chansock.ALL, "chat/waved", name)
    return Response(status_code=204)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
    async with chsk:
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        *chansock.asgi.routes(chsk),
        Route("/", page),
        Route("/login", login, methods=["POST"]),
        Route("/wave", wave, methods=["POST"]),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key=SECRET)],
)
