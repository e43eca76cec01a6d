"""From decoded data to a value of the type that a handler asks for, or BadData.

`converter(kind)` is called once, when a handler is registered; the function that it returns runs
once for each event. `converters` has those of dataclasses and of the types that `typing` spells;
`frameworks` leaves Structs to msgspec, models to pydantic, and to both the constraints in an
Annotated. Neither is imported before something of theirs is seen. No event, handler, or channel is
known here.
"""

from __future__ import annotations

import dataclasses
import re
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from uuid import UUID

from chansock._core.converters import (
    SCALARS,
    Converter,
    anything,
    either,
    instance,
    literal,
    many,
    mapping,
    member,
    nothing,
    one_of,
    optional,
    parsed,
    record,
    row,
)
from chansock._core.frameworks import constrained, framework_of, is_field, limits_of, model, struct
from chansock.values import Char, Keyword, Symbol, Tagged

__all__ = ["Converter", "converter", "members"]

# Taken if they are of the class.
INSTANCES: Final = (bytes, Char, Fraction, Keyword, Symbol, Tagged)
# How text of each is parsed, and what all of its texts have in common.
PARSED: Final[dict[type, tuple[Callable[[str], object], Callable[[str], object]]]] = {
    Decimal: (Decimal, re.compile(r"[\s_+\-.]*(?:\d|inf|s?nan)", re.IGNORECASE).match),
    UUID: (UUID, lambda text: len(text) >= 32),
    datetime: (datetime.fromisoformat, lambda text: len(text) >= 7),
}
LISTS: Final = (list, abc.Sequence, abc.Iterable, abc.Collection)
SETS: Final = (set, frozenset, abc.Set)
MAPS: Final = (dict, abc.Mapping)
# What values of each become.
MADE: Final[dict[object, type]] = {
    **dict.fromkeys(LISTS, list),
    **dict.fromkeys(SETS, frozenset),
    **dict.fromkeys(MAPS, dict),
    set: set,
    tuple: tuple,
}
MARKS: Final = {"msgspec": "__struct_fields__", "pydantic": "__pydantic_validator__"}


def converter(kind: object, names: Mapping[str, Any] | None = None) -> Converter | None:
    """Make the function that converts to a type; None if any value is of it.

    `names` are those of the scope that asks, for classes that stand in a function.
    Raises TypeError for a type that data cannot be converted to.
    """
    made = _Maker(names).make(kind)
    return None if made is anything else made


class _Maker:
    """Makes converters; knows those that it is about to make, for types that hold themselves."""

    def __init__(self, names: Mapping[str, Any] | None) -> None:
        self._names = dict(names or {})
        self._known: dict[object, list[Converter]] = {}

    def make(self, kind: Any) -> Converter:
        origin, args = get_origin(kind), get_args(kind)
        if kind in (Any, object) or isinstance(kind, TypeVar):
            return anything
        if kind in (None, NoneType):
            return nothing
        for make, framework in ((struct, "msgspec"), (model, "pydantic")):
            classes = classes_of(kind, framework)
            if classes:
                return make(kind, classes)
        constraints = constraints_of(kind)
        if constraints:
            return self._constrained(kind, constraints)
        if origin in (Annotated, Required, NotRequired):
            return self.make(args[0])
        if origin in (Union, UnionType):
            return self._union(list(dict.fromkeys(members(kind))))
        if origin is Literal:
            return literal(args)
        if hasattr(kind, "__supertype__"):  # NewType
            return self.make(kind.__supertype__)
        if hasattr(kind, "__value__"):  # type X = ...
            return self._once(kind, lambda: self.make(kind.__value__))
        if is_record(kind):
            return self._once(kind, lambda: self._record(kind))
        if isinstance(origin or kind, type):
            return self._of_class(kind, origin or kind, args)
        raise refused(kind)

    def _once(self, kind: object, make: Callable[[], Converter]) -> Converter:
        slot = self._known.get(kind)
        if slot is None:
            slot = self._known[kind] = []
            slot.append(make())
            return slot[0]
        # Inside of itself: it is made by the time that it is called.
        return lambda value: slot[0](value)  # noqa: PLW0108

    def _constrained(self, kind: Any, constraints: tuple[object, ...]) -> Converter:
        if any(getattr(one, "validation_alias", None) is not None for one in constraints):
            raise refused(kind, "an alias only in a pydantic model")
        convert = self.make(kind.__origin__)
        try:
            return constrained(bare(kind.__origin__), constraints, convert)
        except Exception as error:  # of a framework that is missing, or cannot check it
            raise refused(kind, f"constraints that fit the type: {error}") from error

    def _of_class(self, kind: Any, base: Any, args: tuple[Any, ...]) -> Converter:
        if base in LISTS:
            return many("a list", list, self._item(args), list, tuple)
        if base in SETS:
            made = set if base is set else frozenset
            return many("a set", made, self._item(args), list, tuple, set, frozenset)
        if base is tuple:
            if not args or args[-1] is Ellipsis:
                return many("a list", tuple, self._item(args[:1]), list, tuple)
            return row([self.make(arg) for arg in args])
        if base in MAPS:
            key, value = args or (Any, Any)
            return mapping(self.make(key), self.make(value))
        if kind in SCALARS:
            return SCALARS[kind]
        if kind in INSTANCES:
            return instance(kind)
        if kind in PARSED:
            return parsed(kind, *PARSED[kind])
        if issubclass(base, Enum):
            return member(base)
        raise refused(kind)

    def _item(self, args: tuple[Any, ...]) -> Converter:
        return self.make(args[0]) if args else anything

    def _union(self, kinds: list[Any]) -> Converter:
        others = [kind for kind in kinds if kind is not NoneType]
        made = [self.make(kind) for kind in others]
        if len(made) == len(kinds) - 1 == 1:
            return optional(made[0])
        # Of two for one shape, tried one after the other, a peer could make a long try.
        maps = [one for kind, one in zip(others, made, strict=True) if is_map(kind)]
        lists = [one for kind, one in zip(others, made, strict=True) if is_list(kind)]
        if len(maps) > 1 or len(lists) > 1:
            raise refused(kinds, "in a union at most one that is a map and one a list")
        shaped: dict[type, Converter] = {}
        for shapes, of_them in (((dict,), maps), ((list, tuple, set, frozenset), lists)):
            for one in of_them:
                shaped |= dict.fromkeys(shapes, one)
        if len(made) < len(kinds):
            made.append(nothing)
        return either(named(kinds), made, shaped)

    def _record(self, kind: Any) -> Converter:
        try:
            hints = get_type_hints(kind, include_extras=True)
        except NameError:
            hints = get_type_hints(kind, localns=self._names, include_extras=True)
        if not dataclasses.is_dataclass(kind):
            left_out = {key for key, hint in hints.items() if get_origin(hint) is NotRequired}
            fields = {key: self.make(hint) for key, hint in hints.items()}
            return record(dict, fields, kind.__required_keys__ - left_out)
        if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
            raise refused(kind, "no InitVar")
        taken = [field for field in dataclasses.fields(kind) if field.init]
        if any(is_field(field.default) for field in taken):
            raise refused(kind, "Annotated[str, Field(...)], not `= Field(...)`")
        missing = dataclasses.MISSING
        required = frozenset(
            field.name
            for field in taken
            if field.default is missing and field.default_factory is missing
        )
        fields = {field.name: self.make(hints[field.name]) for field in taken}
        return record(kind, fields, required)


def members(kind: Any) -> Iterator[Any]:
    """Return what a union consists of, with the members of those in it, by whatever name."""
    origin, args = get_origin(kind), get_args(kind)
    if constraints_of(kind):
        yield kind
    elif origin in (Annotated, Required, NotRequired):
        yield from members(args[0])
    elif origin in (Union, UnionType):
        for arg in args:
            yield from members(arg)
    elif hasattr(kind, "__supertype__"):  # NewType
        yield from members(kind.__supertype__)
    elif hasattr(kind, "__value__"):  # type X = ...
        yield from members(kind.__value__)
    else:
        yield kind


def classes_of(kind: Any, framework: str) -> tuple[type, ...]:
    """Return the classes of a type, or of a union, if all are a framework's, as all constraints."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        is_its_own = all(framework_of(one) == framework for one in constraints_of(kind))
        return classes_of(args[0], framework) if is_its_own else ()
    if origin in (Union, UnionType):
        parts = [classes_of(arg, framework) for arg in args if arg is not NoneType]
        return tuple(one for part in parts for one in part) if all(parts) else ()
    base = origin or kind
    return (base,) if isinstance(base, type) and hasattr(base, MARKS[framework]) else ()


def constraints_of(kind: Any) -> tuple[object, ...]:
    """Return what pydantic or msgspec would check, of the metadata of an Annotated."""
    is_annotated = get_origin(kind) is Annotated
    return tuple(filter(framework_of, kind.__metadata__)) if is_annotated else ()


def bare(kind: Any) -> Any:
    """Return a type that values of this type, once converted, are of, and that a framework knows.

    What the types within it ask for is left out: it was checked as they were converted.
    """
    found = list(members(kind))
    if len(found) > 1:
        return Union[tuple(map(bare, found))]  # noqa: UP007 - of a tuple
    (only,) = found
    if constraints_of(only):
        return bare(only.__origin__)
    base = get_origin(only) or only
    if base in MADE:
        return MADE[base]
    return only if only in (NoneType, bytes, *SCALARS, *PARSED) else Any


def is_record(kind: Any) -> bool:
    """Return whether it is a dataclass or a TypedDict."""
    is_typed_dict = hasattr(kind, "__required_keys__") and hasattr(kind, "__total__")
    return isinstance(kind, type) and (is_typed_dict or dataclasses.is_dataclass(kind))


def is_map(kind: Any) -> bool:
    """Return whether it is made of a map."""
    if constraints_of(kind):
        return any(map(is_map, members(kind.__origin__)))
    base = get_origin(kind) or kind
    return is_record(base) or base in MAPS or any(hasattr(base, mark) for mark in MARKS.values())


def is_list(kind: Any) -> bool:
    """Return whether it is made of a list or a set."""
    if constraints_of(kind):
        return any(map(is_list, members(kind.__origin__)))
    return (get_origin(kind) or kind) in (*LISTS, *SETS, tuple)


def named(kinds: Iterable[Any]) -> str:
    """Name the types of a union for a message to a peer."""
    return " or ".join(dict.fromkeys(map(name, kinds)))


def name(kind: Any) -> str:
    """Name a type for a message to a peer, without a class of the application's."""
    if constraints_of(kind):
        return f"{named(members(kind.__origin__))} ({limits_of(constraints_of(kind))})"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return one_of(one.value for one in kind)
    if is_map(kind):
        return "a map"
    return "nil" if kind is NoneType else getattr(kind, "__name__", None) or str(kind)


def refused(kind: object, what: str = "") -> TypeError:
    """Make the error for a type that data cannot be converted to."""
    return TypeError(
        f"expected a dataclass, TypedDict, msgspec.Struct, pydantic model, or a type of data like "
        f"list[int] | None{', ' * bool(what)}{what}, got {kind!r:.80}"
    )
