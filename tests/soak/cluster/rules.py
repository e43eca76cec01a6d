"""The controls: each switches off one rule of the cluster in the workers.

A rule is switched off by a patch of Python methods, as in `soak.resume.rules`, or of the Lua
scripts before they are loaded; README.md says what a soak reports then. A patch that finds another
text than it expects fails, so that no run passes for a control that it is not. Without an engine,
the rules of `soak.resume` can be switched off instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from chansock._core.cluster import Cluster
from chansock._fast.events.dispatch import Numbers
from chansock.backplanes.redis import engine
from chansock.backplanes.redis.engine import Redis
from chansock.backplanes.redis.scripts import SCRIPTS, TEXTS
from soak.resume import rules as of_resume
from soak.resume.server import Server

__all__ = ["OF_RESUME", "RULES", "switch_off"]


def change(script: str, *changes: tuple[str, str]) -> None:
    """Replace lines of a Lua script, each of which must be there once."""
    text = TEXTS[script].decode()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(
                f"expected {old!r} once in {script}.lua, got it {text.count(old)} times"
            )
        text = text.replace(old, new)
    TEXTS[script] = text.encode()
    SCRIPTS[script] = hashlib.sha1(TEXTS[script], usedforsecurity=False).hexdigest()
    engine._TURN = SCRIPTS["turn"]  # type: ignore[misc]


def no_catch_up() -> None:
    """What a worker missed while it did not hear the engine is not read."""
    caught_up = Redis._caught_up

    def nothing(self: Any, reply: Any, state: Any) -> None:
        since = state[0]
        if since.epoch and isinstance(reply, list):
            reply = [*reply[:2], []]
        caught_up(self, reply, state)

    Redis._caught_up = nothing  # type: ignore[method-assign]


def no_fence() -> None:
    """An engine that lost its end goes on where it is, and takes batches behind a hole."""
    change(
        "join",
        (" or h[3] ~= ARGV[3] or at < seen_epoch or (at == seen_epoch and seq < seen)", ""),
        ("if seen > seq then seq = seen end\n", ""),
    )
    change("beat", ("if epoch ~= ARGV[3] or seq < tonumber(ARGV[4]) then return {-2} end\n", ""))
    change(
        "turn",
        ("if epoch ~= ARGV[4] or seq < tonumber(ARGV[5]) then return {-2, seq} end\n", ""),
        ("if again == '2' then redis.call('HSET', l, 'j', seq) end\n", ""),
    )


def no_batches() -> None:
    """A worker sends again all of which it has no answer, and the engine stores it."""
    change(
        "turn",
        ("if final <= last then return {0, seq} end\n", ""),
        ("if n ~= last + 1 and again ~= '2' then return {-1, last} end\n", ""),
        ("if again == '2' then redis.call('HSET', l, 'j', seq) end\n", ""),
    )
    caught_up = Redis._caught_up

    def unknown(self: Any, reply: Any, state: Any) -> None:
        since, epoch, seq, last, *rest = state
        if self._outbox.sent:
            last = min(last, self._outbox.sent[0].first - 1)
        caught_up(self, reply, (since, epoch, seq, last, *rest))

    Redis._caught_up = unknown  # type: ignore[method-assign]


class Forgetful(dict[bytes, int]):
    """Numbers of what came, which nobody finds again."""

    def get(self, key: bytes, default: Any = None) -> Any:
        return default


def no_dedupe() -> None:
    """A worker passes on entries that it had before."""
    make = engine._Key.__init__

    def forgetful(self: Any, name: str) -> None:
        make(self, name)
        self.seen = Forgetful()

    engine._Key.__init__ = forgetful  # type: ignore[method-assign]
    engine._Key.begin = lambda self: None  # type: ignore[method-assign]


def no_marks() -> None:
    """A position may be as old as it likes: what is left of the logs is taken for the whole."""
    for script in ("read", "claim"):
        change(
            script,
            ("return since < seq end\n", "return false end\n"),
            ("return since < tonumber(upto) end\n", "return false end\n"),
        )


def no_lease() -> None:
    """Nobody clears up after a worker whose lease has ended."""
    change("beat", ("    clear(ended)\n", ""))


def no_mark() -> None:
    """What a worker may have handled that is gone is not marked."""
    numbers = Cluster.numbers

    def unmarked(self: Any, received: int, redelivered: int) -> Numbers:
        return numbers(self, received, received)

    Cluster.numbers = unmarked  # type: ignore[method-assign]


RULES: dict[str, Callable[[], None]] = {
    "catch-up": no_catch_up,
    "fence": no_fence,
    "batches": no_batches,
    "dedupe": no_dedupe,
    "marks": no_marks,
    "lease": no_lease,
    "mark": no_mark,
}
OF_RESUME = sorted({*of_resume.RULES} - of_resume.OF_CLIENT)


def switch_off(rule: str, server: Server, *, has_engine: bool) -> None:
    if has_engine:
        RULES[rule]()
    else:
        of_resume.RULES[rule](server)
