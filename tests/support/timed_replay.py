"""Plays a recording at its own times, on a loop with virtual time: nothing is slept for.

Both sides talk over real sockets on one loop. The client's side acts at the recorded time;
what the recorded server did is awaited until SLACK after its time, and an answer may not
come earlier than that before it. So time-outs are compared, and pings: by the row `pings`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Hashable

from recording import Record
from replay import Line, Replay
from same import Mismatch

from chansock.testing import VirtualTimeLoop

SLACK = 2.5  # seconds; more than any recorded answer was late
LOOK = 0.002  # real seconds, for the kernel to hand over what one side has sent
DRIFT = 1.3  # windows; by as much pings differ after two minutes, see `jvm-idle-latency`
PING = ("keyword", "chsk/ws-ping")


class SocketLoop(VirtualTimeLoop):
    """A loop with virtual time and sockets between its tasks: what is under way arrives first."""

    def pass_time(self, timeout: float | None) -> bool:
        if selectors.DefaultSelector.select(self._selector, LOOK):
            return True  # it is level-triggered, so the loop finds it again
        return super().pass_time(timeout)


class TimedReplay(Replay):
    """One recording against one server, both on a SocketLoop.

    `window`: the server's ws_ping_interval. `is_stalled`: the network held back what both
    sides sent, so the recorded times of the server say no more than that it was before.
    """

    def __init__(self, name: str, port: int, window: float, *, is_stalled: bool = False) -> None:
        super().__init__(name, port)
        self.window = window
        self.is_stalled = is_stalled
        self.start = asyncio.get_running_loop().time()
        self.recorded_pings: dict[int, list[float]] = {}
        self.pings: dict[int, list[float]] = {}

    async def _step(self, record: Record) -> None:
        if record.kind == "open" or record.client or self.is_stalled:
            await self._sleep_until(record.time)
        else:
            await self._not_before(record)
        self.patience = record.time + SLACK - self._now()
        if record.kind == "open":
            self.lines.pop(record.conn, None)
            if self.is_stalled:
                return  # it came to the server when its first bytes did
        elif record.conn not in self.lines:
            self.lines[record.conn] = await self._open()
        if record.text.startswith("[:chsk/ws-ping"):
            self.recorded_pings.setdefault(record.conn, []).append(record.time)
        else:
            await super()._step(record)

    async def _not_before(self, record: Record) -> None:
        early = record.time - SLACK
        await self._sleep_until(early)
        line = self.lines[record.conn]
        if early > 0 and line.answers:
            raise Mismatch(f"expected nothing before {early:.1f} s, got {self._there(line)}")

    def _take_single(self, line: Line, value: Hashable) -> None:
        if value == PING:
            conn = next(conn for conn, each in self.lines.items() if each is line)
            self.pings.setdefault(conn, []).append(self._now())
        else:
            super()._take_single(line, value)

    def _close_of(self, record: Record) -> tuple[int | None, str]:
        """The row `close code of a silent client`."""
        if self.is_stalled and (record.code, record.close_reason) == (1000, ""):
            return 1011, "ping timeout"
        return super()._close_of(record)

    def _nothing_more(self) -> None:
        """The row `pings`."""
        super()._nothing_more()
        for conn in {*self.pings, *self.recorded_pings}:
            ours, theirs = self.pings.get(conn, []), self.recorded_pings.get(conn, [])
            what = f"{self.name}: expected pings at {theirs}, got them at {ours}"
            if not len(theirs) <= len(ours) <= len(theirs) + 1:
                raise Mismatch(what)
            for expected in theirs:
                earliest = 0.0 if self.is_stalled else expected - DRIFT * self.window
                if not any(earliest < got < expected + DRIFT * self.window for got in ours):
                    raise Mismatch(what)

    async def _sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - self._now()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self.start
