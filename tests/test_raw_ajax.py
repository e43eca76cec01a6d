"""The capabilities over Ajax, by a peer that knows only RFC 9112's bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import peer
import pytest
from peer import Answer, Peer
from sente_app import Served, serving

import chansock
from chansock import Config

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ALICE = "/chsk?udt=1&client-id=alice%2F1"
SHAKE = ALICE + "&handshake%3F=1"

WHO = ("alice", "bob")

DUMMY = "[:chsk/dummy-cb-200 nil]"


def config(**settings: Any) -> Config:
    """Sente's default origins; pushes gathered for less than its 0.1 s, for the tests' sake."""
    return Config(**{"allowed_origins": ("*",), "flush_delay_ajax": 0.005, **settings})


async def handshake(client: Peer, target: str = SHAKE) -> Answer:
    answer = await client.ask("GET", target)
    assert answer.status == 200, answer
    assert answer.text.startswith("[[:chsk/handshake [")
    return answer


async def post(client: Peer, packet: str, client_id: str = "alice/1", **more: str) -> Answer:
    fields = [("udt", "2"), ("client-id", client_id), ("ppstr", packet), *more.items()]
    return await client.post_form("/chsk", fields)


class Poll:
    """A GET that is parked, on a connection of its own."""

    def __init__(self, wire: Peer) -> None:
        self.wire = wire
        self.answer = asyncio.create_task(wire.answer())

    @classmethod
    async def park(cls, served: Served, target: str = ALICE) -> Poll:
        """Send it, and come back when the server has read it."""
        wire = await Peer.connect(served.port)
        await wire.send(peer.request("GET", target, host=wire.host))
        await _round_trip(served)
        return cls(wire)

    async def drop(self, how: Callable[[], None] | None = None) -> None:
        """Leave without an answer: by FIN, or as told."""
        self.answer.cancel()
        await asyncio.gather(self.answer, return_exceptions=True)
        (how or self.wire.fin)()
        assert await self.wire.rest() == b""
        await self.wire.close()

    async def text(self) -> str:
        answer = await self.answer
        await self.wire.close()
        assert answer.status == 200
        return answer.text


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


# -- the table's rows


def test_connect_is_a_handshake_get_answered_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await alice.ask("GET", SHAKE)
            assert (answer.status, answer.reason) == (200, "OK")
            assert answer.text == '[[:chsk/handshake ["alice" nil nil]] nil]'
            assert answer.header("content-type") == "application/edn"
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("cache-control") == "no-store"

    run(main())


def test_client_without_a_user_shakes_hands_as_nil_uid(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as nobody:
            answer = await nobody.ask("GET", "/chsk?client-id=abc&handshake%3F=true")
            assert answer.text == "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"

    run(main())


def test_get_of_an_unknown_client_is_a_handshake_without_being_asked(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await alice.ask("GET", ALICE)
            assert answer.text == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())


def test_post_without_callback_is_answered_dummy_and_its_push_comes_by_the_poll(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            answer = await post(alice, "[[:test/echo {:a 1}] nil]")
            assert (answer.status, answer.text) == (200, DUMMY)
            assert await poll.text() == "[[[:test/echo {:a 1}]] nil]"

    run(main())


@pytest.mark.parametrize("flag", [":ajax", "0", "true", '"x"'])
def test_post_with_callback_is_answered_with_the_reply(flag: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            for event in ("req", "req-slow"):
                answer = await post(alice, f"[[:test/{event} {{:x [1 2 3]}}] {flag}]")
                assert (answer.status, answer.text) == (200, "[{:x [1 2 3]} nil]")

    run(main())


def test_post_works_for_a_client_that_never_polled_and_connects_nobody(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await post(alice, "[[:test/uids] :ajax]")
            assert answer.text == "[{:ws #{}, :ajax #{}, :any #{}} nil]"

    run(main())


def test_unanswered_post_gets_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.05)) as served, served.peer() as alice:
            answer = await post(alice, "[[:test/no-reply] :ajax]")
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    run(main())


def test_poll_with_nothing_to_say_gets_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.05)) as served, served.peer() as alice:
            await handshake(alice)
            answer = await alice.ask("GET", ALICE)
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    run(main())


def test_server_pushes_to_all_clients_of_a_user_by_their_polls(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            polls = []
            for number in (1, 2):
                target = f"/chsk?client-id=alice%2F{number}"
                await handshake(wire, target + "&handshake%3F=1")
                polls.append(await Poll.park(served, target))
            served.chsk.send("alice", "test/note", 1)
            served.chsk.send(chansock.ALL, "test/note", 2)
            texts = [await poll.text() for poll in polls]
            assert texts == ["[[[:test/note 1] [:test/note 2]] nil]"] * 2

    run(main())


def test_push_between_handshake_and_poll_waits_for_the_poll(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            served.chsk.send("alice", "test/note", 1)
            answer = await alice.ask("GET", ALICE)
            assert answer.text == "[[[:test/note 1]] nil]"

    run(main())


def test_presence_comes_with_the_second_get(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            told: asyncio.Queue[str] = asyncio.Queue()
            served.chsk.on("chsk/uidport-open", lambda msg: told.put_nowait(f"+{msg.uid}"))
            await handshake(alice)
            assert (await post(alice, "[[:test/uids] :ajax]")).text == (
                "[{:ws #{}, :ajax #{}, :any #{}} nil]"
            )
            poll = await Poll.park(served)
            assert await told.get() == "+alice"
            assert (await post(alice, "[[:test/uids] :ajax]")).text == (
                '[{:ws #{}, :ajax #{"alice"}, :any #{"alice"}} nil]'
            )
            await poll.drop()

    run(main())


def test_dropped_poll_is_noticed_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving(config(grace_ajax=0.01)) as served, served.peer() as alice:
            gone: asyncio.Queue[object] = asyncio.Queue()
            served.chsk.on("chsk/uidport-close", lambda msg: gone.put_nowait(msg.uid))
            await handshake(alice)
            poll = await Poll.park(served)
            await poll.drop(poll.wire.reset)
            assert await gone.get() == "alice"

    run(main())


def test_push_after_a_dropped_poll_comes_with_the_next(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            await poll.drop()
            served.chsk.send("alice", "test/note", 1)
            await handshake(alice)
            assert (await alice.ask("GET", ALICE)).text == "[[[:test/note 1]] nil]"

    run(main())


def test_disconnect_ends_the_poll_with_503_and_a_new_handshake_goes_on(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            assert (await post(alice, "[[:test/close-me] nil]")).text == DUMMY
            assert (await poll.answer).status == 503
            await handshake(alice)
            await poll.wire.close()

    run(main())


def test_stop_ends_polls_and_held_posts_with_503_after_what_waited(run: Run) -> None:
    async def main() -> None:
        async with serving(config(flush_delay_ajax=60)) as served:
            alice, bob = await Peer.connect(served.port), await Peer.connect(served.port)
            await handshake(alice)
            await handshake(bob, "/chsk?client-id=bob%2F1&handshake%3F=1")
            polls = [await Poll.park(served, f"/chsk?client-id={who}%2F1") for who in WHO]
            held = asyncio.create_task(post(alice, "[[:test/no-reply] :ajax]"))
            await _round_trip(served)
            served.chsk.send("alice", "test/last", 1)
        assert (await held).status == 503
        assert await polls[0].text() == "[[[:test/last 1]] nil]"
        assert (await polls[1].answer).status == 503
        assert (served.chsk.stats.sent, served.chsk.stats.written) == (1, 1)
        for wire in (alice, bob, polls[1].wire):
            await wire.close()

    run(main())


def test_displaced_poll_stays_parked_until_its_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.2)) as served, served.peer() as alice:
            await handshake(alice)
            old = await Poll.park(served)
            new = await Poll.park(served)
            served.chsk.send("alice", "test/note", 1)
            assert await new.text() == "[[[:test/note 1]] nil]"
            assert await old.text() == "[:chsk/timeout nil]"

    run(main())


def test_numbered_posts_are_handled_in_their_order(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as one, served.peer() as two:
            await handshake(one, "/chsk?udt=77&client-id=alice%2F1&handshake%3F=1")
            late = asyncio.create_task(post(two, "[[:test/echo 2] nil]", n="77-2"))
            await _round_trip(served)
            first = await post(one, "[[:test/echo 1] nil]", n="77-1")
            assert first.text == (await late).text == DUMMY
            poll = await Poll.park(served)
            assert await poll.text() == "[[[:test/echo 1] [:test/echo 2]] nil]"

    run(main())


def test_requests_share_a_connection_in_any_mixture(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            for _ in range(3):
                await handshake(wire)
                assert (await post(wire, "[[:test/echo 1] nil]")).text == DUMMY
                assert (await wire.ask("GET", ALICE)).text == "[[[:test/echo 1]] nil]"
                assert (await post(wire, "[[:test/req 1] :ajax]")).text == "[1 nil]"

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            await wire.send(
                peer.request("GET", SHAKE, host=wire.host)
                + peer.request("GET", ALICE, host=wire.host)
                + peer.request("GET", "/nowhere", host=wire.host)
            )
            assert (await wire.answer()).text.startswith("[[:chsk/handshake")
            served.chsk.send("alice", "test/note", 1)
            assert (await wire.answer()).text == "[[[:test/note 1]] nil]"
            assert (await wire.answer()).status == 404

    run(main())


@pytest.mark.parametrize(
    "size", [1, 70_000, pytest.param(1_000_000, marks=pytest.mark.slow)]
)
def test_message_of_any_size_goes_both_ways(size: int, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            text = "é" * (size // 2) if size > 1 else "x"
            answer = await post(alice, f'[[:test/req "{text}"] :ajax]')
            assert answer.text == f'["{text}" nil]'

    run(main())


def test_chunked_form_is_read(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            form = peer.urlencoded([("client-id", "alice/1"), ("ppstr", "[[:test/req 1] :ajax]")])
            fields = [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Transfer-Encoding", "chunked"),
            ]
            half = len(form) // 2
            body = "".join(f"{len(s):x}\r\n{s}\r\n" for s in (form[:half], form[half:], ""))
            answer = await alice.ask("POST", "/chsk", fields, body.encode())
            assert answer.text == "[1 nil]"

    run(main())


# -- bad input


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
            _is_refusal(answer, 400)
            assert served.chsk.stats.bad_packet == 1
            assert (await post(alice, "[[:test/echo 2] nil]")).text == DUMMY
            assert (await post(bob, "[[:test/req 3] 0]", "bob/1")).text == "[3 nil]"
            assert (await alice.ask("GET", ALICE)).text == "[[[:test/echo 1] [:test/echo 2]] nil]"

    run(main())
    assert _records(caplog, "bad_packet") == 1


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
    assert _records(caplog, "bad_event") == 1


@pytest.mark.parametrize(
    "event", ['[:chsk/uidport-open "evil"]', "[:chsk/close]", "[:chsk/bad-event 1]"]
)
def test_forged_event_does_not_reach_the_application(
    event: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        seen: list[object] = []
        async with serving(config()) as served, served.peer() as alice:
            for own in ("uidport-open", "close", "bad-event"):
                served.chsk.on(f"chsk/{own}", seen.append)
            assert (await post(alice, f"[{event} nil]")).text == DUMMY
            assert (await post(alice, f"[{event} :ajax]")).text == "[:chsk/error nil]"
            assert seen == []
            assert served.chsk.stats.forged == 2

    run(main())
    assert _records(caplog, "forged_event") >= 1


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
def test_junk_by_post_is_refused_with_one_line(
    case: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    target, fields, body, status = JUNK[case]

    async def main() -> None:
        async with (
            serving(config(max_message_bytes=2000)) as served,
            served.peer() as wire,
            served.peer() as bob,
        ):
            _is_refusal(await wire.ask("POST", target, fields, body), status)
            assert (await post(bob, "[[:test/req 3] 0]", "bob/1")).text == "[3 nil]"

    run(main())


@pytest.mark.parametrize("target", ["/chsk", "/chsk?client-id=", "/chsk?client-id=" + "x" * 257])
def test_get_without_a_good_client_id_is_400(
    target: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await wire.ask("GET", target)
            _is_refusal(answer, 400)
            assert answer.text.startswith("expected a client-id")
            assert sum(served.chsk.stats.refused.values()) == 1

    run(main())
    assert _records(caplog, "refused") == 1


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
            _is_refusal(answer, 500)
            assert "secret" not in answer.text
            assert _records(caplog, "hook_error") == 1

    run(main())


@pytest.mark.parametrize("uid", [1.5, "", True, ("a", 1)])
def test_user_id_of_a_wrong_type_is_500_and_a_log_line(
    uid: object, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config(), user_id=lambda _: uid) as served, served.peer() as wire:
            _is_refusal(await wire.ask("GET", SHAKE), 500)
            assert len(served.chsk.connected.any) == 0

    run(main())
    assert _records(caplog, "bad_user_id") == 1


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
    assert _records(caplog, "handler_error") == 2


def test_ws_ping_by_post_is_an_event_without_a_pong(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            assert (await post(alice, "[[:chsk/ws-ping] nil]")).text == DUMMY

    run(main())


def test_method_that_the_channel_has_not_is_405(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await wire.ask("DELETE", ALICE)
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


async def _round_trip(served: Served) -> None:
    """Ask and be answered: what was sent before on any connection is read by then."""
    async with served.peer() as wire:
        await wire.ask("GET", "/nowhere")


def _is_refusal(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert (
        answer.header(
            "content-type",
        ).partition(";")[0]
        == "text/plain"
    )  # type: ignore[union-attr]
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"
    assert answer.text
    assert "\n" not in answer.text.strip()


def _records(caplog: pytest.LogCaptureFixture, log_id: str) -> int:
    """How many records of chansock start with this fixed id."""
    return sum(
        record.name.startswith("chansock.") and record.getMessage().split(" ")[0] == log_id
        for record in caplog.records
        if record.levelno >= logging.INFO
    )
