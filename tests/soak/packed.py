"""The packers under soak, each on a channel and a port of its own, and what its clients see.

The clients know edn's text. Those of another packer have it translated here, both ways, by
that packer and chansock's edn; those of edn itself use neither. No socket here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from chansock import edn, packers

# edn twice as often: it is the default, and its clients read the bytes themselves.
NAMES: Final = ("edn", "edn", "msgpack", "transit", "json", "gzip")

PACKERS: Final[dict[str, packers.Packer]] = {
    "edn": packers.EDN(),
    "msgpack": packers.MessagePack(),
    "transit": packers.Transit(),
    "json": packers.JSON(),
    "gzip": packers.Gzip(packers.EDN()),
}


def packer_of(uid: str, seed: str) -> str:
    """Draw the packer of a user; the same for all clients of that user, and in both processes."""
    return NAMES[zlib.crc32(f"{seed}/{uid}".encode()) % len(NAMES)]


@dataclass(frozen=True, slots=True)
class Packed:
    """What a client sends and gets, in the bytes of its packer."""

    name: str

    @property
    def binary(self) -> bool:
        return PACKERS[self.name].binary

    def pack(self, text: str) -> bytes:
        """Return a packet of edn's text as what travels."""
        if self.name == "edn":
            return text.encode()
        value, cb_id = edn.loads(text)
        return PACKERS[self.name].packet(value, cb_id)

    def text(self, packet: bytes) -> bytes:
        """Return what came as edn's text."""
        if self.name == "edn":
            return packet
        return edn.dumps(PACKERS[self.name].unpack(memoryview(packet)))
