"""Django's view of a request, and reading what it leads to: sessions, users, the database.

What only reads a session never changes it. Everything that asks the database runs on threads,
so that the loop never waits for it. No rule of who may come in is known here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from inspect import iscoroutinefunction
from io import BytesIO
from typing import Any, Final, ParamSpec, TypeVar, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.utils.functional import SimpleLazyObject

from chansock.request import Request

__all__ = ["database", "http_request", "in_thread", "seen", "session", "session_key"]

P = ParamSpec("P")
T = TypeVar("T")

_OF_A_BODY: Final = ("content-type", "content-length")
MAX_READERS: Final = 8  # threads that read sessions, each with a database connection of its own


def http_request(request: Request) -> Any:
    """Return a request of the channel as Django's: META, COOKIES, get_host(), session, user.

    It has no body, and neither Content-Type nor Content-Length: Django raises for some values
    of these, which any peer could send. The session is read-only: changes are not stored. The
    session and `user` query the database when you access them, so do that in a thread, or use
    `get_user`.
    """
    scope = getattr(request, "scope", {})  # chansock's own server has none
    made = ASGIRequest(
        {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "root_path": scope.get("root_path", ""),
            "query_string": request.query,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in request.headers.fields()
                if name.lower() not in _OF_A_BODY
            ],
            "client": request.client,
            "server": scope.get("server"),
            "scheme": request.scheme,
        },
        BytesIO(),
    )
    if request.host != request.headers.get("host", ""):
        made.META["HTTP_HOST"] = request.host  # a trusted proxy's word
    made.session = session(made.COOKIES.get(settings.SESSION_COOKIE_NAME))
    made.user = SimpleLazyObject(functools.partial(auth.get_user, made))
    return made


_seen: tuple[Request, Any] | None = None


def seen(request: Request, *, is_last: bool = False) -> Any:
    """The same for the hooks, which are asked one after the other: made once for all of them.

    `is_last`: no other hook will ask, so it is kept no longer.
    """
    global _seen
    last = _seen
    if last is None or last[0] is not request:
        last = request, http_request(request)
    _seen = None if is_last else last
    return last[1]


def session_key(made: Any) -> str | None:
    """Return the key of the session that a request of Django's came with."""
    key: str | None = made.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return key


def session(key: str | None) -> Any:
    """Return a session of this key, to be read alone."""
    return _store(settings.SESSION_ENGINE)(key)


@functools.lru_cache(maxsize=16)
def _store(engine: str) -> Any:
    """Make the engine's store one that changes nothing: it loads, and Django's `get_user` may
    cycle or flush it, which here would end the session of a browser that is not told."""
    kinds = ("save", "create", "delete", "cycle_key")
    unchanging: dict[str, Any] = dict.fromkeys(kinds, _change_nothing)
    unchanging |= dict.fromkeys((f"a{kind}" for kind in kinds), _achange_nothing)
    return type("SessionStore", (import_module(engine).SessionStore,), unchanging)


def _change_nothing(*_: Any, **__: Any) -> None:
    pass


async def _achange_nothing(*_: Any, **__: Any) -> None:
    pass


@functools.cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_READERS, "chansock-django")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call what asks the database, on a thread of the readers."""
    call: Any = sync_to_async(
        _with_connections(function), thread_sensitive=False, executor=_readers()
    )
    result: T = await call(*args)
    return result


def _with_connections(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return call


def database(handler: Callable[P, T]) -> Callable[P, T]:
    """Wrap a handler that uses the database, as a view does: connections that are broken or too old
    (CONN_MAX_AGE) are closed before it and after it.

    For coroutines, and for plain functions with `thread=True`:

        @chsk.on("chat/say", thread=True)
        @chansock.django.database
        def say(msg): ...
    """
    if not iscoroutinefunction(handler):
        return _with_connections(handler)
    close = sync_to_async(close_old_connections)  # on the thread that the async ORM uses

    @functools.wraps(handler)
    async def call(*args: Any, **kwargs: Any) -> Any:
        await close()
        try:
            return await handler(*args, **kwargs)
        finally:
            await close()

    return cast("Callable[P, T]", call)
