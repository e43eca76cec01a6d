"""`app:chsk`: from an import string to the channel that it names.

What is wrong with the string, or with what stands there, is a sentence; what the
application's own code raises stays its traceback.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from chansock.channel import ChannelSocket
from chansock.cli.status import NotStarted

__all__ = ["load_channel", "load_fallback"]


def load_channel(text: str, *, app_dir: str, is_factory: bool) -> ChannelSocket:
    """Import `module:attribute`; with is_factory, call what stands there.

    Raises NotStarted if it names no ChannelSocket, and whatever the module raises.
    """
    found = _load(text, app_dir)
    if is_factory:
        if not callable(found):
            raise NotStarted(f"expected a function at {text!r} (--factory), got {_kind(found)}")
        found = found()
    if isinstance(found, ChannelSocket):
        return found
    raise NotStarted(f"expected a ChannelSocket at {text!r}, got {_kind(found)}{_hint(found)}")


def load_fallback(text: str, *, app_dir: str) -> Callable[..., Any]:
    """Import the function that answers other paths. Raises NotStarted if it is none."""
    found = _load(text, app_dir)
    if not callable(found):
        raise NotStarted(f"--fallback: expected a function at {text!r}, got {_kind(found)}")
    return found  # type: ignore[no-any-return]


def _load(text: str, app_dir: str) -> Any:
    name, _, path = text.partition(":")
    if not name or not path or name.startswith("."):
        raise NotStarted(f"expected an import string like 'app:chsk', got {text!r}")
    folder = os.path.abspath(app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # "a.b" may lack "a" as well; another name is missing within the application
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise NotStarted(
            f"could not import module {name!r}: no module named {error.name!r} in {folder}"
        ) from None
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise NotStarted(f"attribute {path!r} not found in module {name!r}") from None
    return found


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    return f"a {type(value).__name__}"


def _hint(value: object) -> str:
    if getattr(value, "lifespan", None) is not None or hasattr(value, "router"):
        return ": an ASGI application runs under uvicorn, with chansock.asgi"
    if inspect.isroutine(value):
        return ": a function that makes one needs --factory"
    return ""
