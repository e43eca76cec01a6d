"""The settings of a ChannelSocket: frozen dataclasses, each default with its reason.

Seconds and bytes throughout. A field stands here only if it has an effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from ipaddress import ip_network
from math import isfinite

from chansock.errors import ConfigError

__all__ = ["Compression", "Config"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """permessage-deflate (RFC 7692) on WebSockets, for `Config.compression`.

    Every message that we send is deflated by itself, without reference to those before it:
    a broadcast is deflated once for all, and no connection owns a compressor. Deflating is
    done in the loop, and takes it some 10 us for each KiB (bench/deflate_settings.py). A client
    that does not offer it (chansock's own in Python) is spoken to as without.
    """

    window_bits: int = 12  # 9 to 15: how far back, 4 KiB; pushes are mostly shorter
    memory_level: int = 5  # 1 to 9, zlib's; with 12 bits 32 KiB for each stream, not 256
    level: int = 6  # 1 to 9, zlib's; 1 is quicker, for up to a third more bytes
    threshold: int = 256  # bytes; what is shorter would lose some hundred at most, so it goes plain
    # Clients may refer to their earlier messages, which are then smaller; up to 32 KiB of them
    # are kept for each connection, 4 KiB (by window_bits) where the client agrees to that.
    client_takeover: bool = False

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Limits and times of one ChannelSocket.

    What waits to go out counts as the memory that it takes. For one session, an event counts as
    its encoded bytes and 192 for the objects around them, a reply as its bytes and 224, and what
    the session's socket holds because the peer doesn't read it as its bytes. For the total of all
    sessions, an event that waits for many counts once: sessions for which the same events wait
    share them, and each adds 16 bytes. Sessions for which other events wait besides add 96 bytes
    for each event that they have in common.

    Raises ConfigError if a value has the wrong type or range.
    """

    # Keep-alive. Only bytes received are life.
    ws_ping_interval: float = 12.5  # Sente's real window: its 25 s option, halved
    ws_ping_timeout: float | None = 10.0  # Sente's; None: ping, never close
    # Ajax
    poll_timeout: float = 20.0  # below the 30 s idle limit of common proxies; Sente's
    flush_delay_ajax: float = 0.1  # a poll costs a request, so gather a little; Sente's
    post_order_wait: float = 1.0  # a lost POST must not hold back its followers for long
    # WebSocket
    compression: bool | Compression = False  # permessage-deflate: CPU for bytes; and where a
    # peer can choose a part of a message, its size tells of secrets beside it (CRIME, BREACH)
    flush_delay_ws: float = 0.0  # end of the loop's turn: no delay when idle, batches when busy
    # How long a session outlives its connection
    grace_ws: float = 2.5  # Sente's: a reload takes less
    grace_ajax: float = 5.0  # Sente's: a repoll over a slow network takes less
    # Time-outs of a connection
    handshake_timeout: float = 5.0  # a head, and the hooks behind it; slowloris
    body_timeout: float = 20.0  # a POST's body
    http_idle_timeout: float = 75.0  # kept connection between requests; nginx's default. As long
    # may a peer take nothing of an answer that is under way
    close_timeout: float = 5.0  # wait for the peer's close frame
    stop_timeout: float = 10.0  # what was taken is handled within this; then all is closed
    # Sizes of what comes in
    max_message_bytes: int = 1 * MIB  # one packet, decoded; past it 1009, or 413
    max_empty_fragments: int = 100  # in succession, which no size bounds; past it 1008
    max_head_bytes: int = 16 * KIB  # request line and fields; past it 431
    max_header_fields: int = 100  # past it 431
    max_inbox_events: int = 32  # not yet handled, of one session; past it reading stops
    # The same, in bytes: of packets behind a handler that waits, and of what the values of events
    # hold whose handlers wait. A single value may be larger; then nothing is taken beside it.
    max_inbox_bytes: int = 2 * MIB
    # Held for all connections and not taken yet: incomplete bodies and messages, messages without
    # room in an inbox, and requests whose hooks wait. Past it the connections that hold most end
    # first, with 503 or 1013. 20 bodies of the largest size: more come at once in no honest use
    max_total_incoming_bytes: int = 64 * MIB
    # Sizes of what waits to go out, of one session and of all
    max_backlog_bytes: int = 1 * MIB  # past it the session is cut (1013)
    max_backlog_events: int = 1000  # the same, in events
    # Past it sessions are cut until 1/32 of it is free, those first whose cut frees the most
    max_total_backlog_bytes: int = 256 * MIB
    # Numbers of things
    # Client-ids of one uid, in grace too; past it 503. Each may have 8 sockets or polls besides its
    # newest, displaced by newer ones; past that the oldest is closed (1008; a poll: 503)
    max_clients_per_user: int = 100
    # Sockets, parked requests, and sessions in grace; past it 503. chansock's own server also
    # counts connections from accept on. Past three quarters of the limit, it closes a connection
    # after its answer; past the limit, it refuses a body that is still to come; 64 connections
    # further on, it closes new ones at once. An Ajax client may have two connections
    max_connections: int | None = None
    max_threads: int = 32  # of handlers with thread=True
    # Whom to believe
    # None: same origin only; ("*",): any. https://*.a.example: subdomains, of any depth. "self":
    # the same origin besides the others of the list
    allowed_origins: tuple[str, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = (
        None  # None: on a loopback address its names only (DNS rebinding)
    )
    # addresses and networks of proxies; trusted_headers are believed from these alone
    trusted_proxies: tuple[str, ...] = ()
    # The fields that these proxies write themselves, of X-Forwarded-For, X-Forwarded-Proto,
    # X-Forwarded-Host, and Forwarded. A proxy passes on what it doesn't write: a client's own words
    trusted_headers: tuple[str, ...] = ("X-Forwarded-For", "X-Forwarded-Proto")

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
    kinds = int if name.startswith("max_") else int | float
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
