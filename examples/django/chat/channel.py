# chat/channel.py
from typing import Any

from django.contrib.auth.models import User

import chansock
import chansock.django
from chansock.django import database
from chat.models import Message


@database
async def welcome(request: chansock.Request) -> dict[str, Any]:
    """Return the handshake data: a client that comes back has missed nothing."""
    last = Message.objects.select_related("author").order_by("-pk")[:50]
    return {
        "here": await here(),
        "said": [{"from": m.author.username, "text": m.text} async for m in last][::-1],
    }


async def here() -> list[str]:
    users = User.objects.filter(pk__in=list(chsk.connected.any))
    return [name async for name in users.order_by("username").values_list("username", flat=True)]


chsk = chansock.django.channel(authorize=chansock.django.is_authenticated, handshake_data=welcome)


@chsk.on("chsk/uidport-open")
@chsk.on("chsk/uidport-close")
@database
async def tell_who_is_here(msg: chansock.EventMsg) -> None:
    chsk.send(chansock.ALL, "chat/here", await here(), latest="here")


@chsk.on("chat/say")
@database
async def say(msg: chansock.EventMsg) -> dict[str, Any]:
    """Pass `{:text "hi"}` on to everybody; the reply is how many there are to read it."""
    text = msg.data.get("text") if isinstance(msg.data, dict) else None
    if not isinstance(text, str) or not 1 <= len(text) <= 500:
        return {"error": "a message has 1 to 500 characters"}
    assert isinstance(msg.uid, int)  # the primary key of who has signed in
    author = await User.objects.aget(pk=msg.uid)
    await Message.objects.acreate(author=author, text=text)
    chsk.send(chansock.ALL, "chat/said", {"from": author.username, "text": text})
    return {"readers": len(chsk.connected.any)}
