"""Bad input over Ajax: its answer, its counter, its log line, and nobody else disturbed."""

from __future__ import annotations

import logging

import pytest
from raw import DUMMY, POLL, SHAKE, Run, assert_refusal, config, handshake, post, records
from sente_app import serving

from chansock import Config
from chansock.packers import EDN, Gzip


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


JUNK: dict[str, tuple[str, list[tuple[str, str]], bytes, int]] = {
    "over-long client-id": (
        "/chsk?client-id=" + "x" * 257,
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"ppstr=nil",
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


def test_zeros_behind_a_binary_packet_do_not_count_against_its_size(run: Run) -> None:
    # Sente's MessagePack client posts its whole buffer, up to twice what it holds.
    target = "/chsk?client-id=a&binary%3F=true"
    fields = [("Content-Type", "application/octet-stream")]
    packet = b"\0[[:test/req 1] 0]"  # of Gzip, unpressed

    async def main() -> None:
        async with (
            serving(config(max_message_bytes=2000), packer=Gzip(EDN())) as served,
            served.peer() as wire,
        ):
            answer = await wire.ask("POST", target, fields, packet.ljust(4000, b"\0"))
            assert (answer.status, answer.body) == (200, b"\0[1 nil]")
            too_long = packet.ljust(2000, b"\0") + b" "
            assert_refusal(await wire.ask("POST", target, fields, too_long), 413)

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


@pytest.mark.parametrize(
    ("request_of", "log_id"), [("POST", "stale_post"), ("GET", "poll_without_session")]
)
def test_request_that_comes_to_another_process_than_its_handshake_names_the_cause(
    request_of: str, log_id: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            serving(config()) as one,
            serving(config()) as other,
            one.peer() as alice,
            other.peer() as wire,
        ):
            await handshake(alice)
            if request_of == "POST":
                answer = await post(wire, "[[:test/req 1] nil]", n="1-1")
                assert (answer.status, answer.text) == (410, "the handshake of this POST is over")
            else:
                assert (await wire.ask("GET", POLL)).text.startswith("[[:chsk/handshake ")

    run(main())
    (line,) = [each.getMessage() for each in caplog.records if log_id in each.getMessage()]
    assert "several processes seem to serve one channel: run one" in line
    assert "--workers 1" in line


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
