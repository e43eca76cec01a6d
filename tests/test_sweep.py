"""chansock._fast.sweep: what is due when, with a clock turned by hand."""

from hand_clock import HandClock

from chansock._fast.sweep import Sweep


def test_entries_run_in_order_of_due_time_whatever_the_order_of_entering():
    clock, ran = HandClock(), []
    sweep = Sweep(clock)
    for delay in (3.0, 1.0, 2.0):
        sweep.enter(delay, ran.append, delay)
    clock.advance(2.5)
    assert ran == [1.0, 2.0]
    clock.advance(0.5)
    assert ran == [1.0, 2.0, 3.0]


def test_same_delay_keeps_the_order_of_entering():
    clock, ran = HandClock(), []
    sweep = Sweep(clock)
    for name in "abc":
        sweep.enter(1.0, ran.append, name)
    clock.advance(1.0)
    assert ran == ["a", "b", "c"]


def test_cancelled_entry_does_not_run_and_cancel_is_idempotent():
    clock, ran = HandClock(), []
    sweep = Sweep(clock)
    entries = [sweep.enter(1.0, ran.append, name) for name in "abc"]
    for entry in (entries[1], entries[1], None):
        sweep.cancel(entry)
    clock.advance(1.0)
    sweep.cancel(entries[0])
    assert ran == ["a", "c"]


def test_entry_entered_by_an_entry_runs_at_its_own_time():
    clock, ran = HandClock(), []
    sweep = Sweep(clock)
    sweep.enter(1.0, lambda _: sweep.enter(1.0, ran.append, "second"), None)
    clock.advance(1.9)
    assert ran == []
    clock.advance(0.1)
    assert ran == ["second"]


def test_entry_that_raises_is_logged_and_harms_no_other(caplog):
    clock, ran = HandClock(), []
    sweep = Sweep(clock)
    sweep.enter(1.0, lambda _: 1 / 0, None)
    sweep.enter(1.0, ran.append, "next")
    clock.advance(1.0)
    assert ran == ["next"]
    assert "sweep_error" in caplog.text


def test_one_wake_is_asked_for_however_much_waits():
    clock = HandClock()
    sweep = Sweep(clock)
    for _ in range(1000):
        sweep.enter(5.0, str, None)
    assert clock.asked == 1


def test_lag_is_how_late_the_wake_came():
    clock = HandClock()
    sweep = Sweep(clock)
    sweep.enter(1.0, str, None)
    _, call = clock.wakes[-1]
    clock.time = 4.0
    call()
    assert sweep.lag == 3.0
