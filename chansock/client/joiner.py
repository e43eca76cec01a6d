"""From WebSocket frames to messages: fragments, UTF-8, sizes, close payloads (RFC 6455).

The frames come parsed; what a sequence of them means, and what breaks the protocol,
is decided here. Takes no socket and no loop: fed frames, it answers messages.
"""

from __future__ import annotations

from typing import Final

from chansock.errors import FrameError

__all__ = ["Joiner", "read_close"]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_CODE: Final = 1005  # RFC 6455 section 7.4.1: the close frame had none
# What may stand in a close frame below 3000: sections 7.4.1 and the registry.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


class Joiner:
    """Joins the data frames of one connection into messages."""

    __slots__ = ("_begun", "_max_size", "_opcode")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._opcode: int | None = None  # of the message that is under way
        self._begun = bytearray()  # its bytes so far: a fragment may be empty, and costs nothing

    def feed(self, opcode: int, is_last: bool, payload: bytes) -> bytes | None:
        """Take one data frame; give the message that it completes.

        Raises FrameError: 1002 for a continuation of nothing or a new message inside one,
        1007 for text that is no UTF-8 (section 8.1), 1009 past the size limit.
        """
        if opcode == CONTINUATION:
            if self._opcode is None:
                raise FrameError("expected a data frame, got a continuation of nothing")
        elif self._opcode is not None:
            raise FrameError(f"expected a continuation, got a frame with opcode {opcode}")
        size = len(self._begun) + len(payload)
        if size > self._max_size:
            raise FrameError(f"expected at most {self._max_size} bytes, got {size}", 1009)
        if is_last and opcode != CONTINUATION:
            return _checked(opcode, payload)
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._begun += payload
        if not is_last:
            return None
        whole, first = bytes(self._begun), self._opcode
        self._opcode, self._begun = None, bytearray()
        return _checked(first, whole)


def _checked(opcode: int | None, payload: bytes) -> bytes:
    if opcode == TEXT and not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as exc:
            raise FrameError(
                f"expected UTF-8 text, got {exc.reason} at byte {exc.start}", 1007
            ) from exc
    return payload


def read_close(payload: bytes) -> tuple[int, str]:
    """Read a close frame's payload: (code, reason); 1005 if it has none.

    Raises FrameError: 1002 for half a code or one that must not be sent, 1007 for a
    reason that is no UTF-8.
    """
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        raise FrameError("expected a close code of 2 bytes, got 1")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES and not 3000 <= code < 5000:
        raise FrameError(f"expected a close code that may be sent, got {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as exc:
        raise FrameError("expected a close reason in UTF-8, got other bytes", 1007) from exc
