"""What type of data a handler asks for: the T of its `msg: EventMsg[T]`.

Read once, when the handler is registered. What becomes of the type is of `conversion`.
"""

from __future__ import annotations

import re
from functools import partial
from inspect import Parameter, ismethod, signature
from types import FrameType, SimpleNamespace
from typing import Any, Final, get_args, get_origin, get_type_hints

from chansock._core.conversion import Converter, converter
from chansock._fast.dispatch import EventMsg

__all__ = ["converter_for", "name_of"]

# Such an annotation may name what only a type checker imports: it asks for nothing.
UNTYPED: Final = re.compile(r"\s*(\w+\.)*EventMsg\s*(\[\s*(\w+\.)*Any\s*\]\s*)?")


def converter_for(handler: Any, frame: FrameType) -> Converter | None:
    """Make what converts the data of a handler's events; None if it takes any.

    `frame` is where it was registered: a class in a function is found there. Raises
    TypeError for a type that data cannot be converted to, or that cannot be found.
    """
    annotation = first_annotation(handler)
    if annotation is Any or (isinstance(annotation, str) and UNTYPED.fullmatch(annotation)):
        return None
    function = innermost(handler)
    known: dict[str, Any] = getattr(function, "__globals__", {})
    names = dict(frame.f_locals) if frame.f_globals is known else {}
    try:
        hints = get_type_hints(SimpleNamespace(__annotations__={"msg": annotation}), known, names)
        if get_origin(hints["msg"]) is not EventMsg:
            return None
        return converter(get_args(hints["msg"])[0], names)
    except NameError as error:
        raise TypeError(
            f"{name_of(handler)}: expected names that exist when it is registered in the types of "
            f"{annotation!s:.80}, got {error}"
        ) from error
    except Exception as error:
        raise TypeError(f"{name_of(handler)}: {error}") from error


def first_annotation(handler: Any) -> Any:
    """Give the annotation of the first parameter as it stands; Any if there is none."""
    try:
        parameters = iter(signature(handler).parameters.values())
    except (TypeError, ValueError):  # of a builtin
        return Any
    first = next(parameters, None)
    return Any if first is None or first.annotation is Parameter.empty else first.annotation


def innermost(handler: Any) -> Any:
    """Give the function whose annotations a handler shows, under partial, wraps and methods."""
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
