"""The channels in an aiohttp application: `python -m servers.in_aiohttp PORT`."""

from __future__ import annotations

import sys

from aiohttp import web

import chansock.aiohttp
from servers import application


async def other(request: web.Request) -> web.Response:
    body = await request.read() if request.can_read_body else b""
    status, text = application.other(request.method, request.path, body)
    return web.Response(status=status, body=text)


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"the application: {message.data}")
    return socket


def make() -> web.Application:
    app = web.Application()
    for name, chsk in application.channels().items():
        chansock.aiohttp.setup(app, chsk, path=f"/{name}")
    app.router.add_get("/echo", echo)
    app.router.add_route("*", "/{path:.*}", other)
    return app


async def for_gunicorn() -> web.Application:
    return make()


if __name__ == "__main__":
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
