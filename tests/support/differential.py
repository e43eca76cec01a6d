"""Packers against each other, in Python and in JavaScript: what one side writes, all read.

A `Bulk` is one node process that runs js/test/differential.mjs. `packed` makes values by chance
and the packets of them; `difference` compares what came back. A whole float and an integer are
one, since JavaScript has one type for both; all else must come back as it was.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from random import Random
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import msgspec
import pydantic
from dist_content import ROOT

from chansock import EncodeError, packers
from chansock._fast.events.packet import adapt
from chansock.client.packets import Events, Reply, read_event, read_packet
from chansock.errors import PacketError
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


class Bulk:
    """A node process that reads and writes packets by the hundred."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node is not None, "expected node on PATH, got none"
        self._process = subprocess.Popen(
            [node, str(ROOT / "js" / "test" / "differential.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> list[Any]:
        """Return the answer of js/test/differential.mjs to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"expected an answer, got none to {request!r:.300}"
        answer: list[Any] = json.loads(line)
        return answer


# -- values by chance


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Other:
    """What no packer has a form for: `default` returns one."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass
class Record:
    a: Any
    b_c: Any = field(default=None)


class Struct(msgspec.Struct):
    a: Any
    b: Any = None


class Point(pydantic.BaseModel):
    a: Any
    b: Any = None


class Whole(int):
    pass


class Text(str):
    __slots__ = ()


CHARS = [
    *"ab/:#.'-+01é漢\u0663\u2028\u00a0\u0085\0\x7f,;@`~^\"\\()[]{} \n\t%&=!?*<>_|$\ufeff\u3000",
    "😀",
]
NAMES = [
    "a", "ab", "b/c", "user/id", "__proto__", "1", "nil", "true", "a/b/c", "", "/", "a//", "é",
    "a b", "a/1", "a/\U0001d7d8", "a/\U0001e4f0", "\U0001e4f0", ":a", "a:", "a::b", "a" * 70,
    "😀", "#a", "a@b",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53), 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63),
    -(2**63) - 1, 10**22, 10**4299, 10**4300, 0.0, -0.0, 0.5, 1.5, 0.1, 1e21, 1e22,
    9007199254740992.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan,
    float("nan"), 1e-7, 1e7, 2.0**63, 2.0**64,
]  # fmt: skip
DECIMALS = ["1", "1.0", "0.5", "-0", "1E+5000", "1E-6000", "0.1", "1E+2147483647", "12.50"]
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=timezone(timedelta(hours=2))),
    datetime(99, 2, 3, tzinfo=UTC),
]


class Maker:
    """Makes values by chance, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def value(self) -> Any:
        """Return a value; one of a hundred stands about as deep as it may."""
        r = self._random
        if r.random() < 0.01:
            return self._deep()
        return self._value(r.randrange(5))

    def _text(self) -> str:
        r = self._random
        if r.random() < 0.5:
            return r.choice(NAMES)
        return "".join(r.choices(CHARS, k=r.randrange(6)))

    def _scalar(self, is_hashed: bool = False) -> Any:
        r = self._random
        kind = r.randrange(20)
        if kind < 5:
            return self._text()
        if kind < 8:
            return r.randint(-200, 200)
        if kind < 10:
            return r.choice(NUMBERS)
        if kind == 10:
            return r.uniform(-1, 1) * 10.0 ** r.randint(-20, 20)
        if kind == 11:
            return r.choice([None, True, False])
        if kind < 14:
            return Keyword(self._text())
        if kind == 14:
            return Symbol(self._text())
        if kind == 15:
            return Char(r.choice(CHARS))
        if kind == 16:
            return r.choice([Fraction(1, 2), Fraction(-1, 5), Fraction(2**70, 3), Fraction(4, 2)])
        if kind == 17:
            return r.choice([Decimal(r.choice(DECIMALS)), UUID(int=r.getrandbits(128))])
        if kind == 18:
            return r.choice(MOMENTS)
        rare = [b"", b"\x00\xff", Colour.RED, Colour.PAIR, Whole(3), Text("a"), "\ud800"]
        if not is_hashed:
            rare += [array("i", [1, -2]), array("f", [1.5]), array("d", [0.1])]
        return r.choice(rare)

    def _value(self, size: int) -> Any:
        r = self._random
        if size <= 0 or r.random() < 0.25:
            return self._scalar()
        count = r.randrange(5)
        inner = [self._value(size - 1 - r.randrange(2)) for _ in range(count)]
        kind = r.randrange(14)
        if kind < 2:
            return inner
        if kind < 5:
            return dict(
                zip(r.sample(["a", "b/c", "d", "e-f", "user/id"], count), inner, strict=True)
            )
        if kind == 5:
            return r.choice([tuple, List])(inner)
        if kind == 6:
            return {self._hashed(size - 1) for _ in range(count)}
        if kind == 7:
            return {self._hashed(size - 1): item for item in inner}
        if kind == 8:
            return StrDict((self._hashed(size - 1), item) for item in inner)
        if kind == 9:
            return {self._text(): item for item in inner}
        if kind == 10:
            return StrDict((self._text(), item) for item in inner)
        if kind == 11:
            first = inner[0] if inner else None
            return r.choice([Record, Struct, Other])(first)
        if kind == 12:
            return Point(a=inner)
        return Tagged(r.choice(["my/tag", "a"]), inner)

    def _hashed(self, size: int) -> Any:
        r = self._random
        if size <= 0 or r.random() < 0.5:
            return self._scalar(is_hashed=True)
        inner = [self._hashed(size - 1) for _ in range(r.randrange(3))]
        kind = r.randrange(5)
        if kind < 2:
            return (tuple, List)[kind](inner)
        if kind == 2:
            return frozenset(inner)
        if kind == 3:
            return FrozenDict((self._text(), item) for item in inner)
        return FrozenStrDict((item, item) for item in inner)

    def _deep(self) -> Any:
        r = self._random
        value: Any = r.choice(
            [1, "a", Keyword("k"), math.nan, (), FrozenDict(), frozenset(), MOMENTS[0]]
            if r.random() < 0.6
            else [UUID(int=1), Fraction(1, 3), Char("x"), None]
        )
        shells: list[Callable[[Any], Any]] = [
            lambda inner: (inner,),
            lambda inner: List((inner,)),
            lambda inner: FrozenDict({"a": inner}),
            lambda inner: FrozenStrDict({"a": inner}),
            lambda inner: FrozenDict({inner: 1}),
            lambda inner: frozenset((inner,)),
            lambda inner: Tagged("t", inner),
        ]
        is_mixed = r.random() < 0.5
        shell = r.choice(shells)
        for _ in range(r.randint(488, 502)):
            if is_mixed:
                shell = r.choice(shells)
            value = shell(value)
        return value


# -- writing and reading in Python


def stand_in(value: Any) -> Any:
    """Return what stands for a value without a form; a default= of packers."""
    if isinstance(value, Other):
        return [value.value]
    raise EncodeError(f"expected another value, got {type(value).__name__}")


PACKERS: dict[str, list[packers.Packer]] = {
    "edn": [
        packers.EDN(tagged=True, default=stand_in),
        packers.EDN(keys="string", tagged=True, default=stand_in),
    ],
    "msgpack": [
        packers.MessagePack(default=stand_in),
        packers.MessagePack(keys="string", default=stand_in),
    ],
    "json": [packers.JSON(default=stand_in)],
    "transit": [
        packers.Transit(tagged=True, default=stand_in),
        packers.Transit(verbose=True, tagged=True, default=stand_in),
    ],
    "gzip": [packers.Gzip(packers.EDN(tagged=True, default=stand_in), max_bytes=1 << 24)],
}


class Difference(AssertionError):
    """What one side writes and another cannot read, or reads as another value."""


def read(packer: packers.Packer, packet: bytes) -> tuple[list[Any], Any]:
    """Return the events' data of a packet, or the value of a reply, and its callback id."""
    value, cb_id = packer.unpack(memoryview(packet))
    inbound = read_packet(*adapt(packer).unpack(packet))
    if isinstance(inbound, Reply):
        return [value], cb_id
    events = [read_event(item) for item in inbound.items] if isinstance(inbound, Events) else [None]
    if None in events:
        raise Difference(f"expected a batch, got {inbound!r:.300}")
    return [event.data for event in events if event is not None], None


def packed(packer: packers.Packer, values: list[Any], is_reply: bool) -> tuple[list[Any], bytes]:
    """Return those of the values that can be written, and the packet of them."""
    if is_reply:
        for value in values:
            try:
                return [value], packer.packet(value, "1a2b3c")
            except EncodeError:
                continue
    written, fragments = [], []
    for value in values:
        try:
            fragments.append(packer.fragment(("a/b", value)))
        except EncodeError:
            continue
        written.append(value)
    return written, packer.batch(fragments)


# -- comparing


def difference(a: Any, b: Any, kind: str) -> str | None:
    """Say how two values that were read differ; None if they are one."""
    pairs = [(a, b)]
    while pairs:
        a, b = pairs.pop()
        inner = _parts(a, b, kind)
        if inner is None:
            return _differ(a, b)
        pairs += inner
    return None


def _parts(a: Any, b: Any, kind: str) -> list[tuple[Any, Any]] | None:
    """Return the pairs that must be one if two values are; None if these are not."""
    one: list[tuple[Any, Any]] = []
    if type(a) in (int, float) and type(b) in (int, float):
        if a != a and b != b:
            return one
        is_zero = a == 0 and b == 0 and kind != "json"  # JavaScript's JSON has no -0
        is_one = a == b and (not is_zero or math.copysign(1, a) == math.copysign(1, b))
        return one if is_one else None
    if kind == "json" and isinstance(a, str) and isinstance(b, str):
        return one if a == b else None
    if type(a) is not type(b):
        return None
    if isinstance(a, dict):
        pairs = _paired(a, b)
        return (
            pairs
            if not pairs
            else [
                pair for key, other in pairs for pair in (_key_pair(key, other), (a[key], b[other]))
            ]
        )
    if isinstance(a, set | frozenset):
        pairs = _paired(a, b)
        return pairs if not pairs else [_key_pair(key, other) for key, other in pairs]
    if isinstance(a, list | tuple):
        return list(zip(a, b, strict=True)) if len(a) == len(b) else None
    if type(a) is Tagged:
        return [(a.value, b.value)] if a.tag == b.tag else None
    if type(a) is Decimal:
        return one if a == b and a.as_tuple()[1:] == b.as_tuple()[1:] else None
    return one if a == b else None


def _paired(a: Any, b: Any) -> list[tuple[Any, Any]] | None:
    """Return the keys or members of two collections in pairs; None if their sizes differ."""
    if len(a) != len(b):
        return None
    theirs = {key: key for key in b}
    pairs, left = [], []
    for key in a:
        if key in theirs:
            pairs.append((key, theirs.pop(key)))
        else:
            left.append(key)  # one with NaN in it is found by no other
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # for the repr of what is as deep as it may be
    try:
        return pairs + list(zip(sorted(left, key=repr), sorted(theirs, key=repr), strict=True))
    finally:
        sys.setrecursionlimit(limit)


def _key_pair(a: Any, b: Any) -> tuple[Any, Any]:
    is_zero = type(a) in (int, float) and type(b) in (int, float) and a == b == 0
    return (0, 0) if is_zero else (a, b)  # a Map of JavaScript keeps -0 as 0


def _differ(a: Any, b: Any) -> str:
    return f"expected {a!r:.300}, got {b!r:.300}"


__all__ = [
    "PACKERS", "Bulk", "Difference", "Maker", "PacketError", "b64decode", "b64encode", "difference",
    "packed", "read",
]  # fmt: skip
