"""The closing table of the benches: whose target is told, and against whom it is judged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def table() -> Iterator[Any]:
    sys.path.append(str(BENCH))
    try:
        import table

        yield table
    finally:
        sys.path.remove(str(BENCH))


def told(table: Any, targets: list[Any], **cpus: float) -> list[str]:
    """Return the lines about chansock's targets where each server took so many microseconds."""
    rows = [
        table.Row(
            name, wall=cpu * 1e-6, spread=0.0, cpu=cpu * 1e-6,
            targets=targets if name == "chansock" else (),
        )
        for name, cpu in cpus.items()
    ]  # fmt: skip
    lines = table.rows({"a question": rows}, "chansock", "C")
    return [line.strip() for line in lines if "target" in line]


def test_a_target_may_name_any_row_of_its_question(table: Any) -> None:
    targets = [
        table.Target(0.5, "picows"),
        table.Target(1.7, "C"),
        table.Target(2.0, "picows", "wall"),
    ]
    assert told(table, targets, chansock=3.0, picows=5.0, C=2.0) == [
        "target of chansock: cpu at most 0.5 x picows; 0.60, MISSED",
        "target of chansock: cpu at most 1.7 x C; 1.50, met",
        "target of chansock: wall at most 2.0 x picows; 0.60, met",
    ]


def test_a_small_target_is_told_with_digits_that_tell(table: Any) -> None:
    assert told(table, [table.Target(0.02, "picows")], chansock=0.024, picows=1.0) == [
        "target of chansock: cpu at most 0.02 x picows; 0.024, MISSED"
    ]


def test_a_target_is_not_told_where_its_row_was_not_measured(table: Any) -> None:
    assert told(table, [table.Target(0.5, "picows")], chansock=3.0, C=2.0) == []


def test_without_the_floor_targets_are_told_as_well(table: Any) -> None:
    assert told(table, [table.Target(1.0, "picows")], chansock=3.0, picows=5.0) == [
        "target of chansock: cpu at most 1.0 x picows; 0.60, met"
    ]
