"""The soak: each of its rules finds what breaks it, and a short one finds nothing.

`ci/soak.sh` runs a long one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soak.account import Account
from soak.packed import NAMES, Packed, packer_of

TESTS = Path(__file__).parents[1]


class Ground:
    """One account, and the faults that it found."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.account = Account("c", lambda text: self.faults.append(text.partition(": ")[2]))

    def shake(
        self, user: int, meant: int, *, cut: int = 0, grace: int = 0, waiting: int = 0
    ) -> None:
        self.account.handshake((user, 0, 0, meant, cut, grace, 0, waiting, 0, 0))

    def take(self, *numbers: int, is_unread: bool = False, broadcast: int = 0) -> None:
        for number in numbers:
            self.account.take("u", number, broadcast, is_unread=is_unread)

    def took(self, *numbers: int) -> Ground:
        """Connect, take these, and be ready for what comes next."""
        self.shake(0, 0)
        self.take(*numbers)
        return self


def test_numbers_that_rise_by_one_over_clean_ends_are_no_fault() -> None:
    ground = Ground().took(1, 2, 3)
    ground.shake(5, 5, waiting=2)
    ground.take(4, 5, 6)
    ground.shake(9, 9, grace=3)
    ground.take(10)
    assert ground.faults == []
    assert (ground.account.received, ground.account.gone, ground.account.breaks) == (7, 0, 0)


def test_a_gap_within_a_connection_is_found() -> None:
    assert Ground().took(1, 2, 4).faults == ["u4 after u2 within a connection"]


def test_an_event_that_comes_twice_is_found() -> None:
    ground = Ground().took(1, 2)
    ground.shake(2, 2)
    ground.take(2)
    assert ground.faults == ["u2 after u2"]


def test_more_than_was_written_is_found() -> None:
    ground = Ground().took(1, 2)
    ground.shake(2, 1)
    assert ground.faults == ["1 events more than were written"]


def test_what_a_clean_end_did_not_bring_is_found() -> None:
    ground = Ground().took(1, 2)
    ground.shake(3, 3)
    assert ground.faults == ["1 events written before the last clean end did not arrive"]


def test_what_was_written_to_a_connection_that_broke_may_be_missing() -> None:
    ground = Ground().took(1, 2)
    ground.account.is_clean = False
    ground.shake(3, 3)
    ground.take(4)
    assert ground.faults == []
    assert (ground.account.gone, ground.account.late, ground.account.moments) == (1, 1, 1)


def test_what_the_kernel_had_at_a_reset_must_not_come_again() -> None:
    ground = Ground().took(1)
    ground.take(2, 3, is_unread=True)
    ground.account.is_clean = False
    ground.shake(3, 3, waiting=1)
    ground.take(3)
    assert ground.faults == ["2 events were unread at a reset, but 1 are missing", "u3 after u3"]


def test_what_waited_must_come_first_and_all_of_it() -> None:
    ground = Ground().took(1)
    ground.shake(4, 4, waiting=3)
    ground.take(4, 5)
    assert ground.faults == ["1 events of the 3 that waited came first"]


def test_the_first_new_event_is_the_one_after_the_handshake() -> None:
    ground = Ground().took(1)
    ground.shake(4, 4, cut=3)
    ground.take(6)
    assert ground.faults == ["u6 first, expected u5"]


def test_an_event_that_overtakes_a_broadcast_is_found() -> None:
    ground = Ground().took(1)
    ground.account.take("b", 1, None, is_unread=False)
    ground.take(2)
    assert ground.faults == ["u2 was sent after b0, came after b1"]


def test_what_waits_is_replaced_only_by_what_is_later() -> None:
    ground = Ground().took()
    for number in (1, 4, 3):
        ground.account.take("l", number, None, is_unread=False)
    assert ground.faults == ["l3 after l4"]


class Displacing(Ground):
    """An account whose connection got 1 and 2, and is displaced."""

    def __init__(self) -> None:
        super().__init__()
        self.took(1, 2)

    def displaced(self, theirs: list[int], ours: list[int]) -> bool:
        lists = ([("u", number, 0) for number in numbers] for numbers in (theirs, ours))
        return self.account.displaced((2, 0, 0, 2, 0, 0, 0, 0, 0, 1), *lists)


def test_who_displaces_a_connection_goes_on_where_it_ended() -> None:
    ground = Displacing()
    assert not ground.displaced([3], [4])
    ground.take(5)
    ground.shake(5, 5)
    assert ground.faults == []


@pytest.mark.parametrize(("theirs", "ours", "fault"), [
    ([3], [5], "u5 after u3 within a connection"),
    ([3, 4], [4], "u4 after u4"),
    ([], [4], "u4 after u2 within a connection"),
])  # fmt: skip
def test_what_is_lost_or_doubled_where_one_displaces_another_is_found(theirs, ours, fault) -> None:
    ground = Displacing()
    ground.displaced(theirs, ours)
    assert ground.faults == [fault]


def test_a_socket_that_its_polls_gave_back_goes_on_behind_what_they_got() -> None:
    ground = Displacing()
    assert ground.displaced([3, 5, 6], [4])
    assert ground.faults == []
    ground = Displacing()
    assert ground.displaced([3, 6], [4])
    assert ground.faults == ["u6 after u4 within a connection"]


def test_an_event_and_a_broadcast_tell_which_of_two_connections_had_the_first() -> None:
    ground = Displacing()
    theirs = [("b", 1, None), ("u", 4, 1)]
    assert ground.account.displaced((2, 0, 0, 2, 0, 0, 0, 0, 0, 1), theirs, [("u", 3, 0)])
    assert ground.faults == []


def test_who_comes_when_the_old_one_was_over_begins_behind_what_was_lost() -> None:
    ground = Displacing()
    ground.account.displaced((4, 0, 0, 4, 2, 0, 0, 0, 0, 0), [], [("u", 5, 0)])
    ground.shake(5, 5, cut=2)
    assert ground.faults == []


def test_who_displaces_what_broke_misses_only_what_was_written() -> None:
    for lost, faults in ((2, []), (1, ["2 did not come, but 1 of those written are missing"])):
        ground = Displacing()
        ground.account.is_clean = False
        ground.displaced([], [5])
        ground.shake(5, 3 + lost)
        assert ground.faults == faults


@pytest.mark.parametrize("name", sorted(set(NAMES)))
@pytest.mark.parametrize("text", [
    '[[:t/plain [1 2]] "a1"]',
    '[[[:s/u [1 2 3 "xx"]] [:s/b [1 "z"]]] nil]',
    '[[:chsk/handshake ["u1" nil [1 2 3]]] nil]',
    "[:chsk/ws-ping nil]",
])  # fmt: skip
def test_what_a_packer_carries_is_the_same_edn(name: str, text: str) -> None:
    packed = Packed(name)
    assert packed.text(packed.pack(text)).decode() == text
    assert (packed.pack(text) == text.encode()) == (name == "edn")


def test_the_users_of_a_soak_have_each_packer() -> None:
    assert {packer_of(f"u{number}", "7") for number in range(50)} == set(NAMES)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_a_short_soak_finds_nothing() -> None:
    places = (TESTS.parent, TESTS, TESTS / "support")
    paths = [*map(str, places), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "soak.run", "0.1", "--clients", "80", "--seed", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
