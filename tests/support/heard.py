"""A node that notes what its engine calls, and waits for it. No test here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from chansock._core.backplane import Position
from chansock._core.engine import Engine, Entry, Item

__all__ = ["Heard", "kept", "until"]

LIMIT = 30.0


class Heard:
    """Each call is a tuple in `log`; `entries` are those delivered, `members` those present."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.log: list[tuple[object, ...]] = []
        self.number = 0
        self.members: set[str] = set()
        self.lost: list[str] = []
        self.calls: list[tuple[str, bytes]] = []
        self.changes: list[tuple[str, str, str]] = []
        self.states: list[bool] = []
        self.replaced_count = 0
        self.gone: list[str] = []
        self.again: list[Entry] = []
        self.ends: list[Position] = []
        self.older: list[Position] = []

    def delivered(self, entry: Entry) -> None:
        self.entries.append(entry)

    def repeated(self, entry: Entry) -> None:
        self.again.append(entry)

    def older_epochs(self, ends: Sequence[Position]) -> None:
        self.older = list(ends)

    def epoch_ended(self, position: Position) -> None:
        self.ends.append(position)

    def returned(self, number: int) -> None:
        assert number > self.number
        self.number = number

    def missed(self, keys: Iterable[str]) -> None:
        self.lost += keys

    def called(self, origin: str, payload: bytes) -> None:
        self.calls.append((origin, payload))

    def entered(self, member: str, origin: str) -> None:
        assert member not in self.members
        self.members.add(member)
        self.changes.append(("+", member, origin))

    def left(self, member: str, origin: str) -> None:
        assert member in self.members
        self.members.remove(member)
        self.changes.append(("-", member, origin))

    def present(self, members: Iterable[str]) -> None:
        self.members = set(members)

    def state_changed(self, is_up: bool, reason: str) -> None:
        assert not self.states or self.states[-1] != is_up
        self.states.append(is_up)

    def moved(self, clients: Iterable[str]) -> None:
        self.gone += clients

    def replaced(self) -> None:
        self.replaced_count += 1

    def texts(self, key: str = "") -> list[str]:
        return [one.envelope.decode() for one in self.entries if not key or one.key == key]


def kept(key: str, *texts: str) -> list[Item]:
    return [Item(key, 1, True, text.encode()) for text in texts]


async def until(condition: Callable[[], object], what: str = "a condition") -> None:
    """Wait until it is so, at most LIMIT."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LIMIT
    while not condition():
        assert loop.time() < end, f"expected {what} within {LIMIT} s"
        await asyncio.sleep(0.005)


async def settled(engines: Sequence[Engine]) -> None:
    """Wait until all was stored that these appended."""
    for engine in engines:
        await engine.stored()
