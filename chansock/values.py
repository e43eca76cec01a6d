"""The Python types for edn values that Python has no type of its own for.

Keyword, Symbol and Char are strings, List is a tuple, StrDict and FrozenDict
are dicts, so that code which knows nothing of edn can use them. Nothing here
reads, writes or checks text: any string makes a Keyword, and the writer refuses
one that edn could not spell. `short_repr` shows any value in a log or an error.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self, TypeVar, final

__all__ = [
    "Char",
    "FrozenDict",
    "FrozenStrDict",
    "Keyword",
    "List",
    "StrDict",
    "Symbol",
    "Tagged",
]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


def _split(text: str) -> tuple[str | None, str]:
    """Split `ns/name` at its first slash; a leading slash is part of the name."""
    at = text.find("/")
    return (None, text) if at <= 0 else (text[:at], text[at + 1 :])


class _Named(str):
    """A string with a namespace: what Keyword and Symbol share."""

    __slots__ = ()

    @property
    def namespace(self) -> str | None:
        """The part before the slash, or None."""
        return _split(self)[0]

    @property
    def name(self) -> str:
        """The part behind the slash; all of it if there is none."""
        return _split(self)[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str.__repr__(self)})"


@final
class Keyword(_Named):
    """An edn keyword, without its colon: `:chat/say` is `Keyword("chat/say")`.

    Equal to its text and hashing as it: `Keyword("join") == "join"`.
    """

    __slots__ = ()


@final
class Symbol(_Named):
    """An edn symbol, `chat/say`. Equal to its text and hashing as it."""

    __slots__ = ()


@final
class Char(str):
    r"""An edn character, `\a`: a string of one character (one UTF-16 unit)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Char({str.__repr__(self)})"


@final
class List(tuple[T, ...]):
    """An edn list, `(1 2)`. A plain tuple is written as a vector, `[1 2]`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"List({tuple.__repr__(self)})"


class StrDict(dict[K, V]):
    """A map whose plain `str` keys are edn strings: `{"alice" 3}`.

    In every other dict a plain `str` key is a keyword: `{:alice 3}`. Keywords
    among the keys of a StrDict stand as Keyword.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict.__repr__(self)})"

    def copy(self) -> Self:
        """Return a StrDict, where dict.copy would forget the type."""
        return type(self)(self)

    def __or__(self, other: Mapping[Any, Any]) -> Self:  # type: ignore[override]
        if not isinstance(other, dict):
            return NotImplemented
        return type(self)({**self, **other})

    def __ror__(self, other: Mapping[Any, Any]) -> Self:  # type: ignore[override]
        if not isinstance(other, dict):
            return NotImplemented
        return type(self)({**other, **self})


class FrozenDict(dict[K, V]):
    """A dict that can be hashed and refuses to change: a map in a hashed place.

    Raises TypeError if a key or value cannot be hashed.
    """

    __slots__ = ("_hash",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if hasattr(self, "_hash"):
            self._refuse()
        super().__init__(*args, **kwargs)
        # A sum, because equal dicts may differ in order; not a frozenset, whose
        # slots a peer could fill with items of one hash. Computed here, bottom-up,
        # so that hashing a deep one later does not recurse.
        self._hash = hash((FrozenDict, len(self), sum(map(hash, self.items()))))

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict.__repr__(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __copy__(self) -> Self:
        return self

    def copy(self) -> Self:
        """Return itself: it cannot change."""
        return self

    def __or__(self, other: Mapping[Any, Any]) -> Self:  # type: ignore[override]
        if not isinstance(other, dict):
            return NotImplemented
        return type(self)({**self, **other})

    def __ror__(self, other: Mapping[Any, Any]) -> Self:  # type: ignore[override]
        if not isinstance(other, dict):
            return NotImplemented
        return type(self)({**other, **self})

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be changed; dict(it) makes a copy that can")

    __setitem__ = _refuse
    __delitem__ = _refuse
    __ior__ = _refuse
    clear = _refuse
    pop = _refuse
    popitem = _refuse
    setdefault = _refuse
    update = _refuse


@final
class FrozenStrDict(FrozenDict[K, V], StrDict[K, V]):
    """A StrDict in a hashed place: its plain `str` keys are edn strings."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Tagged:
    """A tagged value that no reader claimed: `#my/tag [1 2]`."""

    tag: str
    value: Any


class _NoData:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<no data>"


# The default of `data` where an event is sent: `[:id]`. None is data, too: `[:id nil]`.
NO_DATA: Final = _NoData()


# -- for logs and errors

_BRACKETS: Final[dict[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    List: ("List((", "))"),
    dict: ("{", "}"),
    StrDict: ("StrDict({", "})"),
    FrozenDict: ("FrozenDict({", "})"),
    FrozenStrDict: ("FrozenStrDict({", "})"),
}


def short_repr(value: object, size: int = 80) -> str:
    """Return the first `size` characters of repr(value), for a value that a peer chose.

    Never raises. The work is bounded by `size`, however large or deep the value is. An integer
    of more than 1000 bits is shown as their number: Python may refuse to make digits of it.
    """
    shown = ""
    try:
        for part in _parts(value, size):
            shown += part
            if len(shown) >= size:
                break
    except RecursionError:  # called close to the limit
        shown += "..."
    return shown[:size]


def _parts(value: object, size: int) -> Iterator[str]:
    """Yield the repr of a value piece by piece; each level of depth yields a piece first."""
    kind = type(value)
    if kind in _BRACKETS and isinstance(value, list | tuple | set | frozenset | dict):
        opening, closing = _BRACKETS[kind]
        if not value and kind in (set, frozenset):
            opening, closing = kind.__name__, "()"
        yield opening
        between = ""
        for item in value:
            yield between
            yield from _parts(item, size)
            if isinstance(value, dict):
                yield ": "
                yield from _parts(value[item], size)
            between = ", "
        if len(value) == 1 and isinstance(value, tuple):
            yield ","
        yield closing
    elif isinstance(value, Tagged):
        yield "Tagged(tag="
        yield from _parts(value.tag, size)
        yield ", value="
        yield from _parts(value.value, size)
        yield ")"
    elif isinstance(value, Keyword | Symbol | Char):
        yield f"{kind.__name__}({str(value[:size])!r})"
    elif kind in (str, bytes, bytearray, array):
        yield repr(value[:size])  # type: ignore[index]
    elif isinstance(value, int) and value.bit_length() > 1000:
        yield f"<int of {value.bit_length()} bits>"
    else:
        try:
            yield repr(value)
        except Exception:
            yield f"<{kind.__name__}>"
