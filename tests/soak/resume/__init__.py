"""A soak of resume: every kept event once and in order, whatever breaks on the way.

`run` starts a server (`server`, a process of its own on chansock), a proxy that breaks
connections (`proxy`), and clients of several kinds: raw ones by the wire's own description (`raw`,
`raw_ws`, `raw_ajax`), chansock's for Python (`clients`), for Node (`clients.mjs`), and for
browsers (`pages`). `account` holds what each client got, and what the server's handlers
got, against what was sent. `rules` switches one rule of the server off, so that a soak shows
what the rule is for. What all sides must agree on stands here.

Server to client, each event with its place `g` among all that the server sent, and its number
`n` among those of its kind to this target:

    :s/u [g n pad]   to a user             :s/b [g n pad]   to all
    :s/c [g n pad]   to one client
    :s/l [g n pad]   to a user; only the latest counts
    :s/k [g n pad]   to a user; not kept: one may be missing

Client to server, numbered k = 1, 2, 3 ... by each client:

    :c/e [k pad]     no reply              :c/q [k x]   answered [k x+1] at once
    :c/w [k x]       answered after a wait, in its turn: it counts as handled at the end
    :c/p [k x]       the same, beside the next ones
    :c/l [k x]       answered LATER, when its handler is over

The handshake's data is the map of `n` by kind at that time.
"""

from __future__ import annotations

KINDS = ("u", "b", "c", "l", "k")
WHOLE = ("u", "b", "c")  # kinds of which each event must come
ASKS = ("q", "w", "p", "l")
LIFE = 10**9  # numbers of the server's second process begin here, of the third at twice this

USERS = 8
KEEP_EVENTS = 1500
KEEP_SECONDS = 20.0
REPLY_TIMEOUT = 30.0  # within which every reply must come

# Settings of Config: short times and small limits, so that each is met again and again.
SETTINGS = {
    "ws_ping_interval": 3.0,
    "ws_ping_timeout": 2.0,
    "poll_timeout": 5.0,
    "flush_delay_ajax": 0.03,
    "post_order_wait": 0.5,
    "grace_ws": 1.0,
    "grace_ajax": 2.0,
    "close_timeout": 0.5,
    "stop_timeout": 1.5,
    "http_idle_timeout": 8.0,
    "max_backlog_events": 300,
    "keep_events": KEEP_EVENTS,
    "keep_seconds": KEEP_SECONDS,
    "allowed_origins": ("*",),
}


def user_of(client_id: str) -> str:
    """The user of a client: `u3.raw-1` belongs to u3."""
    return client_id.partition(".")[0]
