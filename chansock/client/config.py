"""The settings of a client: one frozen dataclass, each default with its reason.

Seconds and bytes throughout. Where the server has the same limit, the name is that of `Config`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Final

from chansock.client.backoff import MAX_DELAY
from chansock.client.keepalive import PING_INTERVAL, PING_TIMEOUT
from chansock.errors import ConfigError

__all__ = ["ClientConfig", "nearest"]

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Limits and times of one client.

    - connect_timeout: for address, proxy, TLS, and handshake of one attempt
    - close_timeout: wait this long for the server's close frame
    - ajax_timeout: a POST without an answer fails after this; a poll is sent again, and the
      second one without an answer closes the channel
    - ws_ping_interval: ping if nothing was received for this long; None: never ping
    - ws_ping_timeout: close if nothing is received within this time after a ping
    - max_backoff: the longest wait between two attempts, and between polls without an event
    - max_message_bytes: the largest message, or body of an HTTP response, that is read
    - max_empty_fragments: fragments of a message in succession that hold no byte
    - max_inbox_events: stop reading while so many events wait for a handler or for `async for`,
      or while so many coroutines of `on_state` run
    - max_inbox_bytes: the same, for the memory that the data of these events holds
    - max_backlog_bytes: `send` waits while the socket's write buffer holds more
    - max_posts: POSTs under way at once over Ajax; further ones wait

    Raises ConfigError for a field that does not exist, or whose type or range is wrong.
    """

    connect_timeout: float = 10.0  # after which Sente's client gives up a hanging WebSocket
    close_timeout: float = 5.0  # as Config's
    ajax_timeout: float = 60.0  # Sente's; a server's poll_timeout must lie well below
    ws_ping_interval: float | None = PING_INTERVAL
    ws_ping_timeout: float = PING_TIMEOUT
    max_backoff: float = MAX_DELAY
    # A server sends all that waits for a client as one batch: well past its 1 MiB of backlog.
    max_message_bytes: int = 16 * MIB
    max_empty_fragments: int = 100  # as Config's
    max_inbox_events: int = 1000  # Sente keeps 512 and then drops the oldest; we stop reading
    max_inbox_bytes: int = 64 * MIB  # four messages of the largest size
    max_backlog_bytes: int = 64 * KIB  # asyncio's own limit
    max_posts: int = 4  # a held reply keeps no later event back

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean 'x'?` if a known name is like this one, else all of them."""
    names = list(known)
    if found := difflib.get_close_matches(name, names, 1):
        return f": did you mean {found[0]!r}?"
    return f", expected one of {', '.join(names)}"


def _check(name: str, value: object) -> None:
    if value is None and name == "ws_ping_interval":
        return
    kinds = int if name.startswith("max_") and name != "max_backoff" else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        what = "an int" if kinds is int else "a number"
        raise ConfigError(f"{name}: expected {what}, got {value!r:.80}")
    if not isfinite(value) or value <= 0:
        raise ConfigError(f"{name}: expected a positive number, got {value!r:.80}")


def _refuse_unknown(init: Any) -> Any:
    names = [field.name for field in fields(ClientConfig)]

    @functools.wraps(init)
    def checked(self: ClientConfig, *args: object, **given: object) -> None:
        for name in given:
            if name not in names:
                raise ConfigError(f"ClientConfig: unknown field {name!r}{nearest(name, names)}")
        init(self, *args, **given)

    return checked


ClientConfig.__init__ = _refuse_unknown(ClientConfig.__init__)  # type: ignore[method-assign]
