"""The envelope: events on their way between the processes of one channel, as bytes.

An engine that leaves the process stores envelopes and passes them on; the one in memory needs
none. The events are in it as the packer made them, so that a process that gets them encodes
nothing. Nothing here knows where envelopes are stored. What a node sends becomes envelopes in
`_fast/events/turn.pxi`, which writes the same bytes.

    version, flags         a byte each
    packer, origin         the packer's name, the id of the process that sent it
    only, skip             the one client that it is for, the one that it is not for; or empty
    close                  close code and reason, if flags say so
    count, then for each event: its key of `latest` in edn or empty, its bytes
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Self

from chansock import edn
from chansock._core.packing import PackingError, Reader, Writer
from chansock._fast.events.fanout import Turn
from chansock.errors import EdnDecodeError

__all__ = ["VERSION", "Envelope", "EnvelopeError", "Event", "new_turn"]

VERSION: Final = 1

_KEPT: Final = 1
_FLUSH: Final = 2
_CLOSE: Final = 4


class EnvelopeError(PackingError):
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
        out = Writer((VERSION, flags))
        for text in (self.packer, self.origin, self.only, self.skip):
            out.put_text(text)
        if self.close is not None:
            out.put_number(self.close[0])
            out.put_text(self.close[1])
        out.put_number(len(self.events))
        for event in self.events:
            out.put_bytes(b"" if event.latest is None else edn.dumps(event.latest))
            out.put_bytes(event.data)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes, packer: str) -> Self:
        """Return the envelope in `data`.

        Raises EnvelopeError for anything else: another version or packer, too few or too many
        bytes, a text that is no UTF-8, a key that is no edn.
        """
        try:
            return cls._read(Reader(data), len(data), packer)
        except EnvelopeError:
            raise
        except PackingError as error:
            raise EnvelopeError(str(error)) from None

    @classmethod
    def _read(cls, reader: Reader, size: int, packer: str) -> Self:
        version, flags = reader.byte(), reader.byte()
        if version != VERSION or flags > _KEPT | _FLUSH | _CLOSE:
            raise EnvelopeError(f"expected an envelope of version {VERSION}, got {version}")
        name, origin, only, skip = (reader.text() for _ in range(4))
        if name != packer:
            raise EnvelopeError(f"expected an envelope of the packer {packer}, got {name:.80}")
        close = (reader.number(), reader.text()) if flags & _CLOSE else None
        count = reader.number()
        if count > size:
            raise EnvelopeError(f"expected at most {size} events, got {count}")
        events = tuple(_event(reader) for _ in range(count))
        reader.end()
        is_kept, flush = bool(flags & _KEPT), bool(flags & _FLUSH)
        return cls(name, origin, events, only, skip, is_kept, flush, close)


def new_turn(packer: str) -> Turn:
    """Return a turn whose envelopes are those of a packer, without an origin."""
    names = Writer()
    names.put_text(packer)
    names.put_text("")
    return Turn(VERSION, bytes(names))


def _hashable(value: Any) -> Any:
    """Return a key as it was: edn writes a tuple as a vector, and reads a list."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _event(reader: Reader) -> Event:
    key = reader.text()
    try:
        latest = _hashable(edn.loads(key)) if key else None
        hash(latest)
    except (EdnDecodeError, TypeError) as error:
        raise EnvelopeError(f"expected a key in edn: {error}") from None
    return Event(reader.bytes(), latest)
