"""A chat on FastAPI: forms and sessions are FastAPI's, and the channel knows the session's user."""

from __future__ import annotations

import os
import secrets
from collections import deque
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, StringConstraints
from starlette.middleware.sessions import SessionMiddleware

import chansock

PAGE = Path(__file__).with_name("index.html")
SECRET = os.environ.get("CHAT_SECRET") or secrets.token_hex()

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Say(BaseModel):
    text: Text


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


# -- the application

app = FastAPI()
app.add_middleware(chansock.asgi.Middleware, chsk=chsk)
app.add_middleware(SessionMiddleware, secret_key=SECRET)  # after it, and so around it


def signed_in(request: Request) -> str:
    name: str | None = request.session.get("name")
    if name is None:
        raise HTTPException(403, "sign in first")
    return name


@app.get("/")
def page() -> FileResponse:
    return FileResponse(PAGE)


@app.post("/login")
def login(request: Request, name: Annotated[Name, Form()]) -> RedirectResponse:
    request.session["name"] = name
    return RedirectResponse("/", status_code=303)


@app.post("/wave", status_code=204)
def wave(name: Annotated[str, Depends(signed_in)]) -> None:
    """Push from an ordinary route, here in a thread of FastAPI's: `send` may come from any."""
    chsk.send(chansock.ALL, "chat/waved", name)
