"""The keep-alive of WebSockets: ping the silent ones, and close those that stay silent.

Nothing here knows sessions or presence: the hub starts the watch of a connection, and hears
of the end of one whose ping had no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from chansock._fast.events.dispatch import Connection
from chansock._fast.events.packet import Packet
from chansock._fast.io.timers import TimerQueue
from chansock.config import Config

__all__ = ["KeepAlive"]

log = logging.getLogger("chansock.hub")


class KeepAlive:
    """Watches connections. Calls `closed(connection, 1011)` after closing a silent one."""

    def __init__(
        self,
        config: Config,
        timers: TimerQueue,
        ping: Packet,
        closed: Callable[[Connection, int], object],
    ) -> None:
        self._config = config
        self._timers = timers
        self._ping = ping
        self._closed = closed
        self._on_silence = self._look  # bound once: one object less for each connection

    def watch(self, connection: Connection) -> None:
        """Look after ws_ping_interval whether the client has sent anything."""
        connection.timer = self._timers.schedule(
            self._config.ws_ping_interval, self._on_silence, connection
        )

    @staticmethod
    def _was_heard(connection: Connection) -> bool:
        """Return whether the client sent anything since the last look.

        A paused connection counts as alive: what its client sends is not read.
        """
        transport = connection.transport
        was_heard = transport.heard or connection.inbox.stalled_count > 0
        transport.heard = False
        return was_heard

    def _look(self, connection: Connection) -> None:
        timeout = self._config.ws_ping_timeout
        if self._was_heard(connection):
            self.watch(connection)
            return
        connection.put(self._ping)
        if timeout is None:
            self.watch(connection)
        else:
            connection.timer = self._timers.schedule(timeout, self._pong_due, connection)

    def _pong_due(self, connection: Connection) -> None:
        if self._was_heard(connection):
            self.watch(connection)
            return
        if self._timers.is_late:
            # The loop was late: what the client sent may not be read yet.
            connection.timer = self._timers.schedule(self._timers.lag, self._pong_due, connection)
            return
        connection.timer = None
        uid, client = connection.uid, connection.client_id[:8]
        self._timers.log_limit.info(log, "ping_timeout uid=%r client=%r", uid, client)
        connection.transport.close(1011, "ping timeout")
        self._closed(connection, 1011)  # the peer will not answer the closing handshake
