"""The Python client of a channel socket: `connect`, `connect_sync`, and what they give.

Uses the words, the engine and the codecs; knows no server, hub or face. Inside: `client`
(face and state machine, with watch and beside); the two transports, `socket` (with dial,
pinger and backlog) and `ajax` (with posts and http); `inbox` and `pending`, what waits; `sync`
(with threads), the face for code that waits; the rest is pure.
"""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable

from chansock import packers
from chansock._fast.packet import adapt
from chansock.client import backoff as backoffs
from chansock.client import inbox, keepalive
from chansock.client import link as links
from chansock.client.address import Pairs, TokenPlace
from chansock.client.client import Client, Transport
from chansock.client.credentials import Credentials, Source
from chansock.client.packets import Event
from chansock.client.state import Close, Reason, State, WsClose, WsError
from chansock.client.sync import SyncClient, in_sync
from chansock.client.watch import StateHandler
from chansock.errors import ConfigError

__all__ = [
    "Client",
    "Close",
    "Event",
    "Reason",
    "State",
    "StateHandler",
    "SyncClient",
    "WsClose",
    "WsError",
    "connect",
    "connect_sync",
]


def connect(
    url: Source[str],
    *,
    transport: Transport = "auto",
    packer: packers.Packer | None = None,
    headers: Source[Pairs | None] = None,
    params: Source[Pairs | None] = None,
    csrf_token: Source[str | None] = None,
    csrf_token_in: TokenPlace = "param",
    client_id: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    connect_timeout: float = links.CONNECT_TIMEOUT,
    close_timeout: float = links.CLOSE_TIMEOUT,
    ajax_timeout: float = links.AJAX_TIMEOUT,
    ws_ping_interval: float | None = keepalive.PING_INTERVAL,
    ws_ping_timeout: float = keepalive.PING_TIMEOUT,
    backoff: Callable[[int], float] | None = None,
    max_backoff: float = backoffs.MAX_DELAY,
    max_message_bytes: int = links.MAX_MESSAGE_BYTES,
    max_inbox_events: int = inbox.MAX_EVENTS,
) -> Client:
    """Make a client of the channel at `url` (ws, wss, http or https; all mean the same place).

        async with connect("ws://localhost:8000/chsk") as client:
            print(await client.send("math/double", 21, timeout=5))

    `transport` "auto" tries a WebSocket, and goes on with Ajax if none opens. `url`, `headers`,
    `params` and `csrf_token` are values, or functions (plain or async) that are called anew for
    each attempt. `packer` must be the server's; edn by default. `client_id` names this process
    to the server, across reconnects; random by default, and best kept secret. Times in seconds.
    `ws_ping_interval` None: never ping. `backoff(n)` gives the seconds before the n-th attempt
    (2, 3, ...; the first after a close is made at once); Sente's by default, up to `max_backoff`.

    `csrf_token_in` says where a WebSocket's request carries the token: "param" in the URL, as
    Sente's clients do, where access logs show it; "header"; or "subprotocol", as a page has to
    that wants to keep it out of them, which Sente's own server does not look at.

    The client stops reading while `max_inbox_events` events wait to be handled or taken, or while
    their data holds 64 MiB in memory.

    Raises ConfigError for a setting that cannot be; connects only inside `async with`.
    """
    if transport not in ("auto", "ws", "ajax"):
        raise ConfigError(f'transport: expected "auto", "ws" or "ajax", got {transport!r}')
    credentials = Credentials(
        url,
        headers=headers,
        params=params,
        csrf_token=csrf_token,
        csrf_token_in=csrf_token_in,
        client_id=client_id,
    )
    if backoff is not None and not callable(backoff):
        raise ConfigError(f"backoff: expected a function of the attempt, got {backoff!r:.80}")
    for name, number in (
        ("connect_timeout", connect_timeout),
        ("close_timeout", close_timeout),
        ("ajax_timeout", ajax_timeout),
        ("ws_ping_interval", ws_ping_interval),
        ("ws_ping_timeout", ws_ping_timeout),
        ("max_backoff", max_backoff),
        ("max_message_bytes", max_message_bytes),
        ("max_inbox_events", max_inbox_events),
    ):
        if number is None and name == "ws_ping_interval":
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
            raise ConfigError(f"{name}: expected a positive number, got {number!r:.80}")
    settings = links.Settings(
        packer=adapt(packers.EDN() if packer is None else packer),
        ssl=ssl,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        ajax_timeout=ajax_timeout,
        ws_ping_interval=ws_ping_interval,
        ws_ping_timeout=ws_ping_timeout,
        max_message_bytes=max_message_bytes,
        max_inbox_events=max_inbox_events,
    )
    return Client(credentials, settings, backoffs.Backoff(max_backoff, given=backoff), transport)


connect_sync = in_sync(connect)
