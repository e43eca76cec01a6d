"""Bad frames and packets: what was accepted before is answered, nobody else is disturbed."""

from __future__ import annotations

import logging

import peer
import pytest
from peer import BINARY, CLOSE, CONTINUATION, PING, TEXT
from raw import Run, records
from sente_app import serving

from chansock import Config


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


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
    assert records(caplog, log_id) == 1


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
    assert records(caplog, "bad_packet") == 1


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
    assert records(caplog, "ws_frame_error") == 1


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
    assert records(caplog, "handler_error") == 1


def test_event_that_nobody_claims_is_answered_error_and_counted(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/nobody] "n"]')
            assert await alice.text() == '[:chsk/error "n"]'
            assert served.chsk.stats.unclaimed == 1

    run(main())
    assert records(caplog, "unclaimed_event") == 1
