"""chansock._fast.io.timers: what is due when, with a manual clock."""

from manual_clock import ManualClock

from chansock._fast.io.timers import TimerQueue


def test_entries_run_in_order_of_due_time_whatever_the_order_of_entering():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    for delay in (3.0, 1.0, 2.0):
        timers.schedule(delay, ran.append, delay)
    clock.advance(2.5)
    assert ran == [1.0, 2.0]
    clock.advance(0.5)
    assert ran == [1.0, 2.0, 3.0]


def test_same_delay_keeps_the_order_of_entering():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    for name in "abc":
        timers.schedule(1.0, ran.append, name)
    clock.advance(1.0)
    assert ran == ["a", "b", "c"]


def test_cancelled_entry_does_not_run_and_cancel_is_idempotent():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    entries = [timers.schedule(1.0, ran.append, name) for name in "abc"]
    for entry in (entries[1], entries[1], None):
        timers.cancel(entry)
    clock.advance(1.0)
    timers.cancel(entries[0])
    assert ran == ["a", "c"]


def test_entry_entered_by_an_entry_runs_at_its_own_time():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    timers.schedule(1.0, lambda _: timers.schedule(1.0, ran.append, "second"), None)
    clock.advance(1.9)
    assert ran == []
    clock.advance(0.1)
    assert ran == ["second"]


def test_entry_that_raises_is_logged_and_harms_no_other(caplog):
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    timers.schedule(1.0, lambda _: 1 / 0, None)
    timers.schedule(1.0, ran.append, "next")
    clock.advance(1.0)
    assert ran == ["next"]
    assert "timer_error" in caplog.text


def test_one_wake_is_asked_for_however_much_waits():
    clock = ManualClock()
    timers = TimerQueue(clock)
    for _ in range(1000):
        timers.schedule(5.0, str, None)
    assert clock.asked == 1


def test_lag_is_how_late_the_wake_came():
    clock = ManualClock()
    timers = TimerQueue(clock)
    timers.schedule(1.0, str, None)
    _, call = clock.wakes[-1]
    clock.time = 4.0
    call()
    assert timers.lag == 3.0


def test_many_that_are_due_run_in_slices_with_turns_between():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    for number in range(40_000):
        timers.schedule(1.0, ran.append, number)
    clock.advance(1.0)
    most = len(ran)
    while clock.soons:
        before = len(ran)
        clock.turn()  # what else is due runs between two of these
        most = max(most, len(ran) - before)
    assert ran == list(range(40_000))
    assert most < 500


def test_slices_keep_the_order_of_due_time_and_run_what_comes_due_meanwhile():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    for number in range(300):
        for delay in (1.0, 1.5, 3.0):
            timers.schedule(delay + number / 1000, ran.append, delay + number / 1000)
    clock.time, call = 2.0, clock.wakes[-1][1]
    call()
    clock.time = 5.0
    while clock.soons:
        clock.turn()
    assert ran == sorted(ran)
    assert len(ran) == 900


def test_what_a_slice_leaves_can_be_cancelled_and_the_next_wake_is_asked_for_once():
    clock, ran = ManualClock(), []
    timers = TimerQueue(clock)
    entries = [timers.schedule(1.0, ran.append, number) for number in range(1000)]
    timers.schedule(9.0, ran.append, "last")
    clock.advance(1.0)
    count = len(ran)
    for entry in entries:
        timers.cancel(entry)
    asked = clock.asked
    timers.schedule(5.0, ran.append, "later")
    while clock.soons:
        clock.turn()
    assert (len(ran), clock.asked) == (count, asked + 1)
    clock.advance(8.0)
    assert ran[count:] == ["later", "last"]


def test_lag_is_that_of_the_wake_in_all_its_slices():
    # Not of each slice: entries that are put off by it would need a queue for each.
    clock, lags = ManualClock(), []
    timers = TimerQueue(clock)
    for _ in range(1000):
        timers.schedule(1.0, lambda _: lags.append((timers.lag, timers.is_late)), None)
    clock.time = 1.25
    clock.wakes[-1][1]()
    while clock.soons:
        clock.time += 0.1
        clock.turn()
    assert set(lags) == {(0.25, True)}
    assert len(lags) == 1000
    timers.schedule(1.0, lambda _: lags.append((timers.lag, timers.is_late)), None)
    clock.advance(1.0)
    assert lags[-1] == (0.0, False)
