"""Who a client is by Django's session, and the end of its connections with that session.

Requests hold the session that they came with; nothing is kept of those that are gone, but
for a while the keys of sessions that ended, since Django tells of a logout before it forgets
the session. Signals come from any thread, and everything else runs on the channel's.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Any, Final
from weakref import WeakSet, WeakValueDictionary

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends import signed_cookies
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from chansock._core.endpoint import Endpoint
from chansock._fast.events.dispatch import Connection
from chansock.channel import ChannelSocket
from chansock.django.reading import http_request, in_thread, seen, session, session_key
from chansock.request import Request
from chansock.target import UserId

__all__ = ["close_on_logout", "get_user", "is_authenticated", "user_id"]

log = logging.getLogger("chansock.django")

LOGGED_OUT: Final = 4401  # authority over: chansock's clients wait for `reconnect()` then
# Seconds for which the key of a session that ended is refused: a transaction around the view
# that logs out may take its time until Django has forgotten the session.
ENDED_FOR: Final = 60.0
MAX_ENDED: Final = 100_000  # keys; past it the oldest is let go sooner


class _Login:
    """One session of Django's that a user's clients came with. Each of their requests holds it,
    so it is gone with the last of them."""

    __slots__ = ("__weakref__", "auth_hash", "key", "uid")

    def __init__(self, key: str, uid: UserId, auth_hash: str) -> None:
        self.key = key
        self.uid = uid
        self.auth_hash = auth_hash


_LOGIN: Final = "chansock.django.login"  # in a Request's state
_logins: WeakValueDictionary[str, _Login] = WeakValueDictionary()
# Digest of the key of a session that is over, and when it ended; in that order. A key may be a
# cookie of any length, so the digest of it is kept.
_ended: OrderedDict[bytes, float] = OrderedDict()
_ending: Final = threading.Lock()
_channels: WeakSet[ChannelSocket] = WeakSet()


def user_id(request: Request) -> Awaitable[UserId | None] | None:
    """A `user_id` hook: the primary key of the session's user; None without one.

    It is that of `django.contrib.auth.get_user`: the session must be there, its user active,
    and the password the one that it was made with.
    """
    made = seen(request, is_last=True)
    key = session_key(made)
    return _user_id(request, made, key) if key else None


async def _user_id(request: Request, made: Any, key: str) -> UserId | None:
    user, auth_hash = await in_thread(_read, made)
    if not user.is_authenticated or _has_ended(key):
        return None
    uid: UserId = user.pk
    login = _logins.get(key)
    if login is None or login.uid != uid or login.auth_hash != auth_hash:
        login = _logins[key] = _Login(key, uid, auth_hash)
    request.state[_LOGIN] = login
    return uid


def _read(made: Any) -> tuple[Any, str]:
    """Return the user of a session, and the hash of the password that it was made with."""
    return auth.get_user(made), made.session.get(auth.HASH_SESSION_KEY, "")


async def get_user(request: Request) -> Any:
    """Return the session's user as it is now, an AnonymousUser without one; for your own hooks.

    In handlers, too: `await get_user(msg.request)`. Each call reads session and user anew.
    """
    made = http_request(request)
    key = session_key(made)
    if key is not None and _has_ended(key):
        made.session = session(None)
    user, _ = await in_thread(_read, made)
    return user


async def is_authenticated(request: Request) -> bool:
    """An `authorize` hook: whoever has no user is refused with 401."""
    return bool((await get_user(request)).is_authenticated)


# -- when it ends


def close_on_logout(chsk: ChannelSocket) -> None:
    """Close the sockets of a session that is over, with 4401, and end its polls.

    `channel` does so; this is for one whose `user_id` hook is ours, made by hand. A session
    is over when it is logged out of, or another login takes its place, and when its user's
    password changes, or the user is deactivated or deleted. Other sessions of the user stay.
    """
    _channels.add(chsk)


def _logged_out(*, request: Any, user: Any = None, **_: Any) -> None:
    session = getattr(request, "session", None)
    key = getattr(session, "session_key", None)
    if key:
        _end(key, user.pk if user is not None else None)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    if user is not None and issubclass(store, signed_cookies.SessionStore):
        # Each change of such a session is another cookie: which were this one's nobody knows.
        for reference in _logins.valuerefs():
            login = reference()
            if login is not None and login.uid == user.pk:
                _end(login.key)


def _logged_in(*, request: Any, **_: Any) -> None:
    """End the session whose place the new login takes: Django has deleted it without a word."""
    old = session_key(request) if hasattr(request, "COOKIES") else None
    session = getattr(request, "session", None)  # others send this signal, too, for other logins
    if old and session is not None and old != session.session_key:
        _end(old)


def _user_saved(
    *, instance: Any, created: bool = False, using: str | None = None, **_: Any
) -> None:
    if created or not _is_user(instance):
        return
    of_password = getattr(instance, "get_session_auth_hash", None)
    auth_hash = (
        of_password() if of_password is not None and getattr(instance, "is_active", True) else None
    )
    call = functools.partial(_look_again, instance.pk, auth_hash)
    transaction.on_commit(call, using=using)


def _is_user(instance: Any) -> bool:
    try:
        return bool(_channels) and isinstance(instance, auth.get_user_model())
    except ImproperlyConfigured:  # a project without users
        return False


def _user_deleted(*, instance: Any, using: str | None = None, **_: Any) -> None:
    if _is_user(instance):
        transaction.on_commit(functools.partial(_look_again, instance.pk), using=using)


auth.user_logged_out.connect(_logged_out, dispatch_uid="chansock.django")
auth.user_logged_in.connect(_logged_in, dispatch_uid="chansock.django")
post_save.connect(_user_saved, dispatch_uid="chansock.django")
post_delete.connect(_user_deleted, dispatch_uid="chansock.django")


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _has_ended(key: str) -> bool:
    return _digest(key) in _ended


def _end(key: str, uid: UserId | None = None) -> None:
    """Refuse this session from now on, and close what came with it.

    The other sessions of the user are looked at, too: this one may have had another key.
    """
    now = monotonic()
    digest = _digest(key)
    with _ending:
        _ended[digest] = now
        _ended.move_to_end(digest)
        oldest = next(iter(_ended))
        while now - _ended[oldest] >= ENDED_FOR or len(_ended) > MAX_ENDED:
            _ended.popitem(last=False)
            oldest = next(iter(_ended))
    login = _logins.get(key)
    uid = login.uid if login is not None else uid
    if uid is not None:
        _look_again(uid)


def _look_again(uid: UserId, auth_hash: str | None = None) -> None:
    """Have each channel look at the sessions of a user; from any thread.

    With a hash only those that were made with another password.
    """
    for chsk in list(_channels):
        if chsk.is_started:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                chsk._clock.from_thread(functools.partial(_begin_look, chsk, uid, auth_hash))


def _begin_look(chsk: ChannelSocket, uid: UserId, auth_hash: str | None) -> None:
    loop = asyncio.get_running_loop()
    _look(chsk, uid, auth_hash)
    # Who had passed its checks by now may open a little later.
    for delay in (0.5, chsk.config.handshake_timeout + 0.5):
        loop.call_later(delay, _look, chsk, uid, auth_hash)


def _look(chsk: ChannelSocket, uid: UserId, auth_hash: str | None) -> None:
    if not chsk.is_started:
        return
    unsure: dict[_Login, list[Connection]] = {}
    for connection in chsk._endpoint.connections(uid):
        login = connection.request.state.get(_LOGIN)
        if login is None:
            continue
        if _has_ended(login.key):
            chsk._endpoint.end(connection, LOGGED_OUT, "logged out")
        elif auth_hash is None or login.auth_hash != auth_hash:
            unsure.setdefault(login, []).append(connection)
    if unsure:
        chsk._clock.start(_end_stale(chsk._endpoint, unsure))


async def _end_stale(endpoint: Endpoint, unsure: dict[_Login, list[Connection]]) -> None:
    for login, connections in unsure.items():
        made = HttpRequest()
        try:
            made.session = session(login.key)
            user, _ = await in_thread(_read, made)
        except Exception:
            endpoint.log_limit.exception(log, "session_unread uid=%r", login.uid)
            continue
        if not user.is_authenticated or user.pk != login.uid:
            for connection in connections:
                endpoint.end(connection, LOGGED_OUT, "the session is over")
