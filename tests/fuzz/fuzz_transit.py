"""transit: any bytes are read or refused with a PacketError, alike from every buffer; what was
read can be written in both forms and read back; a value is written as what it means, or refused.

With the high bit of the first byte the rest are choices that make a value to write; without it
they are text to read.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import recorded_packets

from chansock.errors import EncodeError, PacketError
from chansock.packers import Transit
from fuzz import fuzz_edn
from fuzz.draw import Draw

WRITE = 0x80
# Bits of the first byte where text is read
TAGGED = 0x01

WORDS = tuple(
    b'"~:a"|"~:chat/say"|"~$abcd"|"~ca"|"~i9"|"~n99999999999999999999"|"~d1.5"|"~f1.10"|"~f1E+3"'
    b'|"~m0"|"~m-62135596800000"|"~t2020-01-02T03:04:05.678Z"|"~zNaN"|"~z-INF"|"~bAP8="|"~rx"|"~_"'
    b'|"~?t"|"~u0b2c9a5e-0000-4000-8000-000000000001"|["~#set",[|["~#list",[|["~#cmap",[|["^ ",'
    b'|["~#ratio",["~n1","~n2"]]|["~#\'",1]|{"~#set":[|{"~:a":|"^0"|"^1"|"^10"|"~~|"~^|"~`|"^ "'
    b'|["~#my/tag",|"~Xa"|null|true|1.5e300|[[|]]|,null]|\\ud83d\\ude00|\\ud800|~#|{|}|[|]|,|:|"'.split(
        b"|"
    )
)
PACKERS = {
    (verbose, tagged): Transit(verbose=verbose, tagged=tagged)
    for verbose in (False, True)
    for tagged in (False, True)
}
TWO_OF_ONE_HASH = b",".join(b'"~n%d"' % ((2**61 - 1) * n) for n in range(1, 40))


def seeds() -> Iterator[bytes]:
    """Return what Sente wrote, corners of the format, and choices for values of many kinds."""
    for name in ("jvm-ws-values-transit", "node-ws-values-transit-verbose"):
        for _, payload in recorded_packets.packets(name):
            if len(payload) <= 2048:
                yield b"\x01" + payload
    for word in WORDS:
        yield b"\x00[" + word + b"]"
        yield b"\x01[" + word + b"]"
    yield b'\x01[[["^ ","abcd",1,"~#abcd",2],["^ ","^0","^1"],["^2",["^0"]]]]'
    yield b'\x01[["~#cmap",[["~#set",[1,2]],["~#my/tag",{"~:k":1}],["^ ",[1],2],"~Xabc"]]]'
    yield b'\x00[["~#set",[' + TWO_OF_ONE_HASH + b"]]]"
    yield b"\x00" + b"[" * 501 + b"]" * 501
    for k in range(128):
        yield bytes([WRITE | k & 3]) + bytes((k * 7 + n * n) & 0xFF for n in range(40))


def check(data: bytes) -> None:
    options = data[0] if data else 0
    if options & WRITE:
        _check_writing(Draw(data[1:]), bool(options & 1), bool(options & 2))
    else:
        _check_reading(data[1:], bool(options & TAGGED))


def _check_reading(text: bytes, tagged: bool) -> None:
    found = _read(text, tagged)
    for buffer in (bytearray(text), array("B", text)):
        assert _read(buffer, tagged) == found
    if found is None:
        return
    value, cb_id = PACKERS[False, tagged].unpack(memoryview(text))
    for verbose in (False, True):
        packer = PACKERS[verbose, tagged]
        try:
            written = packer.packet(value, cb_id)
        except EncodeError as error:
            # names and tags that only some read; a map written with one array more
            _expect(error, "keyword's name", "symbol's name", "a tag", "500 arrays")
            continue
        assert _read(written, tagged) == found, written


def _read(text: Any, tagged: bool) -> list[str] | None:
    """Return what a packet means; None if it is none."""
    try:
        value, cb_id = PACKERS[True, tagged].unpack(memoryview(text))
    except PacketError:
        return None
    return fuzz_edn.meaning([value, cb_id], "keyword")


def _check_writing(draw: Draw, is_wild: bool, verbose: bool) -> None:
    maker = fuzz_edn.Maker(draw, is_wild, "keyword")
    value, plain = maker.deep() if draw.flip() else maker.value(5)
    packer = PACKERS[verbose, True]
    try:
        text = packer.packet(value, "cb")
        fragment = packer.fragment(("a/b", [value]))
    except EncodeError as error:
        if not is_wild:
            _expect(error, "at most 500", "transit has no meaning for", "lone surrogates")
        return
    again, cb_id = packer.unpack(memoryview(text))
    (((_, (pushed,)),), _) = packer.unpack(memoryview(packer.batch([fragment])))
    assert cb_id == "cb"
    if not is_wild:
        assert fuzz_edn.meaning(again, "keyword") == fuzz_edn.meaning(plain, "keyword"), text
        assert fuzz_edn.meaning(pushed, "keyword") == fuzz_edn.meaning(plain, "keyword"), text


def _expect(error: EncodeError, *reasons: str) -> None:
    assert any(reason in error.message for reason in reasons), error
