"""A break: a time in which a page was cut off, what it told of it, and what got through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from chromium import Tab, now
from pulse import SLACK, lag
from server import App

PROMISED = 3000.0  # ms from a sign of the browser to a connection
EVERY = 0.05  # seconds from one number to the next
ENOUGH = 15  # numbers that arrive before a break, and after it

Step = Callable[[], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Break:
    """From `began` to `ended` a page was cut off; times are milliseconds, as the page counts.

    `states` are the open one before and those that its client told until it was back;
    `sent` is what the page told of each number that it sent (`mark` in page.js), `arrived`
    holds the numbers as they came to the server.
    """

    transport: str  # in use as it began
    began: float
    ended: float
    states: list[dict[str, Any]]
    sent: list[dict[str, Any]]
    arrived: list[int]
    lag: float  # ms that a busy machine may add to what is due

    @property
    def back_at(self) -> float:
        """When the first number was sent that got through again."""
        arrived = set(self.arrived)
        return min(
            mark["sentAt"]
            for mark in self.sent
            if mark["sentAt"] >= self.ended and mark["number"] in arrived
        )

    @property
    def reasons(self) -> list[str]:
        """Why it was not open, in order: the kinds of reason of all closed states."""
        closed = [state["reason"] for state in self.states if not state["open"]]
        return [reason["kind"] if reason else "none" for reason in closed]

    @property
    def due(self) -> float:
        """When the client had said that it would try next, as the break ended; or its end."""
        waits = [state for state in self.states if state["retryAt"] is not None]
        waits = [state for state in waits if state["at"] <= self.ended + SLACK + self.lag]
        return max([self.ended, *(state["retryAt"] for state in waits[-1:])])

    @property
    def noticed_at(self) -> float:
        """When it was first told as closed."""
        return float(next(state["at"] for state in self.states if not state["open"]))

    @property
    def doubled(self) -> list[int]:
        """The numbers that arrived more than once."""
        return doubled(self.arrived)

    @property
    def late(self) -> list[int]:
        """The numbers that arrived after a later one."""
        return late(self.arrived)

    @property
    def missing_since(self) -> list[int]:
        """The numbers sent after it was told that it is open again, and that did not arrive."""
        opened_at = max(state["at"] for state in self.states if state["open"])
        arrived = set(self.arrived)
        since = [mark["number"] for mark in self.sent if mark["sentAt"] > opened_at]
        return [number for number in since if number not in arrived]


async def record(tab: Tab, server: App, begin: Step, pause: Step, end: Step) -> Break:
    """Have an open page send numbers all the while; break the connection, wait, mend it.

    What `end` gives is when the browser told the page of it; None: it did not.
    """
    client_id = await tab.eval("client.clientId")
    await tab.do(f"marks.keep({EVERY})")
    await server.facts.until(_enough(client_id, 0))
    before = len(tab.states())
    began = now()
    await begin()
    await pause()
    ended = await end() or now()
    next_number = await tab.eval("marks.next")
    await server.facts.until(_enough(client_id, next_number), len(server.facts))
    await tab.eval("marks.stop()")
    states = tab.states()[before - 1 :]
    await tab.eval("marks.send(60)")  # with a reply: those before it have been handled
    transport = states[0]["type"]
    arrived = server.marks(client_id)
    return Break(transport, began, ended, states, tab.told("mark"), arrived, lag(began))


def doubled(numbers: list[int]) -> list[int]:
    """Return those that are there more than once."""
    return [number for number, times in Counter(numbers).items() if times > 1]


def late(numbers: list[int]) -> list[int]:
    """Return those that stand behind a larger one."""
    return [
        number
        for number, top in zip(numbers, accumulate(numbers, max), strict=False)
        if number < top
    ]


def missing(numbers: list[int], count: int) -> list[int]:
    """Return those below `count` that are not there."""
    return sorted(set(range(count)) - set(numbers))


def _enough(client_id: str, first: int) -> Callable[[list[Any]], bool]:
    """Wait for so many numbers of a client, from `first` on."""
    seen = 0

    def is_enough(fact: list[Any]) -> bool:
        nonlocal seen
        seen += fact[:2] == ["mark", client_id] and fact[2] >= first
        return seen >= ENOUGH

    return is_enough
