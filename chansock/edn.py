"""edn to Python values and back: `loads`, `dumps`, `read_one`, and the types of the values.

    {:text "hi", :kind :join}   <->  {"text": "hi", "kind": Keyword("join")}
    {"alice" 3, "bob smith" 4}  <->  StrDict({"alice": 3, "bob smith": 4})

In a map a plain `str` key is a keyword, everywhere else a plain `str` is a string;
keys="string" turns that around. What cannot be told apart in Python is refused.
This module only chooses options; the work is done in the engine's reader and writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from chansock._fast.edn_reader import Reader
from chansock._fast.edn_writer import dumps
from chansock.errors import EdnDecodeError, EdnEncodeError, EdnError
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

__all__ = [
    "Char",
    "EdnDecodeError",
    "EdnEncodeError",
    "EdnError",
    "FrozenDict",
    "FrozenStrDict",
    "Keyword",
    "List",
    "StrDict",
    "Symbol",
    "Tagged",
    "dumps",
    "loads",
    "read_one",
]

Keys: TypeAlias = Literal["keyword", "string"]
Readers: TypeAlias = Mapping[str, Callable[[Any], Any]]

MAX_DEPTH: Final = 500  # Clojure's own readers overflow their stack soon after 600

_READERS: Final = {keys: Reader(keys) for keys in ("keyword", "string")}


def _reader(keys: str, readers: Readers | None, max_depth: int) -> Reader:
    if not readers and max_depth == MAX_DEPTH and keys in _READERS:
        return _READERS[keys]
    return Reader(keys, readers, max_depth)


def loads(
    text: bytes | bytearray | memoryview | str,
    *,
    keys: Keys = "keyword",
    readers: Readers | None = None,
    max_depth: int = MAX_DEPTH,
) -> Any:
    """Return the value of the one form in text.

    `readers` maps a tag to a function of the tagged value; without one, `#my/tag 1`
    is Tagged("my/tag", 1).
    Raises EdnDecodeError if text is no edn, UTF-8, or not exactly one form.
    """
    return _reader(keys, readers, max_depth).decode(text)


def read_one(
    buffer: bytes | bytearray | memoryview,
    pos: int = 0,
    *,
    keys: Keys = "keyword",
    readers: Readers | None = None,
    max_depth: int = MAX_DEPTH,
) -> tuple[Any, int]:
    """Return the value of the first form from byte pos on, and the offset behind it.

    Raises EdnDecodeError if there is none. Text behind the form is not looked at.
    """
    return _reader(keys, readers, max_depth).decode_one(buffer, pos)
