"""The soak of resume: its accounts find what breaks a rule, and a short one finds nothing.

`ci/soak.sh resume` runs a long one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soak.resume import LIFE
from soak.resume.account import Account, Ledger
from soak.resume.raw import read, read_handshake

TESTS = Path(__file__).parents[2]
NONE = {"u": 0, "b": 0, "c": 0, "l": 0, "k": 0}


class Ground:
    """One account, its ledger, and the kinds of faults that they found."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.now = 100.0
        self.account = Account("c", lambda kind, _: self.faults.append(kind), lambda: self.now)
        self.ledger = Ledger(self.account)
        self.account.handshake("fresh", NONE)

    def take(self, *numbers: int, kind: str = "u") -> None:
        for n in numbers:
            self.account.event(kind, n, n)

    def handle(self, *numbers: int, life: int = 0, is_marked: bool = False) -> None:
        for k in numbers:
            self.ledger.take(k, life, number=k, is_marked=is_marked)


@pytest.mark.parametrize(("numbers", "faults"), [
    ([1, 2, 3], []),
    ([1, 3], ["missing, untold"]),
    ([2], ["missing, untold"]),
    ([1, 2, 2], ["doubled"]),
])  # fmt: skip
def test_events_come_once_and_none_is_missing(numbers: list[int], faults: list[str]) -> None:
    ground = Ground()
    ground.take(*numbers)
    assert ground.faults == faults


def test_an_event_of_another_target_that_is_overtaken_is_out_of_order() -> None:
    ground = Ground()
    ground.account.event("u", 2, 1)
    ground.account.event("b", 1, 1)
    assert ground.faults == ["out of order"]


def test_a_gap_is_a_fault_unless_there_was_a_reason() -> None:
    ground = Ground()
    ground.take(1)
    ground.account.handshake("gap", {**NONE, "u": 5})
    assert ground.faults == ["gap for nothing"]
    ground.account.excuse(10)
    ground.now += 9
    ground.account.handshake("gap", {**NONE, "u": 5})
    ground.take(6, 7)
    assert ground.faults == ["gap for nothing"]


def test_what_follows_a_gap_must_come() -> None:
    ground = Ground()
    ground.take(1)
    ground.account.excuse(10)
    ground.account.handshake("gap", {**NONE, "u": 5})
    ground.take(7)
    assert ground.faults == ["missing, untold"]


def test_latest_and_unkept_events_may_be_missing() -> None:
    ground = Ground()
    ground.take(3, kind="l")
    ground.take(9, kind="k")
    assert ground.faults == []


def test_the_last_event_must_have_come() -> None:
    ground = Ground()
    ground.take(1)
    ground.account.end({**NONE, "u": 2})
    assert ground.faults == ["missing at the end"]


def test_replies_are_right_and_come() -> None:
    ground = Ground()
    ground.handle(1, 2, 3, 4)
    for k in range(1, 5):
        ground.account.ask(k, 10)
    ground.account.reply(1, [1, 11])
    ground.account.reply(2, [2, 12])
    ground.now += 10
    ground.account.no_reply(3, "in time")
    ground.account.end(NONE)
    assert ground.faults == ["reply wrong", "reply lost", "reply lost"]


def test_no_reply_to_an_event_that_waited_for_its_turn_is_late_and_not_lost() -> None:
    ground = Ground()
    for k in (1, 2):
        ground.account.ask(k, 10)
    ground.handle(1)
    ground.now += 9
    ground.account.no_reply(1, "in time")
    ground.account.no_reply(2, "in time")
    assert (ground.faults, ground.account.late) == ([], 2)


@pytest.mark.parametrize(("numbers", "faults"), [
    ([1, 2, 3], []),
    ([1, 2, 2, 3], ["sent: doubled"]),
    ([1, 3, 2], ["sent: out of order"]),
    ([1, 3], ["sent: missing"]),
    ([1, 2], ["sent: missing"]),
])  # fmt: skip
def test_events_are_handled_once_and_in_order(numbers: list[int], faults: list[str]) -> None:
    ground = Ground()
    ground.handle(*numbers)
    ground.ledger.end(3)
    assert ground.faults == faults


def test_an_event_that_was_refused_is_not_sent_and_has_no_number() -> None:
    ground = Ground()
    ground.account.refused(2)
    for k, number in ((1, 1), (3, 2)):
        ground.ledger.take(k, 0, number=number, is_marked=False)
    ground.ledger.end(3)
    assert ground.faults == []
    ground.ledger.take(2, 0, number=2, is_marked=False)
    ground.ledger.end(3)
    assert ground.faults == ["sent: out of order", "sent: after all", "keys"]


def test_the_key_of_an_event_stays_and_has_its_number() -> None:
    ground = Ground()
    ground.handle(1, 2)
    ground.ledger.take(3, 0, number=2, is_marked=False)
    ground.ledger.end(3)
    assert ground.faults == ["keys"]
    ground.handle(4)
    ground.ledger.take(4, 1, number=3, is_marked=True)
    assert ground.faults == ["keys", "keys"]


def test_after_a_kill_marked_events_may_come_again() -> None:
    ground = Ground()
    ground.handle(1, 2, 3)
    ground.handle(2, 3, life=1, is_marked=True)
    ground.handle(4, life=1)
    assert ground.faults == []
    ground.handle(4, life=2)
    ground.handle(4, life=2, is_marked=True)
    assert ground.faults == ["sent: unmarked repeat", "sent: doubled"]


def test_a_mark_without_a_kill_is_a_fault() -> None:
    ground = Ground()
    ground.handle(1, is_marked=True)
    ground.ledger.end(1)
    assert ground.faults == ["sent: marked for nothing"]


def test_a_raw_client_reads_what_the_server_writes() -> None:
    packet = b'[[[:s/u [7 1 "xx"]] [:chsk/ack 3] [:chsk/pos "5-7"]] nil]'
    events = [["s/u", [7, 1, "xx"]], ["chsk/ack", 3], ["chsk/pos", "5-7"]]
    assert read(packet) == [events, None]
    handshake = (
        b'[[:chsk/handshake ["u1" {:pos "5-7", :was :resumed, :handled 2} {:u 1, :b 0}]] nil]'
    )
    told = {"pos": "5-7", "was": "resumed", "handled": "2"}
    assert read_handshake(handshake) == (told, {"u": 1, "b": 0})
    assert read_handshake(b'[[:chsk/handshake ["u1" nil nil]] nil]') is None


def test_numbers_of_a_later_process_are_higher() -> None:
    ground = Ground()
    ground.take(1)
    ground.account.excuse(1)
    ground.account.handshake("gap", dict.fromkeys(NONE, LIFE))
    ground.take(LIFE + 1, LIFE + 2)
    assert ground.faults == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_short_soak_finds_nothing() -> None:
    places = (TESTS.parent, TESTS, TESTS / "support")
    paths = [*map(str, places), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "soak.resume.run", "0.2", "--seed", "1", "--kills", "0.3"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
