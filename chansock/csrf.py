"""CSRF tokens for applications without sessions: signed, and submitted twice.

A page of a stranger can make a browser send requests here with this user's cookies, but it
can neither read those cookies nor write ones for this host. So a token is given twice: as a
cookie, and to the page, which sends it with each request of its own; and since it is signed
and bound to a login, one that was got elsewhere is no use. (OWASP's signed double-submit
cookie.)

    tokens = csrf.Tokens(SECRET, bound_to=lambda request: request.cookies.get("login"))
    chsk = ChannelSocket(user_id=current_user, csrf_token=tokens.csrf_token)

    def page(request):                       # whatever serves the page, and sets the login
        token = tokens.issue(request.cookies["login"])
        html = PAGE.replace("{{csrf}}", token)
        return Response(200, html, "text/html", headers=(tokens.set_cookie(token),))

The page hands its token to the client: `connect("/chsk", { csrfToken: () => ... })`, from a
`<meta name="csrf" content="{{csrf}}">`, or from the cookie itself where no server writes
pages (`is_readable=True`; what reads cookies on this page can act as this user anyway).
Nothing is stored, so that any process with the secret can check. No check of the channel's
is made here: `csrf_token` gives the guard the token that a request must carry. A hook of your
own may give SKIP, for a request that needs none: one whose login no browser sends by itself.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from re import compile as pattern
from secrets import token_bytes
from typing import Final, Literal, TypeAlias, get_args

from chansock._core.guard import SKIP, given_token
from chansock.errors import ConfigError
from chansock.request import Request, is_token

__all__ = ["SKIP", "Tokens", "given"]

SameSite: TypeAlias = Literal["Strict", "Lax", "None"]

MIN_SECRET_BYTES: Final = 32  # as strong as the hash (RFC 2104 section 3)
MAX_AGE: Final = 7 * 24 * 3600.0  # a tab that was left open over a week-end still comes back

_VERSION: Final = b"\x01"
_TIME_BYTES: Final = 8
_RANDOM_BYTES: Final = 16
_SIGNED_BYTES: Final = len(_VERSION) + _TIME_BYTES + _RANDOM_BYTES
# With the 32 of SHA-256 they are 57 bytes: base64 has no bits to spare, so that a token has one
# spelling. All of it may stand in a cookie, a parameter, a field and a subprotocol.
_TOKEN: Final = pattern(r"[A-Za-z0-9_-]{76}")
# The same secret may sign other things elsewhere.
_PURPOSE: Final = b"chansock.csrf\0"


def given(request: Request) -> str | None:
    """Return the token that a request carries, by whichever way, and nobody has checked.

    For a hook that takes a signed token as the login itself: a page can send one with a
    WebSocket by these ways alone (`csrfToken` of the browser's client).
    """
    return given_token(request)[1]


class Tokens:
    """Issues and checks tokens.

    `secrets`: 32 random bytes or more that every process shares; or several such, of which
    the first signs and all are taken: put a new one in front, and drop the old after max_age.
    `bound_to(request)` gives what the token of that request must have been issued for, such as
    the login's cookie; None: the request has none, and is refused. Without it a token is good for
    everybody, and only the cookie's `__Host-` keeps one that a sister domain planted away.
    `max_age` in seconds; None: tokens do not end.

    Raises ConfigError for a setting that cannot be.
    """

    def __init__(
        self,
        secrets: bytes | Sequence[bytes],
        *,
        bound_to: Callable[[Request], str | None] | None = None,
        max_age: float | None = MAX_AGE,
        cookie: str = "__Host-csrf",
        is_secure: bool = True,
        is_readable: bool = False,
        same_site: SameSite = "Lax",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = _checked(secrets)
        _check(max_age, cookie, is_secure, same_site)
        self._bound_to = bound_to
        self._max_age = max_age
        self._cookie = cookie
        self._is_secure = is_secure
        self._is_readable = is_readable
        self._same_site = same_site
        self._clock = clock

    def issue(self, binding: str = "") -> str:
        """Make a new token, of 76 characters of base64url, for whoever has this binding."""
        issued = int(self._clock()).to_bytes(_TIME_BYTES, "big")
        signed = _VERSION + issued + token_bytes(_RANDOM_BYTES)
        return urlsafe_b64encode(signed + _sign(self._secrets[0], signed, binding)).decode()

    def check(self, token: str, binding: str = "") -> bool:
        """Return whether a token was issued here, for this binding, and within max_age.

        In constant time for each secret. One from the future is good: clocks differ.
        """
        if not _TOKEN.fullmatch(token):
            return False
        whole = urlsafe_b64decode(token)
        signed, signature = whole[:_SIGNED_BYTES], whole[_SIGNED_BYTES:]
        expected = [_sign(secret, signed, binding) for secret in self._secrets]
        if not any(hmac.compare_digest(each, signature) for each in expected):
            return False
        issued = int.from_bytes(signed[len(_VERSION) :][:_TIME_BYTES], "big")
        return self._max_age is None or self._clock() - issued <= self._max_age

    def csrf_token(self, request: Request) -> str | None:
        """The hook of a ChannelSocket: the token in the request's cookie, if it is good.

        The guard compares it with the one that the page sent; None refuses.
        """
        token = request.cookies.get(self._cookie)
        binding = "" if self._bound_to is None else self._bound_to(request)
        if token is None or binding is None or not self.check(token, binding):
            return None
        return token

    def set_cookie(self, token: str) -> tuple[str, str]:
        """Return the field of a Response that has the browser keep a token: `Set-Cookie`."""
        parts = [f"{self._cookie}={token}", "Path=/"]
        if self._max_age is not None:
            parts.append(f"Max-Age={int(self._max_age)}")
        if self._is_secure:
            parts.append("Secure")
        if not self._is_readable:
            parts.append("HttpOnly")
        parts.append(f"SameSite={self._same_site}")
        return "Set-Cookie", "; ".join(parts)

    def __repr__(self) -> str:
        return f"Tokens(<{len(self._secrets)} secrets>, cookie={self._cookie!r})"


def _sign(secret: bytes, signed: bytes, binding: str) -> bytes:
    # The binding last: what stands before it has one length.
    return hmac.digest(
        secret, _PURPOSE + signed + binding.encode("utf-8", "surrogatepass"), "sha256"
    )


def _checked(secrets: object) -> tuple[bytes, ...]:
    found = tuple(secrets) if isinstance(secrets, list | tuple) else (secrets,)
    if not found:
        raise ConfigError("secrets: expected one at least, got none")
    for secret in found:  # never shown
        if not isinstance(secret, bytes):
            raise ConfigError(f"secrets: expected bytes, got {type(secret).__name__}")
        if len(secret) < MIN_SECRET_BYTES:
            raise ConfigError(
                f"secrets: expected {MIN_SECRET_BYTES} bytes or more of os.urandom, "
                f"got {len(secret)}"
            )
    return found


def _check(max_age: float | None, cookie: str, is_secure: bool, same_site: str) -> None:
    if max_age is not None:
        is_number = isinstance(max_age, int | float) and not isinstance(max_age, bool)
        if not is_number or not 1 <= max_age < float("inf"):
            raise ConfigError(f"max_age: expected a number from 1 on, or None, got {max_age!r:.80}")
    if not isinstance(cookie, str) or not is_token(cookie):
        raise ConfigError(f"cookie: expected a name, got {cookie!r:.80}")
    if same_site not in get_args(SameSite):
        raise ConfigError(f"same_site: expected 'Strict', 'Lax' or 'None', got {same_site!r:.80}")
    if not is_secure and cookie.lower().startswith(("__host-", "__secure-")):
        raise ConfigError(f"cookie: expected another name without is_secure, got {cookie!r}")
    if not is_secure and same_site == "None":
        raise ConfigError("same_site: expected 'Strict' or 'Lax' without is_secure, got 'None'")
