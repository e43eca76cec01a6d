"""The envelope: events on their way between the processes of one channel, as bytes.

An engine that leaves the process stores envelopes and passes them on; the one in memory needs
none. The events are in it as the packer made them, so that a process that gets them encodes
nothing. Nothing here knows where envelopes are stored.

    version, flags         a byte each
    packer, origin         the packer's name, the id of the process that sent it
    only, skip             the one client that it is for, the one that it is not for; or empty
    close                  close code and reason, if flags say so
    count, then for each event: its key of `latest` in edn or empty, its bytes

A number is written in seven bits a byte, the lowest first; the last byte has no high bit. A text
and bytes are preceded by their length.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Self

from chansock import edn
from chansock.errors import ChansockError, EdnDecodeError

__all__ = ["MAX_BYTES", "VERSION", "Envelope", "EnvelopeError", "Event"]

VERSION: Final = 1
MAX_BYTES: Final = 1 << 28  # of any length: what is longer is no envelope

_KEPT: Final = 1
_FLUSH: Final = 2
_CLOSE: Final = 4


class EnvelopeError(ChansockError):
    """Bytes are no envelope of this version, or the envelope of another packer."""


@dataclass(frozen=True, slots=True)
class Event:
    """One encoded event; `latest` is its key, or None."""

    data: bytes
    latest: Hashable = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Events for one target, sent together by one process."""

    packer: str
    origin: str
    events: tuple[Event, ...] = ()
    only: str = ""
    skip: str = ""
    is_kept: bool = True
    flush: bool = False
    close: tuple[int, str] | None = None

    def encode(self) -> bytes:
        """Return the bytes. Raises EncodeError for a key of `latest` that edn cannot write."""
        flags = _KEPT * self.is_kept | _FLUSH * self.flush | _CLOSE * (self.close is not None)
        out = bytearray((VERSION, flags))
        for text in (self.packer, self.origin, self.only, self.skip):
            _put_bytes(out, text.encode())
        if self.close is not None:
            _put_number(out, self.close[0])
            _put_bytes(out, self.close[1].encode())
        _put_number(out, len(self.events))
        for event in self.events:
            _put_bytes(out, b"" if event.latest is None else edn.dumps(event.latest))
            _put_bytes(out, event.data)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes, packer: str) -> Self:
        """Return the envelope in `data`.

        Raises EnvelopeError for anything else: another version or packer, too few or too many
        bytes, a text that is no UTF-8, a key that is no edn.
        """
        reader = _Reader(data)
        version, flags = reader.byte(), reader.byte()
        if version != VERSION or flags > _KEPT | _FLUSH | _CLOSE:
            raise EnvelopeError(f"expected an envelope of version {VERSION}, got {version}")
        name, origin, only, skip = (reader.text() for _ in range(4))
        if name != packer:
            raise EnvelopeError(f"expected an envelope of the packer {packer}, got {name:.80}")
        close = (reader.number(), reader.text()) if flags & _CLOSE else None
        count = reader.number()
        if count > len(data):
            raise EnvelopeError(f"expected at most {len(data)} events, got {count}")
        events = tuple(reader.event() for _ in range(count))
        reader.end()
        is_kept, flush = bool(flags & _KEPT), bool(flags & _FLUSH)
        return cls(name, origin, events, only, skip, is_kept, flush, close)


def _hashable(value: Any) -> Any:
    """Return a key as it was: edn writes a tuple as a vector, and reads a list."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _put_number(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_bytes(out: bytearray, data: bytes) -> None:
    _put_number(out, len(data))
    out += data


class _Reader:
    """Reads the parts of an envelope. Every method raises EnvelopeError at the end of the bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise EnvelopeError("expected more bytes, got the end of the envelope")
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if number > MAX_BYTES:
                raise EnvelopeError(f"expected a number up to {MAX_BYTES}, got more")
            if byte < 0x80:
                return number
            shift += 7
            if shift > 28:
                raise EnvelopeError("expected a number of at most five bytes, got more")

    def bytes(self) -> bytes:
        size = self.number()
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise EnvelopeError(f"expected {size} bytes, got {len(found)}")
        self._at += size
        return found

    def text(self) -> str:
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise EnvelopeError(f"expected UTF-8: {error}") from None

    def event(self) -> Event:
        key = self.text()
        try:
            latest = _hashable(edn.loads(key)) if key else None
            hash(latest)
        except (EdnDecodeError, TypeError) as error:
            raise EnvelopeError(f"expected a key in edn: {error}") from None
        return Event(self.bytes(), latest)

    def end(self) -> None:
        if self._at != len(self._data):
            left = len(self._data) - self._at
            raise EnvelopeError(f"expected the end of the envelope, got {left} bytes more")
