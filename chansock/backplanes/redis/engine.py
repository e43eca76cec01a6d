"""The engine for Redis and Valkey: joins the nodes of one channel through one connection each.

All that is published before a command runs comes before its reply (link.py), so one position
says how far this node has heard. A connection begins with these steps:

    log in      HELLO 3, the scripts, the id of the server's run
    join        enter the node; another run, or an older state, opens a new epoch
    subscribe   this node, presence, and all targets
    read        what came since the position; pushes until its reply are part of it
    go on       the roster if the epoch is new, what is not stored yet, what was asked meanwhile

The file is past 400 lines: all that a connection may change, and its order, is in one place.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from chansock._core.backplane import Position
from chansock._core.engine import Claimed, Entry, First, Item, Node, Read
from chansock.backplanes.redis.address import Address, parse
from chansock.backplanes.redis.connecting import LIMIT, check, connect, log_in, rights_error
from chansock.backplanes.redis.link import Handler, Link, LinkLost, ServerError
from chansock.backplanes.redis.outbox import MAX_CALL_BYTES, Call, Outbox
from chansock.backplanes.redis.presence import Presence
from chansock.backplanes.redis.scripts import SCRIPTS
from chansock.backplanes.redis.seal import Seal
from chansock.backplanes.redis.stats import RedisStats
from chansock.errors import BackplaneDown, BackplaneError, BackplaneFull

__all__ = ["Redis"]

_log = logging.getLogger("chansock.backplane")

BEAT: Final = 1.0  # seconds between two signs of life, each way
LONGEST_WAIT: Final = 2.0  # seconds between two attempts
# Changes of presence wait for the next events, or for so many seconds or bytes.
GATHERED: Final = 0.005
MAX_CHANGES_BYTES: Final = MAX_CALL_BYTES // 8
REFUSED_PERIOD: Final = 60.0  # seconds between two lines about entries that are refused
HOME_SECONDS: Final = 120.0  # that the record of a client's home lives when its node does not
MAX_ASKED: Final = 200  # clients or channels that one command is for
_TURN: Final = SCRIPTS["turn"]


# A client that this node claims: its name, its keys, its position, and who waits for it.
_Claim: TypeAlias = tuple[str, Sequence[str], Position | None, "asyncio.Future[Claimed]"]


class _Key:
    """A target that is subscribed: whether the engine confirmed it, and what came of each node.

    `seen` has the number of the newest item that came in this epoch, `old` in those before it.
    """

    __slots__ = ("is_on", "name", "old", "seen", "was_on")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_on = False
        self.was_on = False
        self.seen: dict[bytes, int] = {}
        self.old: dict[bytes, int] = {}

    def begin(self) -> None:
        """Begin an epoch, in which what was lost comes again."""
        self.old |= self.seen
        self.seen = {}


def _number(raw: bytes) -> tuple[int, First | None]:
    """Return the number of an entry, and where it stood before it was sent again.

    Of an entry that is sent again it is `number-epoch-since-upto`. Raises ValueError.
    """
    if b"-" not in raw:
        return int(raw), None
    number, epoch, since, upto = map(int, raw.split(b"-"))
    return number, First(epoch, since, upto)


class _Names(dict[bytes, str]):
    """Names of nodes: each is decoded once."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) > 1000:
            self.clear()
        name = self[raw] = raw.decode()
        return name


class Redis:
    """Joins the processes of one channel through Redis 7 or later, or Valkey 7.2 or later.

    `url` is redis-py's: redis://, rediss:// (TLS), or unix://; valkey:// and valkeys:// are the
    same, and `redis+sentinel://host:port,host:port/service/db` asks Sentinels for the master.
    `options` are those of redis-py's connections that a URL does not carry, as `ssl_ca_certs`.
    Channels of the same `name` are one. With a `secret`, the same in all processes and at least 16
    bytes long, they drop and count entries that others wrote (`stats.entries_refused`).
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "chansock",
        max_unstored_bytes: int = 16 << 20,  # some 100,000 small events
        max_unstored_seconds: float = 30.0,
        lease_seconds: float = 5.0,  # four beats may be late
        grace_seconds: float = 5.0,
        secret: str | bytes | None = None,
        **options: Any,
    ) -> None:
        self._address: Address = parse(url, options)
        self._prefix = f"chsk:{{{name}}}:"
        self._lane = f"{self._prefix}l"
        self._channel_prefix = f"{self._prefix}c:".encode()
        self._presence_channel = f"{self._prefix}p".encode()
        self._seal: Seal | None = None if secret is None else Seal(secret)
        self._max_bytes = max_unstored_bytes
        self._max_seconds = max_unstored_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._grace_ms = int(grace_seconds * 1000)
        self._stats = RedisStats()
        self._task: asyncio.Task[None] | None = None
        self._node_id = ""

    def __repr__(self) -> str:
        return f"Redis({self._address.shown!r})"

    @property
    def node_id(self) -> str:
        return self._node_id

    @property
    def is_up(self) -> bool:
        return self._stats.engine_state == "up"

    @property
    def unstored_bytes(self) -> int:
        return self._outbox.unstored_bytes

    @property
    def stats(self) -> RedisStats:
        """The counters, as they are now."""
        if self._node_id:
            self._stats.unstored_bytes = self._outbox.unstored_bytes
            self._stats.subscriptions = len(self._keys)
        return self._stats

    # -- the life of the engine

    async def open(self, node: Node, *, keep_events: int, keep_seconds: float) -> None:
        if self._task is not None:
            raise BackplaneError("the engine is open already")
        self._loop = asyncio.get_running_loop()
        self._node = node
        self._keep_events = keep_events
        self._keep_ms = int(keep_seconds * 1000)
        self._sender = secrets.token_hex(6)
        self._lives = 1
        self._node_id = f"{self._sender}.1"
        self._outbox = Outbox(4 * self._max_bytes, keep_seconds)
        self._presence = Presence()
        self._stats = RedisStats()
        self._keys: dict[str, _Key] = {}
        self._channels: dict[bytes, _Key] = {}
        self._names = _Names()
        self._newest: dict[bytes, int] = {}  # the number of the newest item of each node
        self._homes: dict[str, int] = {}  # clients that this node claimed, each with its claim
        self._claims = 0
        self._releases: dict[str, bytes] = {}  # that the engine has not confirmed
        # What waits for the end of a turn: who comes, or who goes; never both, nor events as well.
        self._subscribing: list[bytes] = []
        self._claiming: list[_Claim] = []
        self._unsubscribing: list[bytes] = []
        self._releasing: list[tuple[str, bytes]] = []
        self._settling: set[str] = set()  # clients of which the engine must know that they opened
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._epoch = self._seq = self._reply_seq = 0
        self._raw_epoch = b"0"
        self._returned = 0
        self._link: Link | None = None
        self._server_run = ""
        self._connections: list[str] = []  # that may be open there
        self._is_live = False  # caught up: commands go out at once
        self._is_stalled = False  # appends are refused: the engine has no memory left
        self._generation = 0  # of calls: replies to older ones are void
        self._beat_at = 0.0  # when a beat went out that has not come back
        self._refused_at = -REFUSED_PERIOD
        self._refresh: list[str] = []
        self._is_closing = False
        self._is_replaced = False  # the node has a new name that it has not entered yet
        self._hears_presence = False
        self._is_gathering = False  # changes of presence, until a time that is set
        self._caught: asyncio.Future[None] | None = None  # done when a connection is live
        self._next = 1  # the number of the item that the engine takes next
        opened: asyncio.Future[None] = self._loop.create_future()
        self._opened: asyncio.Future[None] | None = opened
        self._timer = self._loop.call_later(BEAT, self._beat)
        self._task = self._loop.create_task(self._run(), name="chansock redis")
        try:
            await opened
        except BaseException:
            await self._end()
            raise

    async def close(self, timeout: float) -> None:
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self.stored()
                link = self._link
                if link is not None and self._is_live:
                    for client in list(self._homes):
                        self.release(client, b"")
                    self._close_call()
                    leave = SCRIPTS["leave"]
                    await link.ask("EVALSHA", leave, 1, self._lane, self._sender, self._node_id)
        except (TimeoutError, LinkLost, ServerError) as error:
            _log.warning(
                "backplane_left unstored_bytes=%d reason=%s", self.unstored_bytes, error or "late"
            )
        finally:
            await self._end()

    async def _end(self) -> None:
        self._is_closing = True
        self._timer.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._link is not None:
            self._link.fail("closed")
        self._stats.engine_state = "closed"
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(BackplaneDown("the engine was closed"))
        self._waiters.clear()

    async def _run(self) -> None:
        """Connect, wait for the end of the connection, and begin again, for ever."""
        wait = 0.0
        is_checked = False
        while True:
            ended: asyncio.Future[str] = self._loop.create_future()
            try:
                await self._join(ended, is_checked)
                is_checked, wait = True, 0.0
                reason = await ended
            except BackplaneError as error:
                reason = str(error)
                if self._fail_open(error):
                    return
            except (OSError, TimeoutError, LinkLost, ServerError) as error:
                reason = f"{error!s:.200}" or type(error).__name__
                if "NOPERM" in reason and self._fail_open(
                    rights_error(self._address, self._prefix, reason)
                ):
                    return
            if self._link is not None:
                self._link.fail(reason)
                self._link = None
            self._went_down(reason)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(LONGEST_WAIT, max(0.05, wait * 2))

    def _fail_open(self, error: BackplaneError) -> bool:
        if self._opened is None:
            return False
        if not self._opened.done():
            self._opened.set_exception(error)
        return True

    def _lost(self, ended: asyncio.Future[str], reason: str) -> None:
        """The connection has ended: no reply comes any more."""
        self._is_live = self._is_stalled = self._hears_presence = False
        self._generation += 1
        self._beat_at = 0.0
        claims, self._claiming = self._claiming, []
        self._not_claimed(LinkLost(reason), claims)
        for waiting in (self._subscribing, self._unsubscribing, self._releasing):
            waiting.clear()
        if not ended.done():
            ended.set_result(reason)
        if self._caught is not None and not self._caught.done():
            self._caught.set_exception(LinkLost(reason))
        if not self._is_closing:
            self._went_down(reason)

    def _went_down(self, reason: str) -> None:
        if self._stats.engine_state == "down":
            return
        was_up = self._stats.engine_state == "up"
        self._stats.engine_state = "down"
        _log.error("backplane_down engine=%s reason=%s", self._address.shown, reason)
        if was_up:
            self._node.state_changed(False, reason)

    def _came_up(self) -> None:
        if self._stats.engine_state == "up":
            return
        was_down = self._stats.engine_state == "down"
        self._stats.engine_state = "up"
        if was_down:
            _log.info("backplane_up engine=%s", self._address.shown)
        self._node.state_changed(True, "")

    # -- the steps of a connection

    async def _join(self, ended: asyncio.Future[str], is_checked: bool) -> None:
        def make() -> Link:
            return Link(self._message, self._subscribed, lambda reason: self._lost(ended, reason))

        link = self._link = await connect(self._address, make)
        run, connection = await log_in(self._address, link)
        if not is_checked:
            await check(self._address, link, self._lane, self._prefix)
        is_first = not self._epoch
        if run != self._server_run:
            self._server_run, self._connections = run, []
        async with asyncio.timeout(LIMIT):
            # What was written to them, and is still under way, must not be carried out any more.
            for old in self._connections:
                await link.ask("CLIENT", "KILL", "ID", old)
            self._connections = [connection]
            while True:
                epoch, seq, last, is_dead, is_settling, end, older = await link.ask(
                    *("EVALSHA", SCRIPTS["join"], 1, self._lane, self._sender, self._node_id, run),
                    *(self._epoch, self._seq, self._lease_ms, self._lease_ms + self._grace_ms),
                )
                if not is_dead:
                    break
                self._replace()
        since, epoch = Position(self._epoch, self._seq), int(epoch)
        if older:
            ends = map(Position, map(int, older[::2]), map(int, older[1::2]))
            self._node.older_epochs(sorted(ends))
        for key in self._keys.values():
            key.is_on = False
        own = [self._presence_channel, f"{self._prefix}n:{self._node_id}".encode()]
        link.subscribe("SUBSCRIBE", own)
        keys = [key for key in self._keys.values() if key.was_on]
        channels = list(self._channels)
        for at in range(0, len(channels), 1000):
            link.subscribe("SUBSCRIBE", channels[at : at + 1000])
        is_new_epoch = epoch != since.epoch
        # After a break in one epoch, the log has the changes. In a new one, all that is known
        # stays until every node has had time to come back.
        if is_first or (is_new_epoch and not is_settling):
            members = ("", "")
        else:
            members = (str(self._presence.epoch), str(self._presence.seq))
        caught_up = self._caught = self._loop.create_future()
        self._script(self._members_read, (epoch, is_new_epoch), "members", *members)
        lost = Position(since.epoch, int(end)) if is_new_epoch else None
        state = (since, epoch, seq, last, lost, keys, caught_up)
        if is_first:
            link.send(self._caught_up, state, "ECHO", "")
        else:
            after = (since.epoch, since.seq, self._keep_events, self._keep_ms)
            names = [key.name for key in keys]
            self._script(self._caught_up, state, "read", *after, *names)
        async with asyncio.timeout(LIMIT * 2 + len(keys) / 10_000):
            await caught_up
        if self._opened is not None:
            self._came_up()
            if not self._opened.done():
                self._opened.set_result(None)
            self._opened = None

    def _members_read(self, reply: Any, arg: tuple[int, bool]) -> None:
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        epoch, is_new_epoch = arg
        seq, is_changes, found = reply
        self._hears_presence = True
        self._presence.is_settling = self._presence.is_settling or (
            is_new_epoch and bool(is_changes)
        )
        if is_changes:
            for entry in found:
                self._change(entry)
        else:
            members = (member.decode() for member in found)
            self._presence.begin(epoch, seq, members, self._node)

    def _caught_up(self, reply: Any, state: tuple[Any, ...]) -> None:
        """Deliver what was read, and go on live: all within the reply, before the next push."""
        since, epoch, seq, last, lost, keys, caught_up = state
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        self._epoch, self._raw_epoch = epoch, str(epoch).encode()
        self._seq = self._reply_seq = seq
        if lost is not None and since.epoch:
            for target in self._keys.values():
                target.begin()
            self._node.epoch_ended(lost)
            self._stats.epochs += 1
            _log.warning("backplane_epoch engine=%s epoch=%d", self._address.shown, epoch)
        if since.epoch:
            holes, entries = self._entries(reply[2:], [key.name for key in keys])
            for position, raw, key in entries:
                self._stats.caught_up += 1
                self._deliver(self._keys.get(key), raw, position)
            self._seq = self._reply_seq = reply[1]
            if holes:
                self._node.missed(holes)
        now = self._loop.time()
        self._stats.batches_repeated += self._outbox.resume(last, now, lost)
        self._is_live = True
        link = self._link
        assert link is not None
        link.on_flush(self._flush)
        self._next = last + 1
        if lost is not None or self._is_replaced:
            self._send_roster()
        self._refresh_homes(list(self._homes))  # what other nodes said meanwhile was not heard
        for client in self._settling:
            self._script(self._settled, client, "opened", self._node_id, client)
        self._releasing = list(self._releases.items())
        missing = [channel for channel, key in self._channels.items() if not key.is_on]
        if missing:
            link.subscribe("SUBSCRIBE", missing)
        self._note_stored()
        self._beat_now()
        link.wake()
        if not caught_up.done():
            caught_up.set_result(None)
        if self._opened is None:
            self._came_up()
        if self._is_replaced:
            self._is_replaced = False
            self._node.replaced()

    def _replace(self) -> None:
        """Take a new name: this node was taken for dead."""
        self._outbox.close(self._node_id, self._loop.time())
        old = self._node_id
        self._lives += 1
        self._node_id = f"{self._sender}.{self._lives}"
        self._homes.clear()
        self._releases.clear()
        self._settling.clear()
        self._is_replaced = True
        _log.warning("backplane_replaced node=%s by=%s", old, self._node_id)

    def _send_roster(self) -> None:
        self._outbox.drop_changes()
        self._script(self._done, None, "roster", self._node_id, *self._presence.mine)

    # -- events

    def append(self, items: Sequence[Item]) -> int:
        outbox = self._outbox
        if outbox.unstored_bytes > self._max_bytes:
            raise BackplaneFull(outbox.unstored_bytes, self._max_bytes)
        now = self._loop.time()
        oldest = outbox.oldest
        if oldest is not None and now - oldest > self._max_seconds:
            raise BackplaneFull(now - oldest, self._max_seconds, "seconds")
        if self._seal is not None:
            items = [
                Item(i.key, i.count, i.is_kept, self._sealed(i.key, i.envelope)) for i in items
            ]
        if self._is_live:
            self._send_asked()
        number = outbox.append(items, self._node_id, now)
        if self._is_live:
            self._link.wake()  # type: ignore[union-attr]
        else:
            outbox.close(self._node_id, now)
        return number

    async def stored(self) -> None:
        self._close_call(with_changes=True)
        number = self._outbox.number
        if self._outbox.stored_number >= number:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((number, future))
        await future

    def _flush(self) -> None:
        self._close_call()

    def _close_call(self, *, with_changes: bool = False) -> None:
        """Send what was gathered, before the command that follows."""
        if self._is_live:
            self._send_asked()
        self._close_events(with_changes=with_changes)

    def _close_events(self, *, with_changes: bool = False) -> None:
        """Make a call of the events of this turn, and send it if the engine is heard."""
        outbox = self._outbox
        outbox.close(self._node_id, self._loop.time(), with_changes=with_changes)
        if not self._is_live or self._is_stalled:
            return
        link = self._link
        assert link is not None
        if outbox.waiting:
            while outbox.waiting:
                call = outbox.waiting.popleft()
                outbox.sent.append(call)
                self._send_call(link, call)
            # Pushes to a command's own connection may come after its reply, but before the next.
            link.send(self._heard, None, "PING")
        elif not outbox.sent:
            self._note_stored()

    def _send_call(self, link: Link, call: Call) -> None:
        again, first = 0, ""
        if call.epoch not in (0, self._epoch):
            again = 1 if call.newest == call.epoch else 3
        if call.first != self._next:
            again = 2
        self._next = call.last + 1
        is_late = self._outbox.is_late(call, self._loop.time())
        keep = f"{'+' if is_late else ''}{self._keep_ms}"
        if not call.epoch:
            call.epoch, call.since = self._epoch, self._seq
        elif again:
            first = f"-{call.epoch}-{call.since}-{call.upto}"
        call.newest = self._epoch
        link.send(
            *(self._replied, (self._generation, call), "EVALSHA", _TURN, 1, self._lane),
            *(self._sender, call.origin, call.first, self._epoch, self._seq),
            *(self._keep_events, keep, again, first),
            *call.args,
        )

    def _replied(self, reply: Any, arg: tuple[int, Call]) -> None:
        """Take the reply to a call of the turn script."""
        generation, call = arg
        if generation != self._generation:
            return
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        code, seq = reply
        if code < 0:
            self._fail("the engine has lost its end" if code == -2 else "the engine has a hole")
            return
        self._reply_seq = seq
        if call.epoch == self._epoch:
            call.upto = seq
        self._stats.batches += code
        self._outbox.acknowledge(self._loop.time())
        if self._is_stalled:
            self._is_stalled = False
            self._came_up()
            self._close_call()

    def _heard(self, reply: Any, _: None) -> None:
        """All that was published before this is here."""
        if isinstance(reply, Exception):
            return
        self._seq = max(self._seq, self._reply_seq)
        self._note_stored()

    def _note_stored(self) -> None:
        number = self._outbox.stored_number
        if number > self._returned:
            self._returned = number
            self._node.returned(number)
            while self._waiters and self._waiters[0][0] <= number:
                future = self._waiters.pop(0)[1]
                if not future.done():
                    future.set_result(None)

    def _message(self, push: list[Any]) -> None:
        """Take a message that was published."""
        _, channel, raw = push
        key = self._channels.get(channel)
        if key is not None:
            if not (self._is_live and key.is_on):
                return
            try:
                epoch, seq, origin, number, envelope = raw.split(b":", 4)
                n, first = _number(number)
                at = int(seq)
            except ValueError:
                self._refuse(channel)
                return
            if epoch != self._raw_epoch:
                self._fail("the engine began a new epoch")
                return
            seen = key.seen
            if seen.get(origin, 0) >= n:
                self._stats.repeats_dropped += 1
                return
            text = self._open(key.name, envelope)
            if text is None:
                return
            seen[origin] = n
            self._seq = at
            position = Position(self._epoch, at)
            is_late = n < self._newest.get(origin, 0)
            entry = Entry(key.name, position, self._names[origin], text, first, is_late)
            if not is_late:
                self._newest[origin] = n
            if key.old and key.old.get(origin, 0) >= n:
                self._repeated(entry)
            else:
                self._node.delivered(entry)
        elif channel == self._presence_channel:
            if self._hears_presence and raw:
                self._change(raw)
        elif channel.startswith(f"{self._prefix}n:".encode()):
            origin, colon, payload = raw.partition(b":")
            if not colon:
                self._refuse(channel)
                return
            text = self._open(self._node_id, payload)
            if text is not None:
                self._node.called(self._names[origin], text)

    def _sealed(self, place: str, text: bytes) -> bytes:
        return text if self._seal is None else self._seal.seal(place, text)

    def _open(self, place: str, sealed: bytes) -> bytes | None:
        """Return what a node wrote; None: somebody else did, which is counted and logged."""
        if self._seal is None:
            return sealed
        text = self._seal.open(place, sealed)
        if text is None:
            self._refuse(place.encode())
        return text

    def _change(self, raw: bytes) -> None:
        try:
            self._presence.change(raw, self._node)
        except ValueError:
            self._refuse(self._presence_channel)

    def _deliver(self, key: _Key | None, raw: bytes, position: Position) -> None:
        """Deliver an entry that was read, unless it was delivered before."""
        if key is None:
            return
        _, _, origin, number, envelope = raw.split(b":", 4)
        n, first = _number(number)
        if key.seen.get(origin, 0) >= n:
            self._stats.repeats_dropped += 1
            return
        text = self._open(key.name, envelope)
        if text is None:
            return
        key.seen[origin] = n
        entry = Entry(key.name, position, self._names[origin], text, first)
        self._newest[origin] = max(n, self._newest.get(origin, 0))
        if key.old.get(origin, 0) >= n:
            self._repeated(entry)
        else:
            self._node.delivered(entry)

    def _repeated(self, entry: Entry) -> None:
        """Take an entry that was delivered in an older epoch."""
        self._stats.repeats_dropped += 1
        if entry.first is not None:
            self._node.repeated(entry)

    def _entries(
        self, reply: Any, names: Sequence[str]
    ) -> tuple[list[str], list[tuple[Position, bytes, str]]]:
        """Return the keys that are not whole, and the entries of the others in order."""
        numbers = reply[0]
        lost = list(names) if 0 in numbers else [names[number - 1] for number in numbers]
        found: list[tuple[int, int, bytes, str]] = []
        for at in range(1, len(reply), 2):
            name = names[reply[at] - 1]
            for raw in reply[at + 1]:
                try:
                    epoch, seq, _, number, _ = raw.split(b":", 4)
                    _number(number)
                    found.append((int(epoch), int(seq), raw, name))
                except ValueError:
                    self._refuse(name.encode())
        found.sort(key=lambda one: one[:2])
        return lost, [(Position(epoch, seq), raw, name) for epoch, seq, raw, name in found]

    def _refuse(self, channel: bytes) -> None:
        self._stats.entries_refused += 1
        now = self._loop.time()
        if now - self._refused_at >= REFUSED_PERIOD:
            self._refused_at = now
            _log.error(
                "entry_refused channel=%s count=%d",
                channel.decode(errors="replace")[:80],
                self._stats.entries_refused,
            )

    # -- faults

    def _fail(self, reason: str) -> None:
        if self._link is not None:
            self._link.fail(reason)

    def _reply_failed(self, error: Exception) -> None:
        """Take an error instead of a reply."""
        if isinstance(error, LinkLost):
            return
        if not (str(error).startswith("OOM") and self._is_live):
            self._fail(str(error))
            return
        # Nothing was stored; reading and leases go on.
        self._generation += 1
        self._outbox.take_back()
        self._next = self._outbox.waiting[0].first if self._outbox.waiting else self._next
        self._is_stalled = True
        self._went_down(str(error))

    def _done(self, reply: Any, _: Any) -> None:
        """Take the reply of a command whose answer says nothing."""
        if isinstance(reply, Exception):
            self._reply_failed(reply)

    # -- targets

    def subscribe(self, key: str) -> None:
        if key in self._keys:
            return
        found = self._keys[key] = _Key(key)
        channel = self._channel_prefix + key.encode()
        self._channels[channel] = found
        if self._is_live:
            self._comes()
            self._subscribing.append(channel)
            self._link.wake()  # type: ignore[union-attr]

    def unsubscribe(self, key: str) -> None:
        if self._keys.pop(key, None) is None:
            return
        channel = self._channel_prefix + key.encode()
        del self._channels[channel]
        if self._is_live:
            self._goes()
            self._unsubscribing.append(channel)
            self._link.wake()  # type: ignore[union-attr]

    def _subscribed(self, channel: bytes) -> None:
        key = self._channels.get(channel)
        if key is not None:
            key.is_on = key.was_on = True

    # -- what is asked for in a turn is one command of each kind

    def _comes(self) -> None:
        """Send what must be before a client that comes."""
        if self._unsubscribing or self._releasing:
            self._send_asked()
        if self._outbox.gathered:
            self._close_events()

    def _goes(self) -> None:
        """Send what must be before a client that goes."""
        if self._subscribing or self._claiming:
            self._send_asked()
        if self._outbox.gathered:
            self._close_events()

    def _send_asked(self) -> None:
        link = self._link
        assert link is not None
        while channels := self._subscribing[:MAX_ASKED]:
            del self._subscribing[:MAX_ASKED]
            link.subscribe("SUBSCRIBE", channels)
        while claims := self._claiming[:MAX_ASKED]:
            del self._claiming[:MAX_ASKED]
            self._send_claims(claims)
        while channels := self._unsubscribing[:MAX_ASKED]:
            del self._unsubscribing[:MAX_ASKED]
            link.subscribe("UNSUBSCRIBE", channels)
        while releases := self._releasing[:MAX_ASKED]:
            del self._releasing[:MAX_ASKED]
            self._send_releases(releases)

    # -- clients

    def _live(self) -> Link:
        if not self._is_live or self._link is None:
            raise BackplaneDown("the engine is not heard at the moment")
        return self._link

    def claim(
        self, client: str, keys: Sequence[str], since: Position | None
    ) -> asyncio.Future[Claimed]:
        link = self._live()
        self._comes()
        self._releases.pop(client, None)  # sent again, it would end what this claim begins
        self._claims += 1
        self._homes[client] = self._claims
        future: asyncio.Future[Claimed] = self._loop.create_future()
        self._claiming.append((client, keys, since, future))
        link.wake()
        return future

    def _send_claims(self, claims: list[_Claim]) -> None:
        args: list[str | int] = [self._node_id, self._home_ms(), self._keep_events, self._keep_ms]
        for client, keys, since, _ in claims:
            at = ("", "") if since is None else (since.epoch, since.seq)
            args += (client, *at, len(keys), *keys)
        self._script(self._claimed, claims, "claim", *args)

    def _claimed(self, reply: Any, claims: list[_Claim]) -> None:
        if isinstance(reply, Exception):
            self._not_claimed(reply, claims)
            return
        position = Position(int(reply[0]), reply[1])
        for (client, keys, since, future), found in zip(claims, reply[2:], strict=True):
            if future.done():
                continue
            before, state, has_moved, others, has_dead = found[:5]
            read = Read(position) if since is None else self._was_read(position, found[5:], keys)
            if state:
                state = self._open(client, state) or b""
            older = tuple(others.decode().split(",")) if others else ()
            future.set_result(
                Claimed(
                    before.decode() or None, state, read, bool(has_moved), older, bool(has_dead)
                )
            )

    def _not_claimed(self, error: Exception, claims: list[_Claim]) -> None:
        for client, _, _, future in claims:
            self._homes.pop(client, None)
            if not future.done():
                down = BackplaneDown(f"the engine was lost meanwhile: {error}")
                down.__cause__ = error
                future.set_exception(down)

    def _was_read(self, position: Position, reply: Any, keys: Sequence[str]) -> Read:
        lost, entries = self._entries(reply, keys)
        if lost:
            return Read(position, is_whole=False)
        found = []
        for at, raw, name in entries:
            _, _, origin, number, envelope = raw.split(b":", 4)
            n, first = _number(number)
            text = self._open(name, envelope)
            if text is None:
                continue
            found.append(Entry(name, at, self._names[origin], text, first))
            key = self._keys.get(name)
            if key is not None:
                # Who comes by this has it, and whoever was here before has heard it.
                key.seen[origin] = max(n, key.seen.get(origin, 0))
        return Read(position, found)

    async def home(self, client: str) -> str | None:
        try:
            link = self._live()
            self._close_call()
            found = await link.ask("EVALSHA", SCRIPTS["home"], 1, self._lane, client)
        except (LinkLost, ServerError) as error:
            raise BackplaneDown(f"the engine was lost meanwhile: {error}") from error
        return found.decode() or None

    def opened(self, client: str) -> None:
        self._settling.add(client)
        if self._is_live:
            self._close_call()
            self._script(self._settled, client, "opened", self._node_id, client)

    def _settled(self, reply: Any, client: str) -> None:
        if isinstance(reply, Exception):
            self._reply_failed(reply)
        else:
            self._settling.discard(client)

    def forget(self, client: str) -> None:
        self._homes.pop(client, None)
        self._settling.discard(client)

    def release(self, client: str, state: bytes) -> None:
        self.forget(client)
        self._releases[client] = state
        if self._is_live:
            self._goes()
            self._releasing.append((client, state))
            self._link.wake()  # type: ignore[union-attr]

    def _send_releases(self, releases: list[tuple[str, bytes]]) -> None:
        args: list[str | bytes | int] = [self._node_id, self._keep_ms]
        for client, state in releases:
            args += (client, self._sealed(client, state) if state else b"")
        self._script(self._released, releases, "release", *args)

    def _released(self, reply: Any, releases: list[tuple[str, bytes]]) -> None:
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        for client, state in releases:
            if self._releases.get(client) is state:
                del self._releases[client]

    def _home_ms(self) -> int:
        return max(self._keep_ms, int(HOME_SECONDS * 1000))

    def _refresh_homes(self, clients: list[str]) -> None:
        """Keep the records of the clients whose home this node is."""
        for at in range(0, len(clients), 1000):
            some = clients[at : at + 1000]
            claims = [(client, self._homes[client]) for client in some]
            self._script(self._refreshed, claims, "refresh", self._node_id, self._home_ms(), *some)

    def _refreshed(self, reply: Any, claims: list[tuple[str, int]]) -> None:
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        found = [claims[number - 1] for number in reply]
        # One that was claimed again since is another matter.
        moved = [client for client, claim in found if self._homes.get(client) == claim]
        for client in moved:
            self.forget(client)
        if moved:
            self._node.moved(moved)

    def _script(self, handler: Handler, arg: Any, name: str, *args: str | bytes | int) -> None:
        """Call a script; `handler(reply, arg)` gets its reply."""
        assert self._link is not None
        self._link.send(handler, arg, "EVALSHA", SCRIPTS[name], 1, self._lane, *args)

    # -- nodes and members

    def call(self, node_id: str, payload: bytes) -> None:
        if self._is_live:
            self._close_call()
            self._link.send(  # type: ignore[union-attr]
                *(self._done, None, "PUBLISH", f"{self._prefix}n:{node_id}"),
                self._node_id.encode() + b":" + self._sealed(node_id, payload),
            )

    def enter(self, member: str) -> None:
        if member not in self._presence.mine:
            self._presence.mine.add(member)
            self._change_mine("+", member)

    def leave(self, member: str) -> None:
        if member in self._presence.mine:
            self._presence.mine.remove(member)
            self._change_mine("-", member)

    def _change_mine(self, sign: str, member: str) -> None:
        if self._outbox.change(sign, member) > MAX_CHANGES_BYTES:
            self._close_call(with_changes=True)
        elif not self._is_gathering:
            self._is_gathering = True
            self._loop.call_later(GATHERED, self._gathered)

    def _gathered(self) -> None:
        self._is_gathering = False
        if self._task is not None:
            self._close_call(with_changes=True)

    # -- signs of life

    def _beat(self) -> None:
        """Renew the lease each second; notice that nothing comes back."""
        self._timer = self._loop.call_later(BEAT, self._beat)
        if not self._is_live:
            return
        now = self._loop.time()
        if self._beat_at:
            if now - self._beat_at >= LIMIT:
                self._fail(f"no reply for {now - self._beat_at:.1f} s")
            return
        self._outbox.prune(now)
        self._beat_now()
        if self._is_stalled and self._outbox.waiting and not self._outbox.sent:
            link = self._link
            assert link is not None
            call = self._outbox.waiting.popleft()
            self._outbox.sent.append(call)
            self._send_call(link, call)
            link.send(self._heard, None, "PING")
        if not self._refresh:
            self._refresh = list(self._homes)
            self._share = 1 + len(self._refresh) // max(1, int(self._home_ms() / 3000))
        share, self._refresh = self._refresh[: self._share], self._refresh[self._share :]
        self._refresh_homes([client for client in share if client in self._homes])

    _share = 1

    def _beat_now(self) -> None:
        self._beat_at = self._loop.time()
        lease = (self._lease_ms, self._grace_ms)
        self._script(
            self._beaten, None, "beat", self._sender, self._node_id, self._epoch, self._seq, *lease
        )

    def _beaten(self, reply: Any, _: None) -> None:
        if isinstance(reply, Exception):
            self._reply_failed(reply)
            return
        self._stats.engine_lag = self._loop.time() - self._beat_at
        self._beat_at = 0.0
        if reply[0] < 0:
            self._fail("this node was taken for dead" if reply[0] == -3 else "a new epoch")
            return
        _, seq, ended, is_settling = reply
        # Pushes of this command come after its reply, but all before it are here.
        if not ended and seq > self._seq:
            self._seq = self._reply_seq = seq
        if ended:
            self._stats.leases_ended += 1
            _log.warning("lease_ended node=%s", ended.decode(errors="replace"))
        if self._presence.is_settling and not is_settling:
            self._presence.is_settling = False
            self._script(self._done, None, "settle", self._node_id, *self._presence.all)
