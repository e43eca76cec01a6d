"""The controls: each switches off one rule of the engine's client in the workers.

A rule is switched off by a patch of Python methods, as in `soak.resume.rules`. The names are
fixed; each gets its patch in `PATCHES` with the engine that it patches. A rule without a patch is
refused, so that no run passes for a control that it is not. Without an engine, the rules of
`soak.resume` can be switched off instead: they show that this soak finds faults.
"""

from __future__ import annotations

from collections.abc import Callable

from soak.resume import rules as of_resume
from soak.resume.server import Server

RULES = {
    "catch-up": "what a worker missed while it did not hear the engine is read again",
    "fence": "an engine that lost its tail opens a new epoch",
    "batches": "a batch that was sent twice is stored once",
    "dedupe": "a receiver drops entries that it had before",
    "marks": "a position that is older than keep_seconds is told a gap",
}
PATCHES: dict[str, Callable[[], None]] = {}
OF_RESUME = sorted({*of_resume.RULES} - of_resume.OF_CLIENT)


def switch_off(rule: str, server: Server) -> None:
    if rule in OF_RESUME:
        of_resume.switch_off(rule, server)
        return
    if rule not in PATCHES:
        raise SystemExit(f"expected a rule with a patch, got {rule!r}: known are {[*PATCHES]}")
    PATCHES[rule]()
