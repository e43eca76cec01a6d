"""chansock.csrf: what a token is, who it is good for, and its way through a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw import Run
from sente_app import make
from sente_kinds import KINDS, ask, is_in

import chansock
from chansock import ConfigError, Request, Response
from chansock._core import subprotocol
from chansock.csrf import Tokens
from chansock.request import is_token

SECRET, OTHER = bytes(range(32)), b"x" * 40
DAY = 24 * 3600.0


class Clock:
    """Wall time, set by the test."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC as RFC 2104 defines it."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + data).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_token_is_version_time_random_and_their_hmac_with_the_binding() -> None:
    token = Tokens(SECRET, clock=Clock()).issue("sid é")
    assert re.fullmatch(r"[A-Za-z0-9_-]{76}", token)
    whole = base64.urlsafe_b64decode(token)
    assert whole[:9] == b"\x01" + (1_700_000_000).to_bytes(8, "big")
    signed = b"chansock.csrf\0" + whole[:25] + "sid é".encode()
    assert whole[25:] == hmac_sha256(SECRET, signed)


def test_token_may_stand_wherever_it_travels() -> None:
    token = Tokens(SECRET).issue()
    assert is_token(token)
    assert subprotocol.offer(token) == f"chansock, csrf.{token}"
    assert SimpleCookie(f"__Host-csrf={token}")["__Host-csrf"].value == token


def test_no_two_tokens_are_alike() -> None:
    tokens = Tokens(SECRET, clock=Clock())
    assert len({tokens.issue("a") for _ in range(1000)}) == 1000


def test_token_is_good_for_its_binding_alone() -> None:
    tokens = Tokens(SECRET)
    token = tokens.issue("alice")
    assert tokens.check(token, "alice")
    for other in ("", "bob", "alic", "alice2", "Alice"):
        assert not tokens.check(token, other)
    assert tokens.check(tokens.issue())
    assert not tokens.check(tokens.issue(), "alice")


@given(st.text(), st.text())
def test_bindings_are_told_apart(one: str, two: str) -> None:
    tokens = Tokens(SECRET)
    assert tokens.check(tokens.issue(one), two) is (one == two)


def test_any_character_changed_makes_it_bad() -> None:
    tokens = Tokens(SECRET)
    token = tokens.issue("alice")
    for at in range(len(token)):
        for char in "A-Zz":
            if char != token[at]:
                assert not tokens.check(token[:at] + char + token[at + 1 :], "alice")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: t[:-1],
        lambda t: t + "A",
        lambda t: t + "=",
        lambda t: " " + t,
        lambda t: t + "\n",
        lambda t: t[:40] + "\n" + t[40:],
        lambda t: "é" * 76,
        lambda t: "*" * 76,
        lambda t: t.swapcase(),
    ],
)
def test_another_spelling_is_another_token(change: Any) -> None:
    tokens = Tokens(SECRET)
    assert not tokens.check(change(tokens.issue()))


@given(st.text(max_size=100))
def test_any_text_is_judged_without_a_fault(text: str) -> None:
    assert not Tokens(SECRET).check(text)


def test_token_ends_after_max_age() -> None:
    clock = Clock()
    tokens, endless = (Tokens(SECRET, max_age=age, clock=clock) for age in (DAY, None))
    token = tokens.issue()
    clock.now += DAY
    assert tokens.check(token)
    clock.now += 1
    assert not tokens.check(token)
    clock.now += 1000 * DAY
    assert endless.check(token)


def test_token_of_a_machine_whose_clock_is_ahead_is_good() -> None:
    clock = Clock()
    tokens = Tokens(SECRET, clock=clock)
    token = tokens.issue()
    clock.now -= 300
    assert tokens.check(token)


def test_secrets_are_changed_without_a_break() -> None:
    old, both, new = Tokens(OTHER), Tokens([SECRET, OTHER]), Tokens((SECRET,))
    before, since = old.issue(), both.issue()
    assert both.check(before)
    assert both.check(since)
    assert new.check(since)
    assert not new.check(before)
    assert not old.check(since)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secrets": b""}, "secrets: expected 32 bytes or more of os.urandom, got 0"),
        ({"secrets": b"x" * 31}, "got 31"),
        ({"secrets": [SECRET, b"short"]}, "got 5"),
        ({"secrets": []}, "secrets: expected one at least, got none"),
        ({"secrets": "x" * 32}, "secrets: expected bytes, got str"),
        ({"secrets": None}, "secrets: expected bytes, got NoneType"),
        ({"max_age": 0}, "max_age: expected a number from 1 on, or None, got 0"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_age": float("inf")}, "max_age"),
        ({"max_age": "7 days"}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"cookie": "a b"}, "cookie: expected a name, got 'a b'"),
        ({"cookie": ""}, "cookie"),
        ({"is_secure": False}, "cookie: expected another name without is_secure"),
        ({"is_secure": False, "cookie": "__secure-c"}, "cookie"),
        ({"same_site": "lax"}, "same_site: expected 'Strict', 'Lax' or 'None', got 'lax'"),
        ({"same_site": "None", "is_secure": False, "cookie": "c"}, "same_site"),
    ],
)
def test_setting_that_cannot_be_is_named_and_no_secret_shown(
    settings: dict[str, Any], words: str
) -> None:
    secrets = settings.pop("secrets", SECRET)
    with pytest.raises(ConfigError) as caught:
        Tokens(secrets, **settings)
    assert words in str(caught.value)
    assert "xxx" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    assert repr(Tokens([SECRET, OTHER])) == "Tokens(<2 secrets>, cookie='__Host-csrf')"


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ({}, "; Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Lax"),
        ({"is_readable": True}, "; Path=/; Max-Age=604800; Secure; SameSite=Lax"),
        ({"max_age": None}, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
        (
            {"is_secure": False, "cookie": "c", "same_site": "Strict", "max_age": 60},
            "; Path=/; Max-Age=60; HttpOnly; SameSite=Strict",
        ),
    ],
)
def test_set_cookie_is_a_field_of_a_response(settings: dict[str, Any], attributes: str) -> None:
    tokens = Tokens(SECRET, **settings)
    name, value = tokens.set_cookie("TOKEN")
    Response(200, headers=((name, value),))
    assert (name, value) == (
        "Set-Cookie",
        f"{settings.get('cookie', '__Host-csrf')}=TOKEN{attributes}",
    )


# The hook

TOKENS = Tokens(SECRET, bound_to=lambda request: request.cookies.get("login"))


def cookies(**pairs: str) -> Request:
    line = "; ".join(f"{n.replace('Host_', '__Host-')}={v}" for n, v in pairs.items())
    return Request.from_fields("GET", "/chsk", [("Cookie", line)])


def test_hook_gives_the_cookie_s_token_if_it_is_good() -> None:
    token = TOKENS.issue("sid1")
    assert TOKENS.csrf_token(cookies(Host_csrf=token, login="sid1")) == token
    assert TOKENS.csrf_token(cookies(Host_csrf=token, login="sid2")) is None
    assert TOKENS.csrf_token(cookies(Host_csrf=token)) is None
    assert TOKENS.csrf_token(cookies(login="sid1")) is None
    assert TOKENS.csrf_token(cookies(Host_csrf="", login="sid1")) is None
    assert TOKENS.csrf_token(cookies(Host_csrf=token[:-1], login="sid1")) is None
    assert TOKENS.csrf_token(Request.from_fields("GET", "/chsk")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_request_gets_in_with_the_token_twice_and_its_login(kind: str, run: Run) -> None:
    mine, another, stranger = TOKENS.issue("sid1"), TOKENS.issue("sid1"), TOKENS.issue("sid2")
    rows = {
        "both": (mine, mine, "sid1", True),
        "no cookie": (None, mine, "sid1", False),
        "no param": (mine, None, "sid1", False),
        "another token of the same login": (mine, another, "sid1", False),
        "planted by a stranger": (stranger, stranger, "sid1", False),
        "made up": ("A" * 76, "A" * 76, "sid1", False),
        "empty": ("", "", "sid1", False),
        "without a login": (mine, mine, None, False),
    }

    async def main() -> None:
        chsk = make(csrf_token=TOKENS.csrf_token)
        async with chansock.serve(chsk, port=0) as listener:
            for row, (cookie, param, login, expected) in rows.items():
                pairs = {"__Host-csrf": cookie, "login": login}
                line = "; ".join(f"{n}={v}" for n, v in pairs.items() if v is not None)
                fields = [("Cookie", line)] if line else []
                params = [] if param is None else [("csrf-token", param)]
                answer = await ask(listener.port, kind, params, fields)
                assert is_in(answer) is expected, row
                if not expected:
                    assert (answer.status, answer.text) == (403, "Bad CSRF token")

    run(main())


def test_page_gets_cookie_and_token_and_opens_its_socket(run: Run) -> None:
    """A browser's part is played by aiohttp, which keeps cookies as one."""
    tokens = Tokens(
        SECRET,
        bound_to=lambda request: request.cookies.get("login"),
        cookie="csrf",
        is_secure=False,  # no TLS here
    )

    def page(request: Request) -> Response:
        token = tokens.issue("sid1")
        login = ("Set-Cookie", "login=sid1; Path=/; HttpOnly")
        html = f'<meta name="csrf" content="{token}">'
        return Response(200, html, "text/html", headers=(login, tokens.set_cookie(token)))

    async def main() -> None:
        chsk = make(csrf_token=tokens.csrf_token)
        async with chansock.serve(chsk, port=0, fallback=page) as listener:
            base = f"http://127.0.0.1:{listener.port}"
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as browser:
                async with browser.get(f"{base}/") as answer:
                    found = re.search(r'content="([^"]+)"', await answer.text())
                assert found is not None
                offer = ["chansock", f"csrf.{found[1]}"]
                url = f"{base}/chsk?client-id=a%2F1"
                async with browser.ws_connect(url, protocols=offer) as wire:
                    assert (await wire.receive_str()).startswith("[[:chsk/handshake [")
                form = {"client-id": "a/1", "ppstr": "[[:test/req 1] :ajax]"}
                fields = {"X-CSRF-Token": found[1]}
                async with browser.post(f"{base}/chsk", data=form, headers=fields) as answer:
                    assert await answer.text() == "[1 nil]"
                async with browser.post(f"{base}/chsk", data=form) as answer:
                    assert answer.status == 403  # what a stranger's page can send

    run(main())
