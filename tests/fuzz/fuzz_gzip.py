"""gzip: any bytes are a packet, or refused, as zlib and the inner packer have it, and nothing
inflates past the limit; what was wrapped is read as it was.

The low bit of the first byte: the rest is a packet as it came; or what a packet is made of.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import recorded_packets

from chansock.errors import PacketError
from chansock.packers import EDN, Gzip

LIMIT = 4096
INNER = EDN()
PACKER = Gzip(INNER, max_bytes=LIMIT)
WORDS = (b"\x1f\x8b\x08\x00", b"\x01\x1f\x8b", b"\x03\x00", b"[[:a/b ", b"] nil]", b"\x00", b"\x01")


def seeds() -> Iterator[bytes]:
    """Return what Sente wrote, streams with extra fields and of several parts, and bombs."""
    for _, payload in recorded_packets.packets("node-ws-values-gzip-edn"):
        if len(payload) > 200 or payload[0] == 1 or len(payload) < 20:
            yield b"\x00" + payload
    packet = b'[[:a/b "' + b"0123456789" * 200 + b'"] nil]'
    stream = gzip.compress(packet, mtime=0)
    yield b"\x00\x01" + stream
    yield b"\x00\x01" + stream + stream
    yield b"\x00\x01" + stream[:3] + b"\x1f" + stream[4:]
    yield b"\x00\x01" + gzip.compress(b" " * LIMIT + b"[]", mtime=0)
    yield b"\x00\x01" + gzip.compress(b" " * (1 << 20), mtime=0)
    yield b"\x01" + b"text " * 300
    yield b"\x01short"


def check(data: bytes) -> None:
    if data[:1] and data[0] & 1:
        _check_written(data[1:])
    else:
        _check_read(data[1:])


def _check_read(packet: bytes) -> None:
    try:
        found = PACKER.unpack(memoryview(packet))
    except PacketError as error:
        found = None
        message = str(error)
        assert "bytes" not in message or len(message) < 500
    if packet[:1] == b"\x01":
        stream = zlib.decompressobj(31)
        try:
            inner = stream.decompress(packet[1:], LIMIT + 1)
            is_whole = stream.eof and not stream.unused_data and len(inner) <= LIMIT
        except zlib.error:
            is_whole = False
    else:
        inner, is_whole = packet[1:], bool(packet)
    expected = None
    if is_whole:
        try:
            expected = INNER.unpack(memoryview(inner))
        except PacketError:
            pass
    assert repr(found) == repr(expected)


def _check_written(data: bytes) -> None:
    text = data.decode("latin-1")
    packet = PACKER.packet(text, "cb")
    assert len(packet) <= 1 + len(INNER.packet(text, "cb"))
    if len(text) < LIMIT // 8:  # as long as an escape may be
        assert PACKER.unpack(memoryview(packet)) == (text, "cb")
