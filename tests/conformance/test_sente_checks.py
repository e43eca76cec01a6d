"""The checks of a request, one test for each row of Sente's table, over all three kinds.

A row's name is the test's id. Where Sente does otherwise, the row says so and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from peer import Answer, Fields
from raw import Run, assert_answer_of_the_channel
from sente_app import serving
from sente_kinds import KINDS, Pairs, ask, is_in

from chansock import Config, Request, Response, csrf

GOOD, ALSO = "http://good.example", "https://also.example"
REFERRED = ("Referer", GOOD + "/page")

each_kind = pytest.mark.parametrize("kind", KINDS)


def token(_: Request) -> str:
    return "tok123"


def asked(run: Run, kind: str, params: Pairs, fields: Fields, config: Config, **hooks: Any) -> Any:
    async def main() -> Answer:
        async with serving(config, **hooks) as served:
            answer = await ask(served.port, kind, params, fields)
            assert sum(served.chsk.stats.refused.values()) == (not is_in(answer))
            return answer

    return run(main())


# The table: each row refuses, with Sente's status and body.

TRY_LATER = Response(503, "try later", headers=(("Retry-After", "60"),))

REFUSALS: dict[str, tuple[dict[str, Any], Config, int, str]] = {
    "reject gives a response": ({"reject": lambda _: TRY_LATER}, Config(), 503, "try later"),
    "csrf: no token in the request": ({"csrf_token": token}, Config(), 403, "Bad CSRF token"),
    "csrf: no reference token at all": (
        {"csrf_token": lambda _: None},
        Config(),
        403,
        "Bad CSRF token",
    ),
    "origin: in no list": ({}, Config(allowed_origins=(GOOD,)), 403, "Unauthorized origin"),
    "authorize says no": ({"authorize": lambda _: False}, Config(), 401, "Unauthorized request"),
    # Sente's ?unauthorized-fn is deprecated; its answer is given by `reject`.
    "unauthorized-fn: reject, with a status of its own": (
        {"reject": lambda _: Response(418, "teapot")},
        Config(),
        418,
        "teapot",
    ),
}


@each_kind
@pytest.mark.parametrize("row", REFUSALS)
def test_row_of_the_table_refuses_with_sente_s_status_and_body(
    row: str, kind: str, run: Run
) -> None:
    hooks, config, status, body = REFUSALS[row]
    answer = asked(run, kind, [], [], config, **hooks)
    assert (answer.status, answer.text) == (status, body)
    assert_answer_of_the_channel(answer)
    if row == "reject gives a response":
        assert answer.header("retry-after") == "60"


@each_kind
@pytest.mark.parametrize(
    ("row", "hooks"),
    [
        ("reject gives nothing", {"reject": lambda _: None}),
        ("csrf: the check is skipped without a token function", {}),
        ("csrf: :sente/skip-CSRF-check is SKIP", {"csrf_token": lambda _: csrf.SKIP}),
        ("authorize says yes", {"authorize": lambda _: True}),
    ],
)
def test_row_of_the_table_lets_in(row: str, hooks: dict[str, Any], kind: str, run: Run) -> None:
    assert is_in(asked(run, kind, [], [], Config(), **hooks))


# Their order: of all that is wrong, the first is told.

WRONG = ("reject", "csrf", "origin", "authorize")
TOLD = {
    "reject": (503, "try later"),
    "csrf": (403, "Bad CSRF token"),
    "origin": (403, "Unauthorized origin"),
    "authorize": (401, "Unauthorized request"),
}


@each_kind
@pytest.mark.parametrize("first", WRONG)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_of_what_is_wrong_the_first_in_sente_s_order_is_told(
    first: str, is_async: bool, kind: str, run: Run
) -> None:
    wrong = WRONG[WRONG.index(first) :]
    called: list[str] = []

    def hook(name: str, value: object) -> Callable[[Request], object]:
        async def later(_: Request) -> object:
            await asyncio.sleep(0)
            called.append(name)
            return value

        def now(_: Request) -> object:
            called.append(name)
            return value

        return later if is_async else now

    hooks = {
        "reject": hook("reject", TRY_LATER if "reject" in wrong else None),
        "csrf_token": hook("csrf", "other" if "csrf" in wrong else "tok123"),
        "authorize": hook("authorize", False),
        "user_id": hook("user_id", "alice"),
    }
    origin = "http://evil.example" if "origin" in wrong else GOOD
    config = Config(allowed_origins=(GOOD,))
    answer = asked(run, kind, [("csrf-token", "tok123")], [("Origin", origin)], config, **hooks)
    assert (answer.status, answer.text) == TOLD[first]
    assert (
        called
        == {
            "reject": ["reject"],
            "csrf": ["reject", "csrf"],
            "origin": ["reject", "csrf"],
            "authorize": ["reject", "csrf", "authorize"],
        }[first]
    )


@pytest.mark.parametrize("kind", ["ws", "get"])
def test_blank_client_id_is_told_before_a_wrong_token(kind: str, run: Run) -> None:
    """Sente too looks at it first; it throws (500), here it is 400 with a sentence."""

    async def main() -> None:
        async with serving(Config(), csrf_token=token) as served:
            answer = await ask(served.port, kind, client_id="")
            assert (answer.status, answer.text) == (400, "expected a client-id, got none")

    run(main())


# Where the token is looked for: the first place that has one decides.

PLACES: dict[str, Callable[[str], tuple[Pairs, Fields]]] = {
    "param": lambda value: ([("csrf-token", value)], []),
    "x-csrf-token": lambda value: ([], [("x-csrf-token", value)]),
    "x-xsrf-token": lambda value: ([], [("x-xsrf-token", value)]),
    # Sente does not look there.
    "subprotocol": lambda value: (
        [],
        [("Sec-WebSocket-Protocol", f"chansock, csrf.{value}")],
    ),
}
NAMES = list(PLACES)


@each_kind
@pytest.mark.parametrize("place", NAMES)
def test_token_is_found_in(place: str, kind: str, run: Run) -> None:
    for value, status in (("tok123", True), ("tok12", False), ("tok1234", False), ("", False)):
        params, fields = PLACES[place](value)
        assert is_in(asked(run, kind, params, fields, Config(), csrf_token=token)) is status


@each_kind
@pytest.mark.parametrize(
    ("before", "after"), [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
)
def test_wrong_token_in_the_first_place_is_not_rescued_by_a_right_one_in(
    before: str, after: str, kind: str, run: Run
) -> None:
    for first, second, status in (
        ("wrong", "tok123", 403),
        ("", "tok123", 403),
        ("tok123", "wrong", None),
    ):
        one, two = PLACES[before](first), PLACES[after](second)
        params, fields = [*one[0], *two[0]], [*one[1], *two[1]]
        answer = asked(run, kind, params, fields, Config(), csrf_token=token)
        assert answer.status == status if status else is_in(answer)


@each_kind
def test_literal_null_of_a_client_without_a_token_is_wrong(kind: str, run: Run) -> None:
    """Sente's client sends `x-csrf-token: null` with a GET if it has none."""
    fields = [("x-csrf-token", "null")]
    assert asked(run, kind, [], fields, Config(), csrf_token=token).status == 403
    assert is_in(asked(run, kind, [], fields, Config()))


@each_kind
@pytest.mark.parametrize("value", ["", "tok123"])
def test_empty_reference_is_none_for_anybody_could_send_it(value: str, kind: str, run: Run) -> None:
    params = [("csrf-token", value)]
    answer = asked(run, kind, params, [], Config(), csrf_token=lambda _: "")
    assert (answer.status, answer.text) == (403, "Bad CSRF token")


@pytest.mark.parametrize("kind", ["get", "post"])
def test_token_beyond_ascii_is_compared_as_utf_8(kind: str, run: Run) -> None:
    params = [("csrf-token", "tök 漢字")]
    hooks = {"csrf_token": lambda _: "tök 漢字"}
    assert is_in(asked(run, kind, params, [], Config(), **hooks))


@each_kind
@pytest.mark.parametrize(
    ("reference", "place", "words"),
    [
        (None, "param", "csrf_token: expected the token to compare with, got None"),
        ("", "param", "csrf_token: expected the token to compare with, got ''"),
        (
            "tok123",
            None,
            "expected a token as param csrf-token, x-csrf-token, x-xsrf-token, "
            "Sec-WebSocket-Protocol, got none",
        ),
        ("tok123", "param", "the token of param csrf-token is not the one"),
        ("tok123", "x-csrf-token", "the token of x-csrf-token is not the one"),
        ("tok123", "x-xsrf-token", "the token of x-xsrf-token is not the one"),
        ("tok123", "subprotocol", "the token of Sec-WebSocket-Protocol is not the one"),
    ],
)
def test_log_says_what_is_wrong_with_a_token_and_shows_none(
    reference: str | None,
    place: str | None,
    words: str,
    kind: str,
    run: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    params, fields = ([], []) if place is None else PLACES[place]("s3cr3t")
    hooks = {"csrf_token": lambda _: reference}
    assert asked(run, kind, params, fields, Config(), **hooks).status == 403
    (line,) = [m for m in caplog.messages if m.startswith("refused ")]
    assert line.startswith(f"refused reason=csrf status=403: {words}")
    assert "s3cr3t" not in caplog.text
    assert "tok123" not in caplog.text


# Origins

LISTED = Config(allowed_origins=(GOOD, ALSO))

ORIGINS: dict[str, tuple[Config, Fields, bool]] = {
    "any": (Config(allowed_origins=("*",)), [("Origin", "http://evil.example")], True),
    "any, and no field": (Config(allowed_origins=("*",)), [], True),
    "in the list": (LISTED, [("Origin", GOOD)], True),
    "second of the list": (LISTED, [("Origin", ALSO)], True),
    "another": (LISTED, [("Origin", "http://evil.example")], False),
    "another scheme": (LISTED, [("Origin", "https://good.example")], False),
    "another port": (LISTED, [("Origin", GOOD + ":8080")], False),
    "another case": (LISTED, [("Origin", "http://Good.example")], False),
    "with a slash": (LISTED, [("Origin", GOOD + "/")], False),
    "null": (LISTED, [("Origin", "null")], False),
    "empty": (LISTED, [("Origin", "")], False),
    "two fields": (LISTED, [("Origin", GOOD), ("Origin", GOOD)], False),
    "Referer under it, without Origin": (LISTED, [REFERRED], True),
    "Referer is it with a slash": (LISTED, [("Referer", GOOD + "/")], True),
    "Referer is it without a slash": (LISTED, [("Referer", GOOD)], False),
    "Referer starts with it": (LISTED, [("Referer", GOOD + ".evil.example/")], False),
    "Referer has it in its path": (LISTED, [("Referer", f"http://evil.example/{GOOD}/")], False),
    "Referer does not rescue a wrong Origin": (
        LISTED,
        [("Origin", "http://evil.example"), REFERRED],
        False,
    ),
    "neither field": (LISTED, [], False),
}


@each_kind
@pytest.mark.parametrize("row", ORIGINS)
def test_origin(row: str, kind: str, run: Run) -> None:
    config, fields, is_allowed = ORIGINS[row]
    answer = asked(run, kind, [], fields, config)
    if is_allowed:
        assert is_in(answer)
    else:
        assert (answer.status, answer.text) == (403, "Unauthorized origin")


# Subdomains, which Sente's list has not

WILD = Config(
    allowed_origins=("https://*.example.com", "http://*.dev.example:8080", "https://example.org")
)

UNDER = {
    "https://a.example.com": True,
    "https://www-1.example.com": True,
    "https://a_b.example.com": True,
    "https://xn--bcher-kva.example.com": True,
    "https://a.b.c.example.com": True,  # any depth, as in CSP and in nginx
    "http://a.dev.example:8080": True,
    "https://example.org": True,
    "https://example.com": False,  # name it too, if it is meant
    "https://evil-example.com": False,
    "https://evilexample.com": False,
    "https://.example.com": False,
    "https://a..example.com": False,
    "https://a.example.com.evil.net": False,
    "https://evil.net/.example.com": False,
    "https://evil.net?.example.com": False,
    "https://evil.net#.example.com": False,
    "https://evil.net:443.example.com": False,
    "https://u@evil.net@a.example.com": False,
    "https://evil.net\\.example.com": False,
    "https://a b.example.com": False,
    "https://aXexample.com": False,
    "https://a.exampleXcom": False,
    "https://a.example.com:8443": False,
    "http://a.example.com": False,
    "https://A.example.com": False,
    "https://a.Example.com": False,
    "https://a.example.com/": False,
    "https://*.example.com": False,
    "http://a.dev.example": False,
    "https://a.example.org": False,
    "null": False,
}


@each_kind
def test_origin_under_a_wildcard(kind: str, run: Run) -> None:
    async def main() -> None:
        async with serving(WILD) as served:
            for origin, is_allowed in UNDER.items():
                answer = await ask(served.port, kind, [], [("Origin", origin)])
                assert is_in(answer) is is_allowed, origin
                # What the page may read agrees with what it may ask.
                told = answer.header("access-control-allow-origin")
                if answer.status != 101:
                    assert told == (origin if is_allowed else None)
                    credentials = answer.header("access-control-allow-credentials")
                    assert credentials == ("true" if is_allowed else None)
                    assert answer.header("vary") == "Origin"

    run(main())


def test_preflight_of_an_origin_under_a_wildcard(run: Run) -> None:
    async def main() -> None:
        async with serving(WILD) as served, served.peer() as wire:
            for origin, is_allowed in UNDER.items():
                fields = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
                answer = await wire.ask("OPTIONS", "/chsk", fields)
                assert answer.status == (204 if is_allowed else 403), origin
                told = answer.header("access-control-allow-origin")
                assert told == (origin if is_allowed else None)

    run(main())


@each_kind
@pytest.mark.parametrize(
    ("referer", "is_allowed"),
    [
        ("https://a.example.com/", True),
        ("https://a.b.example.com/page?q=https://evil.net/", True),
        ("https://a.example.com", False),
        ("https://example.com/", False),
        ("https://evil-example.com/", False),
        ("https://evil.net/a.example.com/", False),
        ("https://evil.net/https://a.example.com/", False),
        ("https://a.example.com.evil.net/", False),
        ("https://a.example.com:8443/", False),
        ("//a.example.com/", False),
        ("evil.net/https://a.example.com/", False),
    ],
)
def test_referer_under_a_wildcard(referer: str, is_allowed: bool, kind: str, run: Run) -> None:
    assert is_in(asked(run, kind, [], [("Referer", referer)], WILD)) is is_allowed


def test_star_beside_a_wildcard_lets_all_in_and_only_the_named_with_cookies(run: Run) -> None:
    config = Config(allowed_origins=("*", "https://*.example.com"))

    async def main() -> None:
        async with serving(config) as served:
            named = await ask(served.port, "get", [], [("Origin", "https://a.example.com")])
            assert named.header("access-control-allow-credentials") == "true"
            other = await ask(served.port, "get", [], [("Origin", "https://evil-example.com")])
            assert is_in(other)
            assert other.header("access-control-allow-origin") == "*"
            assert other.header("access-control-allow-credentials") is None

    run(main())
