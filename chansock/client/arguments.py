"""What an application may pass to `send` and `on`: ids and time-outs.

Checks alone, done before anything is sent or kept. No state, no transport.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from chansock import edn
from chansock._core import event
from chansock.client.handlers import ANY
from chansock.errors import EncodeError, InvalidEvent
from chansock.values import Keyword

__all__ = ["check_close_code", "check_event", "check_handled_id", "check_timeout"]

# Of the channel's own events, those that reach a handler.
OWN_EVENTS: Final = frozenset({"chsk/handshake", "chsk/state", "chsk/ws-ping"})


def check_event(event_id: str, data: object) -> list[object]:
    """Return the event to send: `[:id]` if data is NO_DATA, else `[:id data]`.

    Raises InvalidEvent for an id that `_check_id` refuses.
    """
    return [*event.event_of(_check_id(event_id), data)]


def _check_id(event_id: str) -> Keyword:
    """Return the id of an event to send as a Keyword.

    Raises InvalidEvent unless it is a namespaced keyword outside `chsk` that edn can spell.
    """
    if not isinstance(event_id, str):
        raise InvalidEvent(f"expected an event id (str), got {event_id!r:.80}")
    return _spelled(event_id)


def check_handled_id(event_id: str) -> str:
    """Return the id of an event to handle: what `check_event` takes, OWN_EVENTS, and ANY."""
    if isinstance(event_id, str):
        if event_id == ANY:
            return event_id
        if event_id in OWN_EVENTS:
            return Keyword(event_id)
        if event_id.startswith("chsk/"):
            known = ", ".join(sorted(OWN_EVENTS))
            raise InvalidEvent(f"expected one of {known}, or none in chsk, got {event_id!r:.80}")
    return _check_id(event_id)


def check_timeout(timeout: float | None) -> float | None:
    """Return the seconds to wait for a reply. Raises InvalidEvent unless None or above 0."""
    if timeout is None:
        return None
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not timeout > 0:  # nan is not above 0 either
        raise InvalidEvent(f"timeout: expected a positive number of seconds, got {timeout!r:.80}")
    return timeout


def check_close_code(code: int) -> int:
    """Return the code. Raises ValueError unless an application may close with it."""
    is_code = isinstance(code, int) and not isinstance(code, bool)
    if not is_code or not (code == 1000 or 3000 <= code <= 4999):
        raise ValueError(f"close code: expected 1000, or 3000 to 4999, got {code!r:.80}")
    return code


@lru_cache(maxsize=1024)  # an application has few ids; those made from input must not pile up
def _spelled(event_id: str) -> Keyword:
    keyword = event.check_id(event_id)
    try:
        edn.dumps(keyword)
    except EncodeError as exc:
        raise InvalidEvent(f"event id: {exc}") from None
    return keyword
