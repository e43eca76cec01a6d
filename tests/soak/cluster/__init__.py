"""A soak of several workers behind one engine: the promises of a cluster under faults.

`run` starts the engine (`engine`), the workers (`worker`, one process each), and the clients:
raw ones and Python ones of `soak.resume`, and plain ones (`clients`) that have no position, like
Sente's. Each connection goes through a proxy to a worker chosen by chance. `faults` has what is
done to all of them, `account` judges what each client got, and `rules` switches off one rule of
the workers. What all sides agree on is defined here.

Events are those of `soak.resume`, without `:s/l`. Each start of a worker is a sender with a number
of its own; `g` and `n` of its events begin behind `base(sender)`, so an event names its sender.
"""

from __future__ import annotations

from soak.resume import LIFE
from soak.resume import SETTINGS as RESUME_SETTINGS

__all__ = ["CLIENTS", "GRACE", "KEEP_SECONDS", "KINDS", "LEASE", "RATES", "SETTINGS", "sender_of"]

CLIENTS = 300
CLIENTS_PER_USER = 5
KINDS = ("u", "b", "c")  # kinds of which each event must come
# Events a second of all workers together: to each user, to all, to each client, unkept to a user.
RATES = {"u": 2.0, "b": 1.0, "c": 0.7, "k": 0.5}
LEASE = 10.0
GRACE = 2.0
KEEP_SECONDS = 30.0
SETTINGS = {
    **RESUME_SETTINGS,
    "keep_seconds": KEEP_SECONDS,
    "flush_delay_ajax": 0.4,  # fewer polls: the machine is small
    "grace_ws": GRACE,
    "grace_ajax": GRACE,
}


def sender_of(number: int) -> int:
    """Return the sender of an event with this `g` or `n`."""
    return number // LIFE
