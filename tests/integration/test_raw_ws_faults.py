"""Bad frames and packets: what was accepted before is answered, nobody else is disturbed."""

from __future__ import annotations

import logging

import peer
import pytest
from peer import CLOSE, CONTINUATION, PING, TEXT
from raw import Run, records
from sente_app import serving

from chansock import Config


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


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
