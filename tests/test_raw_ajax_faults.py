"""Bad input over Ajax: its answer, its counter, its log line, and nobody else disturbed."""

from __future__ import annotations

import logging

import pytest
from raw import DUMMY, POLL, SHAKE, Run, assert_refusal, config, handshake, post, records
from sente_app import serving

from chansock import Config


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


BAD_PACKETS = {
    "undecodable": "[[:test/req",
    "no edn": "not edn )(",
    "unknown tag": "[[:test/req #foo/bar 1] :ajax]",
    "map envelope": "{:a 1}",
    "keyword envelope": ":foo",
    "number envelope": "42",
    "old prefix": "-[:test/req 1]",
}


@pytest.mark.parametrize("case", BAD_PACKETS)
def test_bad_packet_is_400_with_one_line_that_says_what_was_expected(
    case: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice, served.peer() as bob:
            await handshake(alice)
            assert (await post(alice, "[[:test/echo 1] nil]")).text == DUMMY
            answer = await post(alice, BAD_PACKETS[case])
            assert_refusal(answer, 400)
            assert served.chsk.stats.bad_packet == 1
            assert (await post(alice, "[[:test/echo 2] nil]")).text == DUMMY
            assert (await post(bob, "[[:test/req 3] 0]", "bob/1")).text == "[3 nil]"
            assert (await alice.ask("GET", POLL)).text == "[[[:test/echo 1] [:test/echo 2]] nil]"

    run(main())
    assert records(caplog, "bad_packet") == 1


@pytest.mark.parametrize(
    "packet", ["", "nil", "[]", "[[:foo 1] nil]", "[[:a/b 1 2] nil]", "[(:test/req 1) nil]"]
)
def test_bad_event_is_dropped_and_answered_as_sente_does(
    packet: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await post(alice, packet)
            assert (answer.status, answer.text) == (200, DUMMY)
            assert served.chsk.stats.bad_event == 1

    run(main())
    assert records(caplog, "bad_event") == 1


@pytest.mark.parametrize(
    "event", ['[:chsk/uidport-open "evil"]', "[:chsk/close]", "[:chsk/bad-event 1]"]
)
def test_forged_event_does_not_reach_the_application(
    event: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        seen: list[object] = []
        async with serving(config()) as served, served.peer() as alice:
            served.chsk.on("chsk/uidport-open", seen.append)
            assert (await post(alice, f"[{event} nil]")).text == DUMMY
            assert (await post(alice, f"[{event} :ajax]")).text == "[:chsk/error nil]"
            assert seen == []
            assert served.chsk.stats.forged == 2

    run(main())
    assert records(caplog, "forged_event") >= 1


def test_post_without_ppstr_is_an_empty_packet(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await alice.post_form("/chsk", [("client-id", "alice/1")])
            assert (answer.status, answer.text) == (200, DUMMY)
            assert served.chsk.stats.bad_event == 1

    run(main())


JUNK: dict[str, tuple[str, list[tuple[str, str]], bytes, int]] = {
    "ppstr twice": (
        "/chsk?client-id=a",
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=%5B%5B%3Atest%2Freq%201%5D%200%5D&ppstr=nil",
        400,
    ),
    "binary body to a text packer": (
        "/chsk?client-id=a&binary%3F=true",
        [("Content-Type", "application/octet-stream")],
        b"\x92\x92",
        400,
    ),
    "no client-id": (
        "/chsk",
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=%5B%5B%3Atest%2Freq%201%5D%200%5D",
        400,
    ),
    "client-id twice": (
        "/chsk?client-id=a&client-id=b",
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=nil",
        400,
    ),
    "over-long client-id": (
        "/chsk?client-id=" + "x" * 257,
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=nil",
        400,
    ),
    "form with another content type": (
        "/chsk",
        [("Content-Type", "text/plain")],
        b"client-id=a&ppstr=%5B%5B%3Atest%2Freq%201%5D%200%5D",
        400,
    ),
    "packet over the limit": (
        "/chsk?client-id=a",
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=" + b"x" * 2001,
        413,
    ),
    "body over any limit": (
        "/chsk?client-id=a",
        [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "1000000")],
        b"",
        413,
    ),
}


@pytest.mark.parametrize("case", JUNK)
def test_junk_by_post_is_refused_with_one_line(case: str, run: Run) -> None:
    target, fields, body, status = JUNK[case]

    async def main() -> None:
        async with (
            serving(config(max_message_bytes=2000)) as served,
            served.peer() as wire,
            served.peer() as bob,
        ):
            assert_refusal(await wire.ask("POST", target, fields, body), status)
            assert (await post(bob, "[[:test/req 3] 0]", "bob/1")).text == "[3 nil]"

    run(main())


@pytest.mark.parametrize("case", JUNK)
def test_junk_by_post_is_counted_and_logged_once(
    case: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    target, fields, body, _ = JUNK[case]

    async def main() -> None:
        async with serving(config(max_message_bytes=2000)) as served, served.peer() as wire:
            await wire.ask("POST", target, fields, body)
            assert sum(served.chsk.stats.refused.values()) == 1

    run(main())
    assert records(caplog, "refused") == 1


@pytest.mark.parametrize("target", ["/chsk", "/chsk?client-id=", "/chsk?client-id=" + "x" * 257])
def test_get_without_a_good_client_id_is_400(
    target: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await wire.ask("GET", target)
            assert_refusal(answer, 400)
            assert answer.text.startswith("expected a client-id")
            assert sum(served.chsk.stats.refused.values()) == 1

    run(main())
    assert records(caplog, "refused") == 1


@pytest.mark.parametrize("hook", ["user_id", "authorize", "reject", "csrf_token", "handshake_data"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hook_that_raises_is_500_and_tells_the_client_nothing(
    hook: str, method: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("secret of the application")

    async def main() -> None:
        async with serving(config(), **{hook: fails}) as served, served.peer() as wire:
            if method == "GET":
                answer = await wire.ask("GET", SHAKE)
            else:
                answer = await post(wire, "[[:test/req 1] 0]")
            if (method, hook) == ("POST", "handshake_data"):
                assert answer.text == "[1 nil]"  # a POST has no handshake
                return
            assert_refusal(answer, 500)
            assert "secret" not in answer.text
            assert records(caplog, "hook_error") == 1

    run(main())


@pytest.mark.parametrize("uid", [1.5, "", True, ("a", 1)])
def test_user_id_of_a_wrong_type_is_500_and_a_log_line(
    uid: object, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config(), user_id=lambda _: uid) as served, served.peer() as wire:
            assert_refusal(await wire.ask("GET", SHAKE), 500)
            assert len(served.chsk.connected.any) == 0

    run(main())
    assert records(caplog, "bad_user_id") == 1


def test_csrf_token_may_stand_in_the_form(run: Run) -> None:
    async def main() -> None:
        async with serving(config(), csrf_token=lambda _: "tok") as served, served.peer() as wire:
            right = await post(wire, "[[:test/req 1] 0]", **{"csrf-token": "tok"})
            assert right.text == "[1 nil]"
            wrong = await post(wire, "[[:test/req 1] 0]", **{"csrf-token": "tok2"})
            assert (wrong.status, wrong.text) == (403, "Bad CSRF token")
            none = await post(wire, "[[:test/req 1] 0]")
            assert (none.status, none.text) == (403, "Bad CSRF token")

    run(main())


def test_handler_that_raises_is_answered_error_with_200(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await post(alice, "[[:test/throw] :ajax]")
            assert (answer.status, answer.text) == (200, "[:chsk/error nil]")
            assert (await post(alice, "[[:test/throw] nil]")).text == DUMMY

    run(main())
    assert records(caplog, "handler_error") == 2


def test_ws_ping_by_post_is_an_event_without_a_pong(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            assert (await post(alice, "[[:chsk/ws-ping] nil]")).text == DUMMY

    run(main())


def test_method_that_the_channel_has_not_is_405(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await wire.ask("DELETE", POLL)
            assert answer.status == 405
            assert answer.header("allow") is not None

    run(main())


@pytest.mark.parametrize("leak", ["tok-secret", "cookie-secret", "query-secret"])
def test_no_secret_of_a_request_stands_in_any_log_record(
    leak: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fields = [("Cookie", "session=cookie-secret"), ("X-CSRF-Token", "tok-secret")]
    target = SHAKE + "&q=query-secret&csrf-token=tok-secret"

    async def main() -> None:
        for hooks in ({}, {"csrf_token": lambda _: "other"}, {"authorize": lambda _: False}):
            async with serving(config(), **hooks) as served, served.peer() as wire:
                await wire.ask("GET", target, fields)
                await wire.ask("GET", "/nowhere?q=query-secret", fields)
                await wire.upgrade(target, fields)
        async with serving(Config(), user_id=_raises) as served, served.peer() as wire:
            await wire.ask("GET", target, [*fields, ("Origin", "http://evil.example")])
            await wire.ask("GET", target, fields)

    run(main())
    text = "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    assert leak not in text


def _raises(_: object) -> None:
    raise RuntimeError("no")
