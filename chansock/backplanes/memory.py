"""The engine of one process: logs and records in memory, gone with the process.

`ChannelSocket` makes one for itself. Events are delivered in the turn in which they are sent, so
this engine only numbers and keeps them.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from chansock._core.backplane import MAX_DIGITS, Position
from chansock._fast.events.dispatch import Inbox, Numbers, Replies
from chansock._fast.events.fanout import EventLog, EventLogs, Fragment
from chansock.clock import Clock
from chansock.config import Config
from chansock.errors import ConfigError
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId, _Anonymous

__all__ = ["Memory"]

AROUND_RECORD: Final = 1024  # bytes of a record: an inbox, its numbers, and its place in tables


class Memory:
    """Keeps events for clients that come back, in this process.

    A channel that is stopped and started again goes on with what its engine keeps. One engine
    serves one channel at a time.
    """

    outlives_records = False

    def __init__(self) -> None:
        self._epoch = secrets.randbelow(10**MAX_DIGITS)
        self._events: EventLogs | None = None
        self._replies = Replies(0)
        self._logs: dict[Target, EventLog] = {}
        # Clients without a session, in the order in which their records end, and how many of them
        # each user has.
        self._records: OrderedDict[ClientTarget, tuple[float, Inbox]] = OrderedDict()
        self._users: dict[UserId | _Anonymous, int] = {}

    def __repr__(self) -> str:
        return f"Memory(logs={len(self._logs)}, records={len(self._records)})"

    def open(self, clock: Clock, config: Config, has_session: Callable[[Target], bool]) -> None:
        """Begin to keep events, within the limits of `config`. Raises ConfigError if they differ
        from those of an earlier start."""
        limits = (
            config.keep_events,
            config.keep_seconds,
            config.keep_bytes,
            config.max_backlog_bytes,
        )
        if self._events is None:
            self._limits = limits
            self._events = EventLogs(
                clock,
                keep_events=config.keep_events,
                keep_seconds=config.keep_seconds,
                keep_bytes=config.keep_bytes,
                max_bytes=config.max_backlog_bytes,
            )
            self._append = self._events.append
            self._replies.limit = config.keep_bytes
        elif limits != self._limits:
            raise ConfigError(f"backplane: expected the limits {self._limits}, got {limits}")
        self._clock = self._events.clock = clock
        self._has_session = has_session

    @property
    def _opened(self) -> EventLogs:
        assert self._events is not None, "open() comes first"
        return self._events

    @property
    def newest(self) -> int:
        return self._opened.seq

    def position_of(self, number: int) -> Position:
        return Position(self._epoch, number)

    def number_of(self, position: Position) -> int | None:
        return position.seq if position.epoch == self._epoch else None

    # -- events

    def mark(self) -> None:
        self._opened.seq += 1

    def append(self, to: Target, fragments: tuple[Fragment, ...]) -> None:
        log = self._logs.get(to)
        if log is None and self._is_held(to):
            log = self._logs[to] = EventLog()
        for fragment in fragments:
            self._append(log, fragment)

    def _is_held(self, to: Target) -> bool:
        """Return whether a client of this target may come back."""
        if to is ALL or to is ANONYMOUS:
            return False  # their logs were made when the first client was held
        if isinstance(to, ClientTarget) and to in self._records:
            return True
        return to in self._users or self._has_session(to)

    def read(self, client: ClientTarget, since: int, before: int) -> list[Fragment] | None:
        targets = (ALL, _user_of(client), client)
        logs = [log for target in targets if (log := self._logs.get(target)) is not None]
        return self._opened.read(logs, since, before)

    # -- clients

    def numbers(self, received: int, redelivered: int) -> Numbers:
        return Numbers(received, redelivered, self._replies)

    def hold(self, client: ClientTarget) -> None:
        for target in (ALL, ANONYMOUS):
            if target not in self._logs:
                self._logs[target] = EventLog()

    def drop(self, client: ClientTarget) -> None:
        for target in (client, _user_of(client)):
            if target in self._logs and target is not ANONYMOUS and not self._is_held(target):
                self._opened.clear(self._logs.pop(target))

    def find(self, client: ClientTarget) -> Inbox | None:
        self._end_records()
        found = self._records.get(client)
        return None if found is None else found[1]

    def claim(self, client: ClientTarget) -> Inbox | None:
        inbox = self.find(client)
        if inbox is not None:
            del self._records[client]
            self._forget_user(client)
        return inbox

    def keep(self, client: ClientTarget, inbox: Inbox) -> None:
        end = self._clock.now() + self._opened.keep_seconds
        if client not in self._records:
            user = _user_of(client)
            self._users[user] = self._users.get(user, 0) + 1
        self._records[client] = (end, inbox)
        self._end_records()

    def ended(self, client: ClientTarget) -> None:
        pass

    def _forget_user(self, client: ClientTarget) -> None:
        user = _user_of(client)
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def _end_records(self) -> None:
        """End the records that are due, and the oldest ones past the limit of bytes."""
        now, most = self._clock.now(), self._opened.keep_bytes // AROUND_RECORD
        while self._records:
            client, (end, _) = next(iter(self._records.items()))
            if end > now and len(self._records) <= most:
                return
            del self._records[client]
            self._forget_user(client)
            self.drop(client)


def _user_of(client: ClientTarget) -> UserId | _Anonymous:
    return ANONYMOUS if client.uid is None else client.uid
