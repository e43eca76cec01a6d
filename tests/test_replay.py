"""Recorded Sente clients against a chansock server on a real port."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import sente_app
from recording import NAMES, Record, load
from recording_order import OVERTAKEN, ranks
from replay import LOST_IN_A_DROPPED_POLL, MAY_DIFFER, Replay
from same import Mismatch, values

import chansock

Run = Callable[[Coroutine[Any, Any, Any]], Any]


SLOW = pytest.mark.slow  # each poll waits for flush_delay_ajax, as Sente's did


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SLOW) if "ajax" in name or "big" in name else name for name in NAMES],
)
def test_recorded_client_gets_what_sente_gave_it(name: str, run: Run) -> None:
    async def main() -> None:
        uid = sente_app.user_of_param if name.endswith("params") else sente_app.user_of_client_id
        chsk = sente_app.make(user_id=uid)
        async with chansock.serve(chsk, port=0) as listener:
            await Replay(name, listener.port).play()
        assert chsk.stats.bad_packet == chsk.stats.bad_event == 0

    run(main())


# One record of a recording is made different; the replay must say so at that line.
TAMPERED = {
    "another value": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x [1 2 4]}"),
    "a float for an int": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x [1.0 2 3]}"),
    "a string for a keyword": ("jvm-ws-edn", "{:to :all}", '{:to "all"}'),
    "a list for a vector": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x (1 2 3)}"),
    "another callback id": ("jvm-ws-edn", "344648", "344649"),
    "one push more": ("jvm-ws-edn", "[:test/pushed {:i 2}]", "[:test/pushed {:i 2}] [:a/b 3]"),
    "one push less": ("jvm-ws-edn", " [:test/pushed {:i 2}]", ""),
    "two pushes swapped": (
        "jvm-ws-edn",
        "[:test/pushed {:i 0}] [:test/pushed {:i 1}]",
        "[:test/pushed {:i 1}] [:test/pushed {:i 0}]",
    ),
    "another user": ("node-ajax-edn", '"alice-node-ajax"', '"bob"'),
    "another answer of a POST": ("node-ajax-edn", "[:chsk/dummy-cb-200 nil]", "[:chsk/x nil]"),
    "a push by a poll less": ("node-ajax-edn", " [:test/pushed {:i 2}]", ""),
}


@SLOW
@pytest.mark.parametrize("case", TAMPERED)
def test_replay_tells_a_difference(case: str, run: Run) -> None:
    name, old, new = TAMPERED[case]

    async def main() -> None:
        async with chansock.serve(sente_app.make(), port=0) as listener:
            replay = Replay(name, listener.port, patience=0.3)
            replay.records = [
                record if record.client else replace(record, text=record.text.replace(old, new))
                for record in replay.records
            ]
            assert replay.records != Replay(name, listener.port).records
            with pytest.raises(Mismatch, match=name):
                await replay.play()

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
