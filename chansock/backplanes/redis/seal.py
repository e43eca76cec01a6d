"""Authenticates what nodes write to an engine, for an engine that others can write to as well.

A sealed text begins with a keyed BLAKE2b of where it stands and of the text. It is not encrypted,
and who copies it may repeat it at the same place. No network here.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

__all__ = ["Seal"]

SIZE: Final = 16  # bytes of the hash
SHORTEST: Final = 16  # bytes of a secret


class Seal:
    """Seals texts, and opens them.

    Raises ValueError if the secret is shorter than 16 bytes.
    """

    def __init__(self, secret: str | bytes) -> None:
        given = secret.encode() if isinstance(secret, str) else bytes(secret)
        if len(given) < SHORTEST:
            raise ValueError(f"secret: expected at least {SHORTEST} bytes, got {len(given)}")
        self._key: bytes = blake2b(given, person=b"chansock entry").digest()

    def _hash(self, place: str, text: bytes) -> bytes:
        found = blake2b(key=self._key, digest_size=SIZE)
        where = place.encode()
        found.update(len(where).to_bytes(4, "big") + where)
        found.update(text)
        return found.digest()

    def seal(self, place: str, text: bytes) -> bytes:
        """Return a text with its hash in front."""
        return self._hash(place, text) + text

    def open(self, place: str, sealed: bytes) -> bytes | None:
        """Return the text; None if the hash is not the one of this text at this place."""
        text = sealed[SIZE:]
        return text if compare_digest(sealed[:SIZE], self._hash(place, text)) else None
