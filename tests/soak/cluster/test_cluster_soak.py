"""The soak of the cluster: its accounts find what breaks a promise, and a short one finds nothing.

`ci/soak.sh cluster` runs a long one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from soak.cluster.account import Account, Orders
from soak.cluster.rules import RULES
from soak.resume.account import base
from soak.resume.children import environment

A, B = base(1), base(2)  # two senders


class Ground:
    """Two clients of one user, and the kinds of faults that were found."""

    def __init__(self, *, is_plain: bool = False) -> None:
        self.faults: list[str] = []
        self.now = 100.0
        orders = self.orders = Orders()
        self.one, self.two = (
            Account(
                name,
                "u1",
                lambda kind, _: self.faults.append(kind),
                orders,
                is_plain=is_plain,
                now=lambda: self.now,
            )
            for name in ("u1.one", "u1.two")
        )
        for account in (self.one, self.two):
            account.handshake(None if is_plain else "fresh", {})


def take(account: Account, *numbers: int) -> None:
    for n in numbers:
        account.event("u", n, n)


@pytest.mark.parametrize(("numbers", "faults"), [
    ([A + 1, B + 1, A + 2, B + 2], []),
    ([A + 1, A + 3], ["missing, untold"]),
    ([A + 2], ["missing, untold"]),
    ([A + 1, B + 1, A + 1], ["doubled"]),
])  # fmt: skip
def test_events_of_each_sender_come_once_and_none_is_missing(
    numbers: list[int], faults: list[str]
) -> None:
    ground = Ground()
    take(ground.one, *numbers)
    assert ground.faults == faults


def test_two_receivers_with_different_orders_are_a_fault() -> None:
    ground = Ground()
    take(ground.one, A + 1, B + 1, A + 2)
    take(ground.two, A + 1, A + 2)
    assert ground.faults == ["other order"]


def test_what_the_engine_may_have_lost_may_come_again_in_another_order() -> None:
    ground = Ground()
    take(ground.one, A + 1)
    take(ground.two, A + 1)
    ground.orders.lose(ground.now)
    take(ground.one, B + 1)
    ground.now += 10
    take(ground.one, A + 2, B + 2, A + 3)
    take(ground.two, A + 2, B + 1, B + 2)
    assert ground.faults == []
    take(ground.two, B + 3, A + 3)
    assert ground.faults == ["other order"] * 2


def test_an_event_that_overtakes_one_of_its_sender_to_another_target_is_out_of_order() -> None:
    ground = Ground()
    ground.one.event("u", A + 2, A + 1)
    ground.one.event("b", A + 1, A + 1)
    assert ground.faults == ["out of order"]


def test_events_may_be_missing_across_a_gap_that_has_a_reason() -> None:
    ground = Ground()
    take(ground.one, A + 1)
    ground.one.excuse(10)
    ground.one.handshake("gap", {})
    take(ground.one, A + 5, B + 4)
    assert ground.faults == []
    take(ground.one, A + 7)
    ground.now += 11
    ground.one.handshake("gap", {})
    assert ground.faults == ["missing, untold", "gap for nothing"]


def test_a_sender_that_began_after_a_gap_must_be_whole() -> None:
    ground = Ground()
    ground.one.excuse(10)
    ground.one.handshake("gap", {})
    ground.one.sender_began(2)
    take(ground.one, B + 2)
    assert ground.faults == ["missing, untold"]


def test_a_plain_client_may_lose_events_at_a_break_only() -> None:
    ground = Ground(is_plain=True)
    take(ground.one, A + 1)
    ground.one.handshake(None, {})
    take(ground.one, A + 3)
    assert ground.faults == []
    take(ground.one, A + 5)
    assert ground.faults == ["missing, untold"]


def test_the_last_stored_event_of_a_dead_sender_must_come_unless_a_gap_was_told() -> None:
    ground = Ground()
    take(ground.one, A + 1)
    assert ground.one.lacks(1, {"u": A + 2}, is_alive=False)
    assert not ground.one.lacks(1, {"u": A + 1}, is_alive=False)
    ground.one.excuse(10)
    ground.one.handshake("gap", {})
    assert not ground.one.lacks(1, {"u": A + 2}, is_alive=False)
    assert ground.one.lacks(1, {"u": A + 2}, is_alive=True)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_switched_off_is_still_there(rule: str) -> None:
    code = f"from soak.cluster.rules import RULES; RULES[{rule!r}]()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def soak(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "soak.cluster.run", "0.33", "--seed", "1", *words]
    return subprocess.run(
        [*command, "--workers", "1", "--no-engine", "--clients", "60"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=180,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_short_soak_of_one_worker_finds_nothing() -> None:
    done = soak("--faults", "cut-clients,kill-worker,restart-worker,pause-worker,flood")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_short_soak_without_replay_finds_missing_events() -> None:
    done = soak("--faults", "cut-clients", "--without", "replay")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "missing, untold" in done.stdout
