"""The JSON packer, for front ends without Clojure: `JSON(default=None)`.

    [["chat/say",{"text":"hi"}],null]       an event
    [["math/double",21],"2c4461"]           one that asks for a reply
    [42,"2c4461"]                           the reply
    [[["chat/said",{...}],...],null]        a batch of pushes
    ["chsk/ws-ping",null]                   a word of the channel

Keywords travel as strings. What the channel goes by is a keyword again when it is read: the
ids of events, and a whole value in the namespace `chsk`. All else that is text stays a str.
datetime, date, time, timedelta, UUID, and Decimal are written as text, as orjson and pydantic write
them. What JSON would change without a trace, or JavaScript would round, is refused.
"""

from __future__ import annotations

from decimal import Decimal
from json import JSONDecoder
from math import isfinite
from typing import Any, Final
from uuid import UUID

from chansock._core.iso import iso_text
from chansock._core.wire import HANDSHAKE, NIL_UID
from chansock._fast.edn.writer import plain, shown
from chansock.errors import EncodeError
from chansock.packers.json_text import (
    DEEPEST,
    IN_BATCH,
    MOST_WHOLE,
    Default,
    Opened,
    batch,
    check_text,
    lengthen,
    parse,
    refuse_constant,
    refuse_depth,
    take_apart,
    written,
)
from chansock.values import Char, Keyword, List, StrDict, Symbol, Tagged

__all__ = ["JSON"]


class JSON:
    """Packets in JSON: text, `[value,cb-id]`.

    default: given each value that JSON has no form for, returns one that can be written.
    """

    def __init__(self, *, default: Default | None = None) -> None:
        self.default = default

    def __repr__(self) -> str:
        return "JSON()" if self.default is None else f"JSON(default={self.default!r})"

    @property
    def binary(self) -> bool:
        """Return False: packets are text."""
        return False

    def fragment(self, event: tuple[str] | tuple[str, Any], /) -> bytes:
        """Return `["id",data]` of `(id, data)`, `["id"]` of `(id,)`."""
        return self._written([*event], IN_BATCH)

    def batch(self, fragments: list[bytes], /) -> bytes:
        """Return `[[event,...],null]`."""
        return batch(fragments)

    def packet(self, value: Any, cb_id: Any, /) -> bytes:
        """Return `[value,cb-id]`.

        Raises EncodeError for what has no form, and for a value of plain strings that
        would be read as a word of the channel: "chsk/timeout", ["chsk/handshake", ...].
        """
        first = value[0] if isinstance(value, list | tuple) and value else value
        if type(first) is str and first.startswith("chsk/"):
            raise EncodeError(
                f"expected a value outside the namespace chsk, got {shown(first)}; "
                "the channel's own words are Keywords"
            )
        if type(first) is Keyword and first == HANDSHAKE and len(value) == 2:
            value = [first, _carried(value[1])]
        return self._written([value, cb_id], 0)

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        """Return (value, cb_id) of the packet in view; raises PacketError if it is none."""
        value, cb_id = take_apart(parse(view, "JSON", _DECODER.decode))
        return _named(value, cb_id), cb_id

    def _written(self, packet: list[Any], level: int) -> bytes:
        return written(_Tree(self.default).array, packet, level + 1)


# -- what the channel goes by


def _named(value: Any, cb_id: Any) -> Any:
    """Make keywords of a value's ids: of an event, of those in a batch, of the channel's words."""
    if type(value) is str:
        return Keyword(value) if value.startswith("chsk/") else value
    if type(value) is not list or not value:
        return value
    if _is_id(value[0]):
        value[0] = Keyword(value[0])
        if value[0] == HANDSHAKE and len(value) > 1 and type(value[1]) is list:
            body = value[1]
            if body and body[0] == NIL_UID:
                body[0] = NIL_UID
    elif cb_id is None:
        for event in value:
            if type(event) is list and 1 <= len(event) <= 2 and _is_id(event[0]):
                event[0] = Keyword(event[0])
    return value


def _is_id(value: Any) -> bool:
    return type(value) is str and 0 < value.find("/") < len(value) - 1


def _carried(body: Any) -> Any:
    """Return a handshake's `[uid nil data]` with a uid that JSON carries: its text, if need be.

    Raises EncodeError for the uid that stands for none.
    """
    if not isinstance(body, list) or not body:
        return body
    uid, *rest = body
    if type(uid) is str and uid == NIL_UID:
        raise EncodeError(f"expected a uid that is not {NIL_UID}, which stands for none")
    if isinstance(uid, UUID) or (isinstance(uid, int) and abs(uid) > MOST_WHOLE):
        uid = str(uid)
    return [uid, *rest]


# -- reading


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"expected distinct keys, got {shown(key)} again")
            seen.add(key)
    return found


def _real(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"expected a finite number, got {shown(text)}")
    return value


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_object, parse_float=_real, parse_constant=refuse_constant
)


# -- writing


class _Tree:
    """Makes the tree of one packet or fragment; one call for each array that is open."""

    __slots__ = ("_default",)

    def __init__(self, default: Default | None) -> None:
        self._default = default

    def array(self, value: Any, level: int) -> Any:
        if level > DEEPEST:
            refuse_depth()
        out: list[Any] = []
        try:
            for item in value:
                write, node = self._open(item)
                out.append(node if write is None else write(node, level + 1))
        except EncodeError as error:
            lengthen(error, len(out))
            raise
        return out

    def object(self, value: Any, level: int) -> Any:
        if level > DEEPEST:
            refuse_depth()
        out: dict[str, Any] = {}
        key = None
        try:
            for entry in value.items():
                key, item = entry
                name = self._name(key)
                if name in out:
                    raise EncodeError(f"expected distinct keys, got {shown(name)} again")
                write, node = self._open(item)
                out[name] = node if write is None else write(node, level + 1)
        except EncodeError as error:
            lengthen(error, key)
            raise
        return out

    def _open(self, value: Any) -> Opened:
        """Return the node of a leaf, or of what has parts the function that writes it."""
        kind = type(value)
        if kind is str or kind is Keyword:
            text = str.__str__(value)
            if not text.isascii():
                check_text(text)
            return None, text
        if value is None or kind is bool:
            return None, value
        if kind is int and -MOST_WHOLE <= value <= MOST_WHOLE:
            return None, value
        if kind is float and isfinite(value):
            return None, value
        if kind is dict or kind is StrDict:
            return self.object, value
        if kind is list or kind is tuple:
            return self.array, value
        return self._open(self._stand_in(value))

    def _name(self, key: Any) -> str:
        kind = type(key)
        if kind is not str and kind is not Keyword:
            stands = _base(key)
            if type(stands) is not str and type(stands) is not Keyword:
                raise EncodeError(f"expected a str as key of an object, got {shown(key)}")
            key = stands
        text = str.__str__(key)
        if not text.isascii():
            check_text(text)
        return text

    def _stand_in(self, value: Any) -> Any:
        """Return what stands for a value that has no form by itself. Raises EncodeError."""
        for _ in range(DEEPEST):
            stands = _base(value)
            if stands is NotImplemented:
                if self._default is None:
                    raise EncodeError(
                        f"expected a value that JSON has a form for (or default=), "
                        f"got {shown(value)}"
                    )
                stands = self._default(value)
            if _has_form(stands):
                return stands
            value = stands
        raise EncodeError(f"expected default= to end at a writable value, got {shown(value)}")


def _has_form(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return abs(value) <= MOST_WHOLE
    if kind is float:
        return isfinite(value)
    return value is None or kind in _FORMS


def _base(value: Any) -> Any:
    """Return what a time, UUID, Decimal, subclass, Enum, or record is written as.

    NotImplemented if it has no form.
    """
    if type(value) in _REFUSED:
        return NotImplemented
    if isinstance(value, UUID | Decimal):
        return str(value)
    text = iso_text(value)
    if text is not None:
        return text
    stands = plain(value)
    return NotImplemented if stands is value or isinstance(stands, frozenset) else stands


_FORMS: Final = frozenset((str, Keyword, bool, list, tuple, dict, StrDict))
_REFUSED: Final = frozenset((Symbol, Char, List, Tagged))  # JSON would make something else of them
