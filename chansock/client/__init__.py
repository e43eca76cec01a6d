"""The Python client of a channel socket: `connect`, `connect_sync`, and what they return.

Uses the words, the engine, and the codecs; knows no server or hub. Inside:

    arguments               what an application passes, checked
    attempt                 what the requests of one attempt carry
    client                  the face, and the state machine behind it
    socket, websocket       one transport: a WebSocket
    ajax, http              the other: polls and POSTs; http also dials
    resume                  what outlives a connection: position, numbers, unacknowledged events
    packets, inbox          what packets mean; events that wait, and their handlers
    state, timing           what all of these share; when to try, poll, and ping again
    sync, threads           the face for code that waits
"""

from __future__ import annotations

import inspect
import ssl as ssl_module
from collections.abc import Callable
from dataclasses import fields
from typing import Final, Never

from chansock import packers
from chansock._fast.events.packet import adapt
from chansock.client.arguments import ClientConfig, ProxySetting, nearest
from chansock.client.attempt import Credentials, Pairs, Source, TokenPlace
from chansock.client.client import Client, Transport
from chansock.client.packets import Event
from chansock.client.resume import Resume
from chansock.client.state import Close, Reason, Settings, State, StateHandler, WsClose, WsError
from chansock.client.sync import SyncClient, in_sync
from chansock.client.timing import Backoff
from chansock.errors import ConfigError

__all__ = [
    "Client",
    "ClientConfig",
    "Close",
    "Event",
    "ProxySetting",
    "Reason",
    "State",
    "StateHandler",
    "SyncClient",
    "WsClose",
    "WsError",
    "connect",
    "connect_sync",
]

_TEXT_TYPES: Final = (
    (packers.EDN, "application/edn"),
    (packers.JSON, "application/json"),
    (packers.Transit, "application/transit+json"),
)


def connect(
    url: Source[str],
    config: ClientConfig | None = None,
    *,
    transport: Transport = "auto",
    packer: packers.Packer | None = None,
    headers: Source[Pairs | None] = None,
    params: Source[Pairs | None] = None,
    csrf_token: Source[str | None] = None,
    csrf_token_in: TokenPlace = "param",
    client_id: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    proxy: ProxySetting = True,
    backoff: Callable[[int], float] | None = None,
    resume: bool = True,
    **unknown: Never,
) -> Client:
    """Make a client of the channel at `url` (ws, wss, http or https; all mean the same place).

        async with connect("ws://localhost:8000/chsk") as client:
            print(await client.send("math/double", 21, timeout=5))

    `client = await connect(...)` opens it, too; close it with `await client.close()`.

    - config: limits and times, see ClientConfig
    - transport: "auto" tries a WebSocket, and goes on with Ajax if none opens
    - packer: must be the server's; edn by default
    - headers, params, csrf_token, url: values, or functions (plain or async) that are called
      anew for each attempt
    - csrf_token_in: where a WebSocket's request carries the token: "param" in the URL, as Sente's
      clients do, where access logs show it; "header"; or "subprotocol", as a page has to that
      wants to keep it out of them, which Sente's own server does not look at
    - client_id: names this process to the server, across reconnects; random by default, and best
      kept secret
    - proxy: True reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as urllib.request does;
      or "http://host:port", or "socks5://host:port" or "socks5h://host:port" (the proxy resolves
      names; both need `pip install 'chansock[socks]'`); None: no proxy
    - backoff: backoff(n) returns the seconds before the n-th attempt (2, 3, ...; the first after
      a close is made at once). By default Sente's, up to config.max_backoff; if the server seems
      to restart (close code 1012, status 503, connection refused), two attempts are made after
      0.3 to 1 s each before it begins
    - resume: go on after a reconnect where the connection broke, if the server can do it; see
      `State.resumed`

    The client stops reading while max_inbox_events events wait to be handled or taken, or while
    their data holds max_inbox_bytes in memory.

    Raises ConfigError for a setting that cannot be; connects only when it is opened.
    """
    for name in unknown:
        raise _unknown_option(name)
    if config is None:
        config = ClientConfig()
    elif not isinstance(config, ClientConfig):
        raise ConfigError(f"config: expected a ClientConfig, got {config!r:.80}")
    if transport not in ("auto", "ws", "ajax"):
        raise ConfigError(f'transport: expected "auto", "ws" or "ajax", got {transport!r}')
    credentials = Credentials(
        url,
        headers=headers,
        params=params,
        csrf_token=csrf_token,
        csrf_token_in=csrf_token_in,
        client_id=client_id,
        proxy=proxy,
    )
    if backoff is not None and not callable(backoff):
        raise ConfigError(f"backoff: expected a function of the attempt, got {backoff!r:.80}")
    if not isinstance(resume, bool):
        raise ConfigError(f"resume: expected a bool, got {resume!r:.80}")
    packer = packers.EDN() if packer is None else packer
    settings = Settings(packer=adapt(packer), text_type=_text_type(packer), ssl=ssl, config=config)
    pauses = Backoff(config.max_backoff, given=backoff)
    kept = Resume(
        is_wanted=resume,
        max_events=config.max_unacked_events,
        max_bytes=config.max_unacked_bytes,
    )
    return Client(credentials, settings, pauses, transport, kept)


def _text_type(packer: packers.Packer) -> str | None:
    """Return the content type of a packer's text; None for a packer that is none of ours."""
    for kind, content_type in _TEXT_TYPES:
        if isinstance(packer, kind):
            return content_type
    return None


def _unknown_option(name: str) -> ConfigError:
    limits = [field.name for field in fields(ClientConfig)]
    if name in limits:
        return ConfigError(
            f"connect: {name} is a field of ClientConfig: config=ClientConfig({name}=...)"
        )
    known = [*inspect.signature(connect).parameters][:-1]
    return ConfigError(f"connect: unknown option {name!r}{nearest(name, [*known, *limits])}")


connect_sync = in_sync(connect)
