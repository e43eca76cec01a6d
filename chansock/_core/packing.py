"""Numbers, texts, and bytes as bytes, for what the processes of one channel send each other.

A number is written in seven bits a byte, the lowest first; the last byte has no high bit. A text
and bytes are preceded by their length. What is read is bounded: nothing here trusts its bytes.
"""

from __future__ import annotations

from typing import Final

from chansock.errors import ChansockError

__all__ = ["MAX_BYTES", "PackingError", "Reader", "Writer"]

MAX_BYTES: Final = 1 << 28  # of any length: what is longer is a mistake
MAX_NUMBER: Final = 1 << 63


class PackingError(ChansockError):
    """Bytes are not what a process of the same version wrote."""


class Writer(bytearray):
    """Bytes that grow by numbers, texts, and bytes."""

    def put_number(self, number: int) -> None:
        while number > 0x7F:
            self.append(number & 0x7F | 0x80)
            number >>= 7
        self.append(number)

    def put_bytes(self, data: bytes) -> None:
        self.put_number(len(data))
        self += data

    def put_text(self, text: str) -> None:
        self.put_bytes(text.encode("utf-8", "surrogatepass"))


class Reader:
    """Reads what a Writer wrote. Every method raises PackingError for anything else."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise PackingError("expected more bytes, got the end")
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if number >= MAX_NUMBER:
                raise PackingError(f"expected a number below {MAX_NUMBER}, got more")
            if byte < 0x80:
                return number
            shift += 7

    def bytes(self) -> bytes:
        size = self.number()
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise PackingError(f"expected {size} bytes, got {len(found)}")
        self._at += size
        return found

    def text(self) -> str:
        try:
            return self.bytes().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise PackingError(f"expected UTF-8: {error}") from None

    def end(self) -> None:
        if self._at != len(self._data):
            raise PackingError(f"expected the end, got {len(self._data) - self._at} bytes more")
