"""Every rule of tests/support/rfc6455.py: by the parser, by a fed connection, on raw sockets.

What was sent means the same however it comes: whole, byte by byte, cut at any point. The fed
connection has its read buffer overwritten after each read, so that nothing of ours still
looks there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from echoing import Fed, client, echoing, frames_of
from raw_listener import BINARY, CLOSE, PING, PONG, TEXT, Run
from rfc6455 import FAILED, LIMIT, MAX_EMPTY, RULES, Answer

from chansock._fast.ws.frames import Parser, close_payload
from chansock.errors import FrameError

SETTINGS: Any = {
    "max_message_bytes": LIMIT,
    "max_empty_fragments": MAX_EMPTY,
    "handshake_timeout": 20.0,
}
NEAR = 80  # a cut is tried at each of so many bytes from both ends, and at some between


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Return the pieces of data: itself, its bytes, and its two parts for each cut."""
    yield [data]
    places = range(1, len(data))
    if len(data) > 20 * NEAR:
        places = [*places[:NEAR], *places[NEAR :: len(data) // 40], *places[-NEAR:]]
    else:
        yield [data[k : k + 1] for k in range(len(data))]
    for place in places:
        yield [data[:place], data[place:]]


def parsed(pieces: Iterable[bytes]) -> list[Answer]:
    """What an echo would answer to what a parser makes of pieces."""
    parser = Parser(LIMIT, max_empty=MAX_EMPTY)
    memory = bytearray()
    answers: list[Answer] = []
    for piece in pieces:
        memory += piece
        while True:
            try:
                what, used, _ = parser.step(memory)
            except FrameError as error:
                return [*answers, (FAILED, error.close_code)]
            del memory[:used]
            match what:
                case ("message", payload, is_text):
                    answers.append((TEXT if is_text else BINARY, payload))
                case ("ping", payload):
                    answers.append((PONG, payload))
                case ("close", code, reason):
                    payload = close_payload(code, reason)  # type: ignore[arg-type]
                    return [*answers, (CLOSE, payload)]
                case None if not used:
                    break
    return answers


@pytest.mark.parametrize("rule", RULES)
def test_the_parser_keeps_the_rule_however_its_bytes_come(rule: str) -> None:
    data, answers = RULES[rule]
    for pieces in cuts(data):
        assert parsed(pieces) == answers


def matches(found: list[tuple[int, bytes]], answers: list[Answer]) -> bool:
    """Return whether found are the answers: of one read, pongs may come before messages."""
    expected = [(CLOSE, code.to_bytes(2, "big")) if kind == FAILED else (kind, code)
                for kind, code in answers]  # fmt: skip
    if answers[-1][0] == FAILED and found and found[-1][0] == CLOSE:
        found = [*found[:-1], (CLOSE, found[-1][1][:2])]  # the reason is for people
    return all(
        [item for item in found if (item[0] == PONG) == is_pong]
        == [item for item in expected if (item[0] == PONG) == is_pong]
        for is_pong in (False, True)
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_connection_keeps_the_rule_however_its_bytes_come(rule: str) -> None:
    data, answers = RULES[rule]

    async def main() -> None:
        for pieces in cuts(data):
            fed = Fed(**SETTINGS)
            fed.feed(pieces)
            assert matches(frames_of(bytes(fed.transport.written)), answers), pieces
            assert fed.transport.is_closed == (answers[-1][0] in (CLOSE, FAILED))
            fed.close()

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 7])
def test_the_rules_are_kept_on_sockets(step: int, run: Run) -> None:
    async def main() -> None:
        async with echoing(**SETTINGS) as place:
            for rule, (data, answers) in RULES.items():
                wire = await place.client()
                # Who sends behind its close frame is reset if that comes by itself.
                if step and len(data) < 2000 and "behind it" not in rule:
                    for k in range(0, len(data), step):
                        wire.send(data[k : k + step])
                        await asyncio.sleep(0)  # a turn, so that it is read by itself
                else:
                    wire.send(data)
                found = [await wire.frame() for _ in answers]
                assert matches(found, answers), rule
                if answers[-1][0] in (CLOSE, FAILED):
                    assert await wire.eof() == b"", rule
                else:
                    wire.send(client(PING, b"alive"))
                    assert await wire.frame() == (PONG, b"alive"), rule

    run(main())
