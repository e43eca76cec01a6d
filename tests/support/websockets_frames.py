"""RFC 6455 frames as the websockets library reads them: an oracle for our parser. No test here."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.frames import Close, Opcode
from websockets.frames import Frame as TheirFrame
from websockets.typing import ExtensionName


class Deflated(Extension):
    """Allow RSV1 where permessage-deflate sets it, and leaves the payload as it is."""

    name = ExtensionName("permessage-deflate")
    came = False

    def decode(self, frame: TheirFrame, *, max_size: int | None = None) -> TheirFrame:
        if frame.rsv1 and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.came = True
            return replace(frame, rsv1=False)
        return frame


def theirs(data: bytes, limit: int, *, masked: bool = True, may_deflate: bool = False) -> list[Any]:
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
    deflated = Deflated()
    while True:
        reader = TheirFrame.parse(
            read_exact,
            mask=masked,
            max_size=limit - len(joined),
            extensions=[deflated] if may_deflate else [],
        )
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
            if opcode is Opcode.TEXT and not deflated.came:
                try:
                    joined.decode()
                except UnicodeDecodeError:
                    return [*seen, ("error", 1007)]
            kind = "deflated" if deflated.came else "message"
            seen.append((kind, joined, opcode is Opcode.TEXT))
            opcode, joined, deflated.came = None, b"", False
