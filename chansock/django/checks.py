"""Hooks that say whether a request may come in: ALLOWED_HOSTS, and Django's CSRF tokens.

Each asks Django itself. Who the user is, is known elsewhere.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Awaitable
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from chansock._core.guard import SKIP, Skip, given_token
from chansock._core.log_limit import LogLimit, call_later
from chansock.django.reading import in_thread, seen
from chansock.request import Request, Response

__all__ = ["check_host", "csrf_token", "trusted_origins"]

log = logging.getLogger("chansock.django")

_log_limit: Final = LogLimit(time.monotonic, call_later)  # a hook does not know its channel
atexit.register(_log_limit.sum_up)


def check_host(request: Request) -> Response | None:
    """A `reject` hook: what ALLOWED_HOSTS does not name is refused with 403.

    Host and scheme are what Django says that they are: USE_X_FORWARDED_HOST and
    SECURE_PROXY_SSL_HEADER count, for the channel's own check of the origin as well.
    """
    made = seen(request)
    try:
        host = made.get_host()
    except DisallowedHost as error:
        _log_limit.warning(log, "refused reason=host status=403: %s", error)
        return Response(403, "Unauthorized host")
    if host != request.host:
        request.set_host(host)
    request.scheme = made.scheme
    return None


class _TokenCheck(CsrfViewMiddleware):  # type: ignore[misc]
    """Django's own check of a token, which gives the reason instead of an answer."""

    def _reject(self, request: Any, reason: str) -> str:
        return reason


_token_check: Final = _TokenCheck(lambda request: None)


def csrf_token(request: Request) -> Awaitable[str | Skip | None] | str | Skip | None:
    """A `csrf_token` hook: what `{% csrf_token %}`, `get_token` or the cookie gave will do.

    It stands where chansock's clients and Sente's put it, or in the field that
    CSRF_HEADER_NAME names. The secret is the cookie's, or with CSRF_USE_SESSIONS the session's.
    """
    made = seen(request)
    _, token = given_token(request)
    if token is None:
        token = made.META.get(settings.CSRF_HEADER_NAME)
    if settings.CSRF_USE_SESSIONS:
        return in_thread(_judge, made, token)
    return _judge(made, token)


def _judge(made: Any, token: str | None) -> str | Skip | None:
    # A POST without Origin and TLS: of all that Django checks, only the token is left. The
    # channel compares origins by itself, for GETs too.
    posted = HttpRequest()
    posted.method = "POST"
    posted.COOKIES = made.COOKIES
    posted.session = made.session
    if token is not None:
        posted.META[settings.CSRF_HEADER_NAME] = token
    _token_check.process_request(posted)
    if _token_check.process_view(posted, None, (), {}) is None:
        return SKIP
    secret: str | None = posted.META.get("CSRF_COOKIE")
    return secret  # which no token of the request is, or there is none


def trusted_origins() -> tuple[str, ...]:
    """Return CSRF_TRUSTED_ORIGINS as `allowed_origins`, whose `*.` leaves out the domain itself."""
    found: list[str] = []
    for origin in settings.CSRF_TRUSTED_ORIGINS:
        found.append(origin.lower())
        if "://*." in origin:
            found.append(found[-1].replace("://*.", "://"))
    return tuple(found)
