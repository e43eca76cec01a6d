"""The capabilities over WebSocket, by a peer that knows only RFC 6455's bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import peer
import pytest
from peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Peer
from sente_app import serving

import chansock
from chansock import Config

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ALICE = "/chsk?client-id=alice%2F1"


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


# -- the table's rows


def test_connect_gets_101_and_the_handshake_as_first_frame(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as alice:
            answer = await alice.upgrade(ALICE)
            assert (answer.status, answer.reason) == (101, "Switching Protocols")
            assert await alice.text() == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())


def test_client_without_a_user_shakes_hands_as_nil_uid(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as nobody:
            await nobody.upgrade("/chsk?client-id=abc")
            assert await nobody.text() == "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"

    run(main())


def test_handshake_carries_the_handshake_data(run: Run) -> None:
    async def main() -> None:
        data = {"motd": "hi"}
        async with serving(handshake_data=lambda _: data) as served, served.peer() as alice:
            await alice.upgrade(ALICE)
            assert await alice.text() == '[[:chsk/handshake ["alice" nil {:motd "hi"}]] nil]'

    run(main())


def test_event_without_callback_is_handled_and_a_push_comes_back(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}] nil]')
            assert await alice.text() == '[[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}]] nil]'

    run(main())


@pytest.mark.parametrize("cb_id", ['"2c4461"', "42", "0", "true", ":k", '["a" 1]'])
def test_reply_echoes_the_callback_id_whatever_it_is(cb_id: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say(f"[[:test/req {{:x [1 2 3]}}] {cb_id}]")
            assert await alice.text() == f"[{{:x [1 2 3]}} {cb_id}]"

    run(main())


@pytest.mark.parametrize(
    "packet", ["[[:test/req 1] nil]", "[[:test/req 1] false]", "[[:test/req 1]]"]
)
def test_nil_false_and_no_callback_id_ask_for_no_reply(packet: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say(packet)
            await alice.say('[[:test/req 2] "b"]')
            assert await alice.text() == '[2 "b"]'

    run(main())


def test_coroutine_handler_keeps_the_order_of_replies(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            asked = ["req-slow", "req", "req-slow", "req", "req"]
            frames = [peer.frame(TEXT, f'[[:test/{id} {i}] "{i}"]') for i, id in enumerate(asked)]
            await alice.send(b"".join(frames))
            for i in range(5):
                assert await alice.text() == f'[{i} "{i}"]'

    run(main())


def test_server_pushes_to_a_user_on_all_its_sockets_and_to_nobody_else(run: Run) -> None:
    async def main() -> None:
        async with (
            serving() as served,
            served.socket("alice/1") as one,
            served.socket("alice/2") as two,
            served.socket("bob/1") as bob,
        ):
            served.chsk.send("alice", "test/note", {"n": 1})
            served.chsk.send(chansock.ALL, "test/note", 2)
            for socket in (one, two):
                assert await socket.text() == "[[[:test/note {:n 1}] [:test/note 2]] nil]"
            assert await bob.text() == "[[[:test/note 2]] nil]"

    run(main())


def test_pushes_of_one_turn_share_one_frame(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say("[[:test/push-me {:n 3}] nil]")
            batch = "[[[:test/pushed {:i 0}] [:test/pushed {:i 1}] [:test/pushed {:i 2}]] nil]"
            assert await alice.text() == batch

    run(main())


def test_push_and_reply_stand_in_the_order_made(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/push-then-reply 7] "c"]')
            assert await alice.text() == "[[[:test/pushed 7]] nil]"
            assert await alice.text() == '[7 "c"]'

    run(main())


def test_presence_follows_the_socket(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), grace_ws=0)
        async with serving(config) as served:
            told: asyncio.Queue[str] = asyncio.Queue()
            served.chsk.on("chsk/uidport-open", lambda msg: told.put_nowait(f"+{msg.uid}"))
            served.chsk.on("chsk/uidport-close", lambda msg: told.put_nowait(f"-{msg.uid}"))
            async with served.socket("alice/1") as alice:
                await alice.say('[[:test/uids] "u"]')
                assert await alice.text() == '[{:ws #{"alice"}, :ajax #{}, :any #{"alice"}} "u"]'
                assert "alice" in served.chsk.connected.ws
                assert await alice.bye(1000, "CLOSE_NORMAL")
            assert [await told.get(), await told.get()] == ["+alice", "-alice"]
            assert len(served.chsk.connected.any) == 0

    run(main())


def test_client_ping_is_answered_pong(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:chsk/ws-ping] "abc123"]')
            assert await alice.text() == '["pong" "abc123"]'

    run(main())


def test_protocol_ping_is_answered_with_its_payload(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.send(peer.frame(PING, "hi"))
            assert await alice.frame() == peer.Frame(PONG, b"hi")

    run(main())


def test_silent_client_is_pinged_and_then_closed(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), ws_ping_interval=0.05, ws_ping_timeout=0.05)
        async with serving(config) as served, served.socket() as alice:
            assert await alice.text() == "[:chsk/ws-ping nil]"
            last = await alice.frame()
            assert (last.opcode, last.code, last.reason) == (CLOSE, 1011, "ping timeout")

    run(main())


def test_client_that_answers_the_ping_stays(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), ws_ping_interval=0.05, ws_ping_timeout=0.1)
        async with serving(config) as served, served.socket() as alice:
            for _ in range(2):
                assert await alice.text() == "[:chsk/ws-ping nil]"
                await alice.say("[[:chsk/ws-pong] nil]")
            await alice.say('[[:test/req 1] "a"]')
            assert await alice.text() == '[1 "a"]'

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "CLOSE_NORMAL"), (3000, "CLOSE_ABNORMAL"), (1001, ""), (None, "")]
)
def test_close_frame_is_answered_with_its_code_and_reason(
    code: int | None, reason: str, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            last = await alice.bye(code, reason)
            assert (last.code, last.reason) == (code, reason)
            assert await alice.rest() == b""

    run(main())


def test_server_closes_its_sockets_with_1012_when_it_stops(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            alice = await Peer.connect(served.port)
            await alice.upgrade(ALICE)
            await alice.text()
            served.chsk.send("alice", "test/last", 1)
            waiting = asyncio.create_task(_last_words(alice))
        assert await waiting == ["[[[:test/last 1]] nil]", "close 1012"]
        await alice.close()

    run(main())


async def _last_words(socket: Peer) -> list[str]:
    words = []
    while not words or not words[-1].startswith("close"):
        found = await socket.frame()
        words.append(f"close {found.code}" if found.opcode == CLOSE else found.text)
    await socket.send(peer.frame(CLOSE, peer.close_payload(1012)))
    return words


def test_same_client_id_twice_pushes_go_to_the_newer_and_the_older_gets_its_replies(
    run: Run,
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as old, served.socket() as new:
            served.chsk.send("alice", "test/note", 1)
            assert await new.text() == "[[[:test/note 1]] nil]"
            await old.say('[[:test/req :a] "a"]')
            assert await old.text() == '[:a "a"]'

    run(main())


def test_push_into_a_gap_comes_with_the_next_socket(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            async with served.socket() as alice:
                await alice.bye()
                await alice.rest()
            served.chsk.send("alice", "test/note", 1)
            async with served.socket() as alice:
                assert await alice.text() == "[[[:test/note 1]] nil]"

    run(main())


# -- the frames' forms


def test_fragments_with_a_ping_between_are_one_message(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.send(peer.frame(TEXT, '[[:test/req "', fin=False))
            await alice.send(peer.frame(CONTINUATION, "é".encode()[:1], fin=False))
            await alice.send(peer.frame(PING, "mid"))
            await alice.send(peer.frame(CONTINUATION, "é".encode()[1:] + b'"] "f"]'))
            assert await alice.frame() == peer.Frame(PONG, b"mid")
            assert await alice.text() == '["é" "f"]'

    run(main())


def test_frames_glued_to_the_upgrade_request_are_answered(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as alice:
            fields = [
                ("Connection", "keep-alive, Upgrade"),
                ("Upgrade", "WebSocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]
            head = peer.request("GET", ALICE, fields, host=alice.host)
            await alice.send(head + peer.frame(TEXT, '[[:test/req 1] "a"]'))
            answer = await alice.answer()
            assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert await alice.text() == '[[:chsk/handshake ["alice" nil nil]] nil]'
            assert await alice.text() == '[1 "a"]'

    run(main())


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 1_000_000])
def test_message_of_each_length_form_comes_back(size: int, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            text = "x" * (size - len('[[:test/req ""] "a"]'))
            await alice.say(f'[[:test/req "{text}"] "a"]')
            assert await alice.text() == f'["{text}" "a"]'

    run(main())


# -- bad input: what was accepted before is answered, nobody else is disturbed

DROPPED = {
    "undecodable packet": ("[[:test/req", "bad_packet"),
    "text that is no edn": ("not edn )(", "bad_packet"),
    "unknown tag": ('[[:test/req #foo/bar 1] "x"]', "bad_packet"),
    "map envelope": ("{:a 1}", "bad_packet"),
    "number envelope": ("42", "bad_packet"),
    "string envelope": ('"abc"', "bad_packet"),
    "duplicate key": ("[[:test/req {:a 1 :a 2}] nil]", "bad_packet"),
    "nil": ("nil", "bad_event"),
    "empty text": ("", "bad_event"),
    "empty envelope": ("[]", "bad_event"),
    "event without namespace": ("[[:foo 1] nil]", "bad_event"),
    "event with three parts": ("[[:a/b 1 2] nil]", "bad_event"),
    "event whose id is a string": ('[["x" 1] nil]', "bad_event"),
    "event that is a list": ("[(:test/req 1) nil]", "bad_event"),
    "event that is a keyword": ("[:foo nil]", "bad_event"),
    "forged uidport-open": ('[[:chsk/uidport-open "evil"] nil]', "forged"),
    "forged handshake": ('[[:chsk/handshake ["evil" nil nil]] nil]', "forged"),
    "forged close": ("[[:chsk/close] nil]", "forged"),
}


@pytest.mark.parametrize("case", DROPPED)
def test_bad_message_is_dropped_counted_and_logged_once(
    case: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    text, counter = DROPPED[case]

    async def main() -> None:
        seen: list[str] = []
        async with serving() as served:
            served.chsk.on("chsk/uidport-open", lambda msg: seen.append(msg.id))
            async with served.socket("alice/1") as alice, served.socket("bob/1") as bob:
                opened = len(seen)
                await alice.send(
                    peer.frame(TEXT, '[[:test/req 1] "a"]')
                    + peer.frame(TEXT, text) * 2
                    + peer.frame(TEXT, '[[:test/req 2] "b"]')
                )
                assert await alice.text() == '[1 "a"]'
                assert await alice.text() == '[2 "b"]'
                await bob.say('[[:test/req 3] "c"]')
                assert await bob.text() == '[3 "c"]'
                assert len(seen) == opened
            assert getattr(served.chsk.stats, counter) == 2

    run(main())
    log_id = "forged_event" if counter == "forged" else counter
    assert _records(caplog, log_id) == 1


def test_binary_frame_to_a_text_packer_is_dropped(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.send(peer.frame(BINARY, b'[[:test/req 1] "a"]'))
            await alice.say('[[:test/req 2] "b"]')
            assert await alice.text() == '[2 "b"]'
            assert served.chsk.stats.bad_packet == 1

    run(main())
    assert _records(caplog, "bad_packet") == 1


@pytest.mark.parametrize("cb_id", ['"a"', "7"])
def test_bad_event_that_asks_for_a_reply_is_told(cb_id: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say(f"[[:foo 1] {cb_id}]")
            assert await alice.text() == f"[:chsk/error {cb_id}]"

    run(main())


def test_ping_with_data_and_ping_that_is_no_event_get_no_pong(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[:chsk/ws-ping "id"]')
            await alice.say('[[:chsk/ws-ping] "ok"]')
            while (found := await alice.text()).startswith("[:chsk/error"):
                pass
            assert found == '["pong" "ok"]'

    run(main())


BROKEN = {
    "unmasked frame": (peer.frame(TEXT, "[]", mask=False), 1002),
    "reserved bit": (peer.frame(TEXT, "[]", rsv=4), 1002),
    "reserved opcode": (peer.frame(3, "[]"), 1002),
    "reserved control opcode": (peer.frame(11, "[]"), 1002),
    "fragmented ping": (peer.frame(PING, "x", fin=False), 1002),
    "ping of 126 bytes": (peer.frame(PING, "x" * 126), 1002),
    "continuation of nothing": (peer.frame(CONTINUATION, "x"), 1002),
    "text inside a fragmented text": (
        peer.frame(TEXT, "[", fin=False) + peer.frame(TEXT, "]"),
        1002,
    ),
    "close with one byte": (peer.frame(CLOSE, b"\x03"), 1002),
    "close with code 1005": (peer.frame(CLOSE, peer.close_payload(1005)), 1002),
    "text that is no UTF-8": (peer.frame(TEXT, b"[[:test/req \xff] nil]"), 1007),
    "close reason that is no UTF-8": (peer.frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "message over the limit": (peer.frame(TEXT, "x" * 2001), 1009),
    "message over the limit in fragments": (
        peer.frame(TEXT, "x" * 1500, fin=False) + peer.frame(CONTINUATION, "x" * 501),
        1009,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_frame_closes_its_connection_alone(
    case: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    data, code = BROKEN[case]

    async def main() -> None:
        config = Config(allowed_origins=("*",), max_message_bytes=2000)
        async with (
            serving(config) as served,
            served.socket("alice/1") as alice,
            served.socket("bob/1") as bob,
        ):
            late = peer.frame(TEXT, '[[:test/req 2] "late"]')
            await alice.send(peer.frame(TEXT, '[[:test/req 1] "a"]') + data + late)
            assert await alice.text() == '[1 "a"]'
            last = await alice.frame()
            assert (last.opcode, last.code) == (CLOSE, code)
            await alice.send(peer.frame(CLOSE, peer.close_payload(code)))
            assert await alice.rest() == b""
            await bob.say('[[:test/req 3] "c"]')
            assert await bob.text() == '[3 "c"]'
            assert served.chsk.stats.closed[code] == 1

    run(main())
    assert _records(caplog, "ws_frame_error") == 1


def test_handler_that_raises_is_answered_error_and_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/throw] "t"]')
            assert await alice.text() == '[:chsk/error "t"]'
            await alice.say('[[:test/req 1] "a"]')
            assert await alice.text() == '[1 "a"]'

    run(main())
    assert _records(caplog, "handler_error") == 1


def test_event_that_nobody_claims_is_answered_error_and_counted(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/nobody] "n"]')
            assert await alice.text() == '[:chsk/error "n"]'
            assert served.chsk.stats.unclaimed == 1

    run(main())
    assert _records(caplog, "unclaimed_event") == 1


# -- refusals before the 101


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
            _is_answer_of_the_channel(answer)
            await bob.say('[[:test/req 3] "c"]')
            assert await bob.text() == '[3 "c"]'
            assert sum(served.chsk.stats.refused.values()) == 1

    run(main())
    assert _records(caplog, "refused") == 1


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
            _is_answer_of_the_channel(answer)

    run(main())
    assert _records(caplog, "hook_error") == 1


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
    assert _records(caplog, "bad_user_id") == 1


@pytest.mark.parametrize("authorize", [lambda _: False, lambda _: None])
def test_authorize_that_says_no_is_401(authorize: Callable[[object], object], run: Run) -> None:
    async def main() -> None:
        async with serving(authorize=authorize) as served, served.peer() as alice:
            answer = await alice.upgrade(ALICE)
            assert (answer.status, answer.text) == (401, "Unauthorized request")
            _is_answer_of_the_channel(answer)

    run(main())


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        (ALICE + "&csrf-token=tok123", [], 101),
        (ALICE, [("X-CSRF-Token", "tok123")], 101),
        (ALICE, [("X-XSRF-Token", "tok123")], 101),
        (ALICE, [], 403),
        (ALICE + "&csrf-token=", [("X-CSRF-Token", "tok123")], 403),
        (ALICE + "&csrf-token=wrong", [("X-CSRF-Token", "tok123")], 403),
    ],
)
def test_csrf_token_is_looked_for_as_sente_does(
    target: str, fields: list[tuple[str, str]], status: int, run: Run
) -> None:
    async def main() -> None:
        async with serving(csrf_token=lambda _: "tok123") as served, served.peer() as alice:
            answer = await alice.upgrade(target, fields)
            assert answer.status == status
            if status == 403:
                assert answer.text == "Bad CSRF token"

    run(main())


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


def _is_answer_of_the_channel(answer: peer.Answer) -> None:
    kind = answer.header("content-type") or ""
    assert kind.partition(";")[0] in ("text/plain", "application/edn", "application/octet-stream")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"


def _records(caplog: pytest.LogCaptureFixture, log_id: str) -> int:
    """How many records of chansock start with this fixed id."""
    return sum(
        record.name.startswith("chansock.") and record.getMessage().split(" ")[0] == log_id
        for record in caplog.records
        if record.levelno >= logging.INFO
    )
