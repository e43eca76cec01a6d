"""The envelope: events on their way between the processes of one channel, as bytes.

An engine that leaves the process stores envelopes and passes them on; the one in memory needs
none. The events are in it as the packer made them, so that a process that gets them encodes
nothing. Nothing here knows where envelopes are stored. Most are written by `turn.pxi` and read by
`envelope.pxi` of `_fast/events`, which know the same bytes.

    version, flags         a byte each
    packer, origin         the packer's name, the id of the process that sent it
    only, skip             the one client that it is for, the one that it is not for; or empty
    close                  close code and reason, if flags say so
    count, then for each event: its key of `latest` in edn or empty, its bytes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from chansock import edn
from chansock._core.packing import PackingError, Writer
from chansock._fast.events.fanout import Fragment, Turn, read_envelope

__all__ = ["VERSION", "Envelope", "EnvelopeError", "new_turn"]

VERSION: Final = 1

_KEPT: Final = 1
_FLUSH: Final = 2
_CLOSE: Final = 4


class EnvelopeError(PackingError):
    """Bytes are no envelope of this version, or the envelope of another packer."""


@dataclass(slots=True)  # frozen, it would take longer to make, once an event
class Envelope:
    """Events for one target, sent together by one process."""

    packer: str
    origin: str
    events: tuple[Fragment, ...] = ()
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
            out.put_bytes(b"" if event.key is None else edn.dumps(event.key))
            out.put_bytes(event.data)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes, packer: str) -> Self:
        """Return the envelope in `data`.

        Raises EnvelopeError for anything else: another version or packer, too few or too many
        bytes, a text that is no UTF-8, a key that is no edn.
        """
        try:
            origin, only, skip, flags, close, events = read_envelope(data, VERSION, packer)
        except UnicodeDecodeError as error:
            raise EnvelopeError(f"expected UTF-8: {error}") from None
        except ValueError as error:
            raise EnvelopeError(str(error)) from None
        is_kept, flush = bool(flags & _KEPT), bool(flags & _FLUSH)
        return cls(packer, origin, events, only, skip, is_kept, flush, close)


def new_turn(packer: str) -> Turn:
    """Return a turn whose envelopes are those of a packer, without an origin."""
    names = Writer()
    names.put_text(packer)
    names.put_text("")
    return Turn(VERSION, bytes(names))
