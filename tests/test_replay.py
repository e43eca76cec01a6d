"""Recorded Sente clients against a chansock server on a real port."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import sente_app
from recording import NAMES, Record, load
from recording_order import OVERTAKEN, ranks
from replay import LOST_IN_A_DROPPED_POLL, MAY_DIFFER, Replay
from same import values

import chansock

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recorded_client_gets_what_sente_gave_it(name: str, run: Run) -> None:
    async def main() -> None:
        uid = sente_app.user_of_param if name.endswith("params") else sente_app.user_of_client_id
        chsk = sente_app.make(user_id=uid)
        async with chansock.serve(chsk, port=0) as listener:
            await Replay(name, listener.port).play()
        assert chsk.stats.bad_packet == chsk.stats.bad_event == 0

    run(main())


def test_the_recordings_are_those_of_seven_scenarios_and_big() -> None:
    kinds = {tuple(name.split("-", 2)) for name in NAMES}
    what = {
        "edn",
        "values-edn",
        "params",
        "close-me",
        "reconnect",
        "same-id",
        "two-tabs",
        "big-edn",
    }
    clients = [("jvm", "ws"), *((c, t) for c in ("node", "chromium") for t in ("ws", "ajax"))]
    assert kinds == {(*client, scenario) for client in clients for scenario in what}


def test_what_may_differ_is_what_was_agreed() -> None:
    assert list(MAY_DIFFER) == [
        "date",
        "server",
        "content-type",
        "added headers",
        "key order",
        "times",
        "batch boundaries",
        "reply among pushes",
        "end of a poll by [:chsk/close]",
        "pushes that Sente lost",
    ]
    assert {name for name, _ in LOST_IN_A_DROPPED_POLL} <= set(NAMES)


@pytest.mark.parametrize("name", OVERTAKEN)
def test_overtaken_batch_was_answered_before_the_overtaking_one_was_sent(name: str) -> None:
    late, first = OVERTAKEN[name]
    records = load(name)
    taken = ranks(records)  # by the order in which Sente's pushes came out
    sizes = {r.line: len(values(r.text)[0]) for r in records if r.line in (late, first)}
    before = sum(
        len(values(r.text)[0])
        for r in records
        if r.kind == "http-response" and r.text.startswith("[[[:test/echo") and r.line < first
    )
    overtaking = [line for line, rank in taken.items() if before <= rank < before + sizes[first]]
    overtaken = sorted(taken, key=lambda line: taken[line])[-sizes[late] :]
    answered = [_answer(records, line) for line in overtaken]
    assert max(answered) < min(overtaking)


def _answer(records: list[Record], line: int) -> int:
    conn = next(r.conn for r in records if r.line == line)
    return next(
        r.line for r in records if r.line > line and (r.conn, r.kind) == (conn, "http-response")
    )
