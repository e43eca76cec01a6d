"""The rules of RFC 6455 for what a client sends: its bytes, and what an echo answers.

No test here. Each rule stands under the section that makes it. The echo takes messages of at
most LIMIT bytes, and MAX_EMPTY empty fragments in succession.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from echoing import client
from raw_listener import BINARY, CLOSE, KEY, PING, PONG, TEXT

from chansock._fast.ws.frames import frame

LIMIT = 70_000
MAX_EMPTY = 10
FAILED = 0  # with a close code: the connection is failed (section 7.1.7)

Answer: TypeAlias = tuple[int, Any]


def _close(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def _head(first: int, *rest: int) -> bytes:
    """A masked head that no frame of ours has, and no payload behind it."""
    return bytes([first, *rest]) + KEY


HELLO = client(TEXT, b"Hello")
HI = (TEXT, b"Hello")

RULES: dict[str, tuple[bytes, list[Answer]]] = {
    "5.1 a client masks its frames": (HELLO + frame(TEXT, b"x"), [HI, (FAILED, 1002)]),
    "5.1 control frames too": (frame(PING, b"x"), [(FAILED, 1002)]),
    "5.3 any key unmasks": (
        frame(BINARY, b"0123456789", mask=b"\x00\xff\x80\x7f"),
        [(BINARY, b"0123456789")],
    ),
    "5.4 fragments are one message": (
        client(TEXT, b"Hel", fin=False) + client(0, b"l", fin=False) + client(0, b"o"),
        [HI],
    ),
    "5.4 the first fragment tells the type": (
        client(BINARY, b"\xff", fin=False) + client(0, b"\xfe"),
        [(BINARY, b"\xff\xfe")],
    ),
    "5.4 a fragment may be empty": (
        client(TEXT, fin=False) + client(0, b"Hello", fin=False) + client(0),
        [HI],
    ),
    "5.4 all of them may be": (client(TEXT, fin=False) + client(0), [(TEXT, b"")]),
    "5.4 not without end": (
        client(TEXT, b"a", fin=False) + client(0, fin=False) * (MAX_EMPTY + 1),
        [(FAILED, 1008)],
    ),
    "5.4 a byte makes up for them": (
        client(TEXT, fin=False)
        + (client(0, fin=False) * 9 + client(0, b"a", fin=False)) * 5
        + client(0),
        [(TEXT, b"aaaaa")],
    ),
    "5.4 fragments may be as many as their bytes": (
        client(BINARY, b"x", fin=False) + client(0, b"x", fin=False) * 498 + client(0, b"x"),
        [(BINARY, b"x" * 500)],
    ),
    "5.4 control frames stand between fragments": (
        client(TEXT, b"Hel", fin=False)
        + client(PING, b"1")
        + client(PONG)
        + client(PING, b"2")
        + client(0, b"lo"),
        [(PONG, b"1"), (PONG, b"2"), HI],
    ),
    "5.4 a continuation continues something": (client(0, b"x"), [(FAILED, 1002)]),
    "5.4 that has not ended": (HELLO + client(0, b"x"), [HI, (FAILED, 1002)]),
    "5.4 fragments of two messages do not mix": (
        client(TEXT, b"x", fin=False) + HELLO,
        [(FAILED, 1002)],
    ),
    "5.4 nor do two that are cut": (
        client(TEXT, b"x", fin=False) + client(BINARY, b"y", fin=False),
        [(FAILED, 1002)],
    ),
    "5.5 a control frame has 125 bytes": (client(PING, b"p" * 125), [(PONG, b"p" * 125)]),
    "5.5 and no more": (client(PING, b"p" * 126), [(FAILED, 1002)]),
    "5.5 a close frame neither": (client(CLOSE, _close(1000, b"r" * 124)), [(FAILED, 1002)]),
    "5.5 a ping is no fragment": (client(PING, b"x", fin=False), [(FAILED, 1002)]),
    "5.5 a pong is none": (client(PONG, b"x", fin=False), [(FAILED, 1002)]),
    "5.5 a close frame is none": (client(CLOSE, fin=False), [(FAILED, 1002)]),
    "5.5.1 a close frame is answered": (client(CLOSE), [(CLOSE, b"")]),
    "5.5.1 with its code and reason": (
        client(CLOSE, _close(1001, "tschüß".encode())),
        [(CLOSE, _close(1001, "tschüß".encode()))],
    ),
    "5.5.1 within a message too": (
        client(TEXT, b"Hel", fin=False) + client(CLOSE, _close(4000)),
        [(CLOSE, _close(4000))],
    ),
    "5.5.1 after what came before it": (HELLO + client(CLOSE), [HI, (CLOSE, b"")]),
    "5.5.1 and nothing behind it counts": (
        client(CLOSE, _close(1000)) + HELLO + client(PING) + frame(TEXT, b"x"),
        [(CLOSE, _close(1000))],
    ),
    "5.5.1 half a code is none": (client(CLOSE, b"\x03"), [(FAILED, 1002)]),
    "5.5.1 a reason may fill it": (
        client(CLOSE, _close(1000, b"r" * 123)),
        [(CLOSE, _close(1000, b"r" * 123))],
    ),
    "5.5.2 a pong has the payload of its ping": (
        client(PING, b"\x00\xff\x80") + client(PING),
        [(PONG, b"\x00\xff\x80"), (PONG, b"")],
    ),
    "5.5.3 a pong that nobody asked for is nothing": (client(PONG, b"x") + HELLO, [HI]),
    "5.6 a text is UTF-8": (client(TEXT, "κόσμε 𝄞".encode()), [(TEXT, "κόσμε 𝄞".encode())]),
    "5.6 a character may be cut": (
        client(TEXT, b"\xf0\x9d", fin=False) + client(PING, b"\xff") + client(0, b"\x84\x9e"),
        [(PONG, b"\xff"), (TEXT, "𝄞".encode())],
    ),
    "5.6 a binary message is any bytes": (
        client(BINARY, b"\xff\xc0\x80"),
        [(BINARY, b"\xff\xc0\x80")],
    ),
    "7.1.7 nothing counts behind what fails": (
        HELLO + client(11) + HELLO + client(CLOSE),
        [HI, (FAILED, 1002)],
    ),
    "8.1 a text is UTF-8 to its end": (client(TEXT, b"abc\xe2\x82"), [(FAILED, 1007)]),
    "8.1 in fragments too": (
        client(TEXT, b"abc\xe2", fin=False) + client(0, b"\x82"),
        [(FAILED, 1007)],
    ),
    "8.1 a cut character is not ended by another": (
        client(TEXT, b"\xe2\x82", fin=False) + client(0, b"a"),
        [(FAILED, 1007)],
    ),
    "8.1 what cannot become UTF-8 is not waited for": (
        client(TEXT, b"abc\xc0" + b"x" * 60_000)[:20],
        [(FAILED, 1007)],
    ),
    "8.1 a reason is UTF-8": (client(CLOSE, _close(1000, b"\xff")), [(FAILED, 1007)]),
    "8.1 to its end": (client(CLOSE, _close(1000, b"\xe2\x82")), [(FAILED, 1007)]),
    "10.4 a message has a limit": (
        client(BINARY, b"x" * LIMIT),
        [(BINARY, b"x" * LIMIT)],
    ),
    "10.4 known by its head": (client(BINARY, b"x" * (LIMIT + 1))[:10], [(FAILED, 1009)]),
    "10.4 for all fragments together": (
        client(BINARY, b"x" * 69_999, fin=False) + client(0, b"xx")[:2],
        [(FAILED, 1009)],
    ),
    "10.4 as far as numbers go": (
        _head(0x82, 0xFF, 0x7F, *[0xFF] * 7),
        [(FAILED, 1009)],
    ),
}
RULES |= {
    f"5.2 reserved bits {bits:03b} mean nothing": (
        HELLO + _head(0x81 | bits << 4, 0x80),
        [HI, (FAILED, 1002)],
    )
    for bits in range(1, 8)
}
RULES |= {
    f"5.2 opcode {opcode} is reserved": (client(opcode), [(FAILED, 1002)])
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
}
RULES |= {
    f"5.2 a length of {size}": (
        client(BINARY, b"y" * size),
        [(BINARY, b"y" * size)],
    )
    for size in (0, 1, 125, 126, 127, 65_535, 65_536)
}
RULES |= {
    "5.2 no longer form than needed: 125": (_head(0x82, 0xFE, 0, 125), [(FAILED, 1002)]),
    "5.2 no longer form than needed: 0": (_head(0x82, 0xFE, 0, 0), [(FAILED, 1002)]),
    "5.2 no longer form than needed: 65535": (
        _head(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF),
        [(FAILED, 1002)],
    ),
    "5.2 the first bit of a length is 0": (_head(0x82, 0xFF, 0x80, *[0] * 7), [(FAILED, 1002)]),
}
RULES |= {  # and IANA's list of codes, of which 1012 to 1014 came later
    f"7.4 {code} may be sent": (client(CLOSE, _close(code)), [(CLOSE, _close(code))])
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
}
RULES |= {
    f"7.4 {code} may not be sent": (client(CLOSE, _close(code)), [(FAILED, 1002)])
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
}
RULES |= {
    f"8.1 {name}": (client(TEXT, b"ab" + data), [(FAILED, 1007)])
    for name, data in {
        "a lone byte": b"\xff",
        "a lone continuation": b"\x80",
        "an overlong form": b"\xc0\xaf",
        "an overlong form of three": b"\xe0\x80\xaf",
        "an overlong form of four": b"\xf0\x80\x80\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "past U+10FFFF": b"\xf4\x90\x80\x80",
    }.items()
}
