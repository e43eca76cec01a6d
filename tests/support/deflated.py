"""A peer's permessage-deflate, by zlib and RFC 7692 section 7.2 alone: nothing of chansock."""

from __future__ import annotations

import zlib

END = b"\0\0\xff\xff"  # what a sender takes off, and a receiver puts back


def raw(message: bytes, *, mode: int = zlib.Z_SYNC_FLUSH, bits: int = 15) -> bytes:
    """Deflate one message; with Z_FINISH all its blocks are final (section 7.2.3.4)."""
    deflater = zlib.compressobj(wbits=-bits)
    data = deflater.compress(message) + deflater.flush(mode)
    return data + b"\0" if mode == zlib.Z_FINISH else data.removesuffix(END)


def plain(data: bytes, *, bits: int = 15) -> bytes:
    """Inflate one message that refers to no other."""
    return zlib.decompressobj(-bits).decompress(data + END)
