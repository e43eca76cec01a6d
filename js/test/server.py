"""The server of the JavaScript tests: a channel that does what it is asked to.

    python js/test/server.py [--port N] [--csrf-token TOKEN] [--packer EDN] [--set FIELD=JSON ...]

Prints `chansock: serving http://127.0.0.1:N/chsk ...` once it listens. SIGTERM ends it in
order: sockets are closed 1012, polls end with 503. With --restarts, SIGHUP stops the channel and
starts the same one again, which keeps what its clients may have missed. server.mjs starts one
from a test.

What a request wants of the hooks stands in its query, or in a field `x-<name>`:

    uid=alice           the user; anonymous without it
    status=403          refuse the request with this status
    ws-status=403       refuse it if it asks for a WebSocket, as a proxy that blocks those
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import Any

import chansock
from chansock import (
    ALL,
    ANONYMOUS,
    LATER,
    ChannelSocket,
    Config,
    EventMsg,
    Request,
    Response,
    packers,
)


def wanted(request: Request, name: str) -> str | None:
    return request.params.get(name) or request.headers.get("x-" + name)


def user_id(request: Request) -> str | None:
    return wanted(request, "uid")


def reject(request: Request) -> Response | None:
    status = wanted(request, "status")
    if status is None and "upgrade" in request.headers:
        status = wanted(request, "ws-status")
    return None if status is None else Response(int(status), "refused as asked")


def handshake_data(request: Request) -> dict[str, Any]:
    """Return what tells one run of the server from the next."""
    return {"pid": os.getpid()}


def make(config: Config, csrf_token: str | None, packer: packers.Packer) -> ChannelSocket:
    """Make the channel with its handlers; each stands below the event that it is for."""
    chsk = ChannelSocket(
        config,
        packer=packer,
        user_id=user_id,
        reject=reject,
        handshake_data=handshake_data,
        csrf_token=None if csrf_token is None else lambda request: csrf_token,
    )
    notes: dict[str, list[Any]] = {}
    logs: dict[str, list[Any]] = {}

    @chsk.on("test/echo")
    def echo(msg: EventMsg[Any]) -> Any:
        """Reply with the data."""
        return msg.data

    @chsk.on("test/push")
    def push(msg: EventMsg[Any]) -> Any:
        """Push `[:test/pushed {:i 0 :data data}]` back, `{:n n}` of them; reply with n."""
        for i in range(msg.data["n"]):
            chsk.send(msg.client, "test/pushed", {"i": i, "data": msg.data.get("data")})
        return msg.data["n"]

    @chsk.on("test/broadcast")
    def broadcast(msg: EventMsg[Any]) -> None:
        """Push `[:test/broadcasted data]` to everybody."""
        chsk.send(ALL, "test/broadcasted", msg.data)

    @chsk.on("test/note")
    def note(msg: EventMsg[Any]) -> None:
        """Keep the data, for test/notes; no reply but nil."""
        notes.setdefault(msg.client_id, []).append(msg.data)

    @chsk.on("test/notes")
    def all_notes(msg: EventMsg[Any]) -> list[Any]:
        """Reply with what this client had noted, in the order of its arrival."""
        return notes.pop(msg.client_id, [])

    @chsk.on("test/log")
    def log(msg: EventMsg[Any]) -> Any:
        """Keep `[name data]` for test/logged, whichever client sends it; reply with the data."""
        name, data = msg.data
        logs.setdefault(name, []).append(data)
        return data

    @chsk.on("test/logged")
    def logged(msg: EventMsg[Any]) -> list[Any]:
        """Reply with what was logged under this name, in the order of its arrival."""
        return logs.get(msg.data, [])

    @chsk.on("test/who")
    def who(msg: EventMsg[Any]) -> dict[str, Any]:
        """Reply with who the sender is, and by which transport this event came."""
        kind = "ws" if "sec-websocket-key" in msg.request.headers else "ajax"
        return {"uid": msg.uid, "client-id": msg.client_id, "type": kind}

    @chsk.on("test/request")
    def request(msg: EventMsg[Any]) -> dict[str, Any]:
        """Reply with the handshake's request, over Ajax with this POST; fields as pairs."""
        came = msg.request
        return {
            "method": came.method,
            "params": [[name, came.params[name]] for name in came.params],
            "headers": [[name, came.headers[name]] for name in came.headers],
        }

    @chsk.on("test/present")
    def present(msg: EventMsg[Any]) -> dict[str, Any]:
        """Reply with the users that are connected, anonymous ones apart."""
        live = chsk.connected
        named = {"ws": live.ws, "ajax": live.ajax, "any": live.any}
        return {
            kind: {uid for uid in users if uid is not ANONYMOUS} for kind, users in named.items()
        }

    @chsk.on("test/fail")
    def fail(msg: EventMsg[Any]) -> None:
        """Raise."""
        raise RuntimeError("test/fail was asked to")

    @chsk.on("test/silent")
    def silent(msg: EventMsg[Any]) -> Any:
        """Never reply."""
        return LATER

    @chsk.on("test/late")
    def late(msg: EventMsg[Any]) -> Any:
        """Reply `{:seconds s :data data}` with the data after s seconds; hold nothing up."""
        loop = asyncio.get_running_loop()
        loop.call_later(msg.data["seconds"], msg.reply, msg.data.get("data"))
        return LATER

    @chsk.on("test/close")
    def close(msg: EventMsg[Any]) -> None:
        """Close the sender's connections: `{:code 4401 :reason "..."}`, or nil for 1000."""
        wish = msg.data or {}
        chsk.disconnect(msg.client, code=wish.get("code", 1000), reason=wish.get("reason", ""))

    return chsk


async def serve_again(chsk: ChannelSocket, port: int) -> None:
    """Serve until SIGTERM; stop and start again at each SIGHUP."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    number = signal.SIGHUP
    while number == signal.SIGHUP:
        async with chansock.serve(chsk, port=port) as listener:
            port = listener.port
            sys.stdout.write(f"chansock: serving http://127.0.0.1:{port}/chsk\n")
            sys.stdout.flush()
            number = signal.Signals(await signals.get())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--csrf-token")
    parser.add_argument("--packer", default="EDN", help="a name of chansock.packers")
    parser.add_argument("--restarts", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON")
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    for setting in options.set:
        name, _, text = setting.partition("=")
        value = json.loads(text)
        settings[name] = tuple(value) if isinstance(value, list) else value
    packer = getattr(packers, options.packer)()
    chsk = make(Config(**settings), options.csrf_token, packer)
    if options.restarts:
        asyncio.run(serve_again(chsk, options.port))
    else:
        chansock.run(chsk, port=options.port)


if __name__ == "__main__":
    main()
