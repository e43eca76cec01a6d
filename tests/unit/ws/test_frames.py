"""frames: RFC 6455 in both directions; the oracles are the RFC's own bytes and websockets.

The rules for what a client sends stand in tests/support/rfc6455.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from echoing import client
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_listener import BINARY, CLOSE, KEY, PING, PONG, TEXT
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Opcode
from websockets.frames import Frame as TheirFrame
from websockets_frames import theirs

from chansock._fast.ws.frames import Parser, close_payload, frame
from chansock.errors import FrameError

LIMIT = 1 << 20


def read(
    data: bytes,
    *,
    masked: bool = True,
    limit: int = LIMIT,
    step: int = 0,
    may_deflate: bool = False,
) -> list[Any]:
    """What a parser makes of data, given whole or `step` bytes at a time; an error comes
    last, as ("error", close code)."""
    parser = Parser(limit, masked, may_deflate=may_deflate)
    waiting = bytearray()
    seen: list[Any] = []
    pieces = [data[k : k + step] for k in range(0, len(data), step)] if step else [data]
    try:
        for piece in pieces:
            waiting += piece
            while True:
                what, used, whole = parser.step(waiting)
                del waiting[:used]
                if what is not None:
                    seen.append(what)
                elif not used:
                    break
                assert whole in (0, used)
    except FrameError as error:
        seen.append(("error", error.close_code))
    return seen


RFC_EXAMPLES = {  # RFC 6455 section 5.7: masked, bytes, meaning
    "unmasked text": (False, "81 05 48 65 6c 6c 6f", [("message", b"Hello", True)]),
    "masked text": (True, "81 85 37 fa 21 3d 7f 9f 4d 51 58", [("message", b"Hello", True)]),
    "fragments": (False, "01 03 48 65 6c 80 02 6c 6f", [("message", b"Hello", True)]),
    "unmasked ping": (False, "89 05 48 65 6c 6c 6f", [("ping", b"Hello")]),
    "masked pong": (True, "8a 85 37 fa 21 3d 7f 9f 4d 51 58", [("pong", b"Hello")]),
    "256 bytes": (False, "82 7e 01 00" + "00" * 256, [("message", bytes(256), False)]),
    "64 KiB": (
        False,
        "82 7f 00 00 00 00 00 01 00 00" + "00" * 65536,
        [("message", bytes(65536), False)],
    ),
}


@pytest.mark.parametrize("name", RFC_EXAMPLES)
def test_examples_of_rfc_6455_are_read(name: str) -> None:
    masked, data, meaning = RFC_EXAMPLES[name]
    assert read(bytes.fromhex(data), masked=masked) == meaning


def test_examples_of_rfc_6455_are_written() -> None:
    assert frame(TEXT, b"Hello") == bytes.fromhex("81 05 48 65 6c 6c 6f")
    assert frame(TEXT, b"Hello", mask=KEY) == bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
    assert frame(TEXT, b"Hel", fin=False) == bytes.fromhex("01 03 48 65 6c")
    assert frame(BINARY, bytes(256))[:4] == bytes.fromhex("82 7e 01 00")
    assert frame(BINARY, bytes(65536))[:10] == bytes.fromhex("82 7f 00 00 00 00 00 01 00 00")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70001])
@pytest.mark.parametrize("masked", [True, False])
def test_each_length_form_is_read_back(size: int, masked: bool) -> None:
    payload = bytes(k * 7 & 0xFF for k in range(size))
    data = frame(BINARY, payload, mask=KEY if masked else None)
    theirs = TheirFrame(Opcode.BINARY, payload).serialize(mask=False)
    assert masked or data == theirs
    assert read(data, masked=masked) == [("message", payload, False)]


STREAM = (
    client(TEXT, "héllo €".encode())
    + client(PING, b"p")
    + client(TEXT, "𝄞 mu".encode()[:2], fin=False)
    + client(0, b"", fin=False)
    + client(PING, b"between")
    + client(0, "𝄞 mu".encode()[2:])
    + client(BINARY, b"\xff" * 130)
    + client(PONG)
    + client(CLOSE, close_payload(1000, "bye"))
)
MEANING = [
    ("message", "héllo €".encode(), True),
    ("ping", b"p"),
    ("ping", b"between"),
    ("message", "𝄞 mu".encode(), True),
    ("message", b"\xff" * 130, False),
    ("pong", b""),
    ("close", 1000, "bye"),
]


def test_a_stream_is_read_whole() -> None:
    assert read(STREAM) == MEANING


@pytest.mark.parametrize("step", range(1, 16))
def test_a_stream_is_read_in_pieces_of_any_size(step: int) -> None:
    assert read(STREAM, step=step) == MEANING


def test_a_stream_is_read_when_split_at_any_byte() -> None:
    for split in range(len(STREAM)):
        parser, seen, waiting = Parser(LIMIT), [], bytearray()
        for piece in (STREAM[:split], STREAM[split:]):
            waiting += piece
            what, used, _ = parser.step(waiting)
            while what is not None or used:
                if what is not None:
                    seen.append(what)
                del waiting[:used]
                what, used, _ = parser.step(waiting)
        assert seen == MEANING


def test_an_incomplete_frame_tells_its_whole_size() -> None:
    data = client(BINARY, bytes(70_000))
    for known in range(2, 10):
        assert Parser(LIMIT).step(bytearray(data[:known])) == (None, 0, 0)
    for known in (10, 14, 1000):
        assert Parser(LIMIT).step(bytearray(data[:known])) == (None, 0, len(data))
    assert Parser(LIMIT).step(bytearray(client(TEXT, b"abc")[:2])) == (None, 0, 9)


def test_what_has_come_of_a_frame_is_unmasked_once_wherever_it_lies() -> None:
    payload = "héllo €, 𝄞 mu".encode()
    data = client(TEXT, payload)
    for first in range(len(data)):
        for second in range(first, len(data)):
            parser, memory = Parser(LIMIT), bytearray(data[:first])
            assert parser.step(memory)[1] == 0
            memory = memory + data[first:second]  # at another place
            assert parser.step(memory) == (None, 0, len(data) if second > 1 else 0)
            assert memory[6:] == payload[: max(second - 6, 0)]
            memory = memory + data[second:]
            assert parser.step(memory)[:2] == (("message", payload, True), len(data))


NOT_UTF8 = {  # and which of its bytes no text may have there, by the table of RFC 3629 section 4
    "lone byte": (b"\xff", 1),
    "lone continuation": (b"\x80", 1),
    "overlong form": (b"\xc0\xaf", 1),
    "overlong form of three": (b"\xe0\x80\xaf", 2),
    "overlong form of four": (b"\xf0\x80\x80\xaf", 2),
    "surrogate": (b"\xed\xa0\x80", 2),
    "past U+10FFFF": (b"\xf4\x90\x80\x80", 2),
    "past U+13FFFF": (b"\xf5\x80", 1),
    "character of two broken by ASCII": (b"\xc3a", 2),
    "character of three broken by ASCII": (b"\xe2\x82a", 3),
    "character of four broken by another": (b"\xf0\x9d\x84\xc3\xa9", 4),
}


@pytest.mark.parametrize("name", NOT_UTF8)
@pytest.mark.parametrize("behind", [0, 1000])
@pytest.mark.parametrize("parts", [1, 2, 3, 20])
def test_text_is_refused_by_its_first_byte_that_cannot_stand(
    name: str, behind: int, parts: int
) -> None:
    before = "ασκός 12345678 ".encode()
    bad, place = NOT_UTF8[name]
    text = before + bad + b"x" * behind
    cuts = [k * len(before + bad) // parts for k in range(parts)] + [len(text)]
    frames = [
        client(0 if k else TEXT, text[start:end], fin=end == len(text))
        for k, (start, end) in enumerate(pairwise(cuts))
    ]
    assert _payload_taken(frames) == (1007, len(before) + place)


def _payload_taken(frames: list[bytes]) -> tuple[int, int]:
    """The code with which a parser refuses frames, fed byte by byte, and the number of
    payload bytes that it had by then."""
    parser, memory, taken = Parser(LIMIT), bytearray(), 0
    for data in frames:
        head = 8 if data[1] & 0x7F == 126 else 6
        for k in range(len(data)):
            memory += data[k : k + 1]
            taken += k >= head
            try:
                _, used, _ = parser.step(memory)
            except FrameError as error:
                return error.close_code, taken
            del memory[:used]
    return 0, taken


def test_a_character_may_be_cut_by_fragments_reads_and_control_frames() -> None:
    text = "é€𝄞".encode()
    for k in range(len(text)):
        for n in range(k, len(text)):
            data = client(TEXT, text[:k], fin=False) + client(PING, b"\xff" * 9)
            data += client(0, text[k:n], fin=False) + client(0, b"", fin=False)
            data += client(0, text[n:])
            for step in (0, 1, 3, 7):
                assert read(data, step=step) == [("ping", b"\xff" * 9), ("message", text, True)]


def test_a_binary_message_may_hold_any_bytes() -> None:
    data = client(BINARY, b"\xff\xc0", fin=False) + client(0, b"\xed\xa0\x80")
    for step in (0, 1):
        assert read(data, step=step) == [("message", b"\xff\xc0\xed\xa0\x80", False)]


def test_a_text_of_many_fragments_has_no_bound_but_its_bytes() -> None:
    parts = [client(TEXT, b"x", fin=False)] + [client(0, b"x", fin=False)] * 9_998
    assert read(b"".join([*parts, client(0, b"x")]), limit=10_000) == [
        ("message", b"x" * 10_000, True)
    ]


def test_empty_fragments_in_succession_are_bounded() -> None:
    def flood(count: int) -> bytes:
        return client(TEXT, b"a", fin=False) + client(0, b"", fin=False) * count

    assert read(flood(100) + client(0, b"b")) == [("message", b"ab", True)]
    assert read((flood(60) + client(0)) * 2) == [("message", b"a", True)] * 2
    assert read(flood(100) + client(0, b"b", fin=False) + flood(100)[7:] + client(0)) == [
        ("message", b"ab", True)
    ]
    assert read(flood(101)) == read(flood(100) + flood(101)[7:]) == [("error", 1008)]


def test_rsv1_marks_a_message_as_deflated_where_that_was_agreed() -> None:
    packed = bytes.fromhex("f2 48 cd c9 c9 07 00")  # RFC 7692 section 7.2.3.1: "Hello"
    whole = b"\xc1" + client(TEXT, packed)[1:]
    parts = b"\x41" + client(TEXT, packed[:3], fin=False)[1:] + client(PING)
    parts += client(0, packed[3:])
    for data, meaning in (
        (whole, [("deflated", packed, True)]),
        (parts, [("ping", b""), ("deflated", packed, True)]),
        (whole + client(TEXT, b"Hello"), [("deflated", packed, True), ("message", b"Hello", True)]),
        (whole + client(TEXT, b"\xff"), [("deflated", packed, True), ("error", 1007)]),
        (
            parts + client(BINARY),
            [("ping", b""), ("deflated", packed, True), ("message", b"", False)],
        ),
    ):
        for step in (0, 1, 5):
            assert read(data, step=step, may_deflate=True) == meaning
        assert read(data)[-1] == ("error", 1002)


@pytest.mark.parametrize("first", [0xC0, 0xC8, 0xC9, 0xCA, 0xA1, 0x91, 0xE1, 0xD1, 0xF1])
def test_no_other_reserved_bit_and_no_other_frame_may_say_deflated(first: int) -> None:
    opened = client(TEXT, b"a", fin=False) if first == 0xC0 else b""
    data = opened + bytes([first, 0x80]) + KEY
    assert read(data, may_deflate=True) == [("error", 1002)]


def test_a_deflated_message_is_bounded_as_it_comes() -> None:
    data = b"\x42" + client(BINARY, bytes(600), fin=False)[1:]
    assert read(data + client(0, bytes(401))[:4], limit=1000, may_deflate=True) == [("error", 1009)]


@pytest.mark.slow
def test_a_large_frame_may_come_byte_by_byte() -> None:
    text = "aé€𝄞".encode() * 50_000
    parser, memory = Parser(LIMIT), bytearray()
    for byte in client(TEXT, text):
        memory.append(byte)
        what, _, _ = parser.step(memory)
    assert what == ("message", text, True)


def test_masked_frame_to_a_client_closes_1002() -> None:
    assert read(client(TEXT, b"x"), masked=False) == [("error", 1002)]


def test_a_long_message_closes_1009_by_its_head_alone() -> None:
    assert read(client(BINARY, bytes(1001))[:4], limit=1000) == [("error", 1009)]
    assert read(client(BINARY, bytes(1000)), limit=1000) == [("message", bytes(1000), False)]


def test_fragments_count_together_against_the_limit() -> None:
    parts = client(BINARY, bytes(600), fin=False)
    assert read(parts + client(0, bytes(400)), limit=1000) == [("message", bytes(1000), False)]
    assert read(parts + client(0, bytes(401))[:4], limit=1000) == [("error", 1009)]


def test_a_control_frame_between_fragments_does_not_count_against_the_limit() -> None:
    data = client(BINARY, bytes(100), fin=False) + client(PING, bytes(90)) + client(0)
    assert read(data, limit=100) == [("ping", bytes(90)), ("message", bytes(100), False)]


def test_the_limit_holds_anew_after_a_fragmented_message() -> None:
    message = client(BINARY, bytes(90), fin=False) + client(0, bytes(10))
    assert read(message * 3, limit=100) == [("message", bytes(100), False)] * 3


def test_empty_fragments_make_an_empty_message() -> None:
    data = client(TEXT, b"", fin=False) + client(0, b"", fin=False) + client(0)
    assert read(data) == [("message", b"", True)]


def test_close_codes_are_those_that_websockets_takes() -> None:
    for code in range(5010):
        payload = code.to_bytes(2, "big")
        try:
            Close.parse(payload)
            expected = [("close", code, "")]
        except ProtocolError:
            expected = [("error", 1002)]
        assert read(client(CLOSE, payload)) == expected


def test_close_without_code_reads_as_1005() -> None:
    assert read(client(CLOSE)) == [("close", 1005, "")]


def test_close_payload_is_code_and_reason() -> None:
    assert close_payload(1000, "bye") == b"\x03\xe8bye"
    assert close_payload(1005) == b""
    assert close_payload(4401) == b"\x11\x31"


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, -1])
def test_close_payload_refuses_codes_that_no_frame_may_carry(code: int) -> None:
    with pytest.raises(ValueError, match=f"got {code}$"):
        close_payload(code)


def test_close_reason_is_cut_at_a_character() -> None:
    payload = close_payload(1000, "x" * 122 + "é")
    assert payload == b"\x03\xe8" + b"x" * 122
    assert len(close_payload(1000, "é" * 100)) == 2 + 122


def test_frame_refuses_a_mask_of_another_size() -> None:
    with pytest.raises(ValueError, match="expected 4 bytes, got 3"):
        frame(TEXT, b"x", mask=b"abc")


# websockets as differential oracle


PAYLOADS = st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode))
FRAMES = st.builds(
    lambda opcode, payload, fin, key: frame(opcode, payload, mask=key, fin=fin),
    st.sampled_from([0, 0, 1, 1, 2, 8, 9, 10, 3]),
    PAYLOADS,
    st.sampled_from([True, True, False]),
    st.binary(min_size=4, max_size=4),
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(data=st.lists(FRAMES, max_size=6).map(b"".join), step=st.sampled_from([0, 100]))
def test_frames_mean_what_websockets_says(data: bytes, step: int) -> None:
    ours, expected = read(data, limit=500, step=step), theirs(data, 500)
    if ours[-1:] == [("error", 1007)]:
        # We say so at the first byte that cannot stand, they at the end of the message.
        assert expected[: len(ours) - 1] == ours[:-1]
    elif ours != expected:
        # Two rules broken at once: which is named first is free.
        assert ours[-1][0] == expected[-1][0] == "error"
        assert ours[:-1] == expected[:-1]


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
def test_any_bytes_are_read_alike_whole_and_split(data: bytes, cut: int) -> None:
    assert read(data) == read(data, step=max(cut, 1))


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)))
def test_text_is_taken_exactly_if_python_decodes_it(data: bytes) -> None:
    try:
        data.decode()
        expected: Any = ("message", data, True)
    except UnicodeDecodeError:
        expected = ("error", 1007)
    assert read(client(TEXT, data)) == [expected]
