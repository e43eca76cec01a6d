"""frames: bytes mean the same whole and in pieces, and what websockets says they mean; what
was made of messages is read as those messages.

With the high bit of the first byte the rest are choices that make messages; without it they
are the bytes of a peer, and the bits below say which role and which limit the parser has, and
whether it takes deflated messages, as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recording import load
from websockets_frames import theirs

from chansock._fast.ws.frames import Parser, close_payload, frame, is_close_code
from chansock.errors import FrameError
from fuzz.draw import Draw, pieces_of

MADE = 0x80
# Bits of the first byte; the limit where bytes are read
UNMASKED, LIMIT, DEFLATES = 0x01, 0x06, 0x08
RSV1 = 0x40

LIMITS = (1 << 20, 0, 125, 1000)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = bytes.fromhex("37fa213d")  # of RFC 6455 section 5.7
OPEN = bytes(4)  # a key that leaves the payload as it is, so that words can be put into it

WORDS = tuple(
    (
        b"\xc1\x81|\x41\x82|\x81\x80|\x81\xfe|\x81\xff|\x01\x81|\x80\x81|\x00\x80|\x88\x82|\x89\x80|\x8a\x80|\x81\x05"
        b"|\x82\x7e\x01\x00|\x03\xe8|\x0f\xa0|\xfe\x00\x7e|\xff\x00\x00\x00\x00|\x00\x01\x00\x00"
        b"|\xff\xff|\x7f\xff\xff\xff\xff\xff\xff\xff|\x80\x00\x00\x00|\x00\x00\x00\x00"
        b"|\xed\xa0\x80|\xc0\xaf|\xf4\x90\x80\x80|\xe2\x82|\xf0\x9d\x84|" + "é|€|𝄞".encode()
    ).split(b"|")
)


def seeds() -> Iterator[bytes]:
    """Return the examples of RFC 6455, recorded frames, and choices for messages."""
    for data in (  # section 5.7
        "81 05 48 65 6c 6c 6f",
        "01 03 48 65 6c 80 02 6c 6f",
        "89 05 48 65 6c 6c 6f",
        "82 7e 01 00" + "00" * 256,
    ):
        yield b"\x01" + bytes.fromhex(data)
    yield b"\x00" + bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
    yield b"\x00" + bytes.fromhex("8a 85 37 fa 21 3d 7f 9f 4d 51 58")
    yield b"\x09" + bytes.fromhex("c1 07 f2 48 cd c9 c9 07 00")  # RFC 7692 section 7.2.3.1
    yield b"\x09" + bytes.fromhex("41 03 f2 48 cd 80 04 c9 c9 07 00")
    for key in (KEY, OPEN):
        for bits in range(0, 8, 2):
            yield bytes([bits]) + b"".join(
                (
                    frame(TEXT, "héllo €".encode(), mask=key),
                    frame(PING, b"p", mask=key),
                    frame(TEXT, "𝄞 mu".encode()[:2], mask=key, fin=False),
                    frame(PONG, b"", mask=key),
                    frame(CONTINUATION, "𝄞 mu".encode()[2:], mask=key),
                    frame(BINARY, b"\xff" * 130, mask=key),
                    frame(CLOSE, close_payload(1000, "bye"), mask=key),
                )
            )
    for name in ("chromium-ws-edn", "jvm-ws-edn", "node-ws-edn", "chromium-ws-close-me"):
        for record in load(name):
            if record.kind == "ws-frame" and record.opcode in (TEXT, BINARY):
                yield b"\x00" + frame(record.opcode, record.text.encode(), mask=OPEN)
    for k in range(64):
        yield bytes([MADE | k]) + bytes((k * 11 + n * n) & 0xFF for n in range(60))


def check(data: bytes) -> None:
    bits = data[0] if data else 0
    role = {"masked": not bits & UNMASKED, "may_deflate": bool(bits & DEFLATES)}
    if bits & MADE:
        _check_made(Draw(data[1:]), **role)
    else:
        _check_bytes(data[1:], LIMITS[(bits & LIMIT) >> 1], **role)


def _read(
    pieces: list[bytes], limit: int, *, masked: bool, may_deflate: bool
) -> tuple[list[Any], str]:
    """Return what a parser makes of pieces, an error last, and the text of that error."""
    parser = Parser(limit, masked, may_deflate=may_deflate)
    waiting = b""
    seen: list[Any] = []
    for piece in pieces:
        waiting += piece
        while True:
            memory = bytearray(waiting)  # of its own size, so that reading past it is noticed
            try:
                what, used, whole = parser.step(memory)
            except FrameError as error:
                seen.append(("error", error.close_code))
                return seen, error.message
            if what is not None:
                seen.append(what)
            elif not used:
                assert memory[:2] == waiting[:2]
                waiting = bytes(memory)  # unmasked as far as it came, wherever it lies next
                assert whole == 0 or len(waiting) < whole <= limit + 14 or whole <= 139
                break
            assert 0 < used <= len(waiting)
            waiting = waiting[used:]
    return seen, ""


def _check_bytes(data: bytes, limit: int, **role: bool) -> None:
    seen, message = _read([data], limit, **role)
    assert _read(pieces_of(data), limit, **role) == (seen, message)
    for what in seen:
        if what[0] in ("message", "deflated"):
            assert len(what[1]) <= limit
            assert what[0] == "deflated" or not what[2] or what[1].decode() is not None
        elif what[0] == "close":
            assert what[1] == 1005 or is_close_code(what[1])
        elif what[0] == "error":
            assert what[1] in (1002, 1007, 1008, 1009)
        else:
            assert len(what[1]) <= 125
    if limit == LIMITS[0]:  # theirs counts control frames against the limit
        _check_against_theirs(seen, message, theirs(data, limit, **role))


def _check_against_theirs(seen: list[Any], message: str, expected: list[Any]) -> None:
    if not message:
        assert seen == expected
        return
    *before, _ = seen
    assert expected[: len(before)] == before
    if len(expected) == len(before):
        return  # we refuse by the head, or by the first byte that cannot stand; they wait
    # They take a length in any form and any number of fragments, and look at a text at its end.
    ours = ("shortest form", "at most 125", "empty fragments", "UTF-8")
    if not any(rule in message for rule in ours):
        assert expected[len(before)][0] == "error"


def _check_made(draw: Draw, *, masked: bool, may_deflate: bool) -> None:
    """Make frames of messages, as a peer would, and read them back."""
    frames: list[bytes] = []
    meaning: list[Any] = []

    def put(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0) -> None:
        key = draw.of((OPEN, KEY, draw.bytes(4).ljust(4, b"k"))) if masked else None
        form = draw.of((bytes, bytearray, memoryview))
        made = frame(opcode, form(payload), mask=key, fin=fin)
        if key is None and fin:
            assert made.endswith(payload)
        frames.append(bytes([made[0] | rsv]) + made[1:])

    def control() -> None:
        kind = draw.of((PING, PONG))
        payload = draw.bytes(draw.below(126))
        put(kind, payload)
        meaning.append(("ping" if kind == PING else "pong", payload))

    for _ in range(draw.below(8)):
        kind = draw.below(4)
        if kind == 0:
            control()
            continue
        if kind == 1:
            code = draw.integer(2) if draw.flip() else draw.of((1000, 1001, 1005, 1006, 3000, 4999))
            reason = draw.bytes(draw.below(200)).decode("latin-1")
            try:
                payload = close_payload(code, reason)
            except ValueError:
                assert not is_close_code(code)
                continue
            assert len(payload) <= 125
            put(CLOSE, payload)
            meaning.append(("close", code, payload[2:].decode()))
            assert reason.startswith(meaning[-1][2])
            continue
        size = draw.of((draw.below(300), 125, 126, 127, 65535, 65536, 70001, 8, 9))
        payload = draw.bytes(min(size, 64))
        is_text = kind == 2
        is_deflated = may_deflate and draw.flip()
        if is_text and not is_deflated:
            payload = payload.decode("latin-1").encode()
        payload = (payload * (size // max(len(payload), 1) + 1))[: max(size, 1)]
        if is_text and not is_deflated:
            payload = payload.decode("utf-8", "ignore").encode()
        parts = pieces_of(payload, 4) if draw.flip() else [payload]
        for k, part in enumerate(parts):
            put(
                CONTINUATION if k else TEXT if is_text else BINARY,
                part,
                fin=k == len(parts) - 1,
                rsv=RSV1 if is_deflated and k == 0 else 0,
            )
            if k < len(parts) - 1 and draw.below(4) == 1:
                control()
        meaning.append(("deflated" if is_deflated else "message", payload, is_text))
    data = b"".join(frames)
    role = {"masked": masked, "may_deflate": may_deflate}
    assert _read([data], LIMITS[0], **role) == (meaning, "")
    assert _read(pieces_of(data), LIMITS[0], **role) == (meaning, "")
