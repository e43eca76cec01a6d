"""What type of data a handler asks for: the T of its `msg: EventMsg[T]`.

Read once, when the handler is registered. What becomes of the type is of `conversion`.
"""

from __future__ import annotations

import re
from functools import partial
from inspect import Parameter, ismethod, signature
from types import FrameType, SimpleNamespace
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from chansock._core.conversion import Converter, converter, members
from chansock._fast.events.dispatch import EventMsg

__all__ = ["check_parameters", "converter_for", "name_of"]

# Such an annotation may name what only a type checker imports: it asks for nothing.
UNTYPED: Final = re.compile(r"\s*(\w+\.)*EventMsg\s*(\[\s*(\w+\.)*Any\s*\]\s*)?")


def check_parameters(handler: Any) -> None:
    """Raise TypeError unless a handler can be called with one argument, the EventMsg."""
    try:
        found = signature(handler)
    except (TypeError, ValueError):  # of a builtin
        return
    try:
        found.bind(None)
    except TypeError:
        name = getattr(handler, "__name__", type(handler).__name__)
        raise TypeError(
            f"{name_of(handler)}: expected a handler of one parameter, like `def {name}(msg)`, "
            f"got `{name}{found}`"[:400]
        ) from None


def converter_for(handler: Any, frame: FrameType) -> Converter | None:
    """Make what converts the data of a handler's events; None if it takes any.

    `EventMsg[T] | None` asks for a T, as `EventMsg[T]` does. `frame` is where it was
    registered: a class in a function is found there.

    Raises TypeError for a type that data cannot be converted to, or that cannot be found, and
    for an annotation that is no EventMsg.
    """
    annotation = first_annotation(handler)
    if annotation is Any or (isinstance(annotation, str) and UNTYPED.fullmatch(annotation)):
        return None
    function = innermost(handler)
    known: dict[str, Any] = getattr(function, "__globals__", {})
    names = dict(frame.f_locals) if frame.f_globals is known else {}
    try:
        annotated = SimpleNamespace(__annotations__={"msg": annotation})
        hint = get_type_hints(annotated, known, names, include_extras=True)["msg"]
        kinds = list(members(hint))
        asked = [get_args(kind)[0] for kind in kinds if get_origin(kind) is EventMsg]
        if asked:
            union = Union[tuple(asked)] if len(asked) > 1 else asked[0]  # noqa: UP007 - of a tuple
            return converter(union, names)
        if not any(map(may_be_message, kinds)):
            shown = getattr(hint, "__name__", None) or str(hint)
            raise TypeError(
                f"expected `msg: EventMsg[{shown}]`, whose data is `msg.data`, got `msg: {shown}`"
            )
        return None
    except NameError as error:
        raise TypeError(
            f"{name_of(handler)}: expected names that exist when it is registered in the types of "
            f"{annotation!s:.80}, got {error}"
        ) from error
    except Exception as error:
        raise TypeError(f"{name_of(handler)}: {error}") from error


def may_be_message(hint: Any) -> bool:
    """Return whether an annotation that is no union, nor an EventMsg[T], may mean an EventMsg."""
    if isinstance(hint, TypeVar) or hint is Any:
        return True
    kind = get_origin(hint) or hint
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    return kind in EventMsg.__mro__


def first_annotation(handler: Any) -> Any:
    """Return the annotation of the first parameter as it stands; Any if there is none."""
    try:
        parameters = iter(signature(handler).parameters.values())
    except (TypeError, ValueError):  # of a builtin
        return Any
    first = next(parameters, None)
    return Any if first is None or first.annotation is Parameter.empty else first.annotation


def innermost(handler: Any) -> Any:
    """Return the function whose annotations a handler shows, under partial, wraps and methods."""
    while not hasattr(handler, "__globals__") or hasattr(handler, "__wrapped__"):
        if isinstance(handler, partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif ismethod(handler):
            handler = handler.__func__
        elif hasattr(type(handler).__call__, "__globals__"):
            handler = type(handler).__call__
        else:
            break
    return handler


def name_of(function: object) -> str:
    """Name a function for a message: its module and qualified name."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
