"""The rules for events that are sent: what an id and a target must be.

Checked once per `send`. What is received is checked in `_fast/events/dispatch`.
"""

from __future__ import annotations

from functools import lru_cache

from chansock import edn
from chansock._fast.ws.frames import is_close_code
from chansock.errors import EncodeError, InvalidEvent
from chansock.request import is_utf8
from chansock.target import Target, is_user_id
from chansock.values import NO_DATA, Keyword

__all__ = ["check_close", "check_handled_id", "check_id", "check_user_id", "event_of"]


def event_of(keyword: Keyword, data: object) -> tuple[Keyword] | tuple[Keyword, object]:
    """Return the event `[:id]` if data is NO_DATA, else `[:id data]`."""
    return (keyword,) if data is NO_DATA else (keyword, data)


@lru_cache(maxsize=1024)  # an application has few ids; those made from input must not pile up
def check_id(event_id: str) -> Keyword:
    """Return the id of an event to send as a Keyword.

    Raises InvalidEvent unless it is a namespaced keyword outside `chsk`.
    """
    keyword = _namespaced(event_id)
    if event_id.startswith("chsk/"):
        raise InvalidEvent(f"expected an event id outside the namespace chsk, got {event_id!r}")
    return keyword


def check_handled_id(event_id: str) -> Keyword:
    """Return the id of an event to handle as a Keyword; those in `chsk` are allowed."""
    return _namespaced(event_id)


def _namespaced(event_id: str) -> Keyword:
    if not isinstance(event_id, str):
        raise InvalidEvent(f"expected an event id (str), got {event_id!r:.80}")
    namespace, slash, name = event_id.partition("/")
    if not (namespace and slash and name) or namespace.startswith(":"):
        raise InvalidEvent(f'expected a namespaced event id like "chat/say", got {event_id!r:.80}')
    try:
        # As the reader gives it: what is looked up by it is found by its identity.
        keyword: Keyword = edn.loads(edn.dumps(Keyword(event_id)))
    except EncodeError as error:
        raise InvalidEvent(f"expected an event id that edn can spell: {error}") from None
    return keyword


def check_close(code: int, reason: str) -> None:
    """Raise InvalidEvent unless an endpoint may close with this code and reason."""
    is_code = isinstance(code, int) and 1000 <= code <= 4999 and is_close_code(code)
    if not is_code:
        raise InvalidEvent(f"expected a close code that may be sent, got {code!r:.80}")
    if not isinstance(reason, str) or not is_utf8(reason):
        raise InvalidEvent(f"expected a reason (str, without surrogates), got {reason!r:.80}")


def check_user_id(to: Target) -> None:
    """Raise InvalidEvent unless `to` is a user id."""
    if to is None:
        raise InvalidEvent(
            "expected a target, got None; for one client use msg.client, "
            "for all without a user id chansock.ANONYMOUS"
        )
    if not is_user_id(to):
        raise InvalidEvent(
            f"expected a user id (str of 1 to 256 characters, int or UUID), ALL, ANONYMOUS "
            f"or msg.client, got {to!r:.80}"
        )
