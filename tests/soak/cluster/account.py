"""Judges what each client of the cluster got: whole, once, and in the order of all others.

`Account` adds to that of `soak.resume` that events come from several senders. `Orders` holds which
event follows which one in each target, as the first receiver of both had them, and which events
the engine may have lost: those are sent again, and may then come in another order among those of
other senders. Replies, and the ledger of client events, are those of `soak.resume`. No socket
here, and no clock but the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from soak.cluster import KINDS, sender_of
from soak.resume import account
from soak.resume.account import Fault, base

ORDERED = ("u", "b")  # kinds with more than one receiver, of which each event must come
ON_ITS_WAY = 5.0  # seconds from the engine to a client that polls, on a busy machine


class Orders:
    """Which event follows which one in each target. All receivers must agree."""

    def __init__(self) -> None:
        self._after: dict[tuple[str, int], int] = {}
        self._before: dict[tuple[str, int], int] = {}
        self._known: set[tuple[str, int]] = set()
        self._tail: set[tuple[str, int]] = set()  # events that the engine may have lost
        self._loses_until = 0.0

    def lose(self, until: float) -> None:
        """Note that the engine may lose what comes until then."""
        self._loses_until = until + ON_ITS_WAY

    def came(self, target: str, event: int, now: float) -> None:
        """Note that a receiver got an event."""
        if (target, event) not in self._known:
            self._known.add((target, event))
            if now < self._loses_until:
                self._tail.add((target, event))

    def agrees(self, target: str, first: int, second: int) -> bool:
        """Note that a receiver got `second` next after `first`; False: another one did not.

        Of what the engine may have lost, those that had it before the loss have another order than
        those to whom it was sent again. The order of one sender is judged by the accounts.
        """
        after = self._after.setdefault((target, first), second)
        before = self._before.setdefault((target, second), first)
        if after == second and before == first:
            return True
        return any((target, each) in self._tail for each in (first, second, after, before))


class Account(account.Account):
    """What one client got."""

    def __init__(
        self,
        name: str,
        user: str,
        fault: Fault,
        orders: Orders,
        *,
        is_plain: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, fault, now)
        self.orders = orders
        self.is_plain = is_plain  # it has no position, and may lose events at each break
        self.targets = {"u": user, "b": ""}
        self.gaps = 0  # gaps told so far; an event may be missing across one
        self.began: dict[int, int] = {}  # sender: the gaps when it began
        self.newest: dict[tuple[int, str], tuple[int, int]] = {}  # (sender, kind): n, gaps
        self.at: dict[str, tuple[int, int]] = {}  # kind: g of its newest event, gaps
        self.places: dict[int, int] = {}  # sender: g of its newest event

    def sender_began(self, sender: int) -> None:
        self.began[sender] = self.gaps

    def handshake(self, was: str | None, numbers: Mapping[str, int]) -> None:
        self.was[was or "none"] += 1
        self.note(f"handshake {was}")
        if self.is_plain:
            self.gaps += 1
            return
        if was == "resumed":
            return
        if was not in ("fresh", "gap"):
            self.fault("handshake", f"expected fresh, resumed, or gap, got {was!r}")
        is_first = was == "fresh" and not self.at
        if not is_first:
            if self._now() > self.may_gap_until:
                self.fault("gap for nothing", f"{was} after {self.at}")
            self.gaps += 1

    def event(self, kind: str, g: int, n: int) -> None:
        self.events += 1
        self.recent.append(f"{kind}{n}")
        sender = sender_of(g)
        last, gaps = self._newest(sender, kind)
        if n <= last:
            self.fault("doubled", f"{kind}{n} after {kind}{last}")
            return
        if kind in KINDS and n > last + 1 and gaps == self.gaps:
            self.fault("missing, untold", f"{kind}{n} after {kind}{last}")
        if g <= self.places.get(sender, 0):
            text = f"{kind}{n} is event {g}, and came after {self.places[sender]}"
            self.fault("out of order", text)
        self.places[sender] = max(g, self.places.get(sender, 0))
        self.newest[sender, kind] = n, self.gaps
        if kind in ORDERED:
            before, target = self.at.get(kind), f"{kind} {self.targets[kind]}"
            self.orders.came(target, g, self._now())
            is_next = before is not None and before[1] == self.gaps
            if before is not None and is_next and not self.orders.agrees(target, before[0], g):
                self.fault("other order", f"{kind}: event {g} after {before[0]}")
        self.at[kind] = g, self.gaps

    def _newest(self, sender: int, kind: str) -> tuple[int, int]:
        none = base(sender), self.began.get(sender, 0)
        return self.newest.get((sender, kind), none)

    def lacks(self, sender: int, expected: Mapping[str, int], *, is_alive: bool) -> list[str]:
        """Return what must have come of a sender, and has not.

        `expected` has the newest number by kind. That of a dead sender was stored, and may be
        missing if a gap was told since.
        """
        lacking = []
        for kind in KINDS:
            n, gaps = self._newest(sender, kind)
            if n < expected.get(kind, 0) and (is_alive or gaps == self.gaps):
                lacking.append(f"{kind}{n} is the last, expected {kind}{expected[kind]}")
        return lacking

    def judge_replies(self) -> None:
        for k, (_, may_lose) in self.asked.items():
            self._lose(k, "no reply at the end", may_lose)
