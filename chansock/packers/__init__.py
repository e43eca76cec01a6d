"""The packers: values to packet bytes and back, one to a module, and what they have in common.

A packer knows the wire shapes `[value cb-id]` and `[[event ...] nil]` and nothing of
connections. Both ends of a channel must use the same one; nothing on the wire names it.
"""

from __future__ import annotations

from typing import Any, Protocol

from chansock.errors import PacketError
from chansock.packers.edn import EDN
from chansock.packers.gzip import Gzip
from chansock.packers.json import JSON
from chansock.packers.msgpack import MessagePack
from chansock.packers.transit import Transit

__all__ = ["EDN", "JSON", "Gzip", "MessagePack", "Packer", "PacketError", "Transit"]


class Packer(Protocol):
    """What a packer must do; any object with these can be given as `packer=`.

    Each method is called on the loop's thread, `fragment` and `packet` from the threads
    that send, too; none may wait.
    """

    @property
    def binary(self) -> bool:
        """Return whether packets travel in binary frames (else text, and must be UTF-8)."""
        ...

    def fragment(self, event: tuple[str] | tuple[str, Any], /) -> bytes:
        """Encode one event, `(id,)` or `(id, data)`, once for all its recipients.

        `(id, None)` is an event with nil as its data, `(id,)` one without data. The bytes must
        mean the same in any batch: no cache or back reference out of them.
        Raises chansock.EncodeError, which the caller of `send` gets, if the data can't be encoded.
        """
        ...

    def batch(self, fragments: list[bytes], /) -> bytes:
        """Join fragments to the packet `[[event ...] nil]`, in order, without decoding them."""
        ...

    def packet(self, value: Any, cb_id: Any, /) -> bytes:
        """Encode the packet `[value cb-id]`; cb_id None is nil."""
        ...

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        """Decode a packet to (value, cb_id), both None where they are missing.

        The memory is borrowed and is overwritten after the return: copy what is kept.
        Raises `packers.PacketError` if the bytes are no packet; any other exception counts as one.
        """
        ...
