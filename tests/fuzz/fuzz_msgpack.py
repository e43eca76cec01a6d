"""MessagePack: any bytes are read or refused, alike from every buffer and whatever follows; what
was read can be written and read back, with references to keys and without; a value is written as
what it means, or refused.

With the high bit of the first byte the rest are choices that make a value to write, as in
fuzz_edn; without it they are bytes to read, and the lowest bit chooses what plain keys are.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chansock import packers
from chansock.errors import EncodeError, PacketError
from chansock.values import FrozenDict, FrozenStrDict, List
from fuzz.draw import Draw
from fuzz.fuzz_edn import DEFAULTS, Maker, meaning

WRITE = 0x80
STRINGS = 0x01

WORDS = (
    b"\xd4\x08\x00", b"\xd4\x08\x01", b"\xd4\x08\xff", b"\xd4\x00a", b"\xd5\x00ab", b"\xa1a",
    b"\xc7\x03\x00a/b", b"\xc7\x03\x01sym", b"\xd4\x02x", b"\xd5\x02\xc3\xa9", b"\xd5\x03\x01\x02",
    b"\xd4\x04\x90", b"\xd5\x04\x91\x01", b"\xd6\x04\x93\x01\x02\x03", b"\xd6\x05\x00\x00\x00\x01",
    b"\xd7\x07\x3f\xf8\x00\x00\x00\x00\x00\x00", b"\xd6\x06\x7f\xc0\x00\x00",
    b"\xd6\xff\x00\x00\x00\x01",
    b"\xc7\x0c\xff\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc7\x24\x09f81d4fae-7dec-11d0-a765-00a0c91e6bf6", b"\xc7\x00", b"\xc8\x00\x01\x00",
    b"\xc9\x00\x00\x00\x01\x04\x90", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\x00\x10",
    b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc4\x01\xff",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xca\x3f\xc0\x00\x00",
    b"\x82\xd4\x00a", b"\x81\xa1a",
    b"\x91" * 8, b"\x81\xc0" * 8, b"\x92\x92", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xc1",
)  # fmt: skip

RECORDED = Path(__file__).parent.parent / "data" / "msgpack" / "recorded.jsonl"


def seeds() -> Iterator[bytes]:
    """Return the recorded packets, each extension, and choices for values of many kinds."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        packet = bytes.fromhex(json.loads(line)["hex"])
        if len(packet) <= 2048:
            yield b"\x00" + packet
            yield b"\x01" + packet
    for word in WORDS:
        yield b"\x00\x92" + word + b"\xc0"
        yield b"\x00\x92\x82" + word + b"\x81" + word + b"\xd4\x08\x00\x01\xc0\xc0"
    for form in (b"\x91", b"\x81\xc0", b"\x81\xd4\x00a"):
        yield b"\x00\x92" + form * 502 + b"\xc0\xc0"
        yield b"\x00\x92" + form * 499 + b"\xc0\xc0"
    for k in range(256):
        yield bytes([WRITE | k & 3]) + bytes((k * 7 + n * n) & 0xFF for n in range(40))


def check(data: bytes) -> None:
    options = data[0] if data else 0
    keys = "string" if options & STRINGS else "keyword"
    if options & WRITE:
        _check_writing(Draw(data[1:]), bool(options & 2), keys)
    else:
        _check_reading(data[1:], keys)


def _read(packet: Any, keys: str) -> tuple[Any, Any] | str:
    """Read a packet; what refuses it, as its message."""
    try:
        return packers.MessagePack(keys).unpack(packet)
    except PacketError as error:
        return str(error)


def _mean(packet: tuple[Any, Any] | str, keys: str) -> Any:
    return packet if isinstance(packet, str) else meaning(list(packet), keys)


# -- reading --


def _check_reading(data: bytes, keys: str) -> None:
    found = _read(data, keys)
    if isinstance(found, str):
        place = re.fullmatch(r"(?s)expected .* at byte (\d+)", found)
        assert place, found
        assert int(place[1]) <= len(data)
        assert len(found) < 400
    meant = _mean(found, keys)
    # The array ends where its memory does.
    for buffer in (bytearray(data), array("B", data)[:], memoryview(b"(" + data + b")")[1:-1]):
        assert _mean(_read(buffer, keys), keys) == meant, type(buffer)
    if isinstance(found, str):
        return
    assert _mean(_read(data + b"\0\xff\xc1", keys), keys) == meant
    _check_again(found, meant, keys)


def _check_again(found: tuple[Any, Any], meant: Any, keys: str) -> None:
    packer = packers.MessagePack(keys)
    try:
        written = packer.packet(*found)
        pushed = packer.batch([packer.fragment(("a/b", list(found)))])
    except EncodeError as error:
        if "at most 500" not in error.message:  # the reader has room for a batch around it
            raise
        return
    assert _mean(packer.unpack(written), keys) == meant
    (event,), _ = packer.unpack(pushed)
    assert event[0] == "a/b"
    assert meaning(event[1], keys) == meant
    for end in {1, len(written) // 2, len(written) - 1}:
        assert isinstance(_read(written[:end], keys), str)


# -- writing --


def _check_writing(draw: Draw, is_wild: bool, keys: str) -> None:
    maker = Maker(draw, is_wild, keys)
    value, plain = maker.deep() if draw.flip() else maker.value(5)
    options: dict[str, Any] = {"keys": keys}
    if is_wild and draw.flip():
        options["default"] = draw.of(DEFAULTS)
    if draw.flip():
        # So that any place of it may be where the writer's memory ends, and grows.
        filler = [1] * draw.below(4096)
        value, plain = [*filler, value], [*filler, plain]
    packer = packers.MessagePack(**options)
    try:
        packet = packer.packet([value, value], "cb")
    except EncodeError as error:
        _check_refusal(error, is_wild)
        return
    assert packer.packet([value, value], "cb") == packet
    found, cb_id = packer.unpack(packet)
    assert cb_id == "cb"
    (event,), _ = packer.unpack(packer.batch([packer.fragment(("a/b", [value, value]))]))
    assert meaning(event[1], keys) == meaning(found, keys)
    if not is_wild:  # of the wild ones MessagePack has some that edn has not: bytes, any Symbol
        try:
            plain = _without_lists(plain)
        except RecursionError:  # ours alone: it is deep
            return
        assert meaning(found, keys) == meaning([plain, plain], keys), packet


def _check_refusal(error: EncodeError, is_wild: bool) -> None:
    """A tame value is refused where MessagePack has less than edn."""
    reasons = ("MessagePack has a form for", "at most 64 bits", "lone surrogates", "at most 500")
    assert is_wild or any(reason in error.message for reason in reasons), error


def _without_lists(value: Any) -> Any:
    """Put a list for each List: MessagePack has arrays alone."""
    kind = type(value)
    if kind is list:
        return [_without_lists(item) for item in value]
    if kind in (tuple, List):
        return tuple(_without_lists(item) for item in value)
    if kind in (set, frozenset):
        return kind(_without_lists(item) for item in value)
    if isinstance(value, dict):
        pairs = [(_without_lists(key), _without_lists(item)) for key, item in value.items()]
        return kind(pairs) if kind in (FrozenDict, FrozenStrDict) else kind(dict(pairs))
    return value
