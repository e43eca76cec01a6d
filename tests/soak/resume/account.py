"""What must be so: the events that a client got, and those that the server's handlers got.

`Account` is of one client, and judges what it received: events, handshakes, replies. `Ledger` is
of the same client at the server, and judges what its handlers were given. No socket here, and no
clock but that of the caller.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from soak.resume import KINDS, LIFE, WHOLE

Fault = Callable[[str, str], None]  # what is wrong, and where

REPLY_WITHIN = 10.0  # seconds from the handler to its reply, over all breaks


class Account:
    """What one client got."""

    def __init__(self, name: str, fault: Fault, now: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._fault = fault
        self._now = now
        self.recent: deque[str] = deque(maxlen=40)  # what happened last, for the text of a fault
        self.events = 0
        self.was: Counter[str] = Counter()  # how it came back
        self.g = 0  # place of the newest event
        self.last = dict.fromkeys(KINDS, 0)
        self.bound: dict[str, int] = {}  # kinds that may skip up to this number, once
        self.asked: dict[int, tuple[int, bool]] = {}  # k: x, and whether its reply may be lost
        self.replies = 0
        self.lost_to_kills = 0
        self.late = 0  # events that were not handled in time, so that nobody awaits the reply
        self.handled_at: dict[int, float] = {}  # the newest events that a handler got, and when
        self.may_gap_until = 0.0  # a gap would be right until then, by the caller's clock
        self.is_forgotten = False  # it was away for longer than its record is kept
        self.unsent: set[int] = set()  # events that it refused to send: `send` raised

    def fault(self, kind: str, text: str) -> None:
        self._fault(kind, f"{self.name}: {text}")

    def note(self, text: str) -> None:
        self.recent.append(f"{self._now():.3f} {text}")

    # -- server to client

    def handshake(self, was: str | None, numbers: Mapping[str, int]) -> None:
        """Begin a connection; `numbers` are the newest events when the server answered."""
        self.was[was or "none"] += 1
        self.note(f"handshake {was}")
        if was == "resumed":
            return
        if was not in ("fresh", "gap"):
            self.fault("handshake", f"expected fresh, resumed, or gap, got {was!r}")
        if was == "fresh" and any(self.last.values()):
            self.fault("gap for nothing", "fresh, though it had a position")
        if was == "gap" and self._now() > self.may_gap_until:
            self.fault("gap for nothing", f"a gap after {self.last}")
        self.bound = {kind: numbers[kind] for kind in WHOLE}

    def event(self, kind: str, g: int, n: int) -> None:
        self.events += 1
        self.recent.append(f"{kind}{n}")
        last = self.last[kind]
        if n <= last:
            self.fault("doubled", f"{kind}{n} after {kind}{last}")
            return
        if g <= self.g:
            self.fault("out of order", f"{kind}{n} is event {g}, and came after {self.g}")
        if kind in WHOLE:
            bound = self.bound.pop(kind, None)
            if bound is None and n > last + 1:
                self.fault("missing, untold", f"{kind}{n} after {kind}{last}")
            elif bound is not None and n > bound + 1 and n > last + 1:
                self.fault("missing, untold", f"{kind}{n} after a gap at {kind}{bound}")
        self.g = max(g, self.g)
        self.last[kind] = n

    def end(self, newest: Mapping[str, int]) -> None:
        """Judge what is missing when all is quiet."""
        for kind in (*WHOLE, "l"):
            if self.last[kind] != newest[kind]:
                text = f"{kind}{self.last[kind]} is the last, expected {kind}{newest[kind]}"
                self.fault("missing at the end", text)
        for k, (_, may_lose) in self.asked.items():
            self._lose(k, "no reply at the end", may_lose)

    def is_complete(self, newest: Mapping[str, int]) -> bool:
        return not self.asked and all(self.last[kind] >= newest[kind] for kind in (*WHOLE, "l"))

    # -- replies

    def ask(self, k: int, x: int) -> None:
        self.asked[k] = (x, False)

    def reply(self, k: int, value: object) -> None:
        """Note the first reply to an event."""
        if k not in self.asked:
            self.fault("reply twice", f"to {k}: {value!r:.80}")
            return
        x, may_lose = self.asked.pop(k)
        self.replies += 1
        if value != [k, x + 1]:
            if may_lose:
                self.lost_to_kills += 1
                return
            self.fault("reply wrong", f"to {k}: expected {[k, x + 1]}, got {value!r:.80}")

    def handled(self, k: int) -> None:
        """Note that a handler got an event."""
        self.handled_at.setdefault(k, self._now())
        if len(self.handled_at) > 10_000:
            del self.handled_at[next(iter(self.handled_at))]

    def no_reply(self, k: int, why: str) -> None:
        """Note that the client waits for a reply no longer.

        Its events wait their turn: a client whose connections break all the time, on a busy
        machine, may not get one across in time. That is no fault; to have no reply is one.
        """
        if k not in self.asked:
            return
        _, may_lose = self.asked.pop(k)
        handled_at = self.handled_at.get(k)
        if not may_lose and (handled_at is None or self._now() - handled_at < REPLY_WITHIN):
            self.late += 1
        else:
            self._lose(k, why, may_lose)

    def refused(self, k: int) -> None:
        """Note that `send` raised: the event is not sent at all."""
        self.unsent.add(k)
        self.asked.pop(k, None)

    def _lose(self, k: int, why: str, may_lose: bool) -> None:
        if may_lose:
            self.lost_to_kills += 1
        else:
            self.fault("reply lost", f"to {k}: {why}")

    # -- what is done on purpose

    def excuse(self, seconds: float) -> None:
        """Note that the client may be told a gap within this time."""
        self.may_gap_until = max(self.may_gap_until, self._now() + seconds)

    def killed(self) -> None:
        """Note that the server's process has died: the replies that it kept are lost."""
        self.asked = {k: (x, True) for k, (x, _) in self.asked.items()}

    def loaded_anew(self) -> None:
        """Note that nobody waits for replies any more."""
        self.lost_to_kills += len(self.asked)
        self.asked.clear()

    def forgotten(self) -> None:
        """Note that the server knows nothing of the client any more: replies may be lost."""
        self.is_forgotten = True
        self.killed()


class Ledger:
    """What the handlers got of one client."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.events = 0
        self.marked = 0
        self.newest = 0
        self._life = 0
        self._cursor = 0
        self._holes: set[int] = set()
        self._shifts: dict[int, int] = {}  # by k: how far the number in its key is below it

    def take(self, k: int, life: int, *, number: int, is_marked: bool) -> None:
        """Note one event, of the server's process number `life`; its key has `number`."""
        if k <= self.newest and k not in self._holes and self._shifts.get(k, 0) != k - number:
            self.account.fault("keys", f"{number} is the key of {k}, which had another one")
        if number != k:
            self._shifts[k] = k - number
        self.events += 1
        self.account.handled(k)
        self.marked += is_marked
        fault = self.account.fault
        if life != self._life:
            self._life = life
            self._cursor = min(k - 1, self.newest)
        elif is_marked and self.account.is_forgotten and k <= self._cursor:
            self._cursor = k - 1
        if k in self._holes:
            self._holes.discard(k)
            fault("sent: out of order", f"handled {k} after {self._cursor}")
            return
        if k <= self.newest and not is_marked:
            may_repeat = life or self.account.is_forgotten
            fault("sent: unmarked repeat" if may_repeat else "sent: doubled", f"handled {k} again")
        elif k <= self._cursor:
            fault("sent: doubled", f"handled {k} after {self._cursor}, marked")
        if k > self._cursor + 1:
            self._holes.update(range(max(self._cursor, self.newest) + 1, k))
        self._cursor = max(k, self._cursor)
        self.newest = max(k, self.newest)

    def has_all(self, sent: int) -> bool:
        """Return whether the newest event that was sent is here."""
        while sent in self.account.unsent:
            sent -= 1
        return self.newest >= sent

    def end(self, sent: int) -> None:
        missing = self._holes | set(range(self.newest + 1, sent + 1))
        unsent = self.account.unsent
        for k in sorted(missing - unsent):
            self.account.fault("sent: missing", f"{k} of {sent} was never handled")
        for k in sorted(unsent - missing):
            self.account.fault("sent: after all", f"{k} was handled, and refused")
        # Numbers have no holes: an event that was refused has none.
        shift = 0
        for k in range(1, sent + 1):
            shift += k in unsent
            if k not in missing and self._shifts.get(k, 0) != shift:
                self.account.fault("keys", f"{k - self._shifts.get(k, 0)} is the key of {k}")
                break
        if self.marked and not (self._life or self.account.is_forgotten):
            self.account.fault("sent: marked for nothing", f"{self.marked} events")


def newest_of(numbers: Mapping[str, int], client_id: str, user: str) -> dict[str, int]:
    """The newest event of each kind for a client, of the server's counts by target."""
    keys = {"u": f"u {user}", "b": "b", "c": f"c {client_id}", "l": f"l {user}", "k": f"k {user}"}
    return {kind: numbers.get(key, 0) for kind, key in keys.items()}


def base(life: int) -> int:
    """The number before the first one of the server's process."""
    return life * LIFE
