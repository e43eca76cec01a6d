"""Transit's JSON trees to values: format 0.8, as transit-clj and transit-cljs write it.

Both forms of maps and tags are read, and cache codes everywhere. What a value of edn has in
Python it has here. One call for each array that is open: the deepest packets fit below the
recursion limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Final

from chansock._fast.edn.reader import frozen
from chansock._fast.edn.writer import shown
from chansock.errors import PacketError
from chansock.packers.json_text import Opened, Pairs
from chansock.packers.transit_strings import SCALARS, is_cacheable, name_of
from chansock.values import (
    Char,
    Keyword,
    List,
    StrDict,
    Symbol,
    Tagged,
)

__all__ = ["CODE_DIGITS", "MAP", "MOST_CODES", "Reader"]

MAP: Final = "^ "  # the first element of an array that is a map
KEYED: Final = frozenset((str, Keyword, Symbol, Char, float))  # Python keys the hash of strings;
# no more than 34 floats have one hash
MARKS: Final = frozenset("~^")  # what begins a string that is more than its text
NO_ENTRIES: Final = frozen({}, False)
LEAVES: Final = frozenset((int, float, bool, type(None)))  # what is its own value
CODE_DIGITS: Final = [chr(48 + n) for n in range(44)]  # `^0` to `^[`, then `^10`
MOST_CODES: Final = 44 * 44
# The index that each code stands for.
INDEXES: Final = {f"^{digit}": n for n, digit in enumerate(CODE_DIGITS)} | {
    f"^{high}{low}": m * 44 + n
    for m, high in enumerate(CODE_DIGITS)
    for n, low in enumerate(CODE_DIGITS)
}
MOST_EXPANDED: Final = 32  # characters that codes stand for, for each that came: honest names are
# short, and a peer could make a gigabyte of a packet, here or where it is sent on without codes
FREE_EXPANDED: Final = 1 << 16
MOST_OF_ONE_HASH: Final = 32  # keys of one hash in a map or set; an honest peer has no more
MOST_CROWDED: Final = 1000  # pairs of one hash inside keys and members, in a packet: comparing
# two of those takes up to the product of their numbers


class Reader:
    """Reads one packet of `size` bytes; the codes that it has met are its state."""

    __slots__ = ("_codes", "_crowded", "_expandable", "_scalars", "_tagged")

    def __init__(self, size: int, *, tagged: bool) -> None:
        self._tagged = tagged
        self._codes: list[str] = []
        self._scalars: dict[str, Any] = {}  # what strings mean that codes stand for
        self._crowded = 0
        self._expandable = FREE_EXPANDED + MOST_EXPANDED * size

    def value(self, tree: Any) -> Any:
        """Return the value of a tree. Raises PacketError."""
        read, node = self._open(tree)
        return node if read is None else read(node, False)

    # -- strings and codes

    def _full(self, text: str, is_key: bool) -> str:
        """Return the string that a code stands for; one that is no code may get the next one."""
        if text[:1] == "^" and text != MAP:
            return self._coded(text)
        if is_cacheable(text, is_key):
            if len(self._codes) == MOST_CODES:
                self._codes.clear()
            self._codes.append(text)
        return text

    def _coded(self, code: str) -> str:
        index = INDEXES.get(code)
        if index is None:
            raise PacketError(f"expected a cache code, got {shown(code)}")
        if index >= len(self._codes):
            raise PacketError(
                f"expected a cache code of {len(self._codes)} strings before, got {shown(code)}"
            )
        text = self._codes[index]
        self._expandable -= len(text)
        if self._expandable < 0:
            raise PacketError(
                f"expected cache codes for {MOST_EXPANDED} times what came at most, got more"
            )
        return text

    def _marked(self, text: str) -> Any:
        """Read a string that is more than its text, and no key."""
        if text[0] != "^" or text == MAP:
            return self._scalar(self._full(text, False))
        full = self._coded(text)
        value = self._scalars.get(full)
        if value is None:
            value = self._scalars[full] = self._scalar(full)
        return value

    def _scalar(self, text: str) -> Any:
        """Read a string that is no code."""
        if text[:1] != "~" or len(text) == 1:
            return text
        mark, rest = text[1], text[2:]
        read = SCALARS.get(mark)
        if read is not None:
            return read(rest)
        if mark in "~^`":
            return text[1:]
        if mark == "#":
            raise PacketError(f"expected a tag first of two elements, got {shown(text)} alone")
        return self._unknown(mark, rest)

    def _unknown(self, tag: str, value: Any) -> Tagged:
        if not self._tagged:
            raise PacketError(
                f"expected a tag that is known (or tagged=True at both ends), got {shown(tag)}"
            )
        return Tagged(tag, value)

    # -- arrays and objects

    def _open(self, node: Any) -> Opened:
        """Return the value of a leaf, or of an array or object the function that reads it."""
        kind = type(node)
        if kind is str:
            if node[:1] not in MARKS:
                return None, node
            return None, self._marked(node)
        if kind is list:
            first = node[0] if node else None
            if type(first) is str and first[:1] in MARKS:
                if first == MAP:
                    return self._map, (_pairs(node[1:]) if len(node) > 1 else (), True)
                if first[1:2] == "#" or first[0] == "^":
                    head = self._coded(first) if first[0] == "^" else self._full(first, False)
                    if head[:2] == "~#":
                        if len(node) != 2:
                            raise PacketError(
                                f"expected {shown(head)} and one value, got {len(node)} elements"
                            )
                        return self._tag(head[2:], node[1])
            return self._vector, node
        if kind is Pairs:
            if len(node) == 1 and node[0][0][:1] in MARKS:
                ((first, rep),) = node
                if first[:2] == "~#" or (first[:1] == "^" and first != MAP):
                    head = self._full(first, True)
                    if head[:2] == "~#":
                        return self._tag(head[2:], rep)
            return self._map, (node, True)
        return None, node

    def _vector(self, node: list[Any], is_hashed: bool) -> Any:
        out: list[Any] = []
        for item in node:
            kind = type(item)
            if kind in LEAVES:
                value = item
            elif kind is str:
                value = self._marked(item) if item[:1] in MARKS else item
            elif kind is list and (not item or type(item[0]) is list):  # plainly a vector
                value = self._vector(item, is_hashed) if item else () if is_hashed else []
            else:
                read, value = self._open(item)
                if read is not None:
                    value = read(value, is_hashed)
            out.append(value)
        return tuple(out) if is_hashed else out

    def _map(self, node: tuple[Iterable[tuple[Any, Any]], bool], is_hashed: bool) -> Any:
        """Make a map of (pairs, is_plain); `is_plain`: strings among the keys get codes as keys."""
        pairs, is_plain = node
        if not pairs:
            return NO_ENTRIES if is_hashed else {}
        out: dict[Any, Any] = {}
        names = []  # the keys that are keywords, and have no type of their own yet
        has_text = False
        counts: dict[int, int] = {}
        for raw, item in pairs:
            if type(raw) is str and len(raw) < 4 and raw[:1] not in MARKS and raw.isascii():
                key, is_name = raw, False  # too short for a code
            elif type(raw) is str:
                text = self._full(raw, is_plain)
                is_name = text[:2] == "~:"
                key = name_of(text[2:]) if is_name else self._scalar(text)
            else:
                read, key = self._open(raw)
                if read is not None:
                    key = read(key, True)
                is_name = type(key) is Keyword  # quoted
                if is_name:
                    key = str.__str__(key)
            if is_name:
                names.append(key)
            elif type(key) is str:
                has_text = True
            if type(key) not in KEYED or key in out:
                self._admit(key, out, counts, is_hashed)
            read, value = (None, item) if type(item) in LEAVES else self._open(item)
            out[key] = value if read is None else read(value, is_hashed)
        if has_text:
            if names:
                known = set(names)
                out = {Keyword(key) if key in known else key: out[key] for key in out}
            return frozen(out, True) if is_hashed else StrDict(out)
        return frozen(out, False) if is_hashed else out

    def _admit(self, key: Any, held: Any, counts: dict[int, int], is_hashed: bool) -> None:
        """Refuse a key or member that is there, or has the hash of too many."""
        if type(key) not in KEYED:
            mark = hash(key)
            before = counts.get(mark, 0)
            counts[mark] = before + 1
            if before and is_hashed:
                self._crowded += before
            if before >= MOST_OF_ONE_HASH or self._crowded > MOST_CROWDED:
                raise PacketError("expected keys that are soon told apart, got many of one hash")
        if key in held:
            raise PacketError(f"expected distinct keys or members, got {shown(key)} again")

    # -- tags

    def _tag(self, tag: str, rep: Any) -> Opened:
        if tag in ("set", "list", "cmap", "ratio"):
            if type(rep) is not list or self._open(rep)[0] != self._vector:
                raise PacketError(f"expected an array behind ~#{tag}, got {shown(rep)}")
            if tag == "ratio":
                return None, _ratio(rep)
            if tag == "cmap":
                return self._map, (_pairs(rep), False)
            return self._set if tag == "set" else self._list, rep
        if tag == "'":
            return self._open(rep)
        scalar = SCALARS.get(tag)
        if scalar is not None:  # `["~#m", 0]` and `["~#m", "0"]` are `"~m0"`
            if type(rep) is int and tag in "imn":
                rep = str(rep)
            if type(rep) is not str:
                raise PacketError(f"expected a string behind ~#{tag}, got {shown(rep)}")
            return None, scalar(rep)
        self._unknown(tag, None)
        return self._tagged_reader(tag), rep

    def _tagged_reader(self, tag: str) -> Callable[[Any, bool], Any]:
        def read_tagged(rep: Any, is_hashed: bool) -> Tagged:
            read, value = self._open(rep)
            return Tagged(tag, value if read is None else read(value, is_hashed))

        return read_tagged

    def _set(self, node: list[Any], is_hashed: bool) -> Any:
        out: set[Any] = set()
        counts: dict[int, int] = {}
        for item in node:
            read, value = (None, item) if type(item) in LEAVES else self._open(item)
            if read is not None:
                value = read(value, True)
            if type(value) not in KEYED or value in out:
                self._admit(value, out, counts, is_hashed)
            out.add(value)
        return frozenset(out) if is_hashed else out

    def _list(self, node: list[Any], is_hashed: bool) -> Any:
        return List(self._vector(node, is_hashed))


def _pairs(forms: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(forms) % 2:
        raise PacketError(f"expected a value for each key of a map, got {len(forms)} forms")
    items = iter(forms)
    return zip(items, items, strict=True)


def _ratio(rep: list[Any]) -> Any:
    parts = [SCALARS["n"](p[2:]) if type(p) is str and p[:2] in ("~n", "~i") else p for p in rep]
    if len(parts) != 2 or not all(type(part) is int for part in parts) or not parts[1]:
        raise PacketError(f"expected two integers behind ~#ratio, got {shown(rep)}")
    ratio = Fraction(*parts)
    return ratio.numerator if ratio.denominator == 1 else ratio
