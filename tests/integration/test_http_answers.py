"""What is written: no text, whosever it is, makes a field or a frame of its own."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import quote

import peer
import pytest
from peer import CLOSE
from raw import POLL, Run, config, handshake, round_trip
from sente_app import make, serving

import chansock
from chansock import Request, Response

LOOSE = [
    "a\r\nX-Injected: 1",
    "a\nX-Injected: 1",
    "a\rX-Injected: 1",
    "a\r\n\r\n<script>",
    "\0",
    "\x7f",
    "\x1b[2J",
    "\u010d\u010a",  # CR and LF where somebody drops the upper byte
    "\u2028",
]


def echoes(request: Request) -> Response:
    """Put what a peer sent where it does not belong."""
    params = request.params
    headers = ((params.get("name", "X-Echo"), params.get("value", "")),)
    return Response(200, "ok", params.get("kind", "text/plain"), headers)


@pytest.mark.parametrize("path", ["/a", "/chsk"])
@pytest.mark.parametrize("place", ["name", "value", "kind"])
def test_text_of_a_peer_makes_no_field(
    place: str, path: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with chansock.serve(make(reject=echoes), port=0, fallback=echoes) as listener:
            for text in LOOSE:
                async with await peer.Peer.connect(listener.port) as wire:
                    await wire.send(
                        peer.request(
                            "GET", f"{path}?{place}={quote(text)}", [("Connection", "close")]
                        )
                    )
                    written = await wire.rest()
                    assert written.startswith(b"HTTP/1.1 500 ")
                    assert b"jected" not in written
                    assert b"script" not in written
                    assert written.endswith(b"\r\n\r\ninternal server error")

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "jected" not in caplog.text  # as the value of a cookie could be


@pytest.mark.parametrize("path", ["/a", "/chsk"])
def test_text_that_a_field_may_hold_comes_as_it_is(path: str, run: Run) -> None:
    async def main() -> None:
        async with chansock.serve(make(reject=echoes), port=0, fallback=echoes) as listener:
            async with await peer.Peer.connect(listener.port) as wire:
                answer = await wire.ask("GET", f"{path}?value={quote('a: é; b=%0d%0a')}")
                assert answer.header("x-echo") == "a: é; b=%0d%0a"
                assert answer.text == "ok"

    run(main())


@pytest.mark.parametrize("status", [204, 205, 304])
def test_answer_without_content_ends_at_its_head(status: int, run: Run) -> None:
    async def main() -> None:
        def answer(_: Request) -> Response:
            return Response(status, "no")

        async with chansock.serve(make(), port=0, fallback=answer) as listener:
            async with await peer.Peer.connect(listener.port) as wire:
                for _ in range(2):
                    await wire.send(peer.request("GET", "/a"))
                    head = await wire.reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 %d " % status)
                    # RFC 9110 sections 8.6 and 15.3.6
                    assert (b"Content-Length: 0\r\n" in head) == (status == 205)

    run(main())


def test_long_reason_of_a_close_is_cut_at_a_character(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket("alice/1") as alice:
            served.chsk.disconnect("alice", reason="x" + "é" * 100)
            last = await alice.frame()
            assert (last.opcode, last.code, last.reason) == (CLOSE, 1000, "x" + "é" * 61)
            assert len(last.payload) == 2 + 123

    run(main())


def test_reason_of_a_close_is_the_text_of_a_poll_s_503_and_no_field(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            await handshake(wire)
            poll = asyncio.create_task(wire.ask("GET", POLL))
            await round_trip(served)
            served.chsk.disconnect("alice", reason="a\r\nX-Injected: 1")
            answer = await poll
            assert (answer.status, answer.text) == (503, "a\r\nX-Injected: 1")
            assert answer.header("x-injected") is None
            assert (await wire.ask("GET", "/nowhere")).status == 404

    run(main())


def test_reason_that_is_no_utf_8_is_refused_where_it_is_given(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            await handshake(wire)
            poll = asyncio.create_task(wire.ask("GET", POLL))
            await round_trip(served)
            async with served.socket("alice/2") as alice:
                with pytest.raises(chansock.InvalidEvent, match="expected a reason"):
                    served.chsk.disconnect("alice", reason="\ud800")
                served.chsk.disconnect("alice", reason="é")
                assert (await alice.frame()).reason == (await poll).text == "é"

    run(main())
