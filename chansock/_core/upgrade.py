"""The answer to a WebSocket handshake as bytes (RFC 6455 section 4.2.2).

Both sides use it: a server writes the 101, a client checks its Sec-WebSocket-Accept. Whether a
handshake may be answered so is decided elsewhere.
"""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import sha1
from typing import Final

__all__ = ["KEY_LENGTH", "accept_key", "switch"]

KEY_LENGTH: Final = 24  # of a Sec-WebSocket-Key: 16 bytes in base64

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept of a Sec-WebSocket-Key.

    Raises ValueError if the key has not 24 bytes.
    """
    if len(key) != KEY_LENGTH:
        raise ValueError(f"key: expected {KEY_LENGTH} bytes, got {len(key)}")
    return b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def switch(key: bytes) -> bytes:
    """Return the 101 that answers a Sec-WebSocket-Key. Raises ValueError as `accept_key` does."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key(key)
    )
