"""deflate: messages and their deflated forms; the oracles are RFC 7692 and websockets."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest
from deflated import raw
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from chansock._fast.events.packet import Packet
from chansock._fast.ws import frames as room
from chansock._fast.ws.frames import Deflate
from chansock.errors import FrameError

LIMIT = 1 << 20
HELLO = {  # RFC 7692 section 7.2.3
    "one block": "f2 48 cd c9 c9 07 00",
    "no compression": "00 05 00 fa ff 48 65 6c 6c 6f 00",
    "a final block": "f3 48 cd c9 c9 07 00 00",
    "two blocks": "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
}


def agreed(**options: Any) -> Deflate:
    options = {
        "window_bits": 12,
        "level": 6,
        "memory_level": 5,
        "threshold": 0,
        "kept": 0,
        "max_size": LIMIT,
        "answer": "",
        **options,
    }
    return Deflate(**options)


def split(frame: bytes) -> tuple[int, bytes]:
    """The first byte of an unmasked frame, and its payload."""
    return frame[0], frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def outcome(payload: bytes) -> int:
    """The length of the message, or the close code."""
    try:
        return len(agreed().read(payload))
    except FrameError as error:
        return error.close_code


def refused(payload: bytes, **options: Any) -> int:
    with pytest.raises(FrameError) as caught:
        agreed(**options).read(payload)
    return caught.value.close_code


# -- what comes


@pytest.mark.parametrize("form", HELLO)
def test_the_examples_of_the_rfc_are_read(form: str) -> None:
    assert agreed().read(bytes.fromhex(HELLO[form])) == b"Hello"


def test_a_second_hello_refers_to_the_first() -> None:
    # RFC 7692 section 7.2.3.2
    deflate = agreed(kept=1 << 15)
    first = deflate.read(bytes.fromhex(HELLO["one block"]))
    window = deflate.slide(None, first)
    assert deflate.read(bytes.fromhex("f2 00 11 00 00"), window=window) == b"Hello"
    with pytest.raises(FrameError):
        deflate.read(bytes.fromhex("f2 00 11 00 00"))


def test_an_empty_message_is_read() -> None:
    assert agreed().read(b"\0") == b""  # RFC 7692 section 7.2.3.6


def test_each_message_may_end_with_a_final_block() -> None:
    deflate = agreed(kept=1 << 15)
    window = None
    for text in (b"Hello", b"", b"Hello, hello", b"x" * 70000):
        message = deflate.read(raw(text, mode=zlib.Z_FINISH), window=window)
        assert message == text
        window = deflate.slide(window, message)


def test_final_blocks_within_a_message_are_followed_up_to_sixteen() -> None:
    part = raw(b"Hello ", mode=zlib.Z_FINISH)[:-1]
    assert agreed().read(part * 15 + b"\0") == b"Hello " * 15
    assert refused(part * 16 + b"\0") == 1007


@pytest.mark.parametrize(
    "payload",
    [
        b"",  # not even the header of the block whose end was taken off
        b"\x06",  # a block of the reserved type
        b"\x02",  # cut off within a block
        bytes.fromhex("f2 48 cd c9 c9"),
        bytes.fromhex("f2 48 cd c9 c9 07"),
        bytes.fromhex("f3 48 cd c9 c9 07 00"),  # a final block, and no other begun
        bytes.fromhex("f2 48 cd c9 c9 07 00 00 00 ff ff"),  # the end was not taken off
        bytes.fromhex("f2 00 11 00 00"),  # refers to what never was
        b"Hello",
        bytes.fromhex("78 9c f3 48 cd c9 c9 07 00 05 8c 01 f5"),  # zlib's own format
    ],
)
def test_what_is_no_deflated_message_closes_1007(payload: bytes) -> None:
    assert refused(payload) == 1007


def test_every_beginning_of_a_deflated_message_is_refused_or_shorter() -> None:
    text = bytes(random.Random(1).choices(b"abcdefgh", k=600))
    payload = raw(text)
    for size in range(len(payload)):
        assert outcome(payload[:size]) in (1007, *range(len(text)))


@pytest.mark.parametrize("text", [b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"ok \xc0\xaf"])
def test_inflated_text_that_is_no_utf_8_closes_1007(text: bytes) -> None:
    assert refused(raw(text)) == 1007
    assert agreed().read(raw(text), False) == text


@pytest.mark.parametrize("mode", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
@pytest.mark.parametrize("byte", [b"\0", b"a"])
def test_the_limit_holds_for_what_is_inflated(mode: int, byte: bytes) -> None:
    assert agreed(max_size=1000).read(raw(byte * 1000, mode=mode)) == byte * 1000
    assert refused(raw(byte * 1001, mode=mode), max_size=1000) == 1009


def test_the_limit_holds_over_all_streams_of_a_message() -> None:
    part = raw(b"a" * 400, mode=zlib.Z_FINISH)[:-1]
    assert agreed(max_size=800).read(part * 2 + b"\0") == b"a" * 800
    assert refused(part * 3 + b"\0", max_size=1000) == 1009


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counted:
        def __init__(self, *args: Any) -> None:
            self.inflater = zlib.decompressobj(*args)

        def decompress(self, data: bytes, most: int) -> bytes:
            piece = self.inflater.decompress(data, most)
            asked.append(len(piece))
            return piece

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inflater, name)

    monkeypatch.setattr(room, "decompressobj", Counted)
    bomb = raw(bytes(1 << 24))
    assert len(bomb) < 1 << 15
    assert refused(bomb, max_size=1 << 14) == 1009
    assert asked == [(1 << 14) + 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from([9, 10, 12, 15]))
def test_what_websockets_deflates_with_takeover_is_read(texts: list[bytes], bits: int) -> None:
    theirs = PerMessageDeflate(True, False, 15, bits)
    deflate = agreed(kept=1 << bits)
    window = None
    for text in [*texts, *texts, b"ab" * 40000, *texts]:
        payload = bytes(theirs.encode(Frame(Opcode.BINARY, text)).data)
        message = deflate.read(payload, False, window)
        assert message == text
        window = deflate.slide(window, message)
        assert window is not None
        assert len(window) <= 1 << bits


def test_without_takeover_nothing_is_kept() -> None:
    assert agreed().slide(None, b"Hello") is None


# -- what goes


@pytest.mark.parametrize("bits", [9, 10, 12, 15])
@pytest.mark.parametrize("size", [8, 125, 700, 4000, 70000, 300000])
@pytest.mark.parametrize("is_binary", [False, True])
def test_websockets_reads_what_is_deflated(bits: int, size: int, is_binary: bool) -> None:
    words = random.Random(size).choices([b"{:id 1} ", b"[nil] ", b'"text" '], k=size // 8)
    text = (b"a" * 8 + b"".join(words))[: max(size, 8)]
    frame = agreed(window_bits=bits).frame(text, is_binary)
    assert frame is not None
    assert len(frame) < len(text) + 2
    first, payload = split(frame)
    assert first == 0xC2 if is_binary else 0xC1  # FIN and RSV1, the opcode
    theirs = PerMessageDeflate(True, True, bits, 15)
    assert theirs.decode(Frame(Opcode(first & 15), payload, rsv1=True)).data == text


def test_a_frame_comes_back_as_it_went() -> None:
    text = b'[[[:chat/said "hello, hello, hello"]] nil]'
    frame = agreed().frame(text, False)
    assert frame is not None
    assert agreed().read(split(frame)[1]) == text


@pytest.mark.parametrize("payload", [b"", b"a", b"[1]", random.Random(7).randbytes(5000)])
def test_what_would_not_be_shorter_is_not_deflated(payload: bytes) -> None:
    assert agreed().frame(payload, True) is None
    packet = Packet(payload, True)
    assert packet.deflated(agreed()) is packet.frame()


def test_what_is_below_the_threshold_goes_plain() -> None:
    deflate = agreed(threshold=100)
    short, long = Packet(b"a" * 99), Packet(b"a" * 100)
    assert short.deflated(deflate) is short.frame()
    assert long.deflated(deflate) != long.frame()


def test_a_packet_is_deflated_once_for_each_window() -> None:
    packet = Packet(b"[[[:chat/said {}]] nil]" * 100)
    first = packet.deflated(agreed(window_bits=12))
    assert packet.deflated(agreed(window_bits=12, kept=1 << 15)) is first
    other = packet.deflated(agreed(window_bits=9))
    assert other is not first
    assert packet.deflated(agreed(window_bits=12)) is first
    assert packet.deflated(agreed(window_bits=9)) is other


@pytest.mark.parametrize("asked_first", ["frame", "deflated", "body"])
def test_a_packet_has_all_its_forms_whichever_was_asked_for_first(asked_first: str) -> None:
    text = b"[[[:chat/said {}]] nil]" * 100
    packet, deflate = Packet(text), agreed()
    if asked_first == "deflated":
        packet.deflated(deflate)
    else:
        getattr(packet, asked_first)()
    assert packet.frame() == b"\x81\x7e" + len(text).to_bytes(2) + text
    assert packet.deflated(deflate) == deflate.frame(text, False)
    assert packet.body() == text
