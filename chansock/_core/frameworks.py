"""The converters that msgspec and pydantic make: of Structs, models, and pydantic's dataclasses.

Neither is imported before a type of it is seen. What they take and how long they need for it is
theirs; here they get data that a peer cannot make expensive, and their errors become BadData.
"""

from __future__ import annotations

from decimal import Decimal
from json import JSONDecoder
from typing import Any, Final

from chansock._core.converters import Converter, shown
from chansock.errors import BadData

__all__ = ["model", "struct"]

MOST_DIGITS: Final = 4300  # of an integer, as in the readers


def struct(kind: Any, classes: tuple[type, ...]) -> Converter:
    """Take what msgspec makes a Struct of, or one of several."""
    import msgspec

    def convert(value: Any) -> Any:
        if type(value) in classes:
            return value
        try:
            return msgspec.convert(value, kind)
        except UnicodeEncodeError:  # a key with half of a surrogate pair
            raise BadData("expected text in UTF-8, got a lone surrogate") from None
        except msgspec.ValidationError as error:
            # Expected `str`, got `int` - at `$.text`
            message, _, place = str(error).partition(" - at `$")
            raise BadData(worded(message), place.removesuffix("`")[:200]) from None

    try:
        convert(())  # it looks at the annotations of the fields only now
    except BadData:
        pass
    return convert


def model(kind: Any, classes: tuple[type, ...]) -> Converter:
    """Take what pydantic makes a model of, or a dataclass of its own, or one of several."""
    import pydantic

    validate = pydantic.TypeAdapter(kind).validate_python

    def convert(value: Any) -> Any:
        if type(value) in classes:
            return value
        check_decimals(value)
        try:
            return validate(value)
        except pydantic.ValidationError as error:
            # As JSON, of which only the first is read: a dict for each would cost a peer's list
            # of 30,000 wrong items many times what it costs to find them.
            found = error.json(include_url=False, include_context=False, include_input=False)
            first, _ = JSONDecoder().raw_decode(found, 1)
            others = error.error_count() - 1
            more = f" (and {others} more)" if others else ""
            bad = BadData(worded(first["msg"]) + more)
            for step in reversed(first["loc"]):
                bad = bad.under(step)
            raise bad from None

    return convert


def check_decimals(value: Any) -> None:
    """Refuse a Decimal that would be an int of more than MOST_DIGITS digits.

    pydantic makes an int of a Decimal where a field is one: of `1e2147483647M` one of 900 MB.
    """
    left = [value]
    for node in left:  # grows while it is walked
        if isinstance(node, dict):
            left += node.values()
        elif isinstance(node, list | tuple | set | frozenset):
            left += node
        elif type(node) is Decimal and node.is_finite() and node.adjusted() >= MOST_DIGITS:
            raise BadData(f"expected a Decimal below 1E+{MOST_DIGITS}, got {shown(node)}")


def worded(message: str) -> str:
    """Return a framework's message in our form, cut: it may quote what a peer sent."""
    return message[:1].lower() + message[1:200]
