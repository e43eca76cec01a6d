"""RFC 6455 frames as the websockets library reads them: an oracle for our parser. No test here."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Opcode
from websockets.frames import Frame as TheirFrame


def theirs(data: bytes, limit: int, *, masked: bool = True) -> list[Any]:
    """What websockets' own frame parser and a joiner of fragments make of data."""
    rest = bytearray(data)

    def read_exact(size: int) -> Generator[None, None, bytes]:
        if len(rest) < size:
            yield
        piece = bytes(rest[:size])
        del rest[:size]
        return piece

    seen: list[Any] = []
    opcode: Opcode | None = None
    joined = b""
    while True:
        reader = TheirFrame.parse(read_exact, mask=masked, max_size=limit - len(joined))
        try:
            next(reader)
            return seen  # it waits for more
        except StopIteration as done:
            got: TheirFrame = done.value
        except PayloadTooBig:
            return [*seen, ("error", 1009)]
        except ProtocolError:
            return [*seen, ("error", 1002)]
        if got.opcode in (Opcode.PING, Opcode.PONG):
            seen.append((got.opcode.name.lower(), bytes(got.data)))
            continue
        if got.opcode is Opcode.CLOSE:
            try:
                Close.parse(bytes(got.data[:2]))  # we look at the code first, they at the reason
                close = Close.parse(bytes(got.data))
            except (ProtocolError, UnicodeDecodeError) as error:
                code = 1002 if isinstance(error, ProtocolError) else 1007
                return [*seen, ("error", code)]
            seen.append(("close", int(close.code), close.reason))
            continue
        if (got.opcode is Opcode.CONT) != (opcode is not None):
            return [*seen, ("error", 1002)]
        opcode = opcode or got.opcode
        joined += bytes(got.data)
        if got.fin:
            if opcode is Opcode.TEXT:
                try:
                    joined.decode()
                except UnicodeDecodeError:
                    return [*seen, ("error", 1007)]
            seen.append(("message", joined, opcode is Opcode.TEXT))
            opcode, joined = None, b""
