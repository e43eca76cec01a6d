"""Packets as they come: read whole, but a large batch of edn event by event.

A packet of 16 MiB may hold three million events. Decoded in one go they block the loop for
seconds, and take many times their bytes; `inbox` takes them from here in slices. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from chansock._fast.edn.reader import Reader
from chansock._fast.events.packet import EdnPacker, Packer
from chansock.client.packets import Events, Inbound, read_packet
from chansock.errors import EdnDecodeError, PacketError

__all__ = ["unpack"]

LARGE: Final = 128 * 1024  # bytes; less is decoded within some 20 ms
MAX_DEPTH: Final = 500 - 2  # the reader's own, less the two vectors around an event

_BEGIN: Final = re.compile(rb"[\s,]*\[[\s,]*\[(?=[\s,]*\[)")
_END: Final = re.compile(rb"\][\s,]*nil[\s,]*\][\s,]*\Z")
_BLANK: Final = re.compile(rb"(?:[\s,]|;[^\n]*)*")


def unpack(packer: Packer, payload: bytes) -> Inbound:
    """Return what a packet is. Raises PacketError, also while the items of Events are read."""
    if len(payload) >= LARGE and isinstance(packer, EdnPacker):
        begin = _BEGIN.match(payload)
        if begin is not None and _END.search(payload, len(payload) - 64) is not None:
            reader = Reader(packer.keys, max_depth=MAX_DEPTH, tagged=packer.tagged)
            return Events(_items(payload, begin.end(), reader), is_whole=False)
    return read_packet(*packer.unpack(memoryview(payload)))


def _items(payload: bytes, at: int, reader: Reader) -> Iterator[object]:
    """Read the items of `[[item ...] nil]` from the first on."""
    while not payload.startswith(b"]", at := _after_blank(payload, at)):
        try:
            item, at = reader.decode_one(payload, at)
        except EdnDecodeError as exc:
            raise PacketError(
                f"expected an event in edn, got none: {exc.message} at byte {exc.position}"
            ) from exc
        yield item
    if _END.match(payload, at) is None:
        raise PacketError(f"expected `] nil]` at byte {at}, got {payload[at : at + 40]!r}")


def _after_blank(payload: bytes, at: int) -> int:
    found = _BLANK.match(payload, at)
    return at if found is None else found.end()
