"""README's server with a page in front: open http://127.0.0.1:8000 and connect from anywhere.

The page is served by `fallback=`, which gets every path but the channel's own. It speaks
the wire by hand, so that one can watch it; an application would use a client library.
"""

from pathlib import Path

import chansock

PAGE = Path(__file__).with_name("demo.html").read_text(encoding="utf-8")
SESSIONS = {"5f2c90": "ada"}

# The page may not be framed, and runs no script but its own.
FIELDS = (
    (
        "Content-Security-Policy",
        "default-src 'self' 'unsafe-inline'; connect-src 'self' ws:; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
)


def current_user(request: chansock.Request) -> str | None:
    return SESSIONS.get(request.cookies.get("session", ""))


def page(request: chansock.Request) -> chansock.Response | None:
    if request.path != "/":
        return None  # 404
    return chansock.Response(body=PAGE, content_type="text/html; charset=utf-8", headers=FIELDS)


chsk = chansock.ChannelSocket(user_id=current_user)


@chsk.on("chat/say")
def say(msg: chansock.EventMsg) -> None:
    chsk.send(chansock.ALL, "chat/said", {"from": msg.uid, "text": msg.data["text"]})


@chsk.on("math/double")
async def double(msg: chansock.EventMsg) -> int:
    return msg.data * 2


if __name__ == "__main__":
    chansock.run(chsk, port=8000, fallback=page)
