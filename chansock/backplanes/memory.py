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
from chansock.target import ALL, ANONYMOUS, ClientTarget, Target, UserId

__all__ = ["Memory"]

AROUND_RECORD: Final = 1024  # bytes of a record: an inbox, its numbers, and its place in tables

_Client = tuple[UserId | None, str]


class Memory:
    """Keeps events for clients that come back, in this process.

    A channel that is stopped and started again goes on with what its engine keeps. One engine
    serves one channel at a time.
    """

    def __init__(self) -> None:
        self._epoch = secrets.randbelow(10**MAX_DIGITS)
        self._events: EventLogs | None = None
        self._replies = Replies(0)
        self._logs: dict[object, EventLog] = {}
        # Clients without a session, in the order in which their records end.
        self._records: OrderedDict[_Client, tuple[float, int, Inbox]] = OrderedDict()
        self._record_bytes = 0

    def __repr__(self) -> str:
        return f"Memory(logs={len(self._logs)}, records={len(self._records)})"

    def open(
        self, clock: Clock, config: Config, has_session: Callable[[UserId | None, str], bool]
    ) -> None:
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
    def position(self) -> Position:
        return Position(self._epoch, self._opened.seq)

    def position_of(self, seq: int) -> Position:
        return Position(self._epoch, seq)

    # -- events

    def append(self, to: Target, fragments: tuple[Fragment, ...]) -> None:
        log = self._client_log(to) if type(to) is ClientTarget else self._logs.get(to)
        for fragment in fragments:
            self._append(log, fragment)

    def _client_log(self, to: ClientTarget) -> EventLog | None:
        # Few clients are sent something for them alone, so their logs are made when they are.
        client = (to.uid, to.client_id)
        log = self._logs.get(client)
        if log is None and (client in self._records or self._has_session(*client)):
            log = self._logs[client] = EventLog()
        return log

    def read(
        self, uid: UserId | None, client_id: str, since: int, before: int
    ) -> list[Fragment] | None:
        targets = (ALL, _member(uid), (uid, client_id))
        logs = [log for target in targets if (log := self._logs.get(target)) is not None]
        return self._opened.read(logs, since, before)

    # -- clients

    def numbers(self, received: int, redelivered: int) -> Numbers:
        return Numbers(received, redelivered, self._replies)

    def hold(self, uid: UserId | None, client_id: str) -> None:
        for target in (ALL, _member(uid)):
            log = self._logs.get(target)
            if log is None:
                log = self._logs[target] = EventLog()
            log.holders += 1

    def drop(self, uid: UserId | None, client_id: str) -> None:
        for target in (ALL, _member(uid)):
            log = self._logs[target]
            log.holders -= 1
            if not log.holders:
                self._end(target)
        if (uid, client_id) in self._logs:
            self._end((uid, client_id))

    def _end(self, target: object) -> None:
        self._opened.clear(self._logs.pop(target))

    def claim(self, uid: UserId | None, client_id: str) -> Inbox | None:
        self._end_records()
        found = self._records.pop((uid, client_id), None)
        if found is None:
            return None
        self._record_bytes -= found[1]
        return found[2]

    def keep(self, uid: UserId | None, client_id: str, inbox: Inbox) -> None:
        end = self._clock.now() + self._opened.keep_seconds
        self._records[uid, client_id] = (end, AROUND_RECORD, inbox)
        self._record_bytes += AROUND_RECORD
        self._end_records()

    def _end_records(self) -> None:
        """End the records that are due, and the oldest ones past the limit of bytes."""
        now, limit = self._clock.now(), self._opened.keep_bytes
        while self._records:
            client, (end, nbytes, _) = next(iter(self._records.items()))
            if end > now and self._record_bytes <= limit:
                return
            del self._records[client]
            self._record_bytes -= nbytes
            self.drop(*client)


def _member(uid: UserId | None) -> object:
    return ANONYMOUS if uid is None else uid
