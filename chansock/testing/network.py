"""The network between a World's client and its channel: delays, and lanes that keep order.

A lane carries calls, not bytes: what is put in happens at once, or some seconds of virtual
time later. What a cut does to what is under way is here too; who cuts is the client's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from chansock.errors import ConfigError
from chansock.testing.loop import VirtualTimeLoop

__all__ = ["Delay", "Lane"]


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds that each way takes: `up` to the server, `down` to the client."""

    up: float = 0.0
    down: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up", "down"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
                raise ConfigError(f"{name}: expected seconds of 0 or more, got {seconds!r:.80}")


class Lane:
    """One direction: what is put in comes out later, first in, first out."""

    __slots__ = ("_last", "_loop", "_waiting", "is_dead")

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], object]] = deque()
        self._last = 0.0  # when the last of them comes out
        self.is_dead: bool = False  # swallows what is put in

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting

    def put(self, call: Callable[[], object], delay: float) -> None:
        """Make this call in `delay` seconds, after those before it; at once if there is nothing
        to wait for."""
        if self.is_dead:
            return
        if not delay and not self._waiting:
            call()
            return
        # Each timer takes the first: two that are due at once have no order of their own.
        self._last = max(self._last, self._loop.time() + delay)
        self._waiting.append(call)
        self._loop.call_at(self._last, self._arrive)

    def cut(self) -> None:
        """Drop everything of it, neither what is under way nor what will be put in."""
        self.is_dead = True
        self._waiting.clear()

    def _arrive(self) -> None:
        if self._waiting:
            self._waiting.popleft()()
