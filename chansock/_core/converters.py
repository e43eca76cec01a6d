"""The converters: each makes a function that takes decoded data of one type, or raises BadData.

A value that has the type already is returned as it is. `conversion` chooses the converter of a
type. msgspec.convert is not used for these types. It does not know pydantic's constraints, and
unions of several kinds of text; it takes fields with `init=False` from a peer; its messages have
neither the value nor the key of a dict; and integers of one hash cost it the square of their
number. The file is a little past 400 lines because lists, sets, and maps share what bounds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from itertools import compress
from types import NoneType
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from chansock.errors import BadData
from chansock.values import Tagged

__all__ = [
    "ATTEMPTS",
    "MISFIT",
    "SCALARS",
    "Converter",
    "anything",
    "attempt_of",
    "either",
    "instance",
    "literal",
    "many",
    "mapping",
    "member",
    "nothing",
    "one_of",
    "optional",
    "parsed",
    "record",
    "row",
    "shown",
]

Converter: TypeAlias = Callable[[Any], Any]

# What `attempt` of a converter returns for a value that is not of its type.
MISFIT: Final = object()
# Converters and what each consists of: a function that returns MISFIT where the converter raises.
# A union tries several for each value, and an error takes ten times as long.
ATTEMPTS: Final[WeakKeyDictionary[Converter, Converter]] = WeakKeyDictionary()

# Converters that return the same value whenever they are called with the same one.
PURE: Final[WeakSet[Converter]] = WeakSet()
# The exact types of the values that a converter returns as they are.
KEPT: Final[WeakKeyDictionary[Converter, frozenset[type]]] = WeakKeyDictionary()
PARTED: Final = (list, tuple, dict, set, frozenset, Tagged)
FEW: Final = 32  # items that are converted one by one

KEYED: Final = (str, float)  # Python keys the hash of strings; no more than 34 floats have one
MOST_OF_ONE_HASH: Final = 32  # keys or members, as in the readers


def attempt_of(convert: Converter) -> Converter:
    """Return the function that returns MISFIT where this converter raises BadData."""

    def attempt(value: Any) -> Any:
        try:
            return convert(value)
        except BadData:
            return MISFIT

    return ATTEMPTS.get(convert) or attempt


def raising(names: str, attempt: Converter) -> Converter:
    """Make the converter of what an attempt returns; `names` are what it takes."""

    def convert(value: Any) -> Any:
        found = attempt(value)
        if found is MISFIT:
            raise BadData(f"expected {names}, got {shown(value)}")
        return found

    ATTEMPTS[convert] = attempt
    PURE.add(convert)
    return convert


def anything(value: Any) -> Any:
    """Return the value."""
    return value


def nothing(value: Any) -> None:
    """Take nil."""
    if value is not None:
        raise BadData(f"expected nil, got {shown(value)}")


def text(value: Any) -> str:
    """Take a str: keywords and symbols are, too."""
    if isinstance(value, str):
        return value
    raise BadData(f"expected str, got {shown(value)}")


def whole(value: Any) -> int:
    """Take an int that is no bool."""
    if isinstance(value, int) and value is not True and value is not False:
        return value
    raise BadData(f"expected int, got {shown(value)}")


def real(value: Any) -> float:
    """Take a float, or an int as one: JavaScript writes 1.0 as 1."""
    if isinstance(value, float):
        return value
    if isinstance(value, int) and value is not True and value is not False:
        try:
            return float(value)
        except OverflowError:
            pass
    raise BadData(f"expected float, got {shown(value)}")


def truth(value: Any) -> bool:
    """Take true or false."""
    if value is True or value is False:
        return value
    raise BadData(f"expected bool, got {shown(value)}")


SCALARS: Final[dict[type, Converter]] = {str: text, int: whole, float: real, bool: truth}
for one_kind, scalar in ((NoneType, nothing), *SCALARS.items()):
    PURE.add(scalar)
    KEPT[scalar] = frozenset((one_kind,))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and value is not True and value is not False


# Of those that are called for each item of a list, without another call.
ATTEMPTS[nothing] = lambda value: None if value is None else MISFIT
ATTEMPTS[text] = lambda value: value if isinstance(value, str) else MISFIT
ATTEMPTS[whole] = lambda value: value if _is_whole(value) else MISFIT
ATTEMPTS[truth] = lambda value: value if value is True or value is False else MISFIT


def _attempt_real(value: Any) -> Any:
    if isinstance(value, float):
        return value
    try:
        return float(value) if _is_whole(value) else MISFIT
    except OverflowError:
        return MISFIT


ATTEMPTS[real] = _attempt_real


def instance(kind: type) -> Converter:
    """Take values of a class."""
    return raising(kind.__name__, lambda value: value if isinstance(value, kind) else MISFIT)


def parsed(
    kind: type, parse: Callable[[str], object], may_be: Callable[[str], object]
) -> Converter:
    """Take values of a class, or the text of one: packers for JSON have no other form.

    `may_be` is a quick test that most other text fails.
    """

    def attempt(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        try:
            if isinstance(value, str):
                return parse(value) if may_be(value) else MISFIT
            if kind is Decimal and isinstance(value, int) and not isinstance(value, bool):
                return Decimal(value)
        except (ValueError, ArithmeticError):
            pass
        return MISFIT

    return raising(kind.__name__, attempt)


def member(kind: type[Enum]) -> Converter:
    """Take a member of an Enum by its value."""
    has_bool = any(isinstance(one.value, bool) for one in kind)
    has_parts = any(isinstance(one.value, PARTED) for one in kind)
    has_hook = kind._missing_.__module__ != "enum"

    def attempt(value: Any) -> Any:
        if isinstance(value, PARTED) and not has_parts and not has_hook:
            return MISFIT  # the error of the Enum would show all of it
        try:
            if not isinstance(value, bool) or has_bool:  # True is equal to 1
                return kind(value)
        except (TypeError, ValueError, RecursionError):  # the repr of a deep value
            pass
        return MISFIT

    return raising(one_of(one.value for one in kind), attempt)


def literal(options: tuple[Any, ...]) -> Converter:
    """Take one of the values of a Literal."""
    plain = [(one.value if isinstance(one, Enum) else one, one) for one in options]

    def attempt(value: Any) -> Any:
        for option, given in plain:
            # True is equal to 1, and neither is meant by the other.
            if value == option and isinstance(value, bool) is isinstance(option, bool):
                return given
            if value is given:
                return given
        return MISFIT

    return raising(one_of(option for option, _ in plain), attempt)


def optional(convert: Converter) -> Converter:
    """Take nil besides."""

    def converted(value: Any) -> Any:
        return None if value is None else convert(value)

    if convert in PURE:
        PURE.add(converted)
    if convert in KEPT:
        KEPT[converted] = KEPT[convert] | {NoneType}
    return converted


def either(names: str, converters: list[Converter], shaped: dict[type, Converter]) -> Converter:
    """Take what the first takes that takes it; a map or a list goes to the one for those."""

    attempts = [attempt_of(one) for one in converters]
    shapes = tuple(shaped)

    def convert(value: Any) -> Any:
        if isinstance(value, shapes):
            for shape, one in shaped.items():
                if isinstance(value, shape):
                    return one(value)
        for attempt in attempts:
            found = attempt(value)
            if found is not MISFIT:
                return found
        raise BadData(f"expected {names}, got {shown(value)}")

    if PURE.issuperset(one for one in converters if one not in shaped.values()):
        PURE.add(convert)
    if real not in converters and all(one in KEPT for one in converters):
        KEPT[convert] = frozenset().union(*(KEPT[one] for one in converters))
    return convert


def many(names: str, made: type[Any], item: Converter, *taken: type) -> Converter:
    """Take a collection, each item converted."""
    is_hashed = issubclass(made, set | frozenset)
    is_pure = item in PURE
    same = KEPT.get(item, frozenset())
    empty = None if made in (list, set) else made()

    def convert(value: Any) -> Any:
        if type(value) not in taken and not isinstance(value, taken):
            raise BadData(f"expected {names}, got {shown(value)}")
        if not value:
            return made() if empty is None else empty
        if len(value) == 1 and type(next(iter(value))) in same:  # the most that a packet can hold
            return made(value)
        if item is anything or same.issuperset(map(type, value)):
            found = value
        elif is_pure and len(value) > FEW:
            found = each_once(item, value, is_hashed)
        else:
            found = []
            try:
                found.extend(map(item, value))  # keeps those before a fault
            except BadData as error:
                raise error.under(len(found)) from None
        # Sets came through a reader, which counts as well.
        if is_hashed and len(found) > MOST_OF_ONE_HASH and type(found) not in (set, frozenset):
            check_crowd(found)
        return made(found)

    return convert


def each_once(item: Converter, value: Any, is_hashed: bool) -> list[Any]:
    """Convert the items of a collection; what comes again as the same object or text only once.

    Small negative integers are objects of their own, so they are compared by value.
    `is_hashed`: return no item twice for those either, since they go into a set.
    The shortest leaves of a packet are few objects, or few texts, and may come 60,000 times.
    """
    marks: list[Any] = [
        one
        if type(one) is str or (type(one) is int and -256 < one < 0)  # no id is below 0
        else (type(one), one)
        if isinstance(one, str)  # a Symbol, which is equal to its text
        else id(one)
        for one in value
    ]
    known = dict(zip(marks, value, strict=True))
    results: dict[Any, Any] = {}
    mark: Any = None
    attempt = ATTEMPTS.get(item, item)
    try:
        for mark, one in known.items():
            found = attempt(one)
            results[mark] = item(one) if found is MISFIT else found  # raises
    except BadData as error:
        raise error.under(marks.index(mark)) from None
    return list(results.values() if is_hashed else map(results.__getitem__, marks))


def row(items: list[Converter]) -> Converter:
    """Take a list of this length, each item by its own converter."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise BadData(f"expected a list of {len(items)}, got {shown(value)}")
        found: list[Any] = []
        try:
            for item, one in zip(items, value, strict=True):
                found.append(item(one))
        except BadData as error:
            raise error.under(len(found)) from None
        return tuple(found)

    return convert


def mapping(key: Converter, item: Converter) -> Converter:
    """Take a map, each key and value converted."""

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise BadData(f"expected a map, got {shown(value)}")
        if not value:
            return {}
        names: list[Any] = []
        items: list[Any] = []
        for name, one in value.items():
            try:
                names.append(key(name))
                items.append(item(one))
            except BadData as error:
                raise error.under(name) from None
        if key is not text:
            check_crowd(names)
        return dict(zip(names, items, strict=True))

    return convert


def record(make: Any, fields: dict[str, Converter], required: frozenset[str]) -> Converter:
    """Take a map with the fields of a dataclass or a TypedDict; other keys are left out."""
    pairs = list(fields.items())

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            if make is not dict and type(value) is make:
                return value
            raise BadData(f"expected a map, got {shown(value)}")
        found = {}
        key = ""
        try:
            for key, item in pairs:
                if key in value:
                    found[key] = item(value[key])
                elif key in required:
                    raise BadData("expected a value, got none")
        except BadData as error:
            raise error.under(key) from None
        try:
            return make(**found)
        except ValueError as error:  # of its __post_init__
            raise BadData(str(error)) from error

    return convert


def check_crowd(keys: Sequence[Any]) -> None:
    """Refuse keys or members of which too many differ and have one hash.

    Each would be compared with all those before. The readers do not let such a map or set pass;
    here they come of a list, or of text. Python keys the hash of strings with a secret.
    """
    if len(keys) <= MOST_OF_ONE_HASH:
        return
    marks = list(map(hash, keys))
    counts = Counter(marks)
    if max(counts.values()) <= MOST_OF_ONE_HASH:
        return
    crowds = {mark for mark, count in counts.items() if count > MOST_OF_ONE_HASH}
    suspects = list(compress(keys, map(crowds.__contains__, marks)))
    held: set[Any] = set()
    differing: Counter[int] = Counter()
    for at in range(0, len(suspects), MOST_OF_ONE_HASH):  # no more are compared with each other
        new = set(suspects[at : at + MOST_OF_ONE_HASH]) - held
        held |= new
        for key in new:
            mark = hash(key)
            differing[mark] += not isinstance(key, KEYED)
            if differing[mark] > MOST_OF_ONE_HASH:
                raise BadData("expected keys or members that differ in their hashes")


# -- words


def shown(value: object) -> str:
    """Show a peer's value: a scalar's repr, cut at 80; of others the type alone."""
    if isinstance(value, str):
        return f"{str(value)[:80]!r:.80}"
    if value is None:
        return "nil"
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return type(value).__name__


def one_of(values: Iterable[object]) -> str:
    """Name the values that would do."""
    found = [repr(value) for value in values]
    return found[0] if len(found) == 1 else f"one of {', '.join(found)}"
