"""incoming: the bytes of what is not taken yet are bounded, and the largest go first."""

from __future__ import annotations

from typing import Any

from chansock._fast.io.transport import Incoming


def shares(incoming: Incoming, *sizes: int) -> tuple[list[Any], list[int]]:
    """Make shares of these sizes; the list gets the number of each that is cut."""
    cut: list[int] = []
    made = []
    for number, size in enumerate(sizes):
        made.append(incoming.enter(cut.append, number))
        incoming.resize(made[-1], size)
    return made, cut


def test_the_largest_are_cut_until_an_eighth_is_free() -> None:
    incoming = Incoming(800)
    made, cut = shares(incoming, 100, 300, 200, 150)
    assert (incoming.held, cut) == (750, [])
    incoming.resize(made[0], 151)
    assert (incoming.held, cut) == (501, [1])


def test_the_one_that_grows_may_be_the_largest() -> None:
    incoming = Incoming(800)
    made, cut = shares(incoming, 100, 100)
    incoming.resize(made[1], 701)
    assert (incoming.held, cut) == (100, [1])
    incoming.resize(made[1], 10)  # of no use any more
    assert incoming.held == 100


def test_a_small_share_outlasts_any_number_of_larger_ones() -> None:
    incoming = Incoming(1000)
    small = incoming.enter(lambda owner: owner.append("cut"), owner := [])
    incoming.resize(small, 9)
    for _ in range(1000):
        incoming.resize(incoming.enter(lambda owner: None, None), 100)
        assert incoming.held <= 1000
    assert owner == []


def test_a_cut_that_ends_others_cuts_them_no_more() -> None:
    incoming = Incoming(800)
    made, cut = shares(incoming, 300, 300)
    first = incoming.enter(lambda owner: [incoming.end(share) for share in owner], made)
    incoming.resize(first, 400)
    assert (incoming.held, cut) == (0, [])


def test_the_search_for_the_largest_is_paid_by_what_came() -> None:
    """10,000 that hold the same: few searches, however small the steps in which they grow."""
    incoming = Incoming(80_000)
    cuts: list[int] = []
    held = [incoming.enter(cuts.append, number) for number in range(10_000)]
    searches = 0
    for step in range(1, 17):
        for share in held:
            before = len(cuts)
            incoming.resize(share, step)
            searches += len(cuts) > before
    assert 0 < searches <= 16
