"""JSON text to trees and back, for the packers that speak it: bounded, and nothing merged.

A tree is None, bools, ints, floats, strings, lists, and of each object the Pairs as they
stand. What the trees mean is up to the packer. Standard library: the faster parsers keep the
last of two equal keys, and make floats of large integers, so they would have to be checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import JSONDecoder, JSONEncoder
from typing import Any, Final, NoReturn, TypeAlias

from chansock._fast.edn.writer import shown
from chansock._fast.events.packet import deepest
from chansock.errors import EncodeError, PacketError

__all__ = [
    "DEEPEST",
    "IN_BATCH",
    "MOST_WHOLE",
    "Default",
    "Opened",
    "Pairs",
    "batch",
    "check_text",
    "lengthen",
    "parse",
    "refuse_constant",
    "refuse_depth",
    "serialize",
    "take_apart",
    "written",
]

Default: TypeAlias = Callable[[Any], object]  # what gives other values a form
# The node of a leaf; or what has parts, with the function that reads or writes it.
Opened: TypeAlias = "tuple[Callable[[Any, Any], Any] | None, Any]"

IN_BATCH: Final = 2  # arrays around an event of a batch: [[event, ...], null]
MOST_WHOLE: Final = 2**53 - 1  # what a JSON number holds in JavaScript, which rounds the larger
DEEPEST: Final = 500  # arrays and objects around a value: as deep as edn's forms may stand

# Either half of a surrogate pair that stands alone; other escapes are passed over whole.
_ESCAPES: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F])|\\."
)


class Pairs(list[tuple[str, Any]]):
    """An object: its keys and values in order, those of one name too."""

    __slots__ = ()


# -- reading


def parse(view: memoryview, form: str, decode: Callable[[str], Any] | None = None) -> Any:
    """Return the tree of one JSON text in UTF-8.

    `form` names what was expected, in errors. `decode` is the `decode` of a JSONDecoder, by
    default one that gives Pairs. Raises PacketError.
    """
    try:
        text = str(view, "utf-8")
        tree = (decode or _DECODER.decode)(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of the text, an escape or a number
        raise PacketError(f"expected a packet in {form}, got none: {error}") from None
    if "\\u" in text and any(found.lastindex for found in _ESCAPES.finditer(text)):
        raise PacketError(f"expected a packet in {form}, got half of a surrogate pair")
    if deepest(view) > DEEPEST:
        raise _too_deep()
    return tree


def take_apart(packet: Any) -> tuple[Any, Any]:
    """Return (value, cb_id) of a packet as Sente's ends destructure it. Raises PacketError."""
    if packet is None:
        return None, None
    if not isinstance(packet, list | tuple):
        raise PacketError(f"expected a packet `[value cb-id]`, got {shown(packet)}")
    return packet[0] if packet else None, packet[1] if len(packet) > 1 else None


def refuse_constant(name: str) -> NoReturn:
    """Raise for NaN and the infinities, which are no JSON; a JSONDecoder's parse_constant."""
    raise ValueError(f"expected a JSON value, got {name}")


def _too_deep() -> PacketError:
    return PacketError(f"expected at most {DEEPEST} arrays around a value, got more")


_DECODER: Final = JSONDecoder(object_pairs_hook=Pairs, parse_constant=refuse_constant)


# -- writing


def written(tree_of: Callable[[list[Any], int], Any], packet: list[Any], level: int) -> bytes:
    """Return the text of a packet or event, of which `tree_of(packet, level)` is the tree.

    Raises EncodeError; its path begins in the value or the data, as edn's does.
    """
    try:
        return serialize(tree_of(packet, level))
    except RecursionError:
        refuse_depth()
    except EncodeError as error:
        error.path = error.path.partition("]")[2]
        error.args = (error.message, error.path)
        raise


def serialize(tree: Any) -> bytes:
    """Return the text of a tree (with dicts for objects), UTF-8 without spaces.

    Its strings have passed check_text, its floats are finite.
    """
    return _encode(tree).encode()


_encode: Final = JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def batch(fragments: list[bytes]) -> bytes:
    """Return `[[event,...],null]`, in order."""
    return b"[[" + b",".join(fragments) + b"],null]"


def check_text(text: str) -> None:
    """Raise EncodeError for half of a surrogate pair, which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"expected text without lone surrogates, got {text[error.start]!r} at {error.start}"
        ) from None


def lengthen(error: EncodeError, key: Any) -> None:
    """Put one more step at the front of an error's path, on its way out: `[3]`, `["user"]`."""
    step = f'["{repr(key[:80])[1:-1]}"]' if type(key) is str else f"[{shown(key)}]"
    error.path = step + error.path
    error.args = (error.message, error.path)


def refuse_depth() -> NoReturn:
    """Raise EncodeError for a value that stands too deep."""
    raise EncodeError(f"expected at most {DEEPEST} arrays around a value, got more")
