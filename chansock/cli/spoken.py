"""edn as it is typed and shown: an event on a line, a value on a line.

A line that is shown never holds a control character: what a server sends cannot move the
cursor of a terminal, nor make two lines of one.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from chansock import edn
from chansock.errors import EdnDecodeError, InvalidEvent
from chansock.values import NO_DATA, Keyword, Symbol, Tagged

__all__ = ["is_blank", "printable", "read_data", "read_event", "read_id", "write"]

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_CONTROLS: Final = {
    code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}
# A string, in which \u001b stands for the character; or a character, whose backslash is there.
_SPELLED: Final = re.compile(rf'"(?:[^"\\]|\\.)*"|\\[{_CONTROL}]', re.DOTALL)
_BLANK: Final = re.compile(rb"(?:[\s,]|;[^\n]*)*")


def is_blank(text: bytes, start: int = 0) -> bool:
    """Return whether there is nothing but blanks and comments from start on."""
    return _skip(text, start) == len(text)


def read_event(line: bytes, start: int = 0) -> tuple[str, object]:
    """Read `:chat/say {:text "hi"}` from start on to the id and the data, or NO_DATA.

    Raises EdnDecodeError with the position in the line, InvalidEvent if the first form is
    no keyword or symbol.
    """
    first, end = edn.read_one(line, start)
    event_id = _id_of(first)
    behind = _skip(line, end)
    if behind == len(line):
        return event_id, NO_DATA
    data, end = edn.read_one(line, behind)
    return event_id, _last(line, data, end)


def read_id(text: str) -> str:
    """Read `:chat/say`, or `chat/say` as Python spells it."""
    line = text.encode(errors="surrogateescape")
    first, end = edn.read_one(line)
    return _id_of(_last(line, first, end))


def read_data(text: bytes) -> object:
    """Read one value; nothing at all is NO_DATA. Raises EdnDecodeError."""
    return NO_DATA if is_blank(text) else edn.loads(text)


def write(value: object) -> str:
    """Write a value as edn on one line; bytes, which edn has not, as `#base64 "aGk="`."""
    return printable(edn.dumps(value, default=_tagged).decode())


def printable(text: str) -> str:
    r"""Replace control characters as edn spells them in a string: `\u001b`."""
    spelled = _SPELLED.sub(_spell, text)
    return spelled.translate(_CONTROLS)


def _spell(found: re.Match[str]) -> str:
    text = found[0]
    if text[0] == "\\":
        text = text[1:]
    return text.translate(_CONTROLS)


def _id_of(form: object) -> str:
    if isinstance(form, Keyword | Symbol):
        return str(form)
    raise InvalidEvent(f"expected an event id like :chat/say, got {write(form):.80}")


def _last(line: bytes, value: object, end: int) -> object:
    """Return the value if nothing follows it in the line."""
    rest = _skip(line, end)
    if rest == len(line):
        return value
    shown = line[rest:].decode(errors="replace")
    column = len(line[:rest].decode(errors="replace"))
    text = line.decode(errors="replace")
    # Lines that would not fit beside their caret are told by position alone.
    is_short = "\n" not in text and len(text) <= 200
    raise EdnDecodeError(
        f"expected the end of the line, got more: {shown!r:.80}",
        rest,
        1,
        column + 1,
        text if is_short else "",
        column,
    )


def _skip(line: bytes, start: int) -> int:
    """Return where the next form begins: behind blanks, commas and comments."""
    found = _BLANK.match(line, start)
    return start if found is None else found.end()


def _tagged(value: object) -> Tagged:
    if isinstance(value, bytes | bytearray | memoryview):
        return Tagged("base64", base64.b64encode(value).decode())
    return Tagged("python/repr", repr(value))
