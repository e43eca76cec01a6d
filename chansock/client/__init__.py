"""The Python client of a channel socket: `connect`, and what it gives.

Imports the words, the engine's frames and the codecs; no server, hub or face. The modules
inside: client (face and state machine), socket and ajax (the two transports, with posts and
http below the latter), and the pure ones: state, backoff, keepalive, address, cookies, joiner,
packets, pending, inbox.
"""

from __future__ import annotations

import random
import ssl as ssl_module
import uuid

from chansock import packers
from chansock.client import backoff as backoffs
from chansock.client import inbox, keepalive
from chansock.client import link as links
from chansock.client.address import Address, Pairs, check_headers, check_params, check_token
from chansock.client.client import Client, Source, StateHandler, Transport
from chansock.client.packets import Event
from chansock.client.state import Reason, State
from chansock.errors import ConfigError

__all__ = ["Client", "Event", "Reason", "State", "StateHandler", "connect"]

MAX_CLIENT_ID_LENGTH = 256  # characters: what a server takes


def connect(
    url: Source[str],
    *,
    transport: Transport = "auto",
    packer: links.Packer | None = None,
    headers: Source[Pairs | None] = None,
    params: Source[Pairs | None] = None,
    csrf_token: Source[str | None] = None,
    client_id: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    connect_timeout: float = links.CONNECT_TIMEOUT,
    close_timeout: float = links.CLOSE_TIMEOUT,
    ajax_timeout: float = links.AJAX_TIMEOUT,
    ws_ping_interval: float = keepalive.PING_INTERVAL,
    ws_ping_timeout: float = keepalive.PING_TIMEOUT,
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

    Raises ConfigError for a setting that cannot be; connects only inside `async with`.
    """
    if transport not in ("auto", "ws", "ajax"):
        raise ConfigError(f'transport: expected "auto", "ws" or "ajax", got {transport!r}')
    if not callable(url):
        Address.parse(url)
    if not callable(headers):
        headers = check_headers(headers)
    if not callable(params):
        params = check_params(params)
    if not callable(csrf_token):
        check_token(csrf_token)
    if client_id is None:
        client_id = str(uuid.uuid4())
    elif not isinstance(client_id, str) or not 1 <= len(client_id) <= MAX_CLIENT_ID_LENGTH:
        raise ConfigError("client_id: expected a str of 1 to 256 characters, got another")
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
        if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
            raise ConfigError(f"{name}: expected a positive number, got {number!r:.80}")
    settings = links.Settings(
        packer=packers.EDN() if packer is None else packer,
        ssl=ssl,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        ajax_timeout=ajax_timeout,
        ws_ping_interval=ws_ping_interval,
        ws_ping_timeout=ws_ping_timeout,
        max_message_bytes=max_message_bytes,
        max_inbox_events=max_inbox_events,
    )
    return Client(
        url,
        settings,
        transport=transport,
        headers=headers,
        params=params,
        csrf_token=csrf_token,
        client_id=client_id,
        backoff=backoffs.Backoff(max_backoff, random.random),
    )
