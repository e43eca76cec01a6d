"""The gzip packer of Sente: `Gzip(inner)` around any packer; every packet a binary message.

    00 <packet>             as the inner packer made it
    01 <gzip of a packet>   made of 1,024 bytes and more, where that is shorter

Text of the inner packer is UTF-8. A fragment is the inner packer's: what is wrapped is the
finished packet, so a batch is compressed once for all its recipients.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from chansock.errors import ConfigError, PacketError

if TYPE_CHECKING:
    from chansock.packers import Packer

__all__ = ["Gzip"]

RAW, GZIPPED = 0, 1
LEAST_BYTES = 1024  # below it Sente does not compress
GZIP = 16 + zlib.MAX_WBITS  # what zlib calls the gzip format with the largest window


class Gzip:
    """Sente's gzip wrapper around the packer `inner`.

    A packet that would inflate to more than `max_bytes` is refused at that many bytes.
    Raises ConfigError if `max_bytes` is no positive int.
    """

    # 1 MiB: what Config.max_message_bytes allows a packet by default; a packer does not see
    # the Config, which measures what came in, so a KiB could be a MiB of zeros
    def __init__(self, inner: Packer, /, *, max_bytes: int = 1 << 20) -> None:
        if type(max_bytes) is not int or max_bytes < 1:
            raise ConfigError(f"max_bytes: expected a positive int, got {max_bytes!r:.80}")
        self.inner = inner
        self.max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"Gzip({self.inner!r}, max_bytes={self.max_bytes})"

    @property
    def binary(self) -> bool:
        """Return True: packets travel in binary frames, whatever the inner packer's do."""
        return True

    def fragment(self, event: tuple[str] | tuple[str, Any], /) -> bytes:
        """Return the inner packer's fragment."""
        return self.inner.fragment(event)

    def batch(self, fragments: list[bytes], /) -> bytes:
        """Return the inner packer's batch, wrapped."""
        return _wrap(self.inner.batch(fragments))

    def packet(self, value: Any, cb_id: Any, /) -> bytes:
        """Return the inner packer's packet, wrapped."""
        return _wrap(self.inner.packet(value, cb_id))

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        """Return (value, cb_id) of the packet in view.

        Raises PacketError if there is no flag byte, if what follows 01 is not one whole gzip
        stream and nothing else, or inflates to more than `max_bytes`, and as `inner` does.
        """
        with memoryview(view) as whole, whole.cast("B") as data:
            if not data.nbytes:
                raise PacketError("expected a flag byte and a packet, got nothing")
            with data[1:] as rest:
                if data[0] != GZIPPED:  # Sente takes any other flag for raw
                    return self.inner.unpack(rest)
                packet = self._inflate(rest)
        return self.inner.unpack(memoryview(packet))

    def _inflate(self, data: memoryview) -> bytes:
        stream = zlib.decompressobj(GZIP)
        try:
            packet = stream.decompress(data, self.max_bytes + 1)
        except zlib.error as error:
            raise PacketError(f"expected a gzip stream behind the flag 01, got {error}") from None
        if len(packet) > self.max_bytes:
            raise PacketError(
                f"expected a packet that inflates to at most {self.max_bytes} bytes "
                f"(max_bytes), got {data.nbytes} that inflate to more"
            )
        if not stream.eof:
            raise PacketError(
                f"expected a whole gzip stream behind the flag 01, got its first "
                f"{data.nbytes} bytes"
            )
        if stream.unused_data:
            raise PacketError(
                f"expected one gzip stream behind the flag 01, got {len(stream.unused_data)} "
                "bytes more"
            )
        return packet


def _wrap(packet: bytes) -> bytes:
    if len(packet) >= LEAST_BYTES:
        gzipped = zlib.compress(packet, wbits=GZIP)
        if len(gzipped) < len(packet):
            return bytes((GZIPPED,)) + gzipped
    return bytes((RAW,)) + packet
