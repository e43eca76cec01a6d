"""edn: any bytes are read or refused, alike from every buffer and with every option; what was
read can be written and read back; a value is written as what it means, or refused.

With the high bit of the first byte the rest are choices that make a value to write (see
_written); without it they are text to read, and the bits below choose readers and depth.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import pydantic
from edn_corpus import cases, text_of

from chansock import edn, packers
from chansock.errors import EdnDecodeError, EncodeError, PacketError
from chansock.values import (
    Char,
    FrozenDict,
    FrozenStrDict,
    Keyword,
    List,
    StrDict,
    Symbol,
    Tagged,
)
from fuzz.draw import Draw

WRITE = 0x80
# Bits of the first byte where text is read
READERS, SHALLOW = 0x01, 0x02

WORDS = tuple(
    (
        b"nil|true|false|##Inf|##-Inf|##NaN|#inst |#uuid |#_|#{|#:a{|#^|^:a |\\newline|\\space"
        b'|\\u00e9|\\o101|"\\ud83d\\ude00"|"\\n|\\"|2018-03-28T10:48:00.123|-00:00|Z|+05:30'
        b"|f81d4fae-7dec-11d0-a765-00a0c91e6bf6|0x1F|36rZ|017|1/2|1.5e300|1E-400M|2147483647"
        b"|9999999999|9223372036854775808N|1N|2M|:a/b|:a|a/b|:/|//|::|:a:b|#t |#u |#boom |#again "
        b"|ns/name|+|-|.|;|\xef\xbb\xbf|\xed\xa0\x80|\xc0\xaf|\xf4\x90\x80\x80|\x00|\x0b|\x1c|\x7f|"
        + " |\u00a0|\u2028|\u3000|\u0663|é|€|𝄞".encode()
    ).split(b"|")
)

TAILS = (b"", b"9", b'"', b"]", b"x", b"\x80", b" 1", b"\xbf", b"/", b"0" * 32)


def seeds() -> Iterator[bytes]:
    """Return every text of the corpus, and choices for values of many kinds."""
    for case in cases("corpus.jsonl"):
        text = text_of(case)
        if len(text) <= 2048:
            yield b"\x00" + text
    for tag in (b"t", b"u", b"boom", b"again"):
        yield b"\x01[#%s 1 {#%s [2] #_ #%s 3 4}]" % (tag, tag, tag)
    yield b"\x02[[[[1]]]]"
    yield b"\x00" + b"[" * 501 + b"]" * 501
    for k in range(256):
        yield bytes([WRITE | k & 3]) + bytes((k * 7 + n * n) & 0xFF for n in range(40))


def check(data: bytes) -> None:
    options = data[0] if data else 0
    if options & WRITE:
        _check_writing(Draw(data[1:]), options & 1, "string" if options & 2 else "keyword")
    else:
        _check_reading(data[1:], options)


# -- reading --


def _boom(value: Any) -> Any:
    raise LookupError("boom")


def _again(value: Any) -> Any:
    return edn.loads(value) if isinstance(value, str) else [value]


TAGS: dict[str, Callable[[Any], Any]] = {
    "t": lambda value: value,
    "u": lambda value: [value],  # cannot be hashed
    "boom": _boom,
    "again": _again,
}
PACKER = packers.EDN(tagged=True)


class Refused:
    def __init__(self, error: EdnDecodeError) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and self.error.args == other.error.args

    def __repr__(self) -> str:
        return f"Refused({self.error.args})"


def _all_of(text: Any, **options: Any) -> Any:
    try:
        return meaning(edn.loads(text, **options), options["keys"])
    except EdnDecodeError as error:
        return Refused(error)


def _first_of(text: Any, pos: int = 0, **options: Any) -> Any:
    try:
        value, end = edn.read_one(text, pos, **options)
    except EdnDecodeError as error:
        return Refused(error), pos
    return meaning(value, options["keys"]), end


def _check_reading(text: bytes, bits: int) -> None:
    options: dict[str, Any] = {"keys": "keyword"}
    if bits & READERS:
        options["readers"] = TAGS
    if bits & SHALLOW:
        options["max_depth"] = 3
    found = _all_of(text, **options)
    if isinstance(found, Refused):
        _check_place(found.error, text)

    # Every buffer is as good as another: the array ends where its memory does.
    tail = TAILS[len(text) % len(TAILS)]
    exact = array("B", text)[:]
    window = memoryview(b"(" + text + tail)[1 : 1 + len(text)]
    for buffer in (bytearray(text), exact, window):
        assert _all_of(buffer, **options) == found, type(buffer)
    try:
        assert _all_of(text.decode(), **options) == found
    except UnicodeDecodeError:
        pass

    # Which keys are plain str is a matter of Python, not of what is read.
    turned = _all_of(text, **{**options, "keys": "string"})
    if "readers" not in options or isinstance(found, Refused):
        assert turned == found, (turned, found)

    first, end = _first_of(exact, **options)
    if not isinstance(found, Refused):
        assert first == found
        rest, _ = _first_of(exact, end, **options)
        assert isinstance(rest, Refused)
        assert "nothing but whitespace" in rest.error.message
    elif isinstance(first, Refused):
        assert first == found
    else:
        assert found.error.position >= end
        assert _all_of(text[:end], **options) == first
        assert _first_of(text[:end] + tail[:1].strip(b"0123456789\x80\xbfx/"), **options) == (
            first,
            end,
        )

    if bits == 0:
        _check_packet(exact, first)
        _check_again(text, found)


def _check_place(error: EdnDecodeError, text: bytes) -> None:
    assert 0 <= error.position <= len(text)
    before = text[: error.position]
    line = before[before.rfind(b"\n") + 1 :]
    assert error.line == before.count(b"\n") + 1
    assert error.column == sum(byte & 0xC0 != 0x80 for byte in line) + 1
    assert len(str(error)) < 1000


def _check_packet(text: Any, first: Any) -> None:
    """A packet is the first form, a vector or list or nil; unknown tags as told."""
    try:
        value, cb_id = PACKER.unpack(text)
    except PacketError:
        assert isinstance(first, Refused) or not first[0].startswith(("vec", "list", "None"))
        return
    if len(text) and not isinstance(first, Refused):
        written = PACKER.packet if _is_writable(value) and _is_writable(cb_id) else None
        if written is not None:
            again = PACKER.unpack(written(value, cb_id))
            assert meaning(list(again), "keyword") == meaning([value, cb_id], "keyword")


def _is_writable(value: Any) -> bool:
    try:
        edn.dumps(value)
    except EncodeError as error:
        _check_refusal(error)
        return False
    return True


def _check_refusal(error: EncodeError) -> None:
    """What the reader took the writer may refuse for one reason: names that only some read,
    and integers of more digits than in decimal may be read."""
    reasons = ("keyword's name", "symbol's name", "a tag", "digits")
    assert any(reason in error.message for reason in reasons), error


def _check_again(text: bytes, found: Any) -> None:
    if isinstance(found, Refused):
        return
    for keys in ("keyword", "string"):
        value = edn.loads(text, keys=keys)
        try:
            written = edn.dumps(value, keys=keys)
        except EncodeError as error:
            _check_refusal(error)
            continue
        again = edn.loads(written, keys=keys)
        assert meaning(again, keys) == found, (written, again)
        assert type(again) is type(value)


# -- what a value means --


def meaning(value: Any, keys: str) -> list[str]:
    """Return the edn meaning of a value as a flat list, the same for two values exactly if
    edn cannot tell them apart (but for the order of a map, which is kept)."""
    out: list[str] = []
    _mean(value, keys, out)
    return out


def _mean(value: Any, keys: str, out: list[str]) -> None:
    # One Python frame for each level: the deepest values fit below the recursion limit.
    kind = type(value)
    if kind is list or kind is tuple or kind is List:
        out.append(f"{'list' if kind is List else 'vec'} {len(value)}")
        for member in value:
            _mean(member, keys, out)
    elif kind is set or kind is frozenset:
        members = []
        for member in value:
            one: list[str] = []
            _mean(member, keys, one)
            members.append("\n".join(one))
        out.append(f"set {len(value)}")
        out += sorted(members)
    elif isinstance(value, dict):
        out.append(f"map {len(value)}")
        is_text = keys == "string" or isinstance(value, StrDict)
        for key, member in value.items():
            if type(key) is str:
                out.append(f"{'str' if is_text else 'Keyword'} {_units(key)}")
            else:
                _mean(key, keys, out)
            _mean(member, keys, out)
    elif kind is Tagged:
        out.append(f"tagged {value.tag!a}")
        _mean(value.value, keys, out)
    elif kind is int:
        out.append(f"int {value:x}")  # decimal digits are limited, and slow
    elif kind is float:
        out.append("float nan" if math.isnan(value) else f"float {value.hex()}")
    elif kind is Fraction:
        out.append(f"ratio {value.numerator:x}/{value.denominator:x}")
    elif kind is datetime:
        out.append(f"inst {value.astimezone(UTC).isoformat()}")
    elif kind in (Keyword, Symbol, Char, str):
        out.append(f"{kind.__name__} {_units(value)}")
    elif kind in (type(None), bool, Decimal, UUID, bytes, array):  # the last two: of other packers
        out.append(f"{kind.__name__} {value}")
    else:
        raise AssertionError(f"expected a value of edn, got {kind}")


def _units(text: str) -> str:
    """Spell a string in UTF-16, as edn's readers have it: two halves of a pair are one."""
    return text.encode("utf-16-be", "surrogatepass").hex()


# -- writing --


class Colour(Enum):
    RED = "red"
    TWO = 2


class Text(str):
    __slots__ = ()


class Count(int):
    pass


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = 0


class Struct(msgspec.Struct, frozen=True):
    left: Any
    right: Any = 0


class Model(pydantic.BaseModel, frozen=True):
    left: Any
    right: Any = 0


RECORDS = (Pair, Struct, Model)
FIELDS = (Keyword("left"), Keyword("right"))


def _check_writing(draw: Draw, is_wild: int, keys: str) -> None:
    """Write a value made of choices. A tame one must be written; a wild one, with parts that
    edn has no form for, may be refused. What is written must mean what the value does."""
    maker = Maker(draw, bool(is_wild), keys)
    value, plain = maker.deep() if draw.flip() else maker.value(5)
    if draw.flip():
        # So that any place of it may be where the writer's memory ends, and grows.
        filler = [1] * draw.below(4096)
        value, plain = [*filler, value], [*filler, plain]
    options: dict[str, Any] = {"keys": keys}
    if is_wild and draw.flip():
        options["default"] = draw.of(DEFAULTS)
    try:
        text = edn.dumps(value, **options)
    except EncodeError as error:
        if not is_wild and "at most 500" not in error.message:
            raise
        return
    assert edn.dumps(value, **options) == text
    again = edn.loads(text, keys=keys)
    if "default" not in options:
        assert meaning(again, keys) == meaning(plain, keys), text


DEFAULTS: tuple[Callable[[Any], Any], ...] = (
    lambda value: None,
    lambda value: "text",
    lambda value: value,
    lambda value: [value],
    lambda value: Keyword("a/b"),
    lambda value: edn.dumps(1).decode(),
)
SHELLS: tuple[Callable[[Any, int], Any], ...] = (
    lambda value, k: (value,),
    lambda value, k: frozenset((value,)),
    lambda value, k: FrozenDict({"a": value}),
    lambda value, k: FrozenDict({(value,): k}),
    lambda value, k: Tagged("t", value),
    lambda value, k: List((k, value)),
    lambda value, k: frozenset((value, f"member {k}")),
)
CHARS = "ab\x00\t\n\r\b\f\"\\ ,;\x7f\x80éߐ\u2028\ud800\udfff\uffff😀\U0010ffff{}()[]#:/'"
NAMES = ("a", "b", "c/d", "+", "-", "/", "a/b.c", "é", "x*!?<>=", "a:b", "ns//", "a" * 70, "名")
WILD_NAMES = ("", ":", "a b", "1", "a/1", "nil", "a\ud800", "a/b/c", "\x00", "#", "a/", "+1", "٣")
INTS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**63, -(2**64), 10**40, 10**18, 999_999_999)
FLOATS = (0.0, -0.0, 1.5, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 0.1)


class Maker:
    """Makes values from choices, each with the plain value that is read back for it."""

    def __init__(self, draw: Draw, is_wild: bool, keys: str) -> None:
        self.draw = draw
        self.is_wild = is_wild
        self.keys = keys

    def value(self, depth: int) -> tuple[Any, Any]:
        draw = self.draw
        kind = draw.below(13 if depth else 5)
        if kind < 5:
            return self.scalar()
        size = draw.below(9) if draw.left else 0
        if kind < 8:
            return self.sequence(depth, size, draw.of((list, tuple, List)))
        if kind == 8:
            member, plain = self.value(depth - 1)
            tag = self.tag()
            return Tagged(tag, member), Tagged(tag, plain)
        if kind == 9:
            return self.set_of(depth, size)
        if kind == 12:
            return self.record([self.value(depth - 1), self.value(depth - 1)], dict)
        return self.map_of(depth, size)

    def deep(self) -> tuple[Any, Any]:
        """Make a value in many shells, past the limit of depth too."""
        draw = self.draw
        made, plain = self.hashed(1)
        shells = [draw.of(SHELLS) for _ in range(draw.below(3) + 1)]
        for k in range(draw.below(520)):
            shell = shells[k % len(shells)]
            if not _is_hashable((made, plain)):
                break
            made, plain = shell(made, k), shell(plain, k)
        return made, plain

    def sequence(self, depth: int, size: int, kind: Any) -> tuple[Any, Any]:
        pairs = [self.value(depth - 1) for _ in range(size)]
        made, plain = kind(pair[0] for pair in pairs), kind(pair[1] for pair in pairs)
        return made, plain

    def hashed(self, depth: int) -> tuple[Any, Any]:
        """Make what may be a key or member; a list or dict turns into its frozen twin."""
        draw = self.draw
        kind = draw.below(9) if depth else 0
        if kind < 5:
            return self.scalar()
        if kind == 8:
            return self.record([self.hashed(depth - 1), self.hashed(depth - 1)], FrozenDict)
        size = draw.below(4)
        pairs = [self.hashed(depth - 1) for _ in range(size)]
        if kind == 5:
            frozen = draw.of((tuple, List))
            return frozen(pair[0] for pair in pairs), frozen(pair[1] for pair in pairs)
        if kind == 6:
            return _distinct_set(pairs, frozenset)
        pairs = [pair for pair in pairs if _is_hashable(pair)]
        names = [self.name() for _ in pairs]
        twin = draw.of((FrozenDict, FrozenStrDict))
        return (
            twin(zip(names, (pair[0] for pair in pairs), strict=True)),
            twin(zip(names, (pair[1] for pair in pairs), strict=True)),
        )

    def record(self, pairs: list[tuple[Any, Any]], twin: Any) -> tuple[Any, Any]:
        """Make a record of two fields; what is read back is the map of them."""
        kind = self.draw.of(RECORDS)
        (left, plain_left), (right, plain_right) = pairs
        made = kind(left=left, right=right)
        return made, twin(zip(FIELDS, (plain_left, plain_right), strict=True))

    def set_of(self, depth: int, size: int) -> tuple[Any, Any]:
        return _distinct_set([self.hashed(min(depth - 1, 2)) for _ in range(size)], set)

    def map_of(self, depth: int, size: int) -> tuple[Any, Any]:
        draw = self.draw
        kind = draw.of((dict, StrDict))
        made, plain = kind(), kind()
        for _ in range(size):
            if draw.below(3):
                key = plain_key = self.string() if kind is StrDict else self.name()
            else:
                key, plain_key = self.hashed(1)
                if not _is_hashable((key, plain_key)) or (
                    kind is dict and type(plain_key) is str and not self.is_wild
                ):
                    continue  # any string there would have to be a keyword's name
            if key not in made and plain_key not in plain:
                made[key], plain[plain_key] = self.value(depth - 1)
        return made, plain

    def name(self) -> str:
        draw = self.draw
        if self.is_wild and draw.below(8) == 1:
            return draw.of(WILD_NAMES)
        return draw.of(NAMES) if draw.flip() else f"n{draw.below(4096)}"

    def tag(self) -> Any:
        if self.is_wild and self.draw.below(8) == 1:
            return self.draw.of((*WILD_NAMES, 1, None))
        return self.draw.of(("t", "my/tag", "é", "a.b/c"))

    def string(self) -> str:
        draw = self.draw
        size = draw.below(draw.of((4, 16, 80)))
        if draw.flip():
            return draw.bytes(size).decode("latin-1")
        return "".join(draw.of(CHARS) for _ in range(min(size, draw.left)))

    def scalar(self) -> tuple[Any, Any]:
        draw = self.draw
        kind = draw.below(18)
        if self.is_wild and kind >= 16:
            return self.wild()
        if kind == 0:
            return draw.of(((None, None), (True, True), (False, False)))
        if kind < 3:
            text = self.string()
            return (Text(text), text) if draw.below(8) == 1 else (text, text)
        if kind == 3:
            name = self.name()
            return Keyword(name), Keyword(name)
        if kind == 4:
            name = self.name()
            return Symbol(name), Symbol(name)
        if kind == 5:
            point = draw.integer(2)
            char = Char(chr(point if not 0xD800 <= point <= 0xDFFF else 0x41))
            return char, char
        if kind < 8:
            number = draw.of(INTS) if draw.flip() else draw.integer(draw.below(12)) - 2**16
            return (Count(number), number) if draw.below(8) == 1 else (number, number)
        if kind < 10:
            if draw.flip():
                number = draw.of(FLOATS)
            else:
                number = draw.integer(7) / 10.0 ** (draw.below(40) - 10)
            return number, number
        if kind == 10:
            number = Decimal(draw.integer(5)).scaleb(draw.below(60) - 30)
            return number, number if number else abs(number)
        if kind == 11:
            ratio = Fraction(draw.integer(3) - 2**10, draw.integer(3) + 1)
            return ratio, ratio.numerator if ratio.denominator == 1 else ratio
        if kind == 12:
            zone = timezone(timedelta(minutes=draw.below(2879) - 1439))
            moment = datetime(2, 1, 2, tzinfo=UTC) + timedelta(
                microseconds=draw.integer(7) % (300 * 10**15)
            )
            moment = moment.astimezone(draw.of((UTC, zone)))
            return moment, moment
        if kind == 13:
            uuid = UUID(int=draw.integer(16))
            return uuid, uuid
        return draw.of(((1, 1), ("", ""), (1.0, 1.0), (True, True), ("a", "a")))

    def wild(self) -> tuple[Any, Any]:
        """Make what edn may have no form for."""
        draw = self.draw
        nan = float("nan")
        ring: list[Any] = []
        ring.append(ring)
        return draw.of(
            (
                (Colour.RED, "red"),
                (Colour.TWO, 2),
                (nan, nan),
                (1j, None),
                (b"bytes", None),
                (object(), None),
                (datetime(2024, 5, 6), None),
                (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), None),
                (Decimal("NaN"), None),
                (Decimal("Infinity"), None),
                (Decimal("1E+2147483648"), None),
                (Decimal("-0.0"), Decimal("0.0")),
                (10**4300, None),
                (Char("ab"), None),
                (Char("\ud800"), None),
                (Char("😀"), None),
                ((ring,), None),
                (Symbol("nil"), None),
            )
        )


def _distinct_set(pairs: list[tuple[Any, Any]], kind: Any) -> tuple[Any, Any]:
    """Make a set of the members that neither side takes for one it has."""
    made: list[Any] = []
    plain: list[Any] = []
    for member, twin in pairs:
        if _is_hashable((member, twin)) and member not in made and twin not in plain:
            made.append(member)
            plain.append(twin)
    return kind(made), kind(plain)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, RecursionError):  # wild: a ring of lists; or tags in tags
        return False
    return True
