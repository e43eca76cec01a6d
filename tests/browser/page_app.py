"""The server of the browser tests: a program, so that it can be killed and started again.

    python page_app.py PORT CONFIG

CONFIG is a JSON object of fields of Config; `packer` is a name of chansock.packers, `csrf_token`
the token that every request has to show, and `host` the address to listen on. Each fact goes to
stdout as one line of JSON, by one write, so that a SIGKILL takes none of them back; the first
is `["listening", port]`.
Who one is says the cookie `user`, which the page sets for itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from chansock import ALL, ChannelSocket, Config, EventMsg, Request, Response, packers, serve

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
FIELDS = (
    ("Content-Security-Policy", "default-src 'self'; img-src data:"),
    ("Cache-Control", "no-cache"),  # a page that may not be stored is not in the page cache
)


def note(*fact: Any) -> None:
    os.write(1, json.dumps(fact).encode() + b"\n")


def make(config: Config, packer: packers.Packer, csrf_token: str | None) -> ChannelSocket:
    def reject(request: Request) -> Response | None:
        if request.cookies.get("user") == "banned":
            return Response(403, "banned until Monday")
        return None

    chsk = ChannelSocket(
        config,
        packer=packer,
        csrf_token=None if csrf_token is None else lambda request: csrf_token,
        user_id=lambda request: request.cookies.get("user"),
        authorize=lambda request: request.cookies.get("user") != "stranger",
        reject=reject,
    )
    streams: set[asyncio.Task[None]] = set()

    @chsk.on("chsk/uidport-open")
    def came(msg: EventMsg[Any]) -> None:
        note("came", str(msg.data))

    @chsk.on("chsk/uidport-close")
    def went(msg: EventMsg[Any]) -> None:
        note("went", str(msg.data))

    @chsk.on("test/mark")
    def mark(msg: EventMsg[int]) -> int:
        """Keep a number that a page sent; give it back."""
        note("mark", msg.client_id, msg.data, msg.is_redelivered)
        return msg.data

    @chsk.on("test/echo")
    def echo(msg: EventMsg[Any]) -> Any:
        """Return the data."""
        return msg.data

    @chsk.on("test/stream")
    def stream(msg: EventMsg[dict[str, Any]]) -> None:
        """Push the numbers below `count` to this client, one every `every` seconds.

        Not again for a client of a server that was killed.
        """
        if msg.is_redelivered:
            return
        streams.add(asyncio.get_running_loop().create_task(push(msg)))

    async def push(msg: EventMsg[dict[str, Any]]) -> None:
        for number in range(msg.data["count"]):
            chsk.send(msg.client, "test/number", number)
            await asyncio.sleep(msg.data["every"])

    @chsk.on("test/say")
    def say(msg: EventMsg[str]) -> None:
        chsk.send(ALL, "test/said", msg.data)

    return chsk


def page(request: Request) -> Response | None:
    found = FILES.get(request.path)
    if found is None:
        return None
    name, kind = found
    return Response(body=(HERE / name).read_bytes(), content_type=kind, headers=FIELDS)


async def main(port: int, config: str) -> None:
    fields = json.loads(config)
    # JSON has no tuples
    fields = {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}
    packer = getattr(packers, fields.pop("packer", "EDN"))()
    csrf_token = fields.pop("csrf_token", None)
    host = fields.pop("host", "127.0.0.1")
    chsk = make(Config(**fields), packer, csrf_token)
    async with serve(chsk, host, port, fallback=page) as listener:
        note("listening", listener.port)
        await asyncio.to_thread(sys.stdin.read)  # ends with the test that started it


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
