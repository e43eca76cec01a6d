"""What the engine for Redis and Valkey counts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RedisStats"]


@dataclass(slots=True)
class RedisStats:
    """Counters since `open`, and how things stand; times in seconds."""

    engine_state: str = "closed"  # closed, down, or up
    engine_lag: float = 0.0  # of the last beat, from the write to its reply
    unstored_bytes: int = 0
    subscriptions: int = 0
    batches: int = 0  # calls of the script that stored something
    batches_repeated: int = 0  # sent again, since their fate was unknown or they were lost
    repeats_dropped: int = 0  # entries that this node had delivered before
    caught_up: int = 0  # entries that were read after a break
    epochs: int = 0  # how often the engine was found to be another, empty, or older
    leases_ended: int = 0  # nodes that were cleared up by this one
    entries_refused: int = 0  # that could not be parsed
