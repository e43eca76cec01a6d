"""A clock for code that takes one: nothing runs until the test says so."""

from __future__ import annotations

from collections.abc import Callable


class ManualClock:
    """A clock whose time a test sets, and whose calls it runs."""

    def __init__(self) -> None:
        self.time = 0.0
        self.soons: list[Callable[[], object]] = []
        self.wakes: list[tuple[float, Callable[[], object]]] = []
        self.asked = 0  # wakes, in all

    def now(self) -> float:
        return self.time

    def soon(self, call: Callable[[], object]) -> None:
        self.soons.append(call)

    def wake(self, when: float, call: Callable[[], object]) -> None:
        self.wakes = [(when, call)]  # replaces the former
        self.asked += 1

    def begin(self, *_: object) -> object:
        raise AssertionError("nothing that waits runs by this clock")

    def turn(self) -> None:
        calls, self.soons = self.soons, []
        for call in calls:
            call()

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self.wakes and self.wakes[0][0] <= end:
            self.time, call = self.wakes.pop()
            call()
        self.time = end
