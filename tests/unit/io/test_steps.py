"""steps: a generator is run to its first yield or to its end."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from chansock._fast.io.tasks import start


def steps(*waits: str) -> Generator[str, str, str]:
    got = ""
    for wait in waits:
        got += yield wait
    return f"got {got!r}"


def test_what_waits_is_given_and_goes_on() -> None:
    waiting = steps("a", "b")
    assert start(waiting) == ("a", False)
    assert waiting.send("1") == "b"
    with pytest.raises(StopIteration) as end:
        waiting.send("2")
    assert end.value.value == "got '12'"


def test_what_waits_for_nothing_is_at_its_end() -> None:
    assert start(steps()) == ("got ''", True)


def test_what_the_steps_raise_is_raised() -> None:
    def fail() -> Generator[None, None, None]:
        yield from ()
        raise LookupError("a")

    with pytest.raises(LookupError, match="a"):
        start(fail())
