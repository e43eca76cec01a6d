"""Which edn values are the same value, as the replay compares them."""

from __future__ import annotations

import pytest
from same import event, tree

from chansock import edn

SAME = [
    ("{:a 1, :b 2}", "{:b 2 :a 1}"),
    ("#{1 2 3}", "#{3 1 2}"),
    ("#:t{:a 1}", "{:t/a 1}"),
    ("##NaN", "##NaN"),
    ("1e100", "1.0E100"),
    ("1N", "1"),
    ('#inst "2020-01-02T03:04:05.678-00:00"', '#inst "2020-01-02T04:04:05.678+01:00"'),
    ("[#{[1] {:a (1)}}]", "[#{{:a (1)} [1]}]"),
]

APART = ["1", "1.0", "true", '"1"', ":a", "a", '"a"', "\\a", "1M", "1.0M", "nil", "false", "0"]
APART += ["[1]", "(1)", "#{1}", "[]", "()", "#{}", "{}", "{:a 1}", '{"a" 1}', "{a 1}", "{:a 1.0}"]
APART += ["0.0", "-0.0", "##Inf", "1/2", "0.5", "[:a]", '["a"]']


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spelling_and_order_do_not_count(one: str, other: str) -> None:
    assert tree(edn.loads(one)) == tree(edn.loads(other))


def test_types_are_told_apart() -> None:
    trees = {tree(edn.loads(text)) for text in APART}
    assert len(trees) == len(APART)


def test_event_without_data_is_the_event_with_nil() -> None:
    assert event(edn.loads("[:a/b]")) == event(edn.loads("[:a/b nil]"))
    assert event(edn.loads("[:a/b]")) != event(edn.loads("[:a/b false]"))
