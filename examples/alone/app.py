"""A chat on chansock alone: page, form and channel from one program, on one port."""

from __future__ import annotations

import hmac
import os
import secrets
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import chansock

PAGE = Path(__file__).with_name("index.html")
SECRET = (os.environ.get("CHAT_SECRET") or secrets.token_hex()).encode()


# -- who someone is: a name, in a cookie that only this server can make


def sign(name: str) -> str:
    """Return the cookie's value: the name, percent-encoded, a dot, and a signature."""
    quoted = quote(name, safe="")
    return f"{quoted}.{hmac.digest(SECRET, quoted.encode(), 'sha256').hex()}"


def current_user(request: chansock.Request) -> str | None:
    cookie = request.cookies.get("name", "")
    name = unquote(cookie.rpartition(".")[0])
    return name if hmac.compare_digest(cookie.encode(), sign(name).encode()) else None


# -- the channel


@dataclass
class Say:
    text: str


said: deque[dict[str, Any]] = deque(maxlen=50)  # for those who come later


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


# -- everything else: the page, and two forms


def other(request: chansock.Request) -> chansock.Response | None:
    match request.method, request.path:
        case "GET", "/":
            return chansock.Response(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        case "POST", "/login":
            return login(request)
        case "POST", "/wave":
            return wave(request)
        case _:
            return None  # 404


def login(request: chansock.Request) -> chansock.Response:
    name = request.params.get("name", "").strip()
    if not 1 <= len(name) <= 24:
        return chansock.Response(400, "a name has 1 to 24 characters")
    cookie = f"name={sign(name)}; Path=/; HttpOnly; SameSite=Lax"
    return chansock.Response(303, headers=(("Location", "/"), ("Set-Cookie", cookie)))


def wave(request: chansock.Request) -> chansock.Response:
    """Push to everybody from an ordinary request."""
    name = current_user(request)
    if name is None:
        return chansock.Response(403, "sign in first")
    chsk.send(chansock.ALL, "chat/waved", name)
    return chansock.Response(204)


if __name__ == "__main__":
    chansock.run(chsk, port=int(os.environ.get("PORT", "8000")), fallback=other)
