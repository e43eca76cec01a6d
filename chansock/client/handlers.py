"""The handlers of a client's events: several for an id, and those for every event.

Registration and look-up only; they are called in `inbox`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from chansock.client.packets import Event

__all__ = ["ANY", "Handler", "Handlers", "check_handler", "close_unstarted"]

Handler: TypeAlias = Callable[[Event], Awaitable[object] | object]

# No event can have this id, for it has no namespace.
ANY: Final = "*"


class Handlers:
    """Handlers by event id, in the order of registration; those of ANY come last.

    ANY stands for all events of the server, not for the channel's own (`chsk/...`).
    """

    __slots__ = ("_entries", "_steady")

    def __init__(self) -> None:
        self._entries: dict[str, list[tuple[Handler, bool]]] = {}  # and whether for one event
        self._steady: dict[str, tuple[Handler, ...]] = {}  # of ids without any for one event

    def add(self, event_id: str, handler: Handler, *, is_once: bool = False) -> None:
        """Add a handler; with `is_once` it is removed at its first event."""
        self._put(event_id, [*self._entries.get(event_id, ()), (handler, is_once)])

    def has(self, event_id: str) -> bool:
        """Return whether this very id has a handler."""
        return event_id in self._entries

    def of(self, event: Event) -> Sequence[Handler]:
        """Return the handlers of an event that is handled now."""
        found = self._take(event.id)
        if ANY in self._entries and not event.id.startswith("chsk/"):
            return [*found, *self._take(ANY)]
        return found

    def _take(self, event_id: str) -> Sequence[Handler]:
        steady = self._steady.get(event_id)
        if steady is not None or event_id not in self._entries:
            return steady or ()
        entries = self._entries[event_id]
        self._put(event_id, [entry for entry in entries if not entry[1]])
        return [handler for handler, _ in entries]

    def _put(self, event_id: str, entries: list[tuple[Handler, bool]]) -> None:
        self._steady.pop(event_id, None)
        self._entries[event_id] = entries
        if not entries:
            del self._entries[event_id]
        elif not any(is_once for _, is_once in entries):
            self._steady[event_id] = tuple(handler for handler, _ in entries)


def close_unstarted(awaitable: object) -> None:
    """Close a coroutine that will not be awaited: Python warns about one that was forgotten."""
    if not inspect.iscoroutine(awaitable):
        return
    if inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        awaitable.close()


def check_handler(name: str, handler: object, argument: str = "event") -> None:
    """Raise TypeError unless the handler can be called with one argument."""
    form = f"def handler({argument}): ..."
    if not callable(handler):
        raise TypeError(f"expected a handler for {name!r}, like {form}, got {handler!r:.80}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # of a builtin that says nothing about itself
        return
    try:
        signature.bind(object())
    except TypeError:
        shown = getattr(handler, "__name__", type(handler).__name__)
        raise TypeError(
            f"expected a handler of one argument for {name!r}, like {form}, got {shown}{signature}"
        ) from None
