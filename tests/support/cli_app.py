"""What the tests of `connect` and `send` talk to: served by `python -m chansock serve cli_app:edn`.

Each packer has a channel with the same handlers.
"""

from __future__ import annotations

from typing import Any

import chansock
from chansock import packers


def channel(packer: packers.Packer) -> chansock.ChannelSocket:
    chsk = chansock.ChannelSocket(
        user_id=lambda request: request.params.get("user"),
        authorize=lambda request: request.headers.get("x-key", "open") == "open",
        handshake_data=lambda request: request.cookies.get("color"),
        packer=packer,
    )

    @chsk.on("chat/say")
    def say(msg: Any) -> None:
        chsk.send(msg.client, "chat/said", msg.data)

    @chsk.on("say/all")
    def say_all(msg: Any) -> None:
        chsk.send(chansock.ALL, "chat/said", msg.data)

    @chsk.on("math/double")
    def double(msg: Any) -> Any:
        return msg.data * 2

    @chsk.on("say/back")
    def back(msg: Any) -> Any:
        return msg.data

    @chsk.on("say/bytes")
    def some_bytes(msg: Any) -> bytes:
        return b"hi"

    @chsk.on("say/headers")
    def headers(msg: Any) -> Any:
        return [msg.request.method, msg.request.params.get("room", ""), msg.uid]

    @chsk.on("fail/raise")
    def fail(msg: Any) -> None:
        raise ValueError("not told to the client")

    @chsk.on("fail/never")
    def never(msg: Any) -> Any:
        return chansock.LATER

    @chsk.on("fail/refuse")
    def refuse(msg: Any) -> None:
        chsk.disconnect(msg.client, code=4401, reason="log in again\x1b[31m")

    @chsk.on("fail/close")
    def close(msg: Any) -> None:
        chsk.disconnect(msg.client, code=1000, reason="a pause")

    return chsk


edn = channel(packers.EDN())
json = channel(packers.JSON())
msgpack = channel(packers.MessagePack())
transit = channel(packers.Transit())
guarded = chansock.ChannelSocket(csrf_token=lambda request: "s3cret")
guarded.on("say/back", lambda msg: msg.data)
