"""One of several servers of a channel; CHANSOCK_BACKPLANE names the Redis that joins them.

`/ready` answers whether the server hears the engine: what a health check should request.
"""

from __future__ import annotations

import os
from typing import Any

import chansock

chsk = chansock.ChannelSocket()


@chsk.on("demo/say")
def say(msg: chansock.EventMsg[Any]) -> str:
    """Pass on what a client says; reply with the process that handled it."""
    chsk.send(chansock.ALL, "demo/said", msg.data)
    return f"{os.uname().nodename}:{os.getpid()}"


def answer(request: chansock.Request) -> chansock.Response | None:
    if request.path != "/ready":
        return None  # 404
    return chansock.Response(200 if chsk.is_ready else 503, "ready" if chsk.is_ready else "away")


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))
    chansock.run(chsk, host, port, fallback=answer)
