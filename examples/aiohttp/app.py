"""A chat on aiohttp: the channel is beside the routes, and knows the user by a signed cookie."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from itsdangerous import BadSignature, URLSafeSerializer

import chansock
import chansock.aiohttp

PAGE = Path(__file__).with_name("index.html")
SECRET = os.environ.get("CHAT_SECRET") or secrets.token_hex()


# -- who someone is: a name, in a cookie that only this server can make

names = URLSafeSerializer(SECRET)


def name_in(cookies: Mapping[str, str]) -> str | None:
    try:
        name: str = names.loads(cookies.get("name", ""))
    except BadSignature:
        return None
    return name


# -- the channel


@dataclass
class Say:
    text: str


said: deque[dict[str, Any]] = deque(maxlen=50)  # for those who come later


def current_user(request: chansock.Request) -> str | None:
    return name_in(request.cookies)


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

routes = web.RouteTableDef()


@routes.get("/")
async def page(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    name = str(form.get("name", "")).strip()
    if not 1 <= len(name) <= 24:
        raise web.HTTPBadRequest(text="a name has 1 to 24 characters")
    response = web.Response(status=303, headers={"Location": "/"})
    response.set_cookie("name", names.dumps(name), httponly=True, samesite="Lax")
    return response


@routes.post("/wave")
async def wave(request: web.Request) -> web.Response:
    """Push from an ordinary route."""
    name = name_in(request.cookies)
    if name is None:
        raise web.HTTPForbidden(text="sign in first")
    chsk.send(chansock.ALL, "chat/waved", name)
    return web.Response(status=204)


app = web.Application()
app.add_routes(routes)
chansock.aiohttp.setup(app, chsk)


if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
