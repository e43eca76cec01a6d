"""The recorded answers of Clojure, tools.reader and ClojureScript, as comparable values.

`corpus.jsonl` holds one text a line and what the three readers make of it;
`python_writes.jsonl` Python values, the edn meant for each, and what the three read back.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

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

DATA = Path(__file__).parents[1] / "data" / "edn"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NAMES = {
    "Char": Char,
    "Decimal": Decimal,
    "FrozenDict": FrozenDict,
    "Fraction": Fraction,
    "Keyword": Keyword,
    "List": List,
    "StrDict": StrDict,
    "Symbol": Symbol,
    "Tagged": Tagged,
    "UUID": UUID,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
}


def cases(name: str) -> list[dict[str, Any]]:
    """Return the lines of a file of cases."""
    with (DATA / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def value_of(expression: str) -> Any:
    """Return what a case's Python expression stands for."""
    return eval(expression, dict(NAMES))


def text_of(case: dict[str, Any]) -> bytes:
    """Return the text of a corpus case as it would come over the wire."""
    if "bytes_hex" in case:
        return bytes.fromhex(case["bytes_hex"])
    text = case["edn"] if case["edn"] is not None else value_of(case["edn_py"])
    return text.encode("utf-8", "surrogatepass")


def tree(value: Any) -> Any:
    """Return a Python value as the tagged tree of the corpus, hashable, without order in sets."""
    kind = type(value)
    if value is None:
        return ("nil",)
    if kind is bool:
        return ("bool", value)
    if kind is int:
        return ("int", str(value))
    if kind is float:
        return ("float", struct.pack(">d", value).hex())
    if kind is Decimal:
        return ("dec", str(value))
    if kind is Fraction:
        return ("ratio", str(value.numerator), str(value.denominator))
    if kind is Char:
        return ("char", ord(value))
    if kind is Keyword:
        return ("kw", value.namespace, value.name)
    if kind is Symbol:
        return ("sym", value.namespace, value.name)
    if kind is str:
        return ("str", str(value))
    if kind is List:
        return ("list", tuple(map(tree, value)))
    if kind is list or kind is tuple:
        return ("vec", tuple(map(tree, value)))
    if kind is set or kind is frozenset:
        return ("set", frozenset(map(tree, value)))
    if kind is dict or kind is FrozenDict:
        return ("map", frozenset((tree(_keyword(k)), tree(v)) for k, v in value.items()))
    if kind is StrDict or kind is FrozenStrDict:
        return ("map", frozenset((tree(k), tree(v)) for k, v in value.items()))
    if kind is datetime:
        return ("inst", (value - EPOCH) // timedelta(milliseconds=1))
    if kind is UUID:
        return ("uuid", str(value))
    if kind is Tagged:
        return ("tag", value.tag, tree(value.value))
    raise AssertionError(f"no edn type: {kind}")


def _keyword(key: Any) -> Any:
    return Keyword(key) if type(key) is str else key


def recorded(node: list[Any]) -> Any:
    """Return a tagged tree of the corpus in the form that `tree` gives."""
    kind = node[0]
    if kind in ("list", "vec"):
        return (kind, tuple(map(recorded, node[1])))
    if kind == "set":
        return (kind, frozenset(map(recorded, node[1])))
    if kind == "map":
        return (kind, frozenset((recorded(k), recorded(v)) for k, v in node[1]))
    if kind == "tag":
        return (kind, node[1], recorded(node[2]))
    if kind == "meta":
        return recorded(node[2])
    if kind == "bigint":
        return ("int", node[1])
    if kind == "inst":
        return (kind, int(node[1]))
    return tuple(node)
