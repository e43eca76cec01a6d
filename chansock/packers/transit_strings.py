"""What transit spells in one string, `"~m0"`: its scalars, read and written.

Functions without state; a string that has a code is the reader's and writer's concern.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, wraps
from math import isfinite, isnan
from typing import Any, Final, TypeVar
from uuid import UUID

from chansock import edn
from chansock._fast.edn.writer import shown
from chansock.errors import EdnDecodeError, EncodeError, PacketError
from chansock.packers.json_text import check_text
from chansock.values import Char, Keyword, Symbol, Tagged

__all__ = [
    "SCALARS",
    "check_tag",
    "decimal",
    "is_cacheable",
    "key_name",
    "keyword",
    "moment",
    "name_of",
    "real",
    "symbol",
    "text_of",
    "whole",
]

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
OWN_TAGS: Final = frozenset(
    (*"_s?idb:$fnmtucz'#~^`", "array", "map", "set", "list", "cmap", "ratio")
)
MARKS: Final = frozenset("~^`")
MAX_KEPT: Final = 64  # characters of a name whose spelling is cached


def is_cacheable(text: str, is_key: bool) -> bool:
    """Return whether transit gives a string a code: keywords, symbols, tags, and map keys."""
    if len(text) < 4 and (text.isascii() or len(text.encode("utf-16-le")) < 8):
        return False
    return is_key or (text[0] == "~" and text[1] in ":$#")


# -- reading

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,4300}")  # as many digits as Python reads
_REAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_INSTANT: Final = re.compile(r"[0-9T:.+Zz-]+")
_NAN: Final = float("nan")  # one object, so that it is found again in a set
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _bad(expected: str, text: str) -> PacketError:
    return PacketError(f"expected {expected}, got {shown(text)}")


def name_of(text: str) -> str:
    """Return a keyword's or symbol's name. Raises PacketError if it is empty."""
    if not text:
        raise _bad("a name behind ~: or ~$", text)
    return text


def _nil(text: str) -> None:
    if text:
        raise _bad("nothing behind ~_", text)


def _bool(text: str) -> bool:
    if text not in ("t", "f"):
        raise _bad("t or f behind ~?", text)
    return text == "t"


def _int(text: str) -> int:
    if len(text) < 19 and text.isascii() and text.isdigit():  # nearly all
        return int(text)
    if not _WHOLE.fullmatch(text):
        raise _bad("an integer of at most 4300 digits behind ~i or ~n", text)
    return int(text)


def _float(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise _bad("a number behind ~d", text)
    return float(text)


def _decimal(text: str) -> Decimal:
    if not _REAL.fullmatch(text):
        raise _bad("a number behind ~f", text)
    found: Decimal = _by_edn("a number behind ~f", text, f"{text}M")
    return found


def _special(text: str) -> float:
    if text not in ("NaN", "INF", "-INF"):
        raise _bad("NaN, INF or -INF behind ~z", text)
    return _NAN if text == "NaN" else float(text)


def _milliseconds(text: str) -> datetime:
    try:
        return EPOCH + timedelta(milliseconds=_int(text))
    except OverflowError:
        raise _bad("a time in the years 1 to 9999 behind ~m", text) from None


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise _bad("a time like 1985-04-12T23:20:50.52Z behind ~t", text)
    found: datetime = _by_edn(
        "a time like 1985-04-12T23:20:50.52Z behind ~t", text, f'#inst "{text}"'
    )
    return found


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise _bad("a UUID of 36 characters behind ~u", text)
    return UUID(text)


def _char(text: str) -> Char:
    if len(text) != 1 or text > "\uffff":
        raise _bad("one UTF-16 unit behind ~c", text)
    return Char(text)


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise _bad("base64 behind ~b", text) from None


def _uri(text: str) -> Tagged:
    return Tagged("r", text)


def _by_edn(expected: str, text: str, spelled: str) -> Any:
    """Read by edn's rules what edn spells alike."""
    try:
        return edn.loads(spelled)
    except EdnDecodeError as error:
        raise PacketError(f"expected {expected}, got {shown(text)}: {error.message}") from None


SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    "_": _nil,
    "?": _bool,
    "i": _int,
    "n": _int,
    "d": _float,
    "f": _decimal,
    ":": lambda text: Keyword(name_of(text)),
    "$": lambda text: Symbol(name_of(text)),
    "c": _char,
    "m": _milliseconds,
    "t": _instant,
    "u": _uuid,
    "r": _uri,
    "b": _bytes,
    "z": _special,
}


# -- writing


def text_of(text: str) -> str:
    """Spell a string: escaped if transit would read more into it."""
    if not text.isascii():
        check_text(text)
    return "~" + text if text[:1] in MARKS else text


def _kept(spell: Callable[[Any], T]) -> Callable[[Any], T]:
    """Cache what a function returns for short names.

    A program has few names, but a name may also be a peer's text: neither many of those nor long
    ones may pile up.
    """
    known = lru_cache(maxsize=1024)(spell)

    @wraps(spell)
    def call(name: Any) -> T:
        is_short = isinstance(name, str) and len(name) <= MAX_KEPT
        return known(name) if is_short else spell(name)

    return call


@_kept
def keyword(name: str) -> str:
    """Spell a keyword that edn can spell."""
    edn.dumps(Keyword(name))
    return f"~:{name!s}"


@_kept
def key_name(name: str) -> str:
    """Spell a map key that is a plain str as a keyword."""
    try:
        edn.dumps({name: None, None: None})  # beside another key, a str must be a keyword's name
    except EncodeError as error:
        raise EncodeError(error.message) from None  # its path begins with the map
    return f"~:{name}"


def has_text_keys(value: Mapping[Any, Any]) -> bool:
    """Return whether the keys of a map that is no StrDict are strings.

    They are if all are plain str, and one is no keyword's name.
    """
    return all(type(key) is str for key in value) and not all(map(_is_keyword, value))


def _is_keyword(name: str) -> bool:
    try:
        key_name(name)
    except EncodeError:
        return False
    return True


@_kept
def symbol(name: str) -> str:
    """Spell a symbol that edn can spell."""
    edn.dumps(Symbol(name))
    return f"~${name!s}"


@_kept
def check_tag(tag: Any) -> None:
    """Raise EncodeError unless a Tagged may have this tag."""
    if tag in OWN_TAGS:
        raise EncodeError(f"expected a tag that transit has no meaning for, got {shown(tag)}")
    edn.dumps(Tagged(tag, None))


def whole(value: int) -> str:
    """Spell an integer that is a key, or that no JSON number may be."""
    if -(2**63) <= value < 2**63:
        return f"~i{value}"
    edn.dumps(value)  # at most 4300 digits
    return f"~n{value}"


def real(value: float) -> str:
    """Spell a float that is a key, or that no JSON number may be."""
    if isfinite(value):
        return f"~d{value!r}"
    return "~zNaN" if isnan(value) else "~zINF" if value > 0 else "~z-INF"


def decimal(value: Decimal) -> str:
    """Spell a finite Decimal."""
    return f"~f{edn.dumps(value)[:-1].decode()}"


def moment(value: datetime, is_verbose: bool) -> str:
    """Spell a datetime that has a time zone."""
    try:
        value = value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise EncodeError(
            f"expected a time in the years 1 to 9999 of UTC, got {shown(value)}"
        ) from None
    if is_verbose or value.microsecond % 1000:  # the JVM cuts it to ms, and reads no finer ~m
        timespec = "microseconds" if value.microsecond % 1000 else "milliseconds"
        return f"~t{value.replace(tzinfo=None).isoformat(timespec=timespec)}Z"
    return f"~m{(value - EPOCH) // MILLISECOND}"
