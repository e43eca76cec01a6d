"""What a client keeps so that a reconnect loses nothing: position, numbers, events, and replies.

`Resume` is pure: it is fed, and it answers. `Sender` alone uses a loop: it lets `send` wait for
room and for replies. No socket here; `socket` and `ajax` write what `Resume` returns. The file is
past 400 lines because the numbers of events and the waits for them change together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock._fast.events.packet import Packer
from chansock.client.packets import ACK, POSITION, REFUSED, REPLY, Pending, Resumption, Was
from chansock.errors import ChannelClosed, ConnectionLost, ReplyError, ReplyTimeout
from chansock.values import Keyword

__all__ = ["MAX_BYTES", "MAX_EVENTS", "Resume", "Sender"]

log = logging.getLogger("chansock.client.resume")

MAX_EVENTS: Final = 1000  # not acknowledged: the server acknowledges every 256, or every 64 KiB
MAX_BYTES: Final = 1024 * 1024  # of their packets
NO_POSITION: Final = "0"

Fields: TypeAlias = list[tuple[str, str]]


class Resume:
    """Position, numbers, and unacknowledged events of one client, for the life of its client-id.

    Events are numbered 1, 2, 3 ... as they enter the buffer. acked <= taken <= last, and the buffer
    has every event in (acked, last].
    """

    __slots__ = (
        "_has_lost",
        "_max_bytes",
        "_max_events",
        "_nbytes",
        "_packets",
        "_waits",
        "acked",
        "attempt",
        "is_on",
        "is_wanted",
        "last",
        "position",
        "sent",
        "taken",
    )

    def __init__(
        self,
        *,
        is_wanted: bool = True,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.is_wanted = is_wanted
        self.is_on: bool | None = None if is_wanted else False  # None: no handshake yet
        self.position: str = NO_POSITION
        self.attempt: int = 0  # of the newest handshake
        self.acked: int = 0  # the server has handled all events up to this one
        self.sent: int = 0  # the newest event of which a byte was written to any connection
        self.taken: int = 0  # the newest event that the present connection has, or need not have
        self.last: int = 0  # the newest event
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._packets: dict[int, bytes] = {}  # in the order of their numbers
        self._nbytes = 0
        self._waits: OrderedDict[int, str] = OrderedDict()  # number -> callback id
        self._has_lost = False  # a packet could not be read: its events are lost

    def __len__(self) -> int:
        return len(self._packets)

    # -- the buffer

    def fits(self, size: int) -> bool:
        """Return whether there is room for a packet; a single one may be of any size."""
        count = len(self._packets)
        return not count or (count < self._max_events and self._nbytes + size <= self._max_bytes)

    def add(self, packet: bytes, cb_id: str | None = None) -> int:
        """Keep an event; return its number. With a callback id it waits for a reply."""
        self.last = number = self.last + 1
        self._packets[number] = packet
        self._nbytes += len(packet)
        if cb_id is not None:
            self._waits[number] = cb_id
        return number

    def take(self) -> tuple[int, bytes] | None:
        """Return the next event for the present connection, with its number; None: it has all.

        The caller marks it as sent. A server that does not resume gets each event once.
        """
        if self.taken >= self.last:
            return None
        self.taken = number = self.taken + 1
        packet = self._packets[number]
        if not self.is_on:
            self.sent = number
            self._drop(number)
        return number, packet

    def take_now(self) -> bytes:
        """Return the next event for the present connection, which writes it now; there is one."""
        self.taken = number = self.taken + 1
        self.sent = max(self.sent, number)
        packet = self._packets[number]
        if not self.is_on:
            self._drop(number)
        return packet

    def mark_sent(self, number: int) -> None:
        """Note that an event is written now."""
        self.sent = max(self.sent, number)

    def replace(self, number: int, packet: bytes) -> None:
        """Put a packet in the place of one that the server will never take."""
        if number in self._packets:
            self._nbytes += len(packet) - len(self._packets[number])
            self._packets[number] = packet

    def ack(self, number: int) -> bool:
        """Drop the events up to a number: they are handled. Return whether there were any."""
        return self._drop(min(number, self.sent))

    def _drop(self, number: int) -> bool:
        if number <= self.acked:
            return False
        for dropped in range(self.acked + 1, number + 1):
            self._nbytes -= len(self._packets.pop(dropped))
        self.acked = number
        self.taken = max(self.taken, number)
        return True

    # -- replies

    def callback_of(self, number: int) -> str | None:
        """Return the callback id of an event that waits for its reply."""
        return self._waits.get(number)

    def settle(self, number: int) -> None:
        """Note that an event waits for no reply any more."""
        self._waits.pop(number, None)

    # -- handshakes

    def is_foreign(self, answer: Resumption) -> bool:
        """Return whether the server's count shows that another client has this client-id.

        A client that has sent nothing yet counts on from there: a program with a client-id of its
        own was started again.
        """
        return self.last > 0 and not self.acked <= answer.handled <= self.sent

    def begin(self, answer: Resumption | None) -> tuple[Was | None, list[str]]:
        """Take the answer of a handshake: a new connection begins.

        Return how it was resumed, and the callback ids of requests that get no reply: those that
        were sent before to a server that resumes, if this one does not.
        """
        if answer is None or not self.is_wanted:
            return None, self._turn_off()
        self.is_on = True
        self.position = answer.position
        if not self.last:
            self.acked = self.sent = self.last = answer.handled
        self.taken = answer.handled
        was: Was = "gap" if self._has_lost else answer.was
        self._has_lost = False
        return was, []

    def _turn_off(self) -> list[str]:
        lost = [cb_id for number, cb_id in self._waits.items() if number <= self.sent]
        for number in [number for number in self._waits if number <= self.sent]:
            del self._waits[number]
        self._drop(self.sent)
        self.taken = self.acked
        self.position = NO_POSITION
        self.is_on = self._has_lost = False
        return lost

    def lose_position(self) -> None:
        """Note that events came that cannot be read: the next handshake is told as a gap.

        The position must not stay: the server would send the same events again.
        """
        if self.is_on:
            self.position = NO_POSITION
            self._has_lost = True

    # -- what the requests carry

    def handshake_fields(self) -> Fields:
        """Return `pos`, `acked`, `sent`, `try`, and `waits` if an event that was sent waits."""
        if not self.is_wanted:
            return []
        # A handshake that comes after a newer one is refused. Another program with our client-id
        # began earlier, or begins later.
        self.attempt = max(self.attempt + 1, int(time.time() * 1000))
        fields = [("pos", self.position), ("acked", str(self.acked)), ("sent", str(self.sent))]
        return [*fields, ("try", str(self.attempt)), *self.wait_fields()]

    def poll_fields(self, position: str | None = None) -> Fields:
        """Return `pos` and `waits` of a poll; `position`: of a batch that is passed on later."""
        if position is None and self.is_on:
            position = self.position
        if position is None or not self.is_wanted:
            return []
        return [("pos", position), *self.wait_fields()]

    def wait_fields(self) -> Fields:
        """Return `waits`, the lowest number that was sent and waits; nothing if there is none."""
        lowest = next(iter(self._waits), 0)
        return [("waits", str(lowest))] if self.is_on and 0 < lowest <= self.sent else []

    def counts(self) -> list[int]:
        """Return `[s w]` of a ping: the newest event written, and the lowest one that waits."""
        following = self.taken + 1
        return [self.taken, min(next(iter(self._waits), following), following)]


# -- `send`, which waits for room and for replies

_FIRST_PING: Final = 0.1  # seconds at the limit, until the client asks what is handled
_LAST_PING: Final = 2.0  # each wait is twice the one before, but not longer

_OWN: Final = frozenset({POSITION, ACK, REPLY})
_SendNow: TypeAlias = Callable[[list[object], float | None], Coroutine[Any, Any, object]]


class Sender:
    """Passes events to `Resume` in the order of the calls, and waits for room and replies.

    If the server does not resume, `send_now` sends each event, as it comes. While a connection is
    open, `flush()` writes what the buffer has, and returns whether `send` need not wait;
    `ask_acks()` asks what is handled.
    """

    def __init__(
        self,
        resume: Resume,
        packer: Packer,
        log_limit: LogLimit,
        *,
        send_now: _SendNow,
    ) -> None:
        self.resume: Resume = resume
        self.pending: Pending = Pending()
        self._packer = packer
        self._log_limit = log_limit
        self.flush: Callable[[], bool] = _flush_nothing
        self._ask_acks: Callable[[], None] = _ask_nobody
        self._send_now = send_now
        self._closed: str | None = None  # why nothing is taken
        self._line = asyncio.Lock()  # its holder is the next whose event enters the buffer
        self._in_line = 0
        self._changed: asyncio.Future[None] | None = None  # what the holder waits for
        self.unwritten: dict[int, asyncio.Future[None]] = {}  # events whose callers wait
        self.has_too_big: bool = False  # the last connection ended at a message that was too big

    # -- the application's side

    async def send(self, event: list[object], timeout: float | None) -> object:
        """Send an event; with a timeout, return its reply. See `Client.send`."""
        if self.resume.is_on is False and not self._in_line:
            return await self._send_now(event, timeout)
        if timeout is not None:
            return await self._request(event, timeout)
        number = self._keep_now(event, None) or await self._keep_in_turn(event, None)
        if not number:
            return await self._send_now(event, None)
        if not self.flush():
            written = self.unwritten[number] = asyncio.get_running_loop().create_future()
            try:
                await written
            finally:
                self.unwritten.pop(number, None)
        return None

    async def _request(self, event: list[object], timeout: float) -> object:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        cb_id, reply = self.pending.new(timeout)
        number = 0
        try:
            number = self._keep_now(event, cb_id)
            if not number:
                try:
                    async with asyncio.timeout(timeout):
                        number = await self._keep_in_turn(event, cb_id)
                except TimeoutError:
                    raise ReplyTimeout(
                        f"expected room to send within {timeout:g} s, got none; the event was "
                        "not sent"
                    ) from None
            if number:
                self.flush()
                return await reply
        finally:
            self.resume.settle(number)
            if not reply.cancel() and not reply.cancelled():
                reply.exception()  # asyncio logs an exception that nobody has looked at
        return await self._send_now(event, max(end - loop.time(), 0.001))

    def _keep_now(self, event: list[object], cb_id: str | None) -> int:
        """Put an event into the buffer; return its number, 0 if it has to wait."""
        if self._in_line or not self.resume.is_on:
            return 0
        self._check()
        packet = self._packer.packet(event, cb_id)
        return self.resume.add(packet, cb_id) if self.resume.fits(len(packet)) else 0

    async def _keep_in_turn(self, event: list[object], cb_id: str | None) -> int:
        """Do it once there is room; return 0 if the server turns out not to resume."""
        self._check()
        self._in_line += 1
        try:
            async with self._line:
                packet, pause = None, _FIRST_PING
                while True:
                    self._check()
                    if self.resume.is_on is False:
                        return 0
                    if self.resume.is_on:
                        packet = packet or self._packer.packet(event, cb_id)
                        if self.resume.fits(len(packet)):
                            return self.resume.add(packet, cb_id)
                        self._ask_acks()
                    if not await self._change(pause):
                        pause = min(2 * pause, _LAST_PING)
        finally:
            self._in_line -= 1

    async def _change(self, seconds: float) -> bool:
        """Wait until something changes for the holder of the line; False if nothing does."""
        self._changed = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({self._changed}, timeout=seconds)
        return bool(done)

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _check(self) -> None:
        """Raise ChannelClosed if the client is closed for good."""
        if self._closed is not None:
            raise ChannelClosed(self._closed)

    # -- the client's side

    def open(self) -> None:
        """Take events from now on, maybe on another loop than before."""
        self._closed = None
        if not self._in_line:
            self._line = asyncio.Lock()

    def close(self, why: str) -> None:
        """Take nothing more; end every wait with `why`. The buffer stays for another `open`."""
        self._closed = f"expected an open channel, got one that is closed{why}"
        self._wake()
        what = (
            f"got the end of the connection{why}; the server may or may not have handled the event"
        )
        self.pending.fail(ConnectionLost(f"expected a reply, {what}"))
        for written in self.unwritten.values():
            if not written.done():
                written.set_exception(ConnectionLost(f"expected to send, {what}"))

    def begin(self, answer: Resumption | None) -> Was | None:
        """Take the answer of a handshake; return how the connection was resumed."""
        resume = self.resume
        written = resume.taken
        was, lost = resume.begin(answer)
        for cb_id in lost:
            self.pending.fail_one(
                cb_id,
                ConnectionLost(
                    "expected a reply, got a server that does not resume; "
                    "the one before may or may not have handled the event"
                ),
            )
        if self.has_too_big:
            self.has_too_big = False
            if resume.taken < written:
                self.refuse(resume.taken + 1, "1009: a message that is too big")
        self._wake()
        return was

    def attach(self, flush: Callable[[], bool], ask_acks: Callable[[], None]) -> None:
        """Write to this connection from now on."""
        self.flush, self._ask_acks = flush, ask_acks

    def detach(self) -> None:
        """End the waits for writing: the connection is gone, and the next one writes the rest."""
        self.attach(_flush_nothing, _ask_nobody)
        for written in self.unwritten.values():
            if not written.done():
                written.set_result(None)

    # -- the links' side

    def written(self, number: int) -> None:
        """Note that an event is on its way: `send` returns."""
        written = self.unwritten.get(number)
        if written is not None and not written.done():
            written.set_result(None)

    def ack(self, number: object) -> None:
        """Take an acknowledgment."""
        if type(number) is int and self.resume.ack(number):
            self._wake()

    def refuse(self, number: int, why: str) -> bytes:
        """Fail an event that the server refuses; return the packet that is sent in its place."""
        packet = self._packer.packet([REFUSED], None)
        self.resume.replace(number, packet)
        cb_id = self.resume.callback_of(number)
        if cb_id is not None:
            self.pending.fail_one(cb_id, ReplyError(f"expected an event to be taken, got {why}"))
        else:
            self._log_limit.warning(log, "event_refused number=%d got=%.200s", number, why)
        return packet

    def sift(self, items: Iterable[object]) -> Iterable[object]:
        """Return the events of a batch without those that are for the client itself.

        Acknowledgments and replies are taken at once, `[:chsk/pos "e-s"]` by `move`. A batch that
        is decoded while it is read is sifted then.
        """
        if not isinstance(items, list | tuple):
            return self._sift(items)
        return list(self._sift(items))

    def _sift(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            if isinstance(item, list) and len(item) == 2 and type(item[0]) is Keyword:
                name = item[0]
                if name in _OWN:
                    self._take_own(name, item[1])
                    continue
            yield item

    def _take_own(self, name: Keyword, value: object) -> None:
        if name == ACK:
            self.ack(value)
        elif name == REPLY and isinstance(value, list | tuple) and len(value) == 2:
            number, reply = value
            cb_id = self.resume.callback_of(number) if type(number) is int else None
            if cb_id is not None:
                self.pending.answer(cb_id, reply)

    def move(self, position: str | None) -> None:
        """Take the position behind events that were passed on."""
        if position is not None and self.resume.is_on:
            self.resume.position = position


def _flush_nothing() -> bool:
    return True


def _ask_nobody() -> None:
    """Do nothing: no connection is open."""
