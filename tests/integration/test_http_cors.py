"""CORS: what a page of another origin is told over Ajax, by the rules of the Fetch standard."""

from __future__ import annotations

import asyncio

import pytest
from peer import Answer, Peer
from raw import DUMMY, POLL, SHAKE, Poll, Run, assert_refusal, config, handshake, post, round_trip
from sente_app import serving

from chansock import Config, Response

PAGE = "https://app.example:8443"
ORIGIN = ("Origin", PAGE)
EVIL = ("Origin", "https://evil.example")
ASKED = "content-type,x-csrf-token,x-requested-with"  # as Chromium asks for chansock.js
NAMED = Config(allowed_origins=("https://www.example", PAGE), flush_delay_ajax=0.005)
OWN = {"content-type", "x-csrf-token", "x-xsrf-token", "x-requested-with"}


def allow(answer: Answer) -> dict[str, str]:
    """The fields of CORS in an answer, each at most once."""
    names = [name.lower() for name, _ in answer.headers if name.lower().startswith("access-")]
    assert len(names) == len(set(names))
    return {name: answer.header(name) or "" for name in names}


def assert_readable(answer: Answer) -> None:
    """The page may read it, with its cookies, and no cache may give it to another."""
    assert allow(answer) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
    }
    assert answer.header("vary") == "Origin"


async def preflight(
    wire: Peer, origin: tuple[str, str] = ORIGIN, asked: str | None = ASKED, method: str = "POST"
) -> Answer:
    fields = [origin, ("Access-Control-Request-Method", method)]
    if asked is not None:
        fields.append(("Access-Control-Request-Headers", asked))
    return await wire.ask("OPTIONS", POLL, fields)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_preflight_of_an_allowed_origin_is_told_what_it_may_send(method: str, run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            answer = await preflight(wire, method=method)
            assert (answer.status, answer.body) == (204, b"")
            told = allow(answer)
            assert set(told.pop("access-control-allow-headers").split(", ")) == OWN
            assert told == {
                "access-control-allow-origin": PAGE,
                "access-control-allow-credentials": "true",
                "access-control-allow-methods": "GET, POST",
                "access-control-max-age": "7200",
            }
            assert answer.header("vary") == "Origin"
            assert answer.header("content-length") is None
            assert (await wire.ask("GET", "/a")).status == 404  # the connection goes on

    run(main())


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (None, set()),
        ("", set()),
        ("X-CSRF-Token, Authorization", {"authorization"}),
        ("x-app-version , traceparent", {"x-app-version", "traceparent"}),
        ("x-a(b, x-ok, x y, é", {"x-ok"}),
        (",".join(f"x-{k}" for k in range(100)), {f"x-{k}" for k in range(32)}),
    ],
)
def test_preflight_is_granted_the_fields_that_it_asks_for(
    asked: str | None, more: set[str], run: Run
) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            answer = await preflight(wire, asked=asked)
            told = allow(answer)["access-control-allow-headers"].split(", ")
            assert set(told) == OWN | more
            assert len(told) == len(set(told))

    run(main())


def test_preflight_runs_no_hook(run: Run) -> None:
    def fails(_: object) -> None:
        raise AssertionError("a preflight has no cookie")

    hooks = dict.fromkeys(("user_id", "authorize", "reject", "csrf_token"), fails)

    async def main() -> None:
        async with serving(NAMED, **hooks) as served, served.peer() as wire:
            assert (await preflight(wire)).status == 204

    run(main())


def test_preflight_of_another_host_is_refused(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            fields = [ORIGIN, ("Access-Control-Request-Method", "POST"), ("Host", "evil.example")]
            assert_refusal(await wire.ask("OPTIONS", POLL, fields), 403)
            assert served.chsk.stats.refused == {"host": 1}

    run(main())


@pytest.mark.parametrize("settings", [Config(), NAMED])
@pytest.mark.parametrize("value", ["https://evil.example", "null", PAGE + ".evil.example", "*"])
def test_preflight_of_another_origin_is_refused_and_told_nothing(
    settings: Config, value: str, run: Run
) -> None:
    async def main() -> None:
        async with serving(settings) as served, served.peer() as wire:
            answer = await preflight(wire, ("Origin", value))
            assert_refusal(answer, 403)
            assert answer.text == "Unauthorized origin"
            assert allow(answer) == {}
            assert served.chsk.stats.refused == {"origin": 1}

    run(main())


def test_without_allowed_origins_even_the_own_origin_needs_no_preflight(run: Run) -> None:
    async def main() -> None:
        async with serving(Config()) as served, served.peer() as wire:
            assert_refusal(await preflight(wire, ("Origin", f"http://{wire.host}")), 403)

    run(main())


def test_without_allowed_origins_no_answer_has_a_field_of_cors(run: Run) -> None:
    async def main() -> None:
        async with serving(Config()) as served, served.peer() as wire:
            for field in (("Origin", f"http://{wire.host}"), EVIL, ("X-A", "b")):
                for target in (SHAKE, "/chsk"):
                    answer = await wire.ask("GET", target, [field])
                    assert allow(answer) == {}
                    assert answer.header("vary") is None

    run(main())


async def form(wire: Peer, packet: str, *fields: tuple[str, str]) -> Answer:
    return await wire.post_form("/chsk", [("client-id", "alice/1"), ("ppstr", packet)], fields)


def test_every_answer_to_an_allowed_origin_can_be_read(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            assert_readable(await wire.ask("GET", SHAKE, [ORIGIN]))
            answer = await form(wire, "[[:test/echo 1] nil]", ORIGIN)
            assert answer.text == DUMMY
            assert_readable(answer)
            answer = await form(wire, "[[:test/req-slow 1] :ajax]", ORIGIN)
            assert answer.text == "[1 nil]"
            assert_readable(answer)
            answer = await wire.ask("GET", POLL, [ORIGIN])
            assert answer.text == "[[[:test/echo 1]] nil]"
            assert_readable(answer)

    run(main())


def test_every_refusal_of_an_allowed_origin_can_be_read(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED, csrf_token=lambda _: "tok") as served:
            large = ("Content-Length", "99999999")
            for status, method, target, fields in (
                (400, "GET", "/chsk", [ORIGIN]),
                (403, "GET", SHAKE, [ORIGIN]),
                (403, "POST", "/chsk?client-id=a", [ORIGIN]),
                (405, "PUT", "/chsk", [ORIGIN]),
                (413, "POST", "/chsk", [ORIGIN, large]),
                (426, "GET", SHAKE, [ORIGIN, ("Upgrade", "websocket"), ("Connection", "upgrade")]),
                (501, "POST", "/chsk", [ORIGIN, ("Transfer-Encoding", "gzip")]),
            ):
                async with served.peer() as wire:
                    answer = await wire.ask(method, target, fields)
                    assert answer.status == status
                    assert_readable(answer)

    run(main())


def test_refusal_by_a_hook_keeps_its_own_fields(run: Run) -> None:
    own = (("access-control-allow-origin", "https://other.example"), ("Vary", "Cookie"))

    async def main() -> None:
        reject = {"reject": lambda _: Response(429, "later", headers=own)}
        async with serving(NAMED, **reject) as served, served.peer() as wire:
            answer = await wire.ask("GET", SHAKE, [ORIGIN])
            assert answer.status == 429
            assert allow(answer)["access-control-allow-origin"] == "https://other.example"
            assert [v for n, v in answer.headers if n == "Vary"] == ["Origin", "Cookie"]

    run(main())


def test_hook_that_raises_is_a_500_that_can_be_read(run: Run) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("no")

    async def main() -> None:
        async with serving(NAMED, user_id=fails) as served, served.peer() as wire:
            answer = await wire.ask("GET", SHAKE, [ORIGIN])
            assert_refusal(answer, 500)
            assert_readable(answer)

    run(main())


def test_slow_body_gets_a_408_that_can_be_read(run: Run) -> None:
    async def main() -> None:
        settings = Config(allowed_origins=(PAGE,), body_timeout=0.05)
        async with serving(settings) as served, served.peer() as wire:
            answer = await wire.ask("POST", "/chsk", [ORIGIN, ("Content-Length", "9")])
            assert_refusal(answer, 408)
            assert_readable(answer)

    run(main())


def test_poll_that_ends_with_503_can_be_read(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            await wire.ask("GET", SHAKE, [ORIGIN])
            ends = asyncio.create_task(wire.ask("GET", POLL, [ORIGIN]))
            await round_trip(served)
            served.chsk.disconnect("alice")
            answer = await ends
            assert_refusal(answer, 503)
            assert_readable(answer)

    run(main())


def test_another_origin_is_refused_and_cannot_read_why(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            for field in (EVIL, ("Origin", "null"), ("Origin", "https://app.example")):
                answer = await wire.ask("GET", SHAKE, [field])
                assert_refusal(answer, 403)
                assert allow(answer) == {}
                assert answer.header("vary") == "Origin"
            answer = await wire.ask("GET", SHAKE, [ORIGIN, EVIL])
            assert_refusal(answer, 403)
            assert allow(answer) == {}

    run(main())


def test_one_connection_may_serve_several_origins(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            for origin in (PAGE, "https://www.example", PAGE):
                answer = await wire.ask("GET", SHAKE, [("Origin", origin)])
                assert allow(answer)["access-control-allow-origin"] == origin
            assert allow(await wire.ask("GET", "/nowhere", [ORIGIN])) == {}

    run(main())


def test_star_lets_any_page_read_but_none_with_cookies(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            for origin in (PAGE, "https://evil.example", "null"):
                answer = await preflight(wire, ("Origin", origin))
                told = allow(answer)
                assert answer.status == 204
                assert told["access-control-allow-origin"] == "*"
                assert "access-control-allow-credentials" not in told
                answer = await wire.ask("GET", SHAKE, [("Origin", origin)])
                assert allow(answer) == {"access-control-allow-origin": "*"}

    run(main())


def test_origin_named_beside_star_may_send_cookies(run: Run) -> None:
    async def main() -> None:
        async with serving(config(allowed_origins=("*", PAGE))) as served, served.peer() as wire:
            assert_readable(await wire.ask("GET", SHAKE, [ORIGIN]))
            answer = await wire.ask("GET", SHAKE, [EVIL])
            assert allow(answer) == {"access-control-allow-origin": "*"}

    run(main())


def test_options_without_a_question_is_405(run: Run) -> None:
    async def main() -> None:
        async with serving(NAMED) as served, served.peer() as wire:
            for fields in ([ORIGIN], [("Access-Control-Request-Method", "POST")]):
                assert (await wire.ask("OPTIONS", POLL, fields)).status == 405

    run(main())


def test_clients_without_an_origin_are_none_of_its_business(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await handshake(wire)
            assert allow(answer) == {}
            assert (await post(wire, "[[:test/req 1] :ajax]")).text == "[1 nil]"
            poll = await Poll.park(served)
            served.chsk.send("alice", "test/note", 1)
            assert await poll.text() == "[[[:test/note 1]] nil]"

    run(main())
