"""The servers that hostile peers meet, each in a process of its own, whose memory is read.

`python hostile_server.py '{"server": "chansock", "config": {"handshake_timeout": 1.0}}'` prints
the port and serves until SIGTERM; then it stops in order, and prints how many events `t/later`
it has handled. `server` is a name of SERVERS, `packer` a class of chansock.packers, `config`
the settings of Config, and `log` a file for what is logged (without it nothing is).

    t/echo       answers with the event's data
    t/amount     the same, of a record with a Decimal in it
    t/push       sends that many KiB to its client, 16 at a time
    t/say        broadcasts the event's data
    t/broadcast  broadcasts that many bytes
    t/each       sends that many bytes to each user, to each of them others
    t/drop       does nothing
    t/wait       a coroutine that never ends
    t/later      a coroutine that answers in a later turn of the loop
    t/fail       raises
    t/too-slow   answers how many events were lost to clients that do not read
    t/budget     answers how many events were lost to max_total_backlog_bytes

The rivals greet as chansock does, wait forever for a message with `t/wait` in it, and send
every other message back; with JSON as packer they parse it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiohttp import web

import chansock
import chansock.aiohttp
from chansock import packers
from chansock.clock import loop_factory

PIECE = "x" * 16384
GREETING = '[[:chsk/handshake ["c" nil nil]] nil]'


@dataclass
class Amount:
    amount: Decimal


class Done:
    """What a server did that cannot be seen from outside."""

    def __init__(self) -> None:
        self.later = 0


def channel(options: dict[str, Any], done: Done) -> chansock.ChannelSocket:
    packer: Any = getattr(packers, options.get("packer", "EDN"))
    if packer is packers.Gzip:
        packer = packers.Gzip(packers.EDN())
    else:
        packer = packer()
    chsk = chansock.ChannelSocket(
        chansock.Config(**options.get("config", {})),
        packer=packer,
        user_id=(lambda request: request.params["client-id"]) if options.get("users") else None,
    )

    @chsk.on("t/echo")
    def echo(msg: chansock.EventMsg[Any]) -> Any:
        return msg.data

    @chsk.on("t/amount")
    def amount(msg: chansock.EventMsg[Amount]) -> str:
        return str(msg.data.amount)[:10]

    @chsk.on("t/push")
    async def push(msg: chansock.EventMsg[int]) -> None:
        for _ in range(msg.data // 16):
            chsk.send(msg.client, "t/item", PIECE)
            await asyncio.sleep(0)

    @chsk.on("t/say")
    def say(msg: chansock.EventMsg[Any]) -> None:
        chsk.send(chansock.ALL, "t/said", msg.data)

    @chsk.on("t/broadcast")
    def broadcast(msg: chansock.EventMsg[int]) -> None:
        chsk.send(chansock.ALL, "t/item", "x" * msg.data)

    @chsk.on("t/each")
    def each(msg: chansock.EventMsg[list[int]]) -> None:
        """Take [first last bytes]: a slice of the users, so that no turn is long by itself."""
        first, last, size = msg.data
        for n in range(first, last):
            chsk.send(f"mallory{n}", "t/item", f"{n:08}".ljust(size, "x"))

    @chsk.on("t/drop")
    def drop(msg: chansock.EventMsg[Any]) -> None:
        pass

    @chsk.on("t/wait")
    async def wait(msg: chansock.EventMsg[Any]) -> None:
        await asyncio.get_running_loop().create_future()

    @chsk.on("t/later")
    async def later(msg: chansock.EventMsg[Any]) -> Any:
        await asyncio.sleep(0)
        done.later += 1
        return msg.data

    @chsk.on("t/fail")
    def fail(msg: chansock.EventMsg[Any]) -> None:
        raise RuntimeError(f"a handler that fails, of {msg.data!r:.20}")

    @chsk.on("t/too-slow")
    def too_slow(msg: chansock.EventMsg[Any]) -> int:
        return chsk.stats.lost.too_slow

    @chsk.on("t/budget")
    def budget(msg: chansock.EventMsg[Any]) -> int:
        return chsk.stats.lost.budget

    return chsk


Serving = AbstractAsyncContextManager[int]  # gives the port


@contextlib.asynccontextmanager
async def own_server(options: dict[str, Any], done: Done) -> AsyncIterator[int]:
    def page(request: chansock.Request) -> chansock.Response:
        return chansock.Response(404 if request.path == "/none" else 200, "a page")

    async with chansock.serve(channel(options, done), port=0, fallback=page) as listener:
        yield listener.port


@contextlib.asynccontextmanager
async def _served(app: web.Application) -> AsyncIterator[int]:
    app.router.add_get("/page", _page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="a page")


def aiohttp_edge(options: dict[str, Any], done: Done) -> Serving:
    app = web.Application()
    chansock.aiohttp.setup(app, channel(options, done))
    return _served(app)


def aiohttp_alone(options: dict[str, Any], done: Done) -> Serving:
    async def channel(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            await request.read()
            return web.Response(text="posted")
        if "Upgrade" not in request.headers:
            return web.Response(status=400, text="expected a WebSocket")
        ping = options.get("config", {}).get("ws_ping_interval")
        ws = web.WebSocketResponse(max_msg_size=1 << 20, heartbeat=ping)
        await ws.prepare(request)
        await ws.send_str(GREETING)
        async for message in ws:
            if message.type is web.WSMsgType.TEXT:
                await _answer(options, done, message.data, ws.send_str)
            else:
                await _answer(options, done, message.data, ws.send_bytes)
        return ws

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/chsk", channel)
    return _served(app)


@contextlib.asynccontextmanager
async def websockets_server(options: dict[str, Any], done: Done) -> AsyncIterator[int]:
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    config = options.get("config", {})

    async def handle(ws: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            await ws.send(GREETING)
            async for message in ws:
                await _answer(options, done, message, ws.send)

    async with serve(
        handle,
        "127.0.0.1",
        0,
        compression="deflate" if config.get("compression") else None,
        ping_interval=config.get("ws_ping_interval", 20.0),
        ping_timeout=config.get("ws_ping_timeout", 20.0),
        open_timeout=config.get("handshake_timeout", 10.0),
        backlog=2048,
    ) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def _answer(
    options: dict[str, Any], done: Done, message: str | bytes, send: Callable[[Any], Any]
) -> None:
    """What an application without chansock does with a message."""
    head = message[:80] if isinstance(message, str) else message[:80].decode("latin-1")
    if options.get("packer") == "JSON":
        json.loads(message)
    if "t/wait" in head:
        await asyncio.get_running_loop().create_future()
    if "t/later" in head:
        await asyncio.sleep(0)
        done.later += 1
    await send(message)


SERVERS: dict[str, Callable[[dict[str, Any], Done], Serving]] = {
    "chansock": own_server,
    "chansock.aiohttp": aiohttp_edge,
    "websockets": websockets_server,
    "aiohttp": aiohttp_alone,
}


async def main(options: dict[str, Any]) -> None:
    done, stopped = Done(), asyncio.Event()
    async with SERVERS[options.get("server", "chansock")](options, done) as port:
        print(port, flush=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()
    print(done.later, flush=True)


def log_into(path: str | None) -> None:
    """Log warnings and errors into a file, as an application does that sets nothing."""
    if path is None:
        logging.disable()
    else:
        logging.basicConfig(filename=path, level=logging.WARNING)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    log_into(options.get("log"))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(options))
