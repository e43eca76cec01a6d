"""What the channel makes of bad input: one test for each row of Sente's table of errors.

A row holds over both transports where both have it. Where we do otherwise than Sente (with
http-kit), the row says what Sente does and why we do not.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import peer
import pytest
from peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, urlencoded
from raw import DUMMY, POLL, Poll, Run, assert_refusal, config, handshake, post, records
from sente_app import Served, serving
from sente_kinds import KINDS, ask

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chansock")


# Packets. What each does: over a WebSocket `answer` comes back, over POST `status` and `body`.


@dataclass(frozen=True)
class Fault:
    counter: str  # of Stats
    answer: str | None = None  # None: nothing
    status: int = 200
    body: str = DUMMY  # of a 200


# Sente logs it and goes on, and answers a POST with 500 and the exception's message; here the
# same, but 400, for the fault is the client's, and one line that says what was expected.
DROPPED = Fault("bad_packet", status=400)
# Sente hands the application `[:chsk/bad-event x]`, with a reply function. Here no event that
# is none reaches it: it is counted and logged.
BAD_EVENT = Fault("bad_event")
# Whoever asked for a reply to it waits in vain at Sente; here he is told.
TOLD = Fault("bad_event", '[:chsk/error "c1"]', body="[:chsk/error nil]")
# Sente hands it to the application as if it were the channel's own: anybody could tell it that
# a user came or went.
FORGED = Fault("forged")

PACKETS: dict[str, tuple[list[str], Fault]] = {
    "undecodable text": (["[[:test/req", "[[:test/req 1] nil", '[[:test/req "\\q"]]'], DROPPED),
    "unknown tag": (["[[:test/req #foo/bar 1] nil]", "[[:test/req #js {}] nil]"], DROPPED),
    "duplicate key or member, odd map": (
        [
            "[[:test/req {:a 1 :a 2}] nil]",
            "[[:test/req #{1 1}] nil]",
            "[[:test/req {:a}] nil]",
        ],
        DROPPED,
    ),
    "decodes to a symbol or a keyword": (["not edn )(", ":foo"], DROPPED),
    "empty, nil, [], [nil nil]": (["", "nil", "[]", "[nil nil]"], BAD_EVENT),
    "map, set, number, blanks": (["{:a 1}", "#{1}", "42", " \n "], DROPPED),
    # Sente destructures it to characters, `[:chsk/bad-event \a]` with a reply function.
    "string envelope": (['"abc"'], DROPPED),
    "event given as a list": (["[(:test/req 1) nil]", "((:test/req 1) nil)"], BAD_EVENT),
    "no namespace, three parts, no vector, no keyword": (
        ["[[:foo 1] nil]", "[[:a/b 1 2] nil]", "[:foo nil]", '[["x" 1] nil]', "[[] nil]"],
        BAD_EVENT,
    ),
    "the same, and a reply is asked for": (
        ["[[:foo 1] {cb}]", "[[:a/b 1 2] {cb}]", "[:foo {cb}]", '[["x" 1] {cb}]'],
        TOLD,
    ),
    "ws-ping as a keyword gets no pong": (["[:chsk/ws-ping {cb}]"], TOLD),
    "ws-ping as a list": (["[(:chsk/ws-ping) nil]"], BAD_EVENT),
    # Sente reads the sign as a symbol and drops both. 1.17's is taken here: test_sente_older.
    "package of 1.16": (["-[:test/req 1]"], DROPPED),
    "forged event of the channel": (
        [
            '[[:chsk/uidport-open "evil"] nil]',
            '[[:chsk/uidport-close "evil"] nil]',
            "[[:chsk/close] nil]",
            "[[:chsk/bad-event 1] nil]",
            "[[:chsk/handshake [1 2 3]] nil]",
        ],
        FORGED,
    ),
}


LAST = '[[:test/req 9] "last"]'


async def say(served: Served, kind: str, packet: str, count: int = 1) -> list[tuple[int, str]]:
    """Send a packet, as one client, and give what came of it: status (ws: 0) and text."""
    text = packet.replace("{cb}", '"c1"' if kind == "ws" else ":ajax")
    if kind == "post":
        async with served.peer() as wire:
            found = [await post(wire, text) for _ in range(count)]
            return [(answer.status, answer.text) for answer in found]
    async with served.socket() as alice:
        # in one write: what stands behind a bad packet is handled as if it were not there
        await alice.send(peer.frame(TEXT, text) * count + peer.frame(TEXT, LAST))
        found: list[tuple[int, str]] = []
        while (line := await alice.text()) != '[9 "last"]':
            found.append((0, line))
        return found


@pytest.mark.parametrize("kind", ["ws", "post"])
@pytest.mark.parametrize("row", PACKETS)
def test_packet(row: str, kind: str, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    packets, fault = PACKETS[row]

    async def main() -> None:
        async with serving(config()) as served, served.socket("bob/1") as bob:
            seen: list[Any] = []

            async def take() -> None:
                async for msg in served.chsk:
                    seen.append(msg)

            served.chsk.on("chsk/uidport-close", seen.append)
            taking = asyncio.create_task(take())
            for packet in packets:
                caplog.clear()
                before = getattr(served.chsk.stats, fault.counter)
                found = await say(served, kind, packet, count=2)
                assert getattr(served.chsk.stats, fault.counter) == before + 2, packet
                if kind == "ws":
                    assert found == [(0, fault.answer)] * 2 * (fault.answer is not None)
                elif fault.status == 200:
                    assert found == [(200, fault.body)] * 2
                else:
                    assert [status for status, _ in found] == [fault.status] * 2
                    assert all("\n" not in text and text for _, text in found)
                log_id = "forged_event" if fault is FORGED else fault.counter
                # once for each connection: a peer must not fill the log
                assert records(caplog, log_id) == (1 if kind == "ws" else 2), packet
            taking.cancel()
            assert seen == []
            await bob.say('[[:test/req 3] "c"]')
            assert await bob.text() == '[3 "c"]'  # nobody else is disturbed

    run(main())


@pytest.mark.parametrize("kind", ["ws", "post"])
@pytest.mark.parametrize(
    ("packet", "reply"),
    [
        ("([:test/req 1] {cb})", "1"),  # the envelope may be a list
        ("[[:test/req 2] {cb}] ] text", "2"),  # what follows is not looked at
        ("[[:test/req 3] {cb} 4 5]", "3"),
        (" ,\n[[:test/req 4] {cb}]", "4"),
    ],
)
def test_odd_envelope_that_sente_takes_is_taken(
    packet: str, reply: str, kind: str, run: Run
) -> None:
    async def main() -> None:
        async with serving(config()) as served:
            cb_id = '"c1"' if kind == "ws" else "nil"
            (found,) = await say(served, kind, packet)
            assert found[1] == f"[{reply} {cb_id}]"

    run(main())


def test_binary_frame_to_an_edn_server(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            await alice.send(peer.frame(BINARY, '[[:test/req 1] "a"]') * 2)
            await alice.say('[[:test/req 2] "b"]')
            assert await alice.text() == '[2 "b"]'
            assert served.chsk.stats.bad_packet == 2

    run(main())
    assert records(caplog, "bad_packet") == 1


# The client-id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ["without client-id", "client-id twice", "blank client-id"])
def test_client_id(row: str, kind: str, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Sente: 500 with the exception's message, over POST a callback that times out after
    20 s. Here 400 and a sentence, at once."""
    twice = [("client-id", "a/1")]

    async def main() -> None:
        async with serving(config()) as served:
            client_id = {"without client-id": "", "client-id twice": "a/1"}.get(row, " ")
            params = twice if row == "client-id twice" else []
            answer = await ask(served.port, kind, params, client_id=client_id)
            assert_refusal(answer, 400)
            wanted = "expected one client-id, got 2" if params else "expected a client-id, got none"
            assert answer.text == wanted
            assert served.chsk.stats.refused == {"client_id": 1}

    run(main())
    assert records(caplog, "refused") == 1


# Frames

FRAMES: dict[str, tuple[bytes, int]] = {
    # http-kit replaces the bytes by U+FFFD and goes on; RFC 6455 section 8.1 has it fail.
    "text with invalid UTF-8": (peer.frame(TEXT, b"[[:test/req \xff] nil]"), 1007),
    # http-kit drops the TCP connection without a close frame.
    "unmasked frame": (peer.frame(TEXT, "[]", mask=False), 1002),
    "reserved opcode": (peer.frame(3, "[]"), 1002),
    # http-kit ignores them; RFC 6455 section 5.2 has it fail.
    "RSV bits": (peer.frame(TEXT, "[]", rsv=2), 1002),
}


@pytest.mark.parametrize("row", FRAMES)
def test_frame_that_is_none_closes_with_its_code(row: str, run: Run) -> None:
    data, code = FRAMES[row]

    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            await alice.send(data)
            last = await alice.frame()
            assert (last.opcode, last.code) == (CLOSE, code)

    run(main())


def test_fragmented_text_and_a_ping_between_fragments(run: Run) -> None:
    """http-kit drops the connection at the ping, by a bug of its own."""

    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            await alice.send(
                peer.frame(TEXT, "[[:test/req", fin=False)
                + peer.frame(PING, "hi")
                + peer.frame(CONTINUATION, ' 1] "a"]')
            )
            found = [await alice.frame(), await alice.frame()]
            assert sorted((f.opcode, f.text) for f in found) == [(TEXT, '[1 "a"]'), (PONG, "hi")]

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "away"), (3000, "CLOSE_ABNORMAL"), (None, "")]
)
def test_close_frame_is_answered_with_the_same_code_and_reason(
    code: int | None, reason: str, run: Run
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            last = await alice.bye(code, reason)
            assert (last.code, last.reason) == (code, reason if code else "")

    run(main())


# Handlers


@pytest.mark.parametrize("kind", ["ws", "post"])
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "not asked"])
def test_handler_that_throws(
    is_asked: bool, kind: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """At Sente whoever asked for a reply waits until his own time-out; here he is told."""

    async def main() -> None:
        async with serving(config()) as served:
            found = await say(served, kind, f"[[:test/throw] {'{cb}' if is_asked else 'nil'}]")
            if kind == "ws":
                assert found == ([(0, '[:chsk/error "c1"]')] if is_asked else [])
            else:
                assert found == [(200, "[:chsk/error nil]" if is_asked else DUMMY)]

    run(main())
    assert records(caplog, "handler_error") == 1


# POSTs

GOOD = "[[:test/req 1] :ajax]"

POSTS: dict[str, tuple[str, list[tuple[str, str]], bytes, int, str]] = {
    # Sente: 500, the exception's message.
    "ppstr twice": (
        "/chsk?client-id=a",
        [FORM],
        urlencoded([("ppstr", GOOD), ("ppstr", GOOD)]).encode(),
        400,
        "expected one ppstr, got 2",
    ),
    "ppstr empty": ("/chsk?client-id=a", [FORM], b"ppstr=", 200, DUMMY),
    "ppstr nil": ("/chsk?client-id=a", [FORM], b"ppstr=nil", 200, DUMMY),
    "without ppstr": ("/chsk?client-id=a", [FORM], b"a=b", 200, DUMMY),
    "empty body": ("/chsk?client-id=a", [FORM], b"", 200, DUMMY),
    # Sente: Ring drops the whole form, so there is no packet and the answer is the dummy.
    # Here the escape stays as it is, and the text that it breaks is told.
    "broken %-escape": (
        "/chsk?client-id=a",
        [FORM],
        b"ppstr=%5B%5B%3Atest%2Freq%zz",
        400,
        "expected a packet",
    ),
    # Sente: no parameters at all, so as without client-id and ppstr; here that is 400.
    "another content type": (
        "/chsk",
        [("Content-Type", "application/json")],
        urlencoded([("client-id", "a"), ("ppstr", GOOD)]).encode(),
        400,
        "expected a client-id, got none",
    ),
    "no content type": (
        "/chsk",
        [],
        urlencoded([("client-id", "a"), ("ppstr", GOOD)]).encode(),
        400,
        "expected a client-id, got none",
    ),
    "fields in the query": (
        "/chsk?" + urlencoded([("client-id", "a"), ("ppstr", GOOD)]),
        [],
        b"",
        200,
        "[1 nil]",
    ),
    # Sente: accepted, and dropped behind the handler, so that the callback times out.
    "without client-id": (
        "/chsk",
        [FORM],
        urlencoded([("ppstr", GOOD)]).encode(),
        400,
        "expected a client-id, got none",
    ),
    # Sente: 500.
    "binary? to an edn server": (
        "/chsk?client-id=a&binary%3F=true",
        [("Content-Type", "application/octet-stream")],
        GOOD.encode(),
        400,
        "expected the form field ppstr",
    ),
}


@pytest.mark.parametrize("row", POSTS)
def test_post(row: str, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    target, fields, body, status, text = POSTS[row]

    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            answer = await wire.ask("POST", target, fields, body)
            assert answer.status == status
            stats = served.chsk.stats
            counted = sum(stats.refused.values()) + stats.bad_packet
            if status == 200:
                assert (answer.text, counted) == (text, 0)
            else:
                assert_refusal(answer, status)
                assert answer.text.startswith(text)
                assert counted == 1
            assert (await post(wire, GOOD)).text == "[1 nil]"  # the connection goes on

    run(main())
    assert records(caplog, "refused") + records(caplog, "bad_packet") == (status != 200)


# Polls


def test_two_parallel_polls_of_one_client(run: Run) -> None:
    """The newer gets the data. The older one gets `:chsk/timeout` at its own time; at Sente it
    gets nothing at all."""

    async def main() -> None:
        async with serving(config(poll_timeout=0.2)) as served, served.peer() as wire:
            await handshake(wire)
            older = await Poll.park(served)
            newer = await Poll.park(served)
            served.chsk.send("alice", "test/note", 1)
            assert await newer.text() == "[[[:test/note 1]] nil]"
            assert await older.text() == "[:chsk/timeout nil]"

    run(main())


def test_close_on_a_parked_poll(run: Run) -> None:
    """503, after which every client comes back with a handshake. http-kit writes five stray
    bytes that are no answer, and Chromium's client is deaf for a minute."""

    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            await handshake(wire)
            poll = await Poll.park(served)
            served.chsk.disconnect("alice")
            answer = await poll.answer
            assert_refusal(answer, 503)
            await poll.wire.close()
            again = await wire.ask("GET", POLL + "&handshake%3F=1")
            assert again.text == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())
