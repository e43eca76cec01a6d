"""What a channel has counted, as one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Lost", "Stats"]


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that were accepted and dropped before they were written, by reason.

    A client that resumes may still get them, from what is kept: then they count as sent and
    written once more.
    """

    too_slow: int = 0  # more waited for the session than max_backlog_*
    budget: int = 0  # more waited for all than max_total_backlog_bytes
    grace: int = 0  # the session did not come back in time
    stopped: int = 0  # the channel was stopped
    moved: int = 0  # its client has gone to another process, which has them
    missed: int = 0  # the session was cut, since others were lost on the way through the engine


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the counters; all but `lag` and `waiting_bytes` only grow.

    sent = written + replaced + lost + what waits still; the rest stands apart.
    """

    sent: int = 0  # one for each event and session that it was meant for
    written: int = 0  # taken by the kernel or the transport, for a connection that was open
    replaced: int = 0  # a newer one with the same `latest` came first
    lost: Lost = field(default_factory=Lost)
    nobody: int = 0  # sends whose target was not connected
    cut: int = 0  # connections that broke: what was written last may not have arrived
    unclaimed: int = 0  # events that no handler and no iterator claimed
    unhandled: int = 0  # events that were taken, and dropped by the stop before their handler began
    reply_lost: int = 0  # replies whose connection was gone, or whose callback id nobody can write
    bad_packet: int = 0  # packets that could not be decoded
    bad_event: int = 0  # packets that held no event
    bad_data: int = 0  # events whose data was not what their handler's annotation asks for
    forged: int = 0  # events in the namespace chsk
    resumed: int = 0  # clients that came back and had missed nothing
    gap: int = 0  # clients that came back and may have missed events
    fresh: int = 0  # clients that came for the first time, of those that resume
    refused: Mapping[str, int] = field(default_factory=dict)  # requests, by reason
    closed: Mapping[int, int] = field(default_factory=dict)  # sockets, by close code
    waiting_bytes: int = 0  # for whom cannot be written to now, as max_total_backlog_bytes counts
    lag: float = 0.0  # seconds that the loop's last wake came late
