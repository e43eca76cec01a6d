"""The members that are present on any node, as one node heard it from the engine.

Every node hears the same changes in the same order, so all hold the same set. A change that
changes nothing here was heard before, in this epoch or an earlier one, and is dropped.
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
        """Apply one change. Raises ValueError for anything else."""
        epoch_bytes, seq_bytes, origin, change = entry.split(b":", 3)
        epoch, seq = int(epoch_bytes), int(seq_bytes)
        if (epoch, seq) <= (self.epoch, self.seq):
            return
        self.epoch, self.seq = epoch, seq
        sign, member = change[:1], change[1:].decode()
        if sign == b"+":
            if member not in self.all:
                self.all.add(member)
                node.entered(member, origin.decode())
        elif sign == b"-":
            if member in self.all:
                self.all.remove(member)
                node.left(member, origin.decode())
        else:
            raise ValueError("expected a change of presence")

    def begin(self, epoch: int, seq: int, members: Iterable[str], node: Node) -> None:
        """Begin anew with all members, as the engine has them at a position."""
        self.epoch, self.seq = epoch, seq
        self.all = set(members)
        node.present(frozenset(self.all))
