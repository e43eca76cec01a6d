"""What an engine does that joins several processes: the nodes of one channel.

The interface between `cluster` and the engines outside the process (`chansock/backplanes/`). An
engine numbers the events of all nodes with one counter, stores those that are kept, and passes
each to the nodes that subscribe to its target. It also knows which node serves which client, and
who is present on any node. What an event, a client, or a member means is not known here: all are
strings and bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chansock._core.backplane import Position
from chansock._fast.events.fanout import Item

__all__ = ["Claimed", "Engine", "Entry", "First", "Item", "Node", "Read"]


@dataclass(frozen=True, slots=True)
class First:
    """Where an entry stood that the engine then lost: in `epoch`, after number `since`.

    And not after `upto`; 0: that is not known, nor whether anybody heard it.
    """

    epoch: int
    since: int
    upto: int


@dataclass(slots=True)  # frozen, it would take longer to make, once an event
class Entry:
    """An item in the order of all; `position` is that of its last event, `origin` its node.

    `first` is not None if it is sent again, to an engine that lost its end. It `is_late` if a later
    item of its sender came before it: then its events, which this node missed, are out of order.
    """

    key: str
    position: Position
    origin: str
    envelope: bytes
    first: First | None = None
    is_late: bool = False


@dataclass(slots=True)
class Read:
    """What is stored of some targets, in order.

    `position` is that of the newest event of any target: the node has heard all up to it, or gets
    it from here. False in `is_whole`: events may be missing, and `entries` is empty.
    """

    position: Position
    entries: list[Entry] = field(default_factory=list)
    is_whole: bool = True


@dataclass(slots=True)
class Claimed:
    """A client's new home is this node; `before` is the living node that was it, or None.

    `state` is what its last home left when it gave the client up; empty: there is none, or it is
    older than `keep_seconds`. It is true if no home has opened the client since. `has_moved`:
    another node was its home last, whether it lives or not.

    A node that claims a client may lose the engine before it reports that it opened the client.
    `others` are the living nodes that may have done so before `before`, newest first. `has_dead`
    means that the next older one is dead, or unknown.
    """

    before: str | None
    state: bytes
    read: Read
    has_moved: bool = False
    others: tuple[str, ...] = ()
    has_dead: bool = False


class Node(Protocol):
    """What an engine calls, on the loop's thread and in the engine's order. Nothing may raise."""

    def delivered(self, entry: Entry) -> None:
        """Take an entry of a subscribed target. Each comes once, those of this node as well."""

    def repeated(self, entry: Entry) -> None:
        """Take an entry that this node had in an older epoch: clients may have come since."""

    def older_epochs(self, ends: Sequence[Position]) -> None:
        """Note the epochs that ended before this node joined, each with its last position."""

    def epoch_ended(self, position: Position) -> None:
        """An epoch of this node has ended there: what it heard of it after that is lost."""

    def returned(self, number: int) -> None:
        """Note that what `append` numbered up to `number` is stored, and was delivered here."""

    def missed(self, keys: Iterable[str]) -> None:
        """Note that entries of these subscribed targets were lost for this node."""

    def called(self, origin: str, payload: bytes) -> None:
        """Take a message of another node."""

    def entered(self, member: str, origin: str) -> None:
        """A member was on no node, and now is on `origin`."""

    def left(self, member: str, origin: str) -> None:
        """A member is on no node any more; `origin` was the last, or cleared up after it."""

    def present(self, members: Iterable[str]) -> None:
        """Begin anew with these members, without a change: the node may have missed changes."""

    def state_changed(self, is_up: bool, reason: str) -> None:
        """The engine is heard, or is not."""

    def moved(self, clients: Iterable[str]) -> None:
        """Other nodes have become the home of these clients, and could not say so."""

    def replaced(self) -> None:
        """The node was taken for dead. It has a new `node_id`, and must claim its clients anew."""


class Engine(Protocol):
    """Joins the nodes of one channel. All is called on the loop's thread.

    All calls are carried out in their order, but changes of members, which may wait for some
    milliseconds and keep an order of their own. While the engine is down, they wait; only `claim`
    and `home` raise BackplaneDown then.
    """

    @property
    def node_id(self) -> str:
        """The name of this node: new with each `open`."""

    @property
    def is_up(self) -> bool:
        """Whether the node hears the engine."""

    @property
    def unstored_bytes(self) -> int:
        """The bytes of the items that were appended and are not known to be stored."""

    async def open(self, node: Node, *, keep_events: int, keep_seconds: float) -> None:
        """Join. Returns once the node hears itself, however long nobody is at the address.

        Raises BackplaneError for what waiting cannot mend: a wrong password or setting.
        """

    async def close(self, timeout: float) -> None:
        """Leave: store what was appended, give up the members and clients of this node."""

    def append(self, items: Sequence[Item]) -> int:
        """Append what was sent in one turn as one batch: whole, and once.

        Returns the number of the batch, which is greater than that of the one before.
        """

    async def stored(self) -> None:
        """Wait until all is stored that was appended so far, and all members entered and left."""

    def subscribe(self, key: str) -> None:
        """Pass on the entries of a target from now on."""

    def unsubscribe(self, key: str) -> None:
        """Pass on the entries of a target no longer."""

    def claim(self, client: str, keys: Sequence[str], since: Position | None) -> Awaitable[Claimed]:
        """Make this node the home of a client; read its targets after a position.

        The keys are subscribed before. `since` None: no events are read. Raises BackplaneDown.
        """

    async def home(self, client: str) -> str | None:
        """Return the living node that is the home of a client, or None. Raises BackplaneDown."""

    def opened(self, client: str) -> None:
        """Drop what the last home of a client left: it is open here."""

    def forget(self, client: str) -> None:
        """Claim a client no longer: another node is its home."""

    def release(self, client: str, state: bytes) -> None:
        """Leave a client whose home this node still is, and keep `state` for its next home."""

    def call(self, node_id: str, payload: bytes) -> None:
        """Send a message to one node. It may be lost."""

    def enter(self, member: str) -> None:
        """Add a member to those of this node, which has it once."""

    def leave(self, member: str) -> None:
        """Remove a member of this node."""
