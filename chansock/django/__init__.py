"""The channel in a Django project under ASGI: its users, sessions, hosts and CSRF tokens.

    # mysite/channel.py
    chsk = chansock.django.channel()

    # mysite/asgi.py
    application = chansock.django.application("mysite.channel.chsk")

`channel` makes a ChannelSocket whose hooks are those below; each may be replaced. What only
reads a session never changes it: no middleware of the project runs here, and no cookie is set.
Sessions and users are read in threads, so that the loop never waits for the database.
"""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

from chansock import asgi, packers
from chansock._core.endpoint import Hook
from chansock._core.guard import Skip
from chansock.asgi.scope import App, Receive, Scope, Send
from chansock.channel import ChannelSocket
from chansock.config import Config
from chansock.django.checks import check_host, csrf_token, trusted_origins
from chansock.django.logins import close_on_logout, get_user, is_authenticated, user_id
from chansock.django.reading import database, http_request
from chansock.errors import ConfigError
from chansock.request import Response
from chansock.target import UserId

__all__ = [
    "Middleware",
    "application",
    "channel",
    "check_host",
    "close_on_logout",
    "csrf_token",
    "database",
    "get_user",
    "http_request",
    "is_authenticated",
    "user_id",
]


def channel(
    config: Config = Config(),  # noqa: B008 - frozen
    /,
    *,
    user_id: Hook[UserId | None] | None = user_id,
    handshake_data: Hook[object] | None = None,
    authorize: Hook[bool] | None = None,
    reject: Hook[Response | None] | None = None,
    csrf_token: Hook[str | Skip | None] | None = csrf_token,
    packer: packers.Packer | None = None,
    anonymous: bool = True,
) -> ChannelSocket:
    """Make a ChannelSocket that honours the project's settings.

    A hook that is given takes the place of ours (None: none at all); `reject` is asked after
    `check_host`. `config.allowed_hosts` of None is ALLOWED_HOSTS, `config.allowed_origins` of
    None the page's own and CSRF_TRUSTED_ORIGINS.
    """
    if config.allowed_origins is None and settings.CSRF_TRUSTED_ORIGINS:
        config = replace(config, allowed_origins=("self", *trusted_origins()))
    if config.allowed_hosts is None:
        config = replace(config, allowed_hosts=("*",))  # check_host has looked
    chsk = ChannelSocket(
        config,
        user_id=user_id,
        handshake_data=handshake_data,
        authorize=authorize,
        reject=_after_check_host(reject) if callable(reject) else reject or check_host,
        csrf_token=csrf_token,
        packer=packer,
        anonymous=anonymous,
    )
    close_on_logout(chsk)
    return chsk


def _after_check_host(reject: Hook[Response | None]) -> Hook[Response | None]:
    return lambda request: check_host(request) or reject(request)


def application(chsk: ChannelSocket | str, path: str = "/chsk") -> Middleware:
    """Make the project's ASGI application, with the channel at `path`.

    `chsk` is a ChannelSocket, or where it stands (`"mysite.channel.chsk"`): so it is imported
    once Django is set up, as a module that uses models must be.
    """
    app = get_asgi_application()
    return Middleware(app, import_string(chsk) if isinstance(chsk, str) else chsk, path)


class Middleware(asgi.Middleware):
    """Serve `chsk` at `path`, and everything else by `app`: `get_asgi_application()`, say.

    Django itself takes no WebSocket: those of other paths are refused with 403.
    """

    def __init__(self, app: App, chsk: ChannelSocket, path: str = "/chsk") -> None:
        if not isinstance(chsk, ChannelSocket):
            raise ConfigError(f"chsk: expected a ChannelSocket, got {chsk!r:.80}")
        super().__init__(_HttpAlone(app) if isinstance(app, ASGIHandler) else app, chsk, path)


class _HttpAlone:
    """Django's application, and what it does not answer: it raises for other kinds of scope."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
