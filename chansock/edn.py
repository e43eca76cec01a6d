r"""edn to Python values and back: `loads`, `dumps`, `read_one`, and the types of the values.

    nil                         <->  None
    [true false]                <->  [True, False]
    42                          <->  42
    9223372036854775808N        <->  9223372036854775808
    1.5                         <->  1.5
    1.10M                       <->  Decimal("1.10")
    1/2                         <->  Fraction(1, 2)
    "text"                      <->  "text"
    \a                          <->  Char("a")
    :chat/say                   <->  Keyword("chat/say")
    chat/say                    <->  Symbol("chat/say")
    [1 2]                       <->  [1, 2]
    (1 2)                       <->  List([1, 2])
    #{1 2}                      <->  {1, 2}
    {:text "hi", :kind :join}   <->  {"text": "hi", "kind": Keyword("join")}
    {"alice" 3, "bob smith" 4}  <->  StrDict({"alice": 3, "bob smith": 4})
    {[1 2] 3}                   <->  {(1, 2): 3}
    #{{:a 1}}                   <->  {FrozenDict({"a": 1})}
    #inst "2024-05-06T07:08:09.123-00:00"  <->  datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
    #uuid "0b2c9a5e-0000-4000-8000-000000000001"  <->  UUID("0b2c9a5e-0000-4000-8000-000000000001")
    #my/tag [1]                 <->  Tagged("my/tag", [1])

In a map a plain `str` key is a keyword, everywhere else a plain `str` is a string;
keys="string" turns that around. Tuples are written as vectors, records (dataclasses, msgspec
Structs, pydantic models) as maps, an Enum as its value, another subclass as its base. What
cannot be told apart in Python is refused; `default=iso` writes dates and times as text.
docs/edn.md has the whole of it, with the traps.
This module only gathers them; the work is done in the engine's reader and writer.
"""

from __future__ import annotations

from chansock._core.iso import iso
from chansock._fast.edn.reader import loads, read_one
from chansock._fast.edn.writer import dumps
from chansock.errors import EdnDecodeError, EdnError, EdnTruncated, EncodeError
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
    "EdnError",
    "EdnTruncated",
    "EncodeError",
    "FrozenDict",
    "FrozenStrDict",
    "Keyword",
    "List",
    "StrDict",
    "Symbol",
    "Tagged",
    "dumps",
    "iso",
    "loads",
    "read_one",
]
