"""The settings of a ChannelSocket: frozen dataclasses, each default with its reason.

Seconds and bytes throughout. A field stands here only if it has an effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import wraps
from ipaddress import ip_network
from math import isfinite
from typing import Any, TypeVar

from chansock.errors import ConfigError

__all__ = ["Compression", "Config"]

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB


def _refuses_unknown(cls: type[T]) -> type[T]:
    """Raise ConfigError, with the nearest name, for a setting that does not exist."""
    make = cls.__init__

    @wraps(make)
    def __init__(self: T, *args: Any, **settings: Any) -> None:
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in settings:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"{near[0]!r}" if near else f"a setting of {cls.__name__}"
                raise ConfigError(f"{cls.__name__}: expected {hint}, got {name!r:.80}")
        make(self, *args, **settings)

    cls.__init__ = __init__  # type: ignore[method-assign, assignment]
    return cls


@_refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compression:
    """permessage-deflate (RFC 7692) on WebSockets, for `Config.compression`.

    Every message that we send is deflated by itself, without reference to those before it:
    a broadcast is deflated once for all, and no connection owns a compressor. Deflating is
    done in the loop, and takes it some 10 us for each KiB (bench/deflate_settings.py). A client
    that does not offer it (chansock's own in Python) is spoken to as without.

    Attributes:
        window_bits: 9 to 15: how far back a message refers to itself. 12 is 4 KiB, since pushes
            are mostly shorter.
        memory_level: 1 to 9, as zlib's. With 12 window bits, 5 takes 32 KiB for each stream.
        level: 1 to 9, as zlib's. 1 is quicker, for up to a third more bytes.
        threshold: Shorter messages, in bytes, are sent plain: they would gain little.
        client_takeover: Clients may refer to their earlier messages, which are then smaller. Up
            to 32 KiB are kept for each connection; 4 KiB (by `window_bits`) if the client agrees.
    """

    window_bits: int = 12
    memory_level: int = 5
    level: int = 6
    threshold: int = 256
    client_takeover: bool = False

    def __repr__(self) -> str:
        return _changed(self)

    def __post_init__(self) -> None:
        for name, least, most in _COMPRESSION_RANGES:
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(f"{name}: expected an int, {least} to {most}, got {value!r}")
        if not isinstance(self.client_takeover, bool):
            raise ConfigError(f"client_takeover: expected a bool, got {self.client_takeover!r}")


_COMPRESSION_RANGES = (
    ("window_bits", 9, 15),  # zlib can deflate into no window of 8 bits
    ("memory_level", 1, 9),
    ("level", 1, 9),
    ("threshold", 0, 2**31),
)


@_refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config:
    """Limits and times of one ChannelSocket, in seconds and bytes.

    Raises ConfigError if a value has the wrong type or range.

    Attributes:
        ws_ping_interval: A WebSocket that sent nothing for so long is pinged. Sente's real
            interval: its option of 25 s, halved.
        ws_ping_timeout: A pinged WebSocket that sends nothing for so long is closed. None: never.
        poll_timeout: A long poll without events is answered after this. 20 s is below the 30 s
            idle limit of common proxies.
        flush_delay_ajax: Events for a poll are gathered for so long, since each answer costs a
            request.
        post_order_wait: POSTs that overtook another wait so long for it.
        compression: True, or a Compression: permessage-deflate on WebSockets. It costs CPU. If a
            peer can choose a part of a message, its size tells of secrets beside it (CRIME,
            BREACH).
        flush_delay_ws: Events for a WebSocket are gathered for so long. 0: to the end of the
            loop's turn, which is no delay when idle and makes batches when busy.
        grace_ws: A session outlives its WebSocket by this: longer than a reload takes.
        grace_ajax: A session outlives its poll by this: longer than the way to the next poll.
        handshake_timeout: Limit for a request's head, and again for its hooks.
        body_timeout: Limit for a POST's body.
        http_idle_timeout: A kept connection may be idle so long between requests (nginx's
            default), and a peer may take nothing of an answer for so long.
        close_timeout: Limit for the peer's close frame.
        stop_timeout: Limit of a stop: events that were taken are handled within it.
        max_message_bytes: One packet, decoded. Past it a WebSocket closes with 1009, and a POST
            gets 413.
        max_empty_fragments: Empty frames in succession, which no size limits. Past it: 1008.
        max_head_bytes: Request line and fields. Past it: 431.
        max_header_fields: Number of fields. Past it: 431.
        max_inbox_events: Events of one session that are not handled yet. Past it, its socket is
            not read.
        max_inbox_bytes: The same in bytes: packets behind a handler that waits, and the values of
            events whose handlers wait. A single value may be larger; nothing is taken beside it.
        max_total_incoming_bytes: What all connections hold that is not taken yet: incomplete
            bodies and messages, messages without room in an inbox, and requests whose hooks wait.
            Past it, the connections that hold most end first, with 503 or 1013.
        max_backlog_bytes: What waits to go out to one session. Past it, the session is cut (1013).
        max_backlog_events: The same, in events.
        max_total_backlog_bytes: What waits to go out in all. Past it, sessions are cut until 1/32
            of it is free, those first whose cut frees the most.
        max_clients_per_user: Client-ids of one user, in grace too. Past it: 503. Each may have 8
            sockets or polls besides its newest, displaced by newer ones; past that, the oldest is
            closed (1008; a poll: 503).
        max_connections: Sockets, parked requests, and sessions in grace. Past it: 503. chansock's
            own server also counts connections from accept on. Past three quarters of the limit,
            it closes a connection after its answer; past the limit, it refuses a body that is
            still to come; 64 connections further on, it closes new ones at once. An Ajax client
            may have two connections. None: no limit.
        max_threads: Threads of handlers with `thread=True`.
        resume: Clients of chansock that come back within the retention have missed nothing: see
            docs/delivery.md. False: nothing is kept, and they are served as Sente's.
        keep_events: Events of one target that are kept for clients that come back.
        keep_seconds: Events, and records of clients without a session, are kept for so long.
        keep_bytes: The memory of all events that are kept. The replies that are kept until a
            client has them, and the records of clients, are limited to as much again, each.
        allowed_origins: Pages that may connect. None: those of the same origin as Host. Entries
            are origins like `https://a.example:8443`; `https://*.a.example` for subdomains of any
            depth; "self" for the same origin besides the others; "*" for any.
        allowed_hosts: Names that Host may have, in lower case, without port. None: on a loopback
            address its names only (against DNS rebinding), else any.
        trusted_proxies: Addresses and networks of proxies, whose `trusted_headers` are believed.
        trusted_headers: The fields that these proxies write themselves, of X-Forwarded-For,
            X-Forwarded-Proto, X-Forwarded-Host, and Forwarded. A proxy passes on what it doesn't
            write: a client's own words.

    What waits to go out counts as the memory that it takes. For one session, an event counts as
    its encoded bytes and 192 for the objects around them, a reply as its bytes and 224, and what
    the session's socket holds because the peer doesn't read it as its bytes. For the total of all
    sessions, an event that waits for many counts once: sessions for which the same events wait
    share them, and each adds 16 bytes. Sessions for which other events wait besides add 96 bytes
    for each event that they have in common.
    """

    ws_ping_interval: float = 12.5
    ws_ping_timeout: float | None = 10.0
    poll_timeout: float = 20.0
    flush_delay_ajax: float = 0.1
    post_order_wait: float = 1.0
    compression: bool | Compression = False
    flush_delay_ws: float = 0.0
    grace_ws: float = 2.5
    grace_ajax: float = 5.0
    handshake_timeout: float = 5.0
    body_timeout: float = 20.0
    http_idle_timeout: float = 75.0
    close_timeout: float = 5.0
    stop_timeout: float = 10.0
    max_message_bytes: int = 1 * MIB
    max_empty_fragments: int = 100
    max_head_bytes: int = 16 * KIB
    max_header_fields: int = 100
    max_inbox_events: int = 32
    max_inbox_bytes: int = 2 * MIB
    max_total_incoming_bytes: int = 64 * MIB  # 20 bodies of the largest size, percent-encoded
    max_backlog_bytes: int = 1 * MIB
    max_backlog_events: int = 1000
    max_total_backlog_bytes: int = 256 * MIB
    max_clients_per_user: int = 100
    max_connections: int | None = None
    max_threads: int = 32
    resume: bool = True
    keep_events: int = 100
    keep_seconds: float = 120.0
    keep_bytes: int = 64 * MIB
    allowed_origins: tuple[str, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = None
    trusted_proxies: tuple[str, ...] = ()
    trusted_headers: tuple[str, ...] = ("X-Forwarded-For", "X-Forwarded-Proto")

    def __repr__(self) -> str:
        return _changed(self)

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        if self.max_message_bytes > self.max_inbox_bytes:
            raise ConfigError(
                f"max_inbox_bytes: expected at least max_message_bytes "
                f"({self.max_message_bytes}), got {self.max_inbox_bytes}"
            )
        if self.max_message_bytes > self.max_total_incoming_bytes:
            raise ConfigError(
                f"max_total_incoming_bytes: expected at least max_message_bytes "
                f"({self.max_message_bytes}), got {self.max_total_incoming_bytes}"
            )


def _changed(settings: Config | Compression) -> str:
    """Show the fields that differ from their defaults: `Config(max_threads=4)`."""
    values = [(field, getattr(settings, field.name)) for field in fields(settings)]
    shown = [f"{field.name}={value!r}" for field, value in values if value != field.default]
    return f"{type(settings).__name__}({', '.join(shown)})"


# As they are compared: in full, so that one that could never match is told at once.
_SHAPES = {
    "allowed_origins": (
        re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?[^/?#\s*]+"),
        "https://a.example:8443 or https://*.a.example",
    ),
    "allowed_hosts": (re.compile(r"[^A-Z:/\s]+|[0-9a-f:]+"), "a.example (lower case, no port)"),
}
_FORWARDING_FIELDS = {
    name.lower(): name
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
}
_MAY_BE_NONE = {"ws_ping_timeout", "max_connections", "allowed_origins", "allowed_hosts"}
_MAY_BE_ZERO = {"flush_delay_ajax", "flush_delay_ws", "post_order_wait", "grace_ws", "grace_ajax"}


def _check(name: str, value: object) -> None:
    if value is None and name in _MAY_BE_NONE:
        return
    if name == "compression":
        if not isinstance(value, bool | Compression):
            raise ConfigError(f"{name}: expected a bool or a Compression, got {value!r}")
        return
    if name in ("allowed_origins", "allowed_hosts", "trusted_proxies", "trusted_headers"):
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{name}: expected a tuple of str, got {value!r}")
        if name == "trusted_proxies":
            _check_networks(value)
            return
        if name == "trusted_headers":
            for item in value:
                if item.lower() not in _FORWARDING_FIELDS:
                    expected = ", ".join(_FORWARDING_FIELDS.values())
                    raise ConfigError(f"{name}: expected names of {expected}, got {item!r}")
            return
        shape, example = _SHAPES[name]
        for item in value:
            is_word = item == "*" or (item == "self" and name == "allowed_origins")
            if not is_word and not shape.fullmatch(item):
                raise ConfigError(f"{name}: expected names like {example}, got {item!r}")
        return
    if name == "resume":
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: expected a bool, got {value!r}")
        return
    is_count = name.startswith("max_") or name in ("keep_events", "keep_bytes")
    kinds = int if is_count else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(
            f"{name}: expected {'an int' if kinds is int else 'a number'}, got {value!r}"
        )
    if not isfinite(value):
        raise ConfigError(f"{name}: expected a finite number, got {value!r}")
    if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise ConfigError(f"{name}: expected a positive number, got {value!r}")


def _check_networks(items: tuple[str, ...]) -> None:
    for item in items:
        try:
            ip_network(item)
        except ValueError as error:
            raise ConfigError(
                f"trusted_proxies: expected addresses or networks like 10.0.0.0/8: {error}"
            ) from None
