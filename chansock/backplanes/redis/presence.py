"""The members that are present on any node, as one node heard it from the engine.

Every node hears the same changes in the same order, so all hold the same set. A change that
changes nothing here was heard before, in this epoch or an earlier one, and is dropped. An entry has
all that one call of a script changed: presence.lua says how it is written.
"""

from __future__ import annotations

from collections.abc import Iterable

from chansock._core.engine import Node

__all__ = ["Presence"]


class Presence:
    """`mine` are the members that this node entered; `all` those on any node."""

    def __init__(self) -> None:
        self.mine: set[str] = set()
        self.all: set[str] = set()
        self.epoch = 0
        self.seq = 0
        # The engine was found empty or older: who is on no node is known once all had their time.
        self.is_settling = False

    def change(self, entry: bytes, node: Node) -> None:
        """Apply the changes of an entry. Raises ValueError for anything else."""
        epoch_bytes, seq_bytes, raw_origin, changes = entry.split(b":", 3)
        epoch, seq = int(epoch_bytes), int(seq_bytes)
        if (epoch, seq) <= (self.epoch, self.seq):
            return
        found = parse(changes)
        origin = raw_origin.decode()
        self.epoch, self.seq = epoch, seq
        for is_here, member in found:
            if is_here == (member in self.all):
                continue
            if is_here:
                self.all.add(member)
                node.entered(member, origin)
            else:
                self.all.remove(member)
                node.left(member, origin)

    def begin(self, epoch: int, seq: int, members: Iterable[str], node: Node) -> None:
        """Begin anew with all members, as the engine has them at a position."""
        self.epoch, self.seq = epoch, seq
        self.all = set(members)
        node.present(frozenset(self.all))


def parse(changes: bytes) -> list[tuple[bool, str]]:
    """Return the changes that are written as `+5:ws:s1-7:ajax:s2`. Raises ValueError."""
    found = []
    at = 0
    while at < len(changes):
        sign = changes[at : at + 1]
        colon = changes.index(b":", at)
        start = colon + 1
        at = start + int(changes[at + 1 : colon])
        if sign not in (b"+", b"-") or not start <= at <= len(changes):
            raise ValueError("expected changes of presence")
        found.append((sign == b"+", changes[start:at].decode()))
    return found
