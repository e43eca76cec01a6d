"""One node of a channel that several processes serve: from `send` to the engine, and back.

Everything that is sent goes to the engine and comes back from it, so that all nodes have one order.
The events of a turn become one batch. What comes back is passed to the sessions of this node; a
client that is about to open gets what came since its targets were subscribed. Which node serves a
client is the business of `homes`, who is present that of `shared_presence`.

The file is a little past 400 lines: one object is what `resume` asks and what the engine calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from chansock._core.backplane import Position
from chansock._core.cluster_keys import key_of, keys_of, target_of
from chansock._core.delivery import Close, Delivery
from chansock._core.engine import Engine, Entry, Item
from chansock._core.envelope import Envelope, EnvelopeError, new_turn
from chansock._core.order import Order
from chansock._fast.events.dispatch import Inbox, Numbers, Replies
from chansock._fast.events.fanout import Fragment
from chansock._fast.io.timers import TimerQueue
from chansock.clock import Clock
from chansock.config import Config
from chansock.errors import BackplaneFull, InvalidEvent
from chansock.target import ClientTarget, Target

__all__ = ["Arrived", "Cluster"]

log = logging.getLogger("chansock.backplane")

MAX_UNSTORED: Final = 16 << 20  # bytes; past it `send` raises BackplaneFull
RETRY: Final = 0.05  # seconds until the engine is offered again what it had no room for


@dataclass(slots=True)
class Arrived:
    """Events of one target, as they came from the engine."""

    key: str
    only: str
    fragments: tuple[Fragment, ...]
    is_again: bool


class Cluster:
    """The events of one node."""

    def __init__(
        self, engine: Engine, config: Config, packer: str, clock: Clock, timers: TimerQueue
    ) -> None:
        self.engine = engine
        self.order = Order()
        self.refused = 0  # entries that could not be read
        self._config = config
        self._packer = packer
        self._clock, self._timers = clock, timers
        self._replies = Replies(config.keep_bytes)
        self._delivery: Delivery | None = None
        self._opening: asyncio.Future[None] | None = None
        self._changed: list[asyncio.Future[None]] = []  # of those who wait for the engine
        self._turn = new_turn(packer)
        self._refused_items: list[Item] = []  # those of the last turn: the engine had no room
        self._full: BackplaneFull | None = None  # why the engine did not take the last turn
        self.turn = 1  # the number of this turn, of those in which something was sent
        self._returned = 0  # the newest turn that is back
        self._under_way: deque[tuple[int, int]] = deque()  # the engine's number of each, and ours
        self.unreturned: dict[str, int] = {}  # by target: the newest turn that is not back
        self._waiting: list[tuple[int, Callable[[], object]]] = []  # for a turn to be back
        self._holders: dict[str, int] = {}  # sessions and openings of a target
        self.openings: WeakSet[Any] = WeakSet()

    def start(self, delivery: Delivery, homes: Any, lending: Any, presence: Any) -> None:
        """Pass on what comes: events, and to `homes`, `lending`, and `shared_presence` the rest."""
        self._delivery = delivery
        self.homes, self.lending, self.presence = homes, lending, presence

    # -- its life

    def open(self, clock: Clock, config: Config, has_session: Callable[[Target], bool]) -> None:
        """Begin to join the other nodes."""
        keep_events = config.keep_events if config.resume else 0
        opened = self.engine.open(self, keep_events=keep_events, keep_seconds=config.keep_seconds)
        self._opening = asyncio.ensure_future(opened)
        self._opening.add_done_callback(_log_failure)

    async def join(self, timeout: float) -> None:
        """Wait until the nodes are joined; return after `timeout` if the engine is down.

        Raises BackplaneError for what waiting cannot mend.
        """
        assert self._opening is not None
        await asyncio.wait([self._opening], timeout=timeout)
        if self._opening.done():
            self._opening.result()

    async def ready(self) -> None:
        """Wait until the engine is heard."""
        while not self.engine.is_up:
            changed = asyncio.get_running_loop().create_future()
            self._changed.append(changed)
            await changed

    async def close(self, timeout: float) -> None:
        """Leave the other nodes, after what was sent is stored."""
        self.flush()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self.engine.close(timeout)

    # -- sending

    def append(
        self,
        to: Target,
        fragments: tuple[Fragment, ...],
        flush: bool = False,
        close: Close | None = None,
    ) -> None:
        """Send events, and then a close, to all nodes at the end of the turn.

        Raises BackplaneFull if too much waits for the engine, InvalidEvent for a user id with a
        lone surrogate, EncodeError for a key of `latest` that edn cannot write.
        """
        turn = self._turn
        if self._full is not None:
            raise self._full
        waiting = self.engine.unstored_bytes + turn.nbytes
        if waiting > MAX_UNSTORED:
            raise BackplaneFull(waiting, MAX_UNSTORED)
        key, only = key_of(to)
        if not turn:
            self._clock.soon(self.flush)
        try:
            turn.add(key, only, fragments, flush)
        except UnicodeEncodeError:
            raise InvalidEvent(f"expected a user id in UTF-8, got {key[1:]!r:.80}") from None
        if close is not None:
            envelope = Envelope(
                self._packer, "", only=only, is_kept=False, close=(close.code, close.reason)
            )
            turn.put(Item(key, 1, False, envelope.encode()))
        self.unreturned[key] = self.turn

    def flush(self) -> None:
        """Pass what was sent in this turn to the engine."""
        items = self._refused_items or self._turn.take()
        if not items:
            return
        try:
            number = self.engine.append(items)
        except BackplaneFull as error:
            # These were accepted, and are appended as soon as there is room; the next sender hears.
            self._refused_items, self._full = items, error
            self._timers.schedule(RETRY, self._flush_again, None)
            return
        self._refused_items, self._full = [], None
        self._under_way.append((number, self.turn))
        self.turn += 1

    def _flush_again(self, _: None) -> None:
        self.flush()

    # -- what came back

    def delivered(self, entry: Entry) -> None:
        """Pass the events of an entry on to the sessions of this node."""
        found = self._take(entry)
        if found is None or self._delivery is None:
            return
        to, envelope, arrived = found
        close = None if envelope.close is None else Close(*envelope.close)
        if entry.first is None:
            self._delivery.deliver(to, arrived.fragments, envelope.flush, close)
            return
        # What is not kept is missed rather than out of order.
        if envelope.is_kept or not entry.is_late:
            for client in self.homes.lacking(to, entry.first):
                self._delivery.deliver(client, arrived.fragments, envelope.flush)
        self._delivery.deliver(to, (), False, close)

    def repeated(self, entry: Entry) -> None:
        """Pass what this node had before the engine lost it on to clients that came since."""
        found = self._take(entry)
        if found is None or self._delivery is None or entry.first is None:
            return
        to, envelope, arrived = found
        for client in self.homes.lacking(to, entry.first, since=self.order.epoch):
            self._delivery.deliver(client, arrived.fragments, envelope.flush)

    def _take(self, entry: Entry) -> tuple[Target, Envelope, Arrived] | None:
        """Show an entry to the clients that are about to open; None: it cannot be read."""
        found = self.unpack(entry)
        if found is None:
            return None
        envelope, arrived = found
        if self.openings:
            for opening in list(self.openings):
                opening.note(arrived)
        try:
            return target_of(entry.key, envelope.only), envelope, arrived
        except ValueError as error:
            self._refuse(error)
            return None

    def unpack(self, entry: Entry) -> tuple[Envelope, Arrived] | None:
        """Return the envelope of an entry and its events, numbered; None: it cannot be read."""
        try:
            envelope = Envelope.decode(entry.envelope, self._packer)
        except EnvelopeError as error:
            self._refuse(error)
            return None
        events = envelope.events
        seq = self.order.note(entry.position, len(events) or 1) - len(events)
        for event in events:
            seq += 1
            event.seq = seq
        return envelope, Arrived(entry.key, envelope.only, events, entry.first is not None)

    def _refuse(self, error: Exception) -> None:
        self.refused += 1
        self._timers.log_limit.error(log, "entry_refused: %s", error)

    def returned(self, number: int) -> None:
        """Note that the engine's batches up to `number` are stored, and were delivered here."""
        while self._under_way and self._under_way[0][0] <= number:
            _, self._returned = self._under_way.popleft()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for turn, call in waiting:
                if turn <= self._returned:
                    call()
                else:
                    self._waiting.append((turn, call))
        if not self._under_way and not self._turn and not self._refused_items:
            self.unreturned.clear()

    # -- replies keep their place

    def holds(self, client: ClientTarget, since: int, call: Callable[[], object]) -> bool:
        """Call `call` once what was sent to a client in turn `since` and later has come back.

        False, and it is not called: nothing of that is under way.
        """
        turn = max(self.unreturned.get(key, 0) for key in keys_of(client))
        if turn < since or turn <= self._returned:
            return False
        self._waiting.append((turn, call))
        return True

    def reply_late(self, client: ClientTarget, reply: Fragment) -> None:
        """Send a reply whose client has moved to another node, or may do so."""
        self.append(client, (Fragment(reply.data),))

    # -- targets that this node listens to

    def subscribe(self, keys: Iterable[str]) -> None:
        """Subscribe to targets, one time more."""
        for key in keys:
            count = self._holders[key] = self._holders.get(key, 0) + 1
            if count == 1:
                self.engine.subscribe(key)

    def unsubscribe(self, keys: Iterable[str]) -> None:
        """Subscribe to targets one time less."""
        for key in keys:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self.engine.unsubscribe(key)

    # -- what `resume` asks of a backplane

    outlives_records = True

    @property
    def newest(self) -> int:
        """The number of the newest event that was heard."""
        return self.order.newest

    def position_of(self, number: int) -> Position:
        """Return the position of who has all events up to this number."""
        return self.order.position_of(number)

    def number_of(self, position: Position) -> int | None:
        """Return the number up to which a position has all events; None: its epoch is unknown."""
        return self.order.number_of(position)

    def numbers(self, received: int, redelivered: int) -> Numbers:
        """Make the numbers of a client, whose replies count among what is kept."""
        return Numbers(received, redelivered, self._replies)

    def find(self, client: ClientTarget) -> Inbox | None:
        """Return None: what is known of a client without a session, only its handshake asks for."""
        return None

    def read(self, client: ClientTarget, since: int, before: int) -> list[Fragment] | None:
        """Return None: what a client missed, only its handshake asks for."""
        return None

    def claim(self, client: ClientTarget) -> Inbox | None:
        """Return None, as `find`."""
        return None

    def hold(self, client: ClientTarget) -> None:
        """Do nothing: all is kept."""

    def drop(self, client: ClientTarget) -> None:
        """Do nothing, as `hold`."""

    def mark(self) -> None:
        """Do nothing: positions are the engine's."""

    def keep(self, client: ClientTarget, inbox: Inbox) -> None:
        """Leave what is known of a client to the engine."""
        self.homes.keep(client, inbox)

    def ended(self, client: ClientTarget) -> None:
        """Note that a client has gone that does not resume."""
        self.homes.ended(client)

    # -- what the engine calls besides

    def older_epochs(self, ends: Sequence[Position]) -> None:
        """Number the positions of older epochs: clients may still present them."""
        for position in ends:
            self.order.note(position)
            self.order.ended(position)

    def epoch_ended(self, position: Position) -> None:
        """Note where an epoch ended."""
        self.order.ended(position)
        self.homes.forget_given()

    def missed(self, keys: Iterable[str]) -> None:
        """Have the clients of these targets told that they may have missed events."""
        self.homes.missed(set(keys))

    def called(self, origin: str, payload: bytes) -> None:
        """Take a message of another node."""
        self.lending.called(origin, payload)

    def entered(self, member: str, origin: str) -> None:
        """Note who has come."""
        self.presence.entered(member, origin)

    def left(self, member: str, origin: str) -> None:
        """Note who has gone."""
        self.presence.left(member, origin)

    def present(self, members: Iterable[str]) -> None:
        """Begin anew with who is present."""
        self.presence.present(members)

    def moved(self, clients: Iterable[str]) -> None:
        """Serve these clients no longer."""
        self.homes.moved(set(clients))

    def replaced(self) -> None:
        """Claim all clients again."""
        self.homes.claim_again()

    def state_changed(self, is_up: bool, reason: str) -> None:
        """Wake those who wait for the engine."""
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _log_failure(opening: asyncio.Future[None]) -> None:
    if not opening.cancelled() and (error := opening.exception()) is not None:
        log.error("backplane_failed: %s", error)
