"""Many tabs, one socket: open http://127.0.0.1:8000/ in as many tabs as you like.

The server sees one client for each browser: the page's SharedWorker owns it, and relays
between it and the tabs. Nothing here differs from a server whose tabs come one by one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import chansock

HERE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/shared.js": ("shared.js", "text/javascript; charset=utf-8"),
    "/worker.js": ("worker.js", "text/javascript; charset=utf-8"),
}
# The page and its worker run their own files and talk to us; nothing else.
FIELDS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
)

chsk = chansock.ChannelSocket()


@chsk.on("room/say")
def say(msg: chansock.EventMsg[Any]) -> int:
    """Pass a text on to everybody, and reply with its length."""
    text = str(msg.data)[:500]
    chsk.send(chansock.ALL, "room/said", text)
    return len(text)


def page(request: chansock.Request) -> chansock.Response | None:
    if request.path not in FILES:
        return None  # 404
    name, kind = FILES[request.path]
    return chansock.Response(body=(HERE / name).read_bytes(), content_type=kind, headers=FIELDS)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    print(f"open http://{host}:{port}/ in some tabs", flush=True)
    chansock.run(chsk, host, port, fallback=page)
