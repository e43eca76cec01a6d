"""The converters that msgspec and pydantic make: of Structs, models, and pydantic's dataclasses.

And what checks their constraints, the metadata of an Annotated, once a value is of the type.
Neither is imported before something of it is seen. What they take and how long they need for it is
theirs; here they get data that a peer cannot make expensive, and their errors become BadData.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from json import JSONDecoder
from typing import TYPE_CHECKING, Annotated, Any, Final

from chansock._core.converters import ATTEMPTS, MISFIT, Converter, attempt_of, shown
from chansock.errors import BadData

if TYPE_CHECKING:
    import msgspec
    import pydantic

__all__ = ["constrained", "framework_of", "is_field", "limits_of", "model", "struct"]

MOST_DIGITS: Final = 4300  # of an integer, as in the readers
# What a constraint calls its limit, with each of the libraries.
LIMITS: Final = (
    *("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "max_digits"),
    *("decimal_places", "pattern", "discriminator"),
)
NO_LEAST: Final = ("min_length", 0)  # annotated_types' default
PYDANTICS: Final = ("pydantic.", "annotated_types")  # modules whose metadata pydantic checks


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
            raise of_msgspec(error) from None

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
            raise of_pydantic(error, value) from None

    return convert


# -- constraints


def framework_of(constraint: object) -> str | None:
    """Return who checks this metadata of an Annotated: pydantic, msgspec, or nobody."""
    kind = constraint if isinstance(constraint, type) else type(constraint)
    if kind.__module__ == "msgspec" and kind.__name__ == "Meta":
        return "msgspec"
    if hasattr(kind, "__pydantic_validator__"):  # a model, which asks for nothing of what it marks
        return None
    is_known = any(base.__module__.startswith(PYDANTICS) for base in kind.__mro__)
    return "pydantic" if is_known or hasattr(kind, "__get_pydantic_core_schema__") else None


def is_field(default: object) -> bool:
    """Return whether the default of a dataclass's field is pydantic's Field."""
    return any(base.__module__ == "pydantic.fields" for base in type(default).__mro__)


def limits_of(constraints: tuple[object, ...]) -> str:
    """Name the limits of constraints, like `gt=0, lt=9`, for a message to a peer.

    "constrained" for those without a limit that has a name, such as a validator of the
    application's.
    """
    found: dict[str, object] = {}
    for one in constraints:
        for part in (one, *(getattr(one, "metadata", None) or ())):
            for name in LIMITS:
                value = getattr(part, name, None)
                value = getattr(value, "pattern", value)  # of a compiled one
                if isinstance(value, int | float | Decimal | str) and (name, value) != NO_LEAST:
                    found[name] = value
    return ", ".join(f"{name}={value!r:.80}" for name, value in found.items()) or "constrained"


def constrained(kind: Any, constraints: tuple[object, ...], convert: Converter) -> Converter:
    """Take what `convert` takes and makes a value of `kind` of, if the constraints hold.

    Raises whatever the framework raises for those that cannot be checked of a `kind`.
    """
    for framework, check_of in (("pydantic", pydantic_check), ("msgspec", msgspec_check)):
        found = tuple(one for one in constraints if framework_of(one) == framework)
        if found:
            convert = checking(convert, *check_of(Annotated[(kind, *found)]))
    return convert


def checking(
    convert: Converter,
    check: Converter,
    refusals: type[Exception],
    explain: Callable[[Any, Any], BadData],
) -> Converter:
    """Take what `convert` takes, and return what the check makes of it, unless it refuses."""
    fitting = attempt_of(convert)

    def checked(value: Any) -> Any:
        found = convert(value)
        try:
            return check(found)
        except refusals as error:
            raise explain(error, found) from None

    def attempt(value: Any) -> Any:
        found = fitting(value)
        try:
            return found if found is MISFIT else check(found)
        except (BadData, refusals):
            return MISFIT

    ATTEMPTS[checked] = attempt
    return checked


def pydantic_check(kind: Any) -> tuple[Converter, type[Exception], Callable[[Any, Any], BadData]]:
    """Make the check of pydantic's constraints: what it makes of a value, and its errors."""
    import pydantic

    return pydantic.TypeAdapter(kind).validate_python, pydantic.ValidationError, of_pydantic


def msgspec_check(kind: Any) -> tuple[Converter, type[Exception], Callable[[Any, Any], BadData]]:
    """Make the check of msgspec's constraints, which returns the value as it is."""
    import msgspec

    def check(value: Any) -> Any:
        msgspec.convert(value, kind)
        return value

    try:
        check(())  # it looks at the type only now
    except msgspec.ValidationError:
        pass
    return check, msgspec.ValidationError, lambda error, _: of_msgspec(error)


# -- their errors


def of_msgspec(error: msgspec.ValidationError) -> BadData:
    """Make a BadData of: Expected `str`, got `int` - at `$.text`."""
    message, _, place = str(error).partition(" - at `$")
    return BadData(worded(message), place.removesuffix("`")[:200])


def of_pydantic(error: pydantic.ValidationError, value: Any) -> BadData:
    """Make a BadData of the first error that pydantic found in a value.

    It names no class of ours.
    """
    # As JSON, of which only the first is read: a dict for each would cost a peer's list
    # of 30,000 wrong items many times what it costs to find them.
    found = error.json(include_url=False, include_context=False, include_input=False)
    first, _ = JSONDecoder().raw_decode(found, 1)
    others = error.error_count() - 1
    message = first["msg"]
    if first["type"] in ("model_type", "dataclass_type"):  # or an instance of a class of ours
        message = message.partition(" or ")[0]
    bad = BadData(worded(message) + (f" (and {others} more)" if others else ""))
    for step in reversed(steps_of(first, value)):
        bad = bad.under(step)
    return bad


def steps_of(error: dict[str, Any], value: Any) -> list[str | int]:
    """Return what leads to an error in a value: pydantic names the classes of a union as well."""
    steps: list[str | int] = []
    missing = len(error["loc"]) - 1 if error["type"] == "missing" else None
    for at, step in enumerate(error["loc"]):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(step, int):
            value = value[step] if isinstance(value, list | tuple) and step < len(value) else None
        elif at != missing:
            continue
        steps.append(step)
    return steps


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
