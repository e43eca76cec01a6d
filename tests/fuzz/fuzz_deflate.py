"""deflate: bytes are a message or none whatever the pieces, and never a longer one than allowed;
what was deflated is read as it was; an offer is taken where websockets takes it.

The two low bits of the first byte say which: bytes of a peer, messages that choices make, or
the value of Sec-WebSocket-Extensions.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from deflated import END, plain, raw
from websockets.exceptions import InvalidHeaderFormat, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import parse_extension

from chansock._edge.extensions import Extensions
from chansock._fast.ws.frames import Deflate
from chansock.config import Compression, Config
from chansock.errors import FrameError
from chansock.request import Request, Response
from fuzz.draw import Draw

BYTES, MADE, OFFER = 0, 1, 2
# Bits of the first byte where bytes are read
TEXT, WINDOW, LIMIT = 0x04, 0x08, 0x30

LIMITS = (1 << 20, 0, 1000, 70_000)
LONGEST_WINDOW = 1 << 15
BEFORE = b"what was said before, and may be referred to; " * 20

WORDS = (
    *(b"\x00\x00\xff\xff", b"\x03\x00", b"\x02", b"\x00\x05\x00\xfa\xff", b"\x01\x00\x00\xff\xff"),
    *(raw(b"Hello"), raw(b"Hello", mode=zlib.Z_FINISH), raw(b"a" * 2000), raw("é€𝄞".encode())),
    *(b"permessage-deflate", b"server_no_context_takeover", b"client_no_context_takeover"),
    *(b"server_max_window_bits", b"client_max_window_bits", b"; ", b", ", b"=", b'="', b'"', b"\\"),
    *(b"8", b"9", b"10", b"12", b"15", b"16"),
)


def seeds() -> Iterator[bytes]:
    """Return the examples of RFC 7692, deflated texts, choices, and offers of browsers."""
    payloads = [
        bytes.fromhex(payload)
        for payload in (  # section 7.2.3
            "f2 48 cd c9 c9 07 00",
            "f2 00 11 00 00",
            "00 05 00 fa ff 48 65 6c 6c 6f 00",
            "f3 48 cd c9 c9 07 00 00",
            "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
            "00",
        )
    ]
    for text in (BEFORE[:300], BEFORE * 30, "é€𝄞 ".encode() * 50, bytes(range(256)) * 4):
        payloads += [raw(text), raw(text, mode=zlib.Z_FINISH), raw(text, mode=zlib.Z_FULL_FLUSH)]
    for payload in payloads:
        for bits in range(0, 0x40, 4):
            yield bytes([BYTES | bits]) + payload
    for k in range(32):
        yield bytes([MADE]) + bytes((k * 11 + n * n) & 0xFF for n in range(60))
    for offer in (
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        'permessage-deflate; server_no_context_takeover; server_max_window_bits="10"',
        "permessage-deflate; x, permessage-bzip2, permessage-deflate; client_no_context_takeover",
    ):
        yield bytes([OFFER]) + offer.encode()


def check(data: bytes) -> None:
    bits = data[0] if data else 0
    if bits & 3 == MADE:
        _check_made(Draw(data[1:]))
    elif bits & 3 == OFFER:
        _check_offer(data[1:].decode("latin-1"))
    else:
        window = BEFORE if bits & WINDOW else None
        _check_bytes(data[1:], LIMITS[(bits & LIMIT) >> 4], window, is_text=bool(bits & TEXT))


def _deflate(**options: int) -> Deflate:
    defaults = {"window_bits": 12, "level": 6, "memory_level": 5, "threshold": 0, "kept": 0}
    return Deflate(**{**defaults, "max_size": LIMITS[0], **options}, answer="")


def _check_bytes(data: bytes, limit: int, window: bytes | None, *, is_text: bool) -> None:
    expected = _inflated(data, limit, window or b"")
    if expected is not None and is_text and not _is_utf8(expected):
        expected = None
    found = _outcome(data, limit, window, is_text=is_text)
    if isinstance(found, FrameError):
        assert found.close_code in (1007, 1009)
        # Of many final blocks we take sixteen.
        assert expected is None or "final blocks" in found.message
    else:
        assert found == expected


def _outcome(data: bytes, limit: int, window: bytes | None, *, is_text: bool) -> bytes | FrameError:
    try:
        return _deflate(max_size=limit).read(data, is_text, window)
    except FrameError as error:
        return error


def _inflated(data: bytes, limit: int, window: bytes) -> bytes | None:
    """What zlib makes of a message byte by byte; None: it is none, or too long."""
    made = b""
    inflater = zlib.decompressobj(-15, window)
    for byte in data + END + b"\x03\x00":
        if inflater.eof:
            inflater = zlib.decompressobj(-15, (window + made)[-LONGEST_WINDOW:])
        try:
            made += inflater.decompress(bytes([byte]))
        except zlib.error:
            return None
        if len(made) > limit:
            return None
    return made if inflater.eof else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_made(draw: Draw) -> None:
    """Deflate messages and read them back, ours by zlib and a peer's by us."""
    bits = 9 + draw.below(7)
    deflate = _deflate(
        window_bits=bits, level=1 + draw.below(9), memory_level=1 + draw.below(9), kept=1 << bits
    )
    peer = zlib.compressobj(wbits=-bits)
    window = None
    for _ in range(draw.below(8)):
        part = draw.bytes(draw.below(80))
        message = part * draw.of((1, 2, 50, 1000))
        frame = deflate.frame(message, draw.flip())
        if frame is not None:
            assert len(frame) < len(message) + 10
            assert frame[0] in (0xC1, 0xC2)
            payload = frame[{126: 4, 127: 10}.get(frame[1], 2) :]
            assert plain(payload, bits=bits) == deflate.read(payload, False) == message
        mode = draw.of((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH))
        payload = (peer.compress(message) + peer.flush(mode)).removesuffix(END)
        assert deflate.read(payload, False, window) == message
        window = deflate.slide(window, message)
        assert window is not None
        assert len(window) <= 1 << bits


def _check_offer(field: str) -> None:
    if any(char in field for char in "\r\n\0") or not field.strip(" \t,"):
        return
    request = Request(
        f"GET / HTTP/1.1\r\nSec-WebSocket-Extensions: {field}\r\n\r\n".encode("latin-1")
    )
    found = Extensions(Config(compression=Compression())).agree(request)
    try:
        offers = parse_extension(field.strip(" \t"))
    except InvalidHeaderFormat:
        assert isinstance(found, Response), field
        return
    factory = ServerPerMessageDeflateFactory(True, True, 12, None)
    for name, parameters in offers:
        try:
            if name == factory.name:
                _, theirs = factory.process_request_params(parameters, [])
                break
        except NegotiationError:
            pass
    else:
        assert found is None, field
        return
    assert isinstance(found, Deflate), field
    assert found.window_bits == theirs.local_max_window_bits
