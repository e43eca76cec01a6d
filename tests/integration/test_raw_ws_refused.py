"""WebSockets that are refused before their 101, and what the client is told."""

from __future__ import annotations

import asyncio
import logging

import peer
import pytest
from raw import Run, assert_answer_of_the_channel, records
from sente_app import serving

from chansock import Config


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


ALICE = "/chsk?client-id=alice%2F1"
NO_BODY = "expected no body in the request for a WebSocket"


@pytest.mark.parametrize(
    "target",
    ["/chsk", "/chsk?client-id=", "/chsk?client-id=%20", f"/chsk?client-id={'x' * 257}"],
)
def test_missing_or_over_long_client_id_is_400(
    target: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket("bob/1") as bob, served.peer() as alice:
            answer = await alice.upgrade(target)
            assert answer.status == 400
            assert answer.text.startswith("expected a client-id")
            assert "\n" not in answer.text.strip()
            assert_answer_of_the_channel(answer)
            await bob.say('[[:test/req 3] "c"]')
            assert await bob.text() == '[3 "c"]'
            assert sum(served.chsk.stats.refused.values()) == 1

    run(main())
    assert records(caplog, "refused") == 1


def test_client_id_of_256_characters_is_taken(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket("x" * 256):
            pass

    run(main())


@pytest.mark.parametrize("hook", ["user_id", "handshake_data", "authorize", "reject", "csrf_token"])
@pytest.mark.parametrize("is_async", [False, True])
def test_hook_that_raises_is_500_and_tells_the_client_nothing(
    hook: str, is_async: bool, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("secret of the application")

    async def fails_later(_: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("secret of the application")

    async def main() -> None:
        hooks = {hook: fails_later if is_async else fails}
        async with serving(**hooks) as served, served.peer() as alice:
            answer = await alice.upgrade(ALICE)
            assert answer.status == 500
            assert "secret" not in answer.text
            assert_answer_of_the_channel(answer)

    run(main())
    assert records(caplog, "hook_error") == 1


@pytest.mark.parametrize("uid", [1.5, "", "x" * 257, True, ("a", 1), b"alice"])
def test_user_id_of_a_wrong_type_is_500_and_a_log_line(
    uid: object, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(user_id=lambda _: uid) as served, served.peer() as alice:
            answer = await alice.upgrade(ALICE)
            assert answer.status == 500
            assert len(served.chsk.connected.any) == 0

    run(main())
    assert records(caplog, "bad_user_id") == 1


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 101),
        ("http://evil.example", 403),
        ("null", 403),
        ("https://evil.example:{port}", 403),
    ],
)
def test_origin_of_another_site_is_403(origin: str, status: int, run: Run) -> None:
    async def main() -> None:
        async with serving(Config()) as served, served.peer() as alice:
            value = origin.format(host=alice.host, port=served.port)
            answer = await alice.upgrade(ALICE, [("Origin", value)])
            assert answer.status == status
            if status == 403:
                assert "evil" not in answer.text or "allowed_origins" in answer.text

    run(main())


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("Sec-WebSocket-Version", "8")], 426),
        ([("Sec-WebSocket-Key", "short")], 400),
    ],
)
def test_upgrade_that_rfc_6455_forbids_is_refused(
    fields: list[tuple[str, str]], status: int, run: Run
) -> None:
    async def main() -> None:
        good = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with serving() as served, served.peer() as alice:
            answer = await alice.ask("GET", ALICE, list({**good, **dict(fields)}.items()))
            assert answer.status == status

    run(main())


@pytest.mark.parametrize(
    ("field", "body"),
    [
        (("Content-Length", "5"), b"hello"),
        (("Content-Length", "0"), b""),
        (("Transfer-Encoding", "chunked"), b"5\r\nhello\r\n0\r\n\r\n"),
        (("Transfer-Encoding", "chunked"), b"0\r\n\r\n"),
    ],
)
def test_upgrade_with_a_body_is_refused_and_the_connection_stays_in_step(
    field: tuple[str, str], body: bytes, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as alice:
            fields = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                field,
            ]
            await alice.send(peer.request("GET", ALICE, fields, host=alice.host) + body)
            answer = await alice.answer()
            if field == ("Content-Length", "0"):
                assert answer.status == 101
                return
            assert (answer.status, answer.text) == (400, NO_BODY)
            assert (await alice.upgrade(ALICE)).status == 101

    run(main())


def test_reset_socket_is_a_cut_and_leaves_the_others_alone(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), grace_ws=0)
        async with serving(config) as served, served.socket("bob/1") as bob:
            gone: asyncio.Queue[object] = asyncio.Queue()
            served.chsk.on("chsk/uidport-close", lambda msg: gone.put_nowait(msg.uid))
            async with served.socket("alice/1") as alice:
                alice.reset()
                assert await gone.get() == "alice"
            assert served.chsk.stats.cut == 1
            assert served.chsk.stats.closed[1006] == 1
            await bob.say('[[:test/req 3] "c"]')
            assert await bob.text() == '[3 "c"]'

    run(main())
