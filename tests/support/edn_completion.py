"""A search for text that makes edn of a beginning: the oracle of what the reader calls cut."""

from __future__ import annotations

from collections.abc import Iterator

from chansock.edn import EdnDecodeError, EdnTruncated, loads

CONSTANTS = ("newline", "space", "tab", "return", "backspace", "formfeed", "Inf", "-Inf", "NaN")
TAILS = [name[start:].encode() for name in CONSTANTS for start in range(len(name))]
CONTINUATIONS = [bytes.fromhex(text) for text in (
    "80", "a9", "aa", "a8", "81", "9f", "bc", "a080", "8080", "8181", "9a80", "80a8", "808080",
    "908080")]  # fmt: skip
STRINGS = [text.encode() for text in (
    '"', 'z"', '318"', '0"', '1"', '00"', '01"', '2001"', ':00"', '0:00"', '00:00"', '-01"',
    '0-01"', '001"', "0-0-0-0-0\"", '-0-0-0-0"', '-0-0-0"', '-0-0"', '-0"',
)]  # fmt: skip
WIDTH = 60  # beginnings that are followed at a time
STEPS = 30


def completion(start: bytes) -> bytes | None:
    """Return a text that begins with start and is edn, or None if none was found."""
    alive = [start]
    for _ in range(STEPS):
        following: dict[bytes, None] = {}
        for text in alive:
            for longer in longer_ones(text):
                if longer not in following and (found := state(longer)) != "refused":
                    if found == "read":
                        return longer
                    following[longer] = None
        alive = [*following][:WIDTH]
    return None


def state(text: bytes) -> str:
    """Return whether text is "read", "cut" or "refused"."""
    try:
        loads(text)
    except EdnTruncated:
        return "cut"
    except EdnDecodeError:
        return "refused"
    return "read"


def longer_ones(text: bytes) -> Iterator[bytes]:
    """Return text with more text; a comment may have to end before."""
    for piece in pieces(text):
        yield text + piece
        if b";" in text:
            yield text + b"\n" + piece


def pieces(text: bytes) -> Iterator[bytes]:
    """Return what may help text, by what the reader misses: it directs, and decides nothing."""
    try:
        loads(text)
        return
    except EdnDecodeError as error:
        message = error.message.removeprefix("expected ")
    if text[-1:] >= b"\x80":
        yield from CONTINUATIONS
    if message.startswith(("a closing quote", "an escape", "digits")):
        yield from STRINGS
        yield from (b"0", b"00", b"000", b"0000")
    elif message.startswith("a closing"):
        bracket = message.split("'")[1].encode()
        for filling in (b"", b" 1", b"a", b"a 1", b"5", b"5 1", b".5 1", b"z 1", b"ewline 1"):
            yield filling + bracket
    elif message.startswith(("a character", "##")):
        yield from TAILS
        yield from (b"a", b"0", b"00", b"000", b"0000")
    else:
        for filling in (b"_ 1", b"a", b"0", b"1", b"M", b".5", b"{}", b":a", b" 1", b" a", b" []",
                        b"a{}", b"a 1", b"z", b"#", b'"', b' "2001"', b' "0-0-0-0-0"'):  # fmt: skip
            yield filling
