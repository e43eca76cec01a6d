"""Values to transit's JSON trees: format 0.8, in the form with codes or the verbose one.

What edn refuses is refused here too: names that it cannot spell, keys that are one on the
wire, plain keys that are no keywords unless all keys are plain: these are strings. Bytes have
a form here. One call for each array that is open, as in the reader. A little past 400 lines,
since most forms may stand in each other.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any, ClassVar, Final
from uuid import UUID

from chansock import edn
from chansock._fast.edn.writer import TextKey, plain, shown
from chansock.errors import EncodeError
from chansock.packers.json_text import (
    DEEPEST,
    MOST_WHOLE,
    Default,
    Opened,
    check_text,
    lengthen,
    refuse_depth,
    serialize,
)
from chansock.packers.transit_reader import CODE_DIGITS, MAP, MOST_CODES
from chansock.packers.transit_strings import (
    check_tag,
    decimal,
    has_text_keys,
    is_cacheable,
    key_name,
    keyword,
    moment,
    real,
    symbol,
    text_of,
    whole,
)
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

__all__ = ["Writer"]

MAPS: Final = frozenset((dict, StrDict, FrozenDict, FrozenStrDict))
SEQUENCES: Final = frozenset((list, tuple, List, set, frozenset))
KNOWN: Final = (
    MAPS | SEQUENCES | {type(None), bool, int, float, str, bytes, Keyword, Symbol, Char, Tagged}
)
COMPLETE: Final = (KNOWN - {Tagged}) | {UUID}  # lacks nothing, whatever its value
ATOMS: Final = (COMPLETE | {Decimal, datetime}) - MAPS - SEQUENCES


class Writer:
    """Writes one packet or fragment; the codes that it has given are its state.

    `has_codes`: what was written before is written as its code; not in the verbose form.
    Raises TextKey, unless `is_careful`, at the first map that may have strings as keys.
    """

    __slots__ = (
        "_codes",
        "_default",
        "_is_careful",
        "_is_verbose",
        "_spelling",
        "_tagged",
        "_unclear",
    )

    def __init__(
        self,
        *,
        is_verbose: bool,
        has_codes: bool,
        tagged: bool,
        default: Default | None,
        is_careful: bool,
    ) -> None:
        self._is_careful = is_careful
        self._spelling: _Spelling | None = None
        self._is_verbose = is_verbose
        self._codes: dict[str, str] | None = {} if has_codes and not is_verbose else None
        self._tagged = tagged
        self._default = default
        self._unclear = 0  # values so far that may be one on the wire, and are two in Python

    # What `_open` would return with `_sequence`.
    _vectors: ClassVar[tuple[type, ...]] = (list, tuple)

    def tree(self, value: Any, level: int) -> Any:
        """Return the tree of a value, `level` arrays deep. Raises EncodeError."""
        write, node = self._open(value)
        return node if write is None else write(node, level + 1)

    # -- strings and codes

    def _coded(self, text: str, is_key: bool = False) -> str:
        codes = self._codes
        if codes is None or not is_cacheable(text, is_key):
            return text
        code = codes.get(text)
        if code is not None:
            return code
        if len(codes) == MOST_CODES:
            codes.clear()
        high, low = divmod(len(codes), 44)
        codes[text] = f"^{CODE_DIGITS[high] if high else ''}{CODE_DIGITS[low]}"
        return text

    def _tag(self, tag: str, rep: list[Any]) -> Any:
        """Put a tag around what is filled later."""
        return {f"~#{tag}": rep} if self._is_verbose else [self._coded(f"~#{tag}"), rep]

    # -- arrays and objects

    def _open(self, value: Any) -> Opened:
        """Return the node of a leaf, or of what has parts the function that writes it."""
        kind = type(value)
        if kind is str:
            return None, text_of(value)
        if value is None or kind is bool:
            return None, value
        if kind is int:
            if -MOST_WHOLE <= value <= MOST_WHOLE:
                return None, value
            return None, whole(value)
        if kind is float:
            if isfinite(value):
                return None, value
            self._unclear += 1  # two NaN are one on the wire
            return None, real(value)
        if kind is Keyword:
            return None, self._coded(keyword(value))
        if kind in MAPS:
            return self._map, value
        if kind in SEQUENCES:
            return self._sequence, value
        if kind is Decimal and value.is_finite():
            return None, decimal(value)
        known = value if kind in COMPLETE else self._known(value)
        if known is not value and type(known) in KNOWN:
            return self._open(known)
        scalar = self._scalar(known)
        if scalar is not None:
            return None, self._coded(scalar)
        if isinstance(known, Fraction):
            if known.denominator == 1:
                return self._open(known.numerator)
            return self._ratio, known
        return self._tagged_value, known

    def _sequence(self, value: Any, level: int) -> Any:
        """Write an array, or one behind the tag of a list or set."""
        if level > DEEPEST:
            refuse_depth()
        kind = type(value)
        out: list[Any] = []
        node: Any = out
        is_set = False
        if kind is not list and kind is not tuple:
            is_set = kind is not List
            node = self._tag("set" if is_set else "list", out)
            level += 1
            if level > DEEPEST:
                refuse_depth()
        if not value:
            return node
        unclear, item, vectors = self._unclear, None, self._vectors
        try:
            for item in value:
                inner_kind = type(item)
                if inner_kind is int and -MOST_WHOLE <= item <= MOST_WHOLE:
                    out.append(item)
                    continue
                if inner_kind in vectors:
                    out.append(self._sequence(item, level + 1))
                    continue
                write, inner = self._open(item)
                out.append(inner if write is None else write(inner, level + 1))
        except EncodeError as error:
            lengthen(error, item if is_set else len(out))
            raise
        if is_set and self._unclear != unclear:
            self._check_distinct(value, True)
        return node

    def _map(self, value: Any, level: int) -> Any:
        if level > DEEPEST:
            refuse_depth()
        if not value:
            return {} if self._is_verbose else [MAP]
        is_text = isinstance(value, StrDict) or (self._is_careful and has_text_keys(value))
        keys, unclear = value, 0
        for key in value:
            if type(key) is not str and type(key) is not Keyword:
                keys, unclear = self._known_keys(value)
                if any(map(self._is_composite, keys)):
                    return self._cmap(keys, value, level + 1, unclear)
                break
        out: Any = {} if self._is_verbose else [MAP]
        has_codes = self._codes is not None
        key = None
        try:
            for entry, known in zip(value.items(), keys, strict=True):
                key, item = entry
                name = self._name(known, is_text)
                if has_codes and (len(name) > 3 or not name.isascii()):
                    name = self._coded(name, True)
                write, inner = self._open(item)
                node = inner if write is None else write(inner, level + 1)
                if self._is_verbose:
                    out[name] = node
                else:
                    out += name, node
        except EncodeError as error:
            lengthen(error, key)
            raise
        if unclear:
            self._check_distinct(keys, is_text)
        return out

    def _cmap(self, keys: list[Any], value: Any, level: int, unclear: int) -> Any:
        """Write a map with keys that are no strings: `["~#cmap", [key, value, ...]]`."""
        if level > DEEPEST:
            refuse_depth()
        is_text = isinstance(value, StrDict)
        out: list[Any] = []
        node = self._tag("cmap", out)
        key = None
        try:
            for entry, known in zip(value.items(), keys, strict=True):
                key, item = entry
                before = self._unclear
                if type(known) is str and not is_text:
                    out.append(self._coded(key_name(known)))
                else:
                    write, inner = self._open(known)
                    out.append(inner if write is None else write(inner, level + 1))
                unclear += self._unclear - before
                write, inner = self._open(item)
                out.append(inner if write is None else write(inner, level + 1))
        except EncodeError as error:
            lengthen(error, key)
            raise
        if unclear:
            self._check_distinct(keys, is_text)
        return node

    def _known_keys(self, value: Any) -> tuple[list[Any], int]:
        """Return what stands for the keys of a map, and how many may be one with others."""
        unclear, keys, key = self._unclear, [], None
        try:
            for key in value:
                known = key if type(key) in COMPLETE else self._known(key)
                if isinstance(known, float):
                    self._unclear += not isfinite(known)
                elif isinstance(known, datetime):
                    self._unclear += known.tzinfo is not UTC
                keys.append(known)
        except EncodeError as error:
            lengthen(error, key)
            raise
        return keys, self._unclear - unclear

    def _is_composite(self, key: Any) -> bool:
        kind = type(key)
        if kind in ATOMS:
            return False
        if kind is Tagged:
            return len(key.tag) != 1 or type(key.value) is not str
        return kind in MAPS or kind in SEQUENCES or isinstance(key, Fraction)

    def _key_name(self, key: str) -> str:
        try:
            return key_name(key)
        except EncodeError:
            if self._is_careful:
                raise
        raise TextKey

    def _name(self, key: Any, is_text: bool) -> str:
        """Spell a key that is no composite as a string."""
        kind = type(key)
        if kind is str:
            return text_of(key) if is_text else self._key_name(key)
        if kind is Keyword:
            return keyword(key)
        if key is None:
            return "~_"
        if kind is bool:
            return "~?t" if key else "~?f"
        if kind is int:
            return whole(key)
        if kind is float:
            return real(key)
        if kind is Decimal:
            return decimal(key)
        spelled: str = self._scalar(key)
        return spelled

    def _check_distinct(self, members: Any, is_text: bool) -> None:
        """Refuse two that differ in Python and are one on the wire: an Enum and its value."""
        if len(members) < 2:
            return
        if self._spelling is None:
            self._spelling = _Spelling(self._is_verbose, self._tagged, self._default)
        seen = set()
        for member in members:
            if type(member) is str and not is_text:
                member = Keyword(member)
            tree = self._spelling.tree(member, 0)
            text = repr(tree)
            if text in seen:
                shown_text = serialize(tree)[:80].decode("utf-8", "replace")
                raise EncodeError(f"expected distinct keys or members, got {shown_text} again")
            seen.add(text)

    def _tagged_value(self, value: Tagged, level: int) -> Any:
        if level > DEEPEST:
            refuse_depth()
        check_tag(value.tag)
        tag = f"~#{value.tag}" if self._is_verbose else self._coded(f"~#{value.tag}")
        write, inner = self._open(value.value)
        node = inner if write is None else write(inner, level + 1)
        return {tag: node} if self._is_verbose else [tag, node]

    def _ratio(self, value: Fraction, level: int) -> Any:
        if level >= DEEPEST:
            refuse_depth()
        return self._tag("ratio", [f"~n{value.numerator}", f"~n{value.denominator}"])

    # -- the rarer types

    def _known(self, value: Any) -> Any:
        """Return what stands for a value: itself, or what its class or default= makes of it."""
        if type(value) is Decimal and value.is_finite():
            return value
        for _ in range(DEEPEST):
            expected = self._lack(value)
            if expected is None:
                if type(value) in KNOWN:
                    return value
                stands = plain(value)
                if stands is value:
                    return value
                if stands is not NotImplemented:
                    self._unclear += 1
                    value = stands
                    continue
                expected = "a value that transit has a form for"
            if self._default is None:
                hint = "" if "tagged" in expected else " (or default=)"
                raise EncodeError(f"expected {expected}{hint}, got {shown(value)}")
            self._unclear += 1
            value = self._default(value)
        raise EncodeError(f"expected default= to end at a writable value, got {shown(value)}")

    def _lack(self, value: Any) -> str | None:
        """Return what a value lacks that its type's form needs, or None."""
        if isinstance(value, datetime) and value.utcoffset() is None:
            return "a datetime with a time zone"
        if isinstance(value, Decimal) and not value.is_finite():
            return "a finite Decimal"
        if type(value) is Tagged:
            if type(value.tag) is not str:
                return "a Tagged whose tag is a str"
            if not self._tagged and value.tag != "r":
                return "a value (or tagged=True at both ends)"
        return None

    def _scalar(self, value: Any) -> Any:
        """Spell what transit has a string for; None: it has parts."""
        kind = type(value)
        if kind is Symbol:
            return symbol(value)
        if kind is Char:
            edn.dumps(value)  # one UTF-16 unit
            return f"~c{value}"
        if kind is bytes:
            return f"~b{b64encode(value).decode()}"
        if kind is Tagged:
            if self._is_composite(value):
                return None
            if value.tag != "r":
                check_tag(value.tag)
            check_text(value.value)
            return f"~{value.tag}{value.value}"
        if isinstance(value, UUID):
            return f"~u{value}"
        if isinstance(value, datetime):
            self._unclear += value.tzinfo is not UTC
            return moment(value, self._is_verbose)
        if isinstance(value, Decimal):
            return decimal(value)
        return None


class _Spelling(Writer):
    """Writes values to see which are one on the wire; they are known to be writable.

    Two trees have one repr if they have one text; a repr takes a third of the time. Instead of
    what has parts stands a number, which another one has if it is written alike. So
    each is written once, however many sets and maps stand around it.
    """

    __slots__ = ("_numbers", "_parts")

    _vectors = ()

    def __init__(self, is_verbose: bool, tagged: bool, default: Default | None) -> None:
        super().__init__(
            is_verbose=is_verbose,
            has_codes=False,
            tagged=tagged,
            default=default,
            is_careful=True,
        )
        self._numbers: dict[str, int] = {}
        self._parts: dict[int, tuple[Any, list[int]]] = {}  # by id; the value is kept, so is its id

    def _open(self, value: Any) -> Opened:
        write, node = Writer._open(self, value)
        if write is None:
            return None, node
        found = self._parts.get(id(node))
        if found is None:
            text = repr(write(node, 1))
            found = node, [self._numbers.setdefault(text, len(self._numbers))]
            self._parts[id(node)] = found
        return None, found[1]

    def _sequence(self, value: Any, level: int) -> Any:
        node = super()._sequence(value, level)
        if type(value) is frozenset:  # in an order of its own, which no other one need have
            (node["~#set"] if self._is_verbose else node[1]).sort(key=repr)
        return node

    def _check_distinct(self, members: Any, is_text: bool) -> None:
        """Do nothing: each set and map has been checked before the one around it."""
