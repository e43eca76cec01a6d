"""Which node serves a client: how it moves from one node to another.

A client has one home, the node that holds its session. A handshake makes the node that got it the
new home: it asks the engine for what the client has missed, and the old home for what it knows of
the client (its numbers, its replies, or what waits for it). A home that has no session of a client
any more leaves that with the engine. How polls and POSTs reach their home is the business of
`lending`.

The file is past 400 lines: what a home tells the next one, and when, is in one place.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

from chansock._core.backplane import Position
from chansock._core.cluster import Arrived, Cluster
from chansock._core.cluster_keys import client_key, key_of, keys_of
from chansock._core.engine import Claimed, First
from chansock._core.hub import Hub
from chansock._core.packing import PackingError, Reader, Writer
from chansock._core.resume import Was
from chansock._fast.events.dispatch import Dispatch, Inbox, Numbers
from chansock._fast.events.fanout import Fragment
from chansock.errors import BackplaneDown
from chansock.target import ClientTarget, Target

__all__ = ["Homes", "Opening", "State"]

YIELD_TIMEOUT: Final = 0.5  # seconds for an old home to say what it knows
ASKED: Final = 2  # times: it may just have lost its connection to the engine
MAX_GIVEN: Final = 1000  # states that were given away, for homes that ask again
MAX_REPLIES: Final = 10_000  # that are read of a state


NOWHERE: Final = Position(0, 0)


@dataclass(slots=True)
class Start:
    """How a client came to this node: at `at`, with all that it had missed since `since`.

    `since` is None if it came without a position, or was told a gap.
    """

    at: Position
    since: Position | None

    def lacks(self, first: First) -> bool | None:
        """Return whether the client has not had, and wants, what stood there; None: unknown.

        What was sent while it was here, it has had if this node heard it, which is known.
        """
        place = self.at
        if first.epoch < self.at.epoch:
            if self.since is None:
                return False  # it was before its gap
            place = self.since
        if first.epoch > place.epoch:
            return True
        if first.epoch < place.epoch:
            return None
        if place.seq <= first.since:
            return True
        return False if 0 < first.upto <= place.seq else None


@dataclass(slots=True)
class State:
    """What a home knows of a client, for the next one.

    `position`: what the home had heard. A client that resumes has numbers: `since`, a position
    before which no client may be that presents it, `replies` by the number of their event. For any
    other client, `waiting` are the events that it has not got.
    """

    position: Position
    received: int = -1  # -1: it does not resume
    redelivered: int = 0
    attempt: int = 0
    since: Position = NOWHERE
    replies: list[tuple[int, bytes]] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)

    def encode(self) -> bytes:
        out = Writer((1,))
        for number in (
            self.position.epoch,
            self.position.seq,
            self.received + 1,
            self.redelivered,
            self.attempt,
            self.since.epoch,
            self.since.seq,
            len(self.replies),
        ):
            out.put_number(number)
        for number, packet in self.replies:
            out.put_number(number)
            out.put_bytes(packet)
        out.put_number(len(self.waiting))
        for data in self.waiting:
            out.put_bytes(data)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Return the state in `data`; None for any other bytes."""
        reader = Reader(data)
        try:
            if reader.byte() != 1:
                return None
            position = Position(reader.number(), reader.number())
            received, redelivered, attempt = reader.number() - 1, reader.number(), reader.number()
            since = Position(reader.number(), reader.number())
            count = min(reader.number(), len(data))
            replies = [(reader.number(), reader.bytes()) for _ in range(count)]
            waiting = [reader.bytes() for _ in range(min(reader.number(), len(data)))]
            reader.end()
        except PackingError:
            return None
        return cls(position, received, redelivered, attempt, since, replies, waiting)


class Opening:
    """A client that is about to open here. It is what `resume` asks in place of a backplane."""

    outlives_records = True

    def __init__(
        self, homes: Homes, client: ClientTarget, since: Position | None, attempt: int
    ) -> None:
        self.client = client
        self.attempt = attempt  # the number of its handshake
        self.since = since  # the position that it presents
        self.keys = keys_of(client)
        self.state: State | None = None
        self.left: list[bytes] = []  # the same in bytes, for the case that it does not open
        self.is_left = False  # the engine has something of its last home
        self.is_over = False  # another node has become the home meanwhile
        self.asks = ""  # the old home
        self.own = b""  # what this node knew when the client came back to it
        self.asked: asyncio.Future[None] | None = None  # done once the old home has answered
        self._homes, self._cluster = homes, homes.cluster
        self._missed: list[Arrived] = []
        self._later: list[Arrived] = []
        self._is_whole = self._is_in_doubt = False
        self._cluster.subscribe(self.keys)
        self._cluster.openings.add(self)
        self._is_taken = False

    def __del__(self) -> None:
        if not self._is_taken:
            self._homes.abandoned(self.client, self.keys, self.left)

    def note(self, arrived: Arrived) -> None:
        """Note events that came since its targets were subscribed."""
        if arrived.key in self.keys and arrived.only in ("", self.client.client_id):
            self._later.append(arrived)
            epoch = None if self.since is None else self.since.epoch
            if arrived.is_again and epoch == self._cluster.order.epoch:
                self._is_in_doubt = True  # it may have had them before

    def claimed(self, claimed: Claimed) -> None:
        """Take what the engine knows of the client."""
        self._cluster.order.note(claimed.read.position)
        self._is_whole = claimed.read.is_whole
        # The engine has what a home left, or the names of nodes that may have been one.
        is_from_elsewhere = claimed.before not in (None, self._homes.engine.node_id)
        self.is_left = (
            bool(claimed.state or claimed.others) or claimed.has_dead or is_from_elsewhere
        )
        for entry in claimed.read.entries:
            if self._cluster.order.number_of(entry.position) is None:
                self._is_whole = False
                return
            found = self._cluster.unpack(entry)
            if found is not None and found[1].only in ("", self.client.client_id):
                self._missed.append(found[1])

    def taken(self) -> None:
        """Note that a session has taken its place."""
        self._is_taken = True
        self._cluster.openings.discard(self)

    def waiting(self) -> list[Fragment]:
        """Return the events that wait for a client that does not resume."""
        if self.state is None:
            return []
        found = []
        for data in self.state.waiting:
            found.append(Fragment(data, None, False))
        since = self._cluster.order.number_of(self.state.position) or 0
        return found + [f for f in self._events(without_again=True) if f.seq > since]

    def _events(self, *, without_again: bool = False) -> list[Fragment]:
        """Return all events that are known, in order and once."""
        found = {
            fragment.seq: fragment
            for each in (*self._missed, *self._later)
            if not (without_again and each.is_again)
            for fragment in each.fragments
        }
        return [found[seq] for seq in sorted(found)]

    # -- what resume asks

    @property
    def newest(self) -> int:
        return self._cluster.newest

    def position_of(self, number: int) -> Position:
        return self._cluster.position_of(number)

    def number_of(self, position: Position) -> int | None:
        return self._cluster.number_of(position)

    def read(self, client: ClientTarget, since: int, before: int) -> list[Fragment] | None:
        if not self._is_whole or self._is_in_doubt:
            return None
        found = [
            fragment
            for fragment in self._events()
            if fragment.seq > since and (not before or fragment.seq < before)
        ]
        keys: set[object] = set()
        newest = []
        for fragment in reversed(found):
            if fragment.key is None or fragment.key not in keys:
                newest.append(fragment)
            if fragment.key is not None:
                keys.add(fragment.key)
        return newest[::-1]

    def numbers(self, received: int, redelivered: int) -> Numbers:
        return self._cluster.numbers(received, redelivered)

    def claim(self, client: ClientTarget) -> Inbox | None:
        if self.state is None or self.state.received < 0:
            return None
        inbox = Inbox()
        inbox.numbers = numbers = self.numbers(self.state.received, self.state.redelivered)
        numbers.attempt = self.state.attempt
        numbers.since = self._cluster.number_of(self.state.since) or 0
        for number, packet in self.state.replies:
            numbers.keep(number, packet)
        return inbox

    def find(self, client: ClientTarget) -> Inbox | None:
        return None

    def hold(self, client: ClientTarget) -> None:
        pass

    def mark(self) -> None:
        pass

    def drop(self, client: ClientTarget) -> None:
        pass


class Homes:
    """The clients of one node, and how they come and go."""

    def __init__(self, cluster: Cluster, hub: Hub, dispatch: Dispatch) -> None:
        self.cluster = cluster
        self.engine = cluster.engine
        self._hub = hub
        self._dispatch = dispatch
        self._clients: dict[ClientTarget, Start] = {}  # those that have a session here
        self._given: OrderedDict[ClientTarget, bytes] = OrderedDict()  # to other homes
        self._answers: dict[int, asyncio.Future[bytes]] = {}  # what old homes were asked
        self._asked = 0
        self._claims: set[asyncio.Future[None]] = set()
        self.send: Callable[[str, bytes], None] = cluster.engine.call

    # -- a client comes

    async def open(self, client: ClientTarget, since: Position | None, attempt: int = 0) -> Opening:
        """Become the home of a client, in its handshake number `attempt`. Raises BackplaneDown."""
        opening = Opening(self, client, since, attempt)
        # From here on, others know more, even if the claim fails.
        given = self._given.pop(client, b"")
        claimed = await self.engine.claim(client_key(client), opening.keys, since)
        if claimed.has_moved:
            # It left while this node could not be asked, or has not been asked yet.
            opening.own = self._end(client) or b""
        self._given.pop(client, None)
        opening.claimed(claimed)
        state = claimed.state
        known = State.decode(state) if state else None
        if known is not None and known.position.epoch != claimed.read.position.epoch:
            state = b""  # the engine has lost what came last: maybe that a home had opened it
        opening.left.append(state)
        own = self.engine.node_id
        elder = self._asking(client) if claimed.before == own else None
        if claimed.before == own and (opening.own or client in self._clients):
            if opening.own:
                opening.left.append(state := opening.own)
        elif elder is not None:
            # An older handshake of this client still waits for what its old home knows.
            assert elder.asked is not None
            await asyncio.shield(elder.asked)
            state = elder.left[-1] if elder.left else state
            opening.left.append(state)
        elif claimed.others or claimed.has_dead or claimed.before not in (None, own):
            opening.left.clear()  # what was left may be old
            opening.asked = asyncio.get_running_loop().create_future()
            try:
                state = await self._ask_each(opening, claimed, given, state)
                opening.left.append(state)
            finally:
                opening.asked.set_result(None)
        opening.state = State.decode(state) if state else None
        if self.cluster.order.epoch != claimed.read.position.epoch:
            # What was read may come once more: the client begins anew.
            raise BackplaneDown("the engine began a new epoch meanwhile")
        return opening

    async def _ask_each(
        self, opening: Opening, claimed: Claimed, given: bytes, left: bytes
    ) -> bytes:
        """Ask the homes in turn, and return the state of the last one that opened the client.

        Empty if the state is unknown: a home does not answer, or is dead.
        """
        own = self.engine.node_id
        for home in (claimed.before, *claimed.others):
            if home is None:
                continue
            if home == own:
                found: bytes | None = opening.own or given
            else:
                opening.asks = home
                found = await self._ask(home, opening.client, opening.attempt)
            if found is None:
                return b""
            if found:
                return found
        # Homes that know nothing of the client have not opened it. What was left is true.
        return opening.own or (b"" if claimed.has_dead else left)

    def _asking(self, client: ClientTarget) -> Opening | None:
        """Return an opening of a client whose old home has not answered yet, or None."""
        opening: Opening
        for opening in list(self.cluster.openings):
            if opening.client == client and opening.asked and not opening.asked.done():
                return opening
        return None

    async def _ask(self, node: str, client: ClientTarget, attempt: int) -> bytes | None:
        """Return what an old home knows of a client, b"" for nothing; None: it does not say."""
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(ASKED):
                self.engine.call(node, yield_call(number, client, attempt))
                with suppress(TimeoutError):
                    async with asyncio.timeout(YIELD_TIMEOUT):
                        state: bytes = await asyncio.shield(answer)
                        return state
        finally:
            del self._answers[number]
        return None

    def answered(self, number: int, state: bytes) -> None:
        """Take an old home's answer."""
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_result(state)

    def opened(self, opening: Opening, was: Was | None) -> None:
        """Note that an opening became a session; `was` None: of a client without positions."""
        opening.taken()
        if opening.is_left:
            self.engine.opened(client_key(opening.client))
        at = self.cluster.position_of(self.cluster.newest)
        since = opening.since if was == "resumed" else None
        if (start := self._clients.get(opening.client)) is not None:
            self.cluster.unsubscribe(opening.keys)
            if was == "resumed" and start.at.epoch == at.epoch:
                return  # this node heard all since it first came
        self._clients[opening.client] = Start(at, since)

    def lacking(self, to: Target, first: First, *, since: int = 0) -> list[ClientTarget]:
        """Return the clients that get what is sent again, and stood there when it was lost.

        Of whom one cannot know, those that have positions come back, and are told a gap. `since`:
        this node had it before that epoch, and so had all clients that were here then.
        """
        found = []
        for session in self._hub.table.meant(to):
            start = self._clients.get(session.target)
            lacks = not since if start is None else start.lacks(first)
            if since and lacks and start is not None and start.at.epoch < since:
                # It may have come after this node had it, to be lost once more.
                lacks = None if start.at.epoch > first.epoch else False
            if lacks:
                found.append(session.target)
            elif lacks is None and session.has_positions:
                self._hub.miss(session)
        return found

    def abandoned(self, client: ClientTarget, keys: tuple[str, ...], left: list[bytes]) -> None:
        """Note that a client did not open after all: leave again what its last home left."""
        self.cluster.unsubscribe(keys)
        if left and client not in self._clients:
            self._give(client, left[-1])
            self.engine.release(client_key(client), left[-1])

    def is_home(self, client: ClientTarget) -> bool:
        """Return whether this node serves a client."""
        return client in self._clients

    async def elsewhere(self, client: ClientTarget) -> str | None:
        """Return the other node that is the home of a client. Raises BackplaneDown."""
        home = await self.engine.home(client_key(client))
        return None if home == self.engine.node_id else home

    # -- a client goes

    def keep(self, client: ClientTarget, inbox: Inbox) -> None:
        """Leave what is known of a client with the engine: its session ends."""
        self._leave(client, self._state(client, inbox).encode())

    def ended(self, client: ClientTarget) -> None:
        """Note that a client has gone that does not resume."""
        self._leave(client, b"")

    def _leave(self, client: ClientTarget, state: bytes) -> None:
        if client in self._clients:
            del self._clients[client]
            self.cluster.unsubscribe(keys_of(client))
            openings = [each for each in self.cluster.openings if each.client == client]
            if openings:
                # It is coming back, and may have claimed the client already.
                for opening in openings:
                    opening.own = state
                    opening.left.append(state)
                return
            self._give(client, state)
            self.engine.release(client_key(client), state)

    def _state(self, client: ClientTarget, inbox: Inbox) -> State:
        numbers, cluster = inbox.numbers, self.cluster
        position = cluster.position_of(cluster.newest)
        if numbers is None:
            return State(position)
        return State(
            position,
            numbers.received,
            numbers.redelivered,
            numbers.attempt,
            cluster.position_of(numbers.since),
            numbers.replies_from(0),
        )

    def hand_on(
        self, client: ClientTarget, attempt: int, answer: Callable[[bytes], None], origin: str
    ) -> None:
        """Hand a client over to another node, and answer what that must know.

        If it is about to open here, and its old home has not said what it knows, that is waited
        for: the old home says it once. But if `origin` is that home, and this node was its home
        before, the client is coming back at once: each would wait for the other.
        """
        opening = self._asking(client)
        if opening is None or opening.asked is None:
            answer(self.give_up(client, attempt))
        elif opening.asks == origin and opening.own:
            answer(opening.own)
        else:
            opening.is_over = True
            opening.asked.add_done_callback(partial(self._answer, opening, attempt, answer))

    def _answer(
        self, opening: Opening, attempt: int, answer: Callable[[bytes], None], _: object
    ) -> None:
        known = opening.left[-1] if opening.left else b""
        answer(self.give_up(opening.client, attempt) or known)

    def give_up(self, client: ClientTarget, attempt: int = 0) -> bytes:
        """End the session of a client that another node serves; return what that must know.

        `attempt` is the handshake that came there. If a newer one came here, the other is late,
        which the state says, and this node stays the home.
        """
        if attempt and (state := self._newer(client, attempt)) is not None:
            self._claims.add(claim := asyncio.ensure_future(self._claim_back(client)))
            claim.add_done_callback(self._claims.discard)
            return state.encode()
        known = self._given.get(client, b"")
        opening: Opening
        for opening in list(self.cluster.openings):
            if opening.client == client:
                # If this node was still the home, the client may be coming back here since.
                is_newer = client in self._clients and 0 < attempt < opening.attempt
                opening.is_over = opening.is_over or not is_newer
                known = opening.left[-1] if opening.left else known
        found = self._end(client)
        if found is None:
            return known
        self.engine.forget(client_key(client))
        self._give(client, found)
        return found

    def _give(self, client: ClientTarget, state: bytes) -> None:
        """Keep what another home gets, which may ask (again).

        The engine gets it too late if another node has claimed the client just before.
        """
        self._given[client] = state
        self._given.move_to_end(client)
        if len(self._given) > MAX_GIVEN:
            self._given.popitem(last=False)

    def _newer(self, client: ClientTarget, attempt: int) -> State | None:
        """Return the state of a client that is here by a newer handshake, or None."""
        session = self._hub.table.find(client.uid, client.client_id)
        if session is None or client not in self._clients:
            return None
        numbers = session.inbox.numbers
        if numbers is None or attempt >= numbers.attempt:
            return None
        return self._state(client, session.inbox)

    async def _claim_back(self, client: ClientTarget) -> None:
        """Be entered as the home of a client again."""
        with suppress(BackplaneDown):  # the engine says later that the client has gone
            await self.engine.claim(client_key(client), (), None)
            self.engine.opened(client_key(client))

    def forget_given(self) -> None:
        """Answer for no client that was given away: the engine may have lost to whom."""
        self._given.clear()

    def _end(self, client: ClientTarget) -> bytes | None:
        """End the session of a client, and return its state; None: it has none here."""
        session = self._hub.table.find(client.uid, client.client_id)
        if session is None or client not in self._clients:
            return None
        if session.inbox.numbers is not None:
            self._dispatch.give_back(session.inbox)
            state = self._state(client, session.inbox)
        else:
            state = self._state(client, session.inbox)
            state.waiting = [fragment.data for fragment in session.waiting_fragments()]
        # What is open of it here is found by a `disconnect` until it has ended.
        self._hub.move(session, partial(self.cluster.unsubscribe, keys_of(client)))
        del self._clients[client]
        return state.encode()

    def moved(self, clients: set[str]) -> None:
        """End the sessions of clients that went elsewhere while this node could not be asked.

        One that is here after all, since it gave up the other attempt, comes back.
        """
        for client in list(self._clients):
            if client_key(client) in clients:
                self._hub.disconnect(client, 1012, "another process serves this client")
                self._end(client)

    def missed(self, keys: set[str]) -> None:
        """Cut the sessions for which events may be missing, so that they come back and hear it."""
        for client in list(self._clients):
            if keys.intersection(keys_of(client)):
                session = self._hub.table.find(client.uid, client.client_id)
                if session is not None:
                    self._hub.miss(session)

    def claim_again(self) -> None:
        """End all sessions, so that their clients come back: this node was taken for dead.

        Others may have become their home meanwhile, and so what it knows of them may be old.
        """
        for client in list(self._clients):
            self._hub.disconnect(client, 1012, "service restart")
            self._end(client)


YIELD: Final = 1  # number, uid's name, client-id, number of its handshake


def yield_call(number: int, client: ClientTarget, attempt: int) -> bytes:
    """Return the message that asks an old home for what it knows of a client."""
    out = Writer((YIELD,))
    out.put_number(number)
    out.put_text(key_of(client)[0])
    out.put_text(client.client_id)
    out.put_number(attempt)
    return bytes(out)
