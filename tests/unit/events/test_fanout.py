"""chansock._fast.events.fanout: outboxes over shared nodes, the flush, and what is counted."""

import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock

from chansock._fast.events.fanout import Fanout, Fragment, Outbox
from chansock._fast.events.packet import Packet
from chansock._fast.io.timers import TimerQueue
from chansock._fast.io.transport import Transport
from chansock.packers import EDN


class Recorder(Transport):
    """A transport whose backlog and end are set by the test."""

    def __init__(self, kind: str = "ws") -> None:
        self.streams = self.receives = kind == "ws"
        self.writes: list[list[bytes]] = []
        self.packets: list[Packet] = []
        self.waiting = 0
        self.is_closed = False
        self.code: int | None = None
        self.when_closed: Callable[[], object] = lambda: None

    def write(self, packets: list[Packet]) -> bool:
        if self.is_closed:
            return False
        self.packets += packets
        self.writes.append([packet.body() for packet in packets])
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.code = code
        self.when_closed()

    def backlog(self) -> int:
        return self.waiting


class Ground:
    """A fanout, its clock, and a way to make outboxes with transports."""

    def __init__(self, **changes: Any) -> None:
        settings = {
            "max_bytes": 10_000,
            "max_events": 100,
            "max_total": 1_000_000,
            "delay_ws": 0.0,
            "delay_ajax": 0.1,
        }
        self.clock = ManualClock()
        self.packer = EDN()
        self.fanout = Fanout(
            self.clock, TimerQueue(self.clock), self.packer, **{**settings, **changes}
        )

    def box(self, kind: str | None = "ws") -> tuple[Outbox, Recorder]:
        box, recorder = Outbox(self.fanout), Recorder(kind or "ws")
        self.fanout.join(box)
        if kind is not None:
            box.attach(recorder)
        return box, recorder

    def fragment(self, n: int, key: object = None) -> Fragment:
        return Fragment(self.packer.fragment(("t/e", n)), key)

    def lost(self) -> int:
        return sum(self.fanout.lost.values())


ONE = Fragment(b"[:t/e 1]").nbytes  # what waits where one event does
NODE = 96  # of these, for its place in one history
BOX = 16  # what an outbox for which something waits adds to the total


def batch(*numbers: int) -> bytes:
    events = " ".join(f"[:t/e {n}]" for n in numbers)
    return f"[[{events}] nil]".encode()


def test_one_turn_is_one_batch_in_the_order_of_sending():
    ground = Ground()
    box, recorder = ground.box()
    for n in (1, 2, 3):
        ground.fanout.send(box, ground.fragment(n))
    assert recorder.writes == []
    ground.clock.turn()
    assert recorder.writes == [[batch(1, 2, 3)]]
    assert ground.fanout.written == 3


def test_a_broadcast_is_framed_once_for_all_who_have_the_same_run():
    ground = Ground()
    recorders = [ground.box()[1] for _ in range(5)]
    for n in (1, 2):
        ground.fanout.broadcast(ground.fragment(n))
    ground.clock.turn()
    assert {id(recorder.packets[0]) for recorder in recorders} == {id(recorders[0].packets[0])}
    assert recorders[0].writes == [[batch(1, 2)]]


def test_interleaved_groups_share_one_packet_for_each_history():
    ground = Ground()
    boxes = [ground.box() for _ in range(30)]
    for n in range(9):
        fragment = ground.fragment(n)
        for box, _ in boxes[n % 3 :: 3]:
            ground.fanout.send(box, fragment)
    ground.clock.turn()
    packets = {id(recorder.packets[0]): recorder.writes for _, recorder in boxes}
    assert len(packets) == 3
    assert boxes[1][1].writes == [[batch(1, 4, 7)]]


def test_what_waits_for_nobody_is_kept_and_counted_until_somebody_comes():
    ground = Ground()
    box, recorder = ground.box(None)
    ground.fanout.send(box, ground.fragment(1))
    ground.clock.turn()
    assert box.waiting_bytes == ONE
    assert ground.fanout.waiting == ONE + BOX
    box.attach(recorder, Packet(b"hello", False))
    assert recorder.writes == [[b"hello", batch(1)]]
    assert ground.fanout.waiting == 0


def test_a_backlog_stops_writing_until_drained():
    ground = Ground()
    box, recorder = ground.box()
    recorder.waiting = 10
    ground.fanout.send(box, ground.fragment(1))
    ground.clock.turn()
    for n in (2, 3):
        ground.fanout.send(box, ground.fragment(n))
        ground.clock.turn()
    assert recorder.writes == [[batch(1)]]
    recorder.waiting = 0
    box.drained()
    assert recorder.writes == [[batch(1)], [batch(2, 3)]]


def test_a_transport_that_drains_within_its_write_gets_nothing_twice():
    class Quick(Recorder):
        def write(self, packets: list[Packet]) -> bool:
            taken = super().write(packets)
            box.drained()
            return taken

    ground = Ground()
    box, _ = ground.box(None)
    quick = Quick()
    ground.fanout.send(box, ground.fragment(1))
    box.attach(quick, Packet(b"hello", False))
    ground.fanout.send(box, ground.fragment(2))
    ground.clock.turn()
    assert quick.writes == [[b"hello", batch(1)], [batch(2)]]
    assert ground.fanout.sent == ground.fanout.written == 2


def test_latest_takes_out_the_older_event_that_still_waits():
    ground = Ground()
    boxes = [ground.box() for _ in range(3)]
    for n, key in ((1, "a"), (2, None), (3, "b"), (4, "a"), (5, None)):
        ground.fanout.broadcast(ground.fragment(n, key))
    ground.clock.turn()
    for _, recorder in boxes:
        assert recorder.writes == [[batch(2, 3, 4, 5)]]
    assert ground.fanout.replaced == 3
    assert ground.fanout.sent == ground.fanout.written + ground.fanout.replaced
    assert len({id(recorder.packets[0]) for _, recorder in boxes}) == 1


def test_latest_goes_around_a_reply_and_keeps_its_place():
    ground = Ground()
    box, recorder = ground.box()
    ground.fanout.send(box, ground.fragment(1, "k"))
    box.put(Packet(b"reply", False))
    ground.fanout.send(box, ground.fragment(2, "k"))
    ground.clock.turn()
    assert recorder.writes == [[b"reply", batch(2)]]


def test_latest_does_not_touch_what_was_written():
    ground = Ground()
    box, recorder = ground.box()
    for n in (1, 2):
        ground.fanout.send(box, ground.fragment(n, "k"))
        ground.clock.turn()
    assert recorder.writes == [[batch(1)], [batch(2)]]
    assert ground.fanout.replaced == 0


def test_replies_stand_where_they_were_put_among_pushes():
    ground = Ground()
    box, recorder = ground.box()
    ground.fanout.send(box, ground.fragment(1))
    box.put(Packet(b"r1", False))
    box.put(Packet(b"r2", False))
    ground.fanout.send(box, ground.fragment(2))
    ground.clock.turn()
    assert recorder.writes == [[batch(1), b"r1", b"r2", batch(2)]]


def test_a_poll_waits_for_the_flush_delay_and_takes_one_batch():
    ground = Ground()
    box, recorder = ground.box("ajax")
    ground.fanout.send(box, ground.fragment(1))
    ground.clock.turn()
    ground.clock.advance(0.05)
    ground.fanout.send(box, ground.fragment(2))
    assert recorder.writes == []
    ground.clock.advance(0.05)
    assert recorder.writes == [[batch(1, 2)]]
    ground.fanout.send(box, ground.fragment(3))
    ground.clock.advance(1.0)
    assert recorder.writes == [[batch(1, 2)]]
    assert box.waiting_events == 1


def test_flush_now_writes_at_once_with_what_came_before():
    ground = Ground()
    box, recorder = ground.box("ajax")
    for n in (1, 2):
        ground.fanout.send(box, ground.fragment(n))
    box.flush_now()
    assert recorder.writes == [[batch(1, 2)]]


@pytest.mark.parametrize("limit", [{"max_events": 3}, {"max_bytes": 3 * ONE}])
def test_a_writable_socket_is_flushed_early_and_never_cut(limit):
    ground = Ground(**limit)
    box, recorder = ground.box()
    for n in range(1, 10):
        ground.fanout.send(box, ground.fragment(n))
    ground.clock.turn()
    assert b"".join(b"".join(write) for write in recorder.writes).count(b":t/e") == 9
    assert recorder.code is None
    assert ground.lost() == 0


@pytest.mark.parametrize("limit", [{"max_events": 3}, {"max_bytes": 3 * ONE}])
def test_a_slow_consumer_is_cut_1013_and_each_event_counted(limit):
    ground = Ground(**limit)
    box, recorder = ground.box()
    recorder.waiting = 1
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    for n in range(1, 5):
        ground.fanout.send(box, ground.fragment(n))
    assert recorder.code == 1013
    assert ground.fanout.lost["too_slow"] + box.waiting_events == 4
    assert ground.fanout.sent == ground.fanout.written + ground.lost() + box.waiting_events


def test_the_sockets_own_buffer_counts_towards_the_limit():
    ground = Ground(max_bytes=1000)
    box, recorder = ground.box()
    ground.fanout.send(box, ground.fragment(0))
    recorder.waiting = 999
    ground.clock.turn()
    ground.fanout.send(box, ground.fragment(1))
    assert recorder.code == 1013


def test_a_backlog_made_by_a_flush_counts_for_what_follows_in_the_same_turn():
    ground = Ground(max_bytes=1000)
    box, recorder = ground.box()
    ground.fanout.send(box, ground.fragment(0))
    recorder.waiting = 999
    box.flush_now()
    ground.fanout.send(box, ground.fragment(1))
    assert recorder.code == 1013


def test_the_total_holds_for_one_who_left_in_the_same_turn():
    ground = Ground(max_total=4 * ONE)
    box, _ = ground.box()
    ground.fanout.send(box, ground.fragment(0))
    box.detach()
    for n in range(1, 9):
        ground.fanout.send(box, ground.fragment(n))
        assert ground.fanout.waiting == box.waiting_bytes + (BOX if box.waiting_events else 0)
        assert ground.fanout.waiting <= 4 * ONE


def test_replies_lost_with_their_socket_are_no_bytes_that_wait():
    ground = Ground()
    box, recorder = ground.box()
    recorder.waiting = 1
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    assert ground.fanout.waiting == 1, "what the transport holds"
    box.put(Packet(b"r", False))
    assert ground.fanout.waiting == 1 + box.waiting_bytes + BOX
    box.detach()
    assert ground.fanout.waiting == 0


def test_a_backlog_of_the_transport_counts_for_the_total_until_it_is_drained():
    ground = Ground()
    box, recorder = ground.box()
    recorder.waiting = 700
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    assert ground.fanout.waiting == 700
    recorder.waiting = 100  # what was sent in part is kept whole
    ground.fanout.send(box, ground.fragment(1))
    assert ground.fanout.waiting == 700 + ONE + BOX
    recorder.waiting = 0
    box.drained()
    assert ground.fanout.waiting == 0


def test_what_a_transport_holds_that_was_cut_counts_until_it_has_ended():
    ground = Ground(max_events=1)
    box, recorder = ground.box()
    recorder.waiting = 700
    for n in range(4):
        ground.fanout.send(box, ground.fragment(n))
        ground.clock.turn()
    assert recorder.code == 1013
    assert box.waiting_events == 1
    assert ground.fanout.waiting == 700 + ONE + BOX
    ground.fanout.ended(recorder)
    assert ground.fanout.waiting == ONE + BOX


def test_a_transport_that_ends_as_it_is_cut_holds_nothing_any_more():
    ground = Ground(max_events=1)
    box, recorder = ground.box()
    recorder.waiting = 700
    recorder.when_closed = lambda: ground.fanout.ended(recorder)
    for n in range(3):
        ground.fanout.send(box, ground.fragment(n))
        ground.clock.turn()
    assert recorder.code == 1013
    assert ground.fanout.waiting == box.waiting_bytes == 0


def test_nobody_is_cut_for_what_transports_hold():
    ground = Ground(max_total=1000)
    large, small = ground.box(), ground.box()
    for n, (box, recorder) in enumerate((large, small)):
        recorder.waiting = 900 - 800 * n
        ground.fanout.send(box, ground.fragment(n))
        ground.clock.turn()
    ground.fanout.send(small[0], ground.fragment(2))
    assert (large[1].code, small[1].code) == (None, 1013)


def test_while_transports_hold_the_total_what_comes_for_others_is_lost():
    ground = Ground(max_total=1000)
    slow, away = ground.box(), ground.box(None)[0]
    slow[1].waiting = 900
    ground.fanout.send(slow[0], ground.fragment(0))
    ground.clock.turn()
    slow[1].waiting = 1100
    for n in range(1, 3):
        ground.fanout.send(away, ground.fragment(n))
    assert ground.fanout.lost["budget"] == 2 - away.waiting_events
    ground.fanout.send(slow[0], ground.fragment(3))
    assert (away.waiting_events, slow[0].waiting_events) == (0, 0)
    assert ground.fanout.waiting == 1100
    ground.fanout.ended(slow[1])
    assert ground.fanout.waiting == 0
    ground.fanout.send(away, ground.fragment(4))
    assert away.waiting_events == 1


@pytest.mark.parametrize("size", [10, 450, 1000, 5000])
@pytest.mark.parametrize("kind", ["event", "reply"])
def test_what_waits_is_counted_as_what_the_allocator_gave_for_it(kind: str, size: int):
    ground = Ground(max_bytes=1 << 30, max_events=1 << 30, max_total=1 << 30)
    box, recorder = ground.box()
    recorder.waiting = 1
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    count = 5_000
    tracemalloc.start()
    for _ in range(count):
        if kind == "event":
            ground.fanout.send(box, Fragment(bytes(size)))
        else:
            box.put(Packet(bytes(size), False))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # It tells what was asked for; what is rounded up to 16 bytes, and kept beside, is not in it.
    assert 0.75 * box.waiting_bytes <= grown <= box.waiting_bytes - 16 * count


def test_past_the_total_the_largest_wait_is_cut_first():
    ground = Ground(max_total=10 * ONE + 2 * BOX)
    small, large = ground.box(None)[0], ground.box(None)[0]
    for n in range(3):
        ground.fanout.send(small, ground.fragment(n))
    for n in range(8):
        ground.fanout.send(large, ground.fragment(n))
    assert ground.fanout.lost["budget"] == 8
    assert (small.waiting_events, large.waiting_events) == (3, 0)
    assert ground.fanout.waiting == 3 * ONE + BOX


def test_an_event_that_waits_for_many_counts_once():
    ground = Ground(max_total=10_000 + 20_000 * BOX, max_bytes=20_000)
    boxes = [ground.box(None)[0] for _ in range(20_000)]
    event = Fragment(bytes(6000))
    ground.fanout.broadcast(event)
    assert ground.fanout.waiting == event.nbytes + 20_000 * BOX
    ground.fanout.broadcast(event)
    assert ground.fanout.waiting == event.nbytes + NODE + 20_000 * BOX
    assert ground.lost() == 0
    for box in boxes:
        box.drop("grace")
    assert ground.fanout.waiting == 0


def test_an_event_in_different_histories_counts_once_and_a_node_for_each():
    ground = Ground()
    boxes = [ground.box(None)[0] for _ in range(3)]
    for n, box in enumerate(boxes):
        ground.fanout.send(box, ground.fragment(n))
    before = ground.fanout.waiting
    event = Fragment(bytes(5000))
    ground.fanout.broadcast(event)
    assert ground.fanout.waiting - before == event.nbytes + 2 * NODE
    for count, box in zip((3, 2, 1), boxes, strict=True):
        assert ground.fanout.waiting == 5000 + ONE - 8 + (count - 1) * NODE + count * (ONE + BOX)
        box.drop("grace")
    assert ground.fanout.waiting == 0


def test_what_is_shared_counts_until_the_last_has_it():
    ground = Ground()
    pairs = [ground.box(None) for _ in range(3)]
    for n in range(5):
        ground.fanout.broadcast(ground.fragment(n))
    for left, (box, recorder) in zip((2, 1, 0), pairs, strict=True):
        box.attach(recorder)
        assert ground.fanout.waiting == (5 * ONE + left * BOX if left else 0)


def test_latest_is_counted_as_its_history_is():
    ground = Ground()
    boxes = [ground.box(None)[0] for _ in range(3)]
    for n in range(20):
        ground.fanout.broadcast(ground.fragment(n % 10, "ab"[n % 2]))
    assert ground.fanout.waiting == 2 * ONE + 3 * BOX
    for box in boxes:
        box.drop("grace")
    assert ground.fanout.waiting == 0


def test_the_one_whose_cut_frees_the_most_is_cut_not_those_who_share():
    ground = Ground(max_total=70 * ONE)
    sharing = [ground.box(None)[0] for _ in range(50)]
    for n in range(20):
        event = ground.fragment(n)
        for box in sharing:
            ground.fanout.send(box, event)
    for box in sharing[::2]:  # and a little that is its own
        box.put(Packet(b"r", False))
    alone = ground.box(None)[0]
    for n in range(18):
        ground.fanout.send(alone, ground.fragment(n))
    assert ground.fanout.lost["budget"] == 18
    assert alone.waiting_events == 0
    assert all(box.waiting_events == 20 for box in sharing)


def test_those_who_wait_for_the_same_events_cost_no_other_for_these():
    # Old readers of the same broadcasts: each has a history of its own, and next to nothing
    # that the others do not hold too.
    ground = Ground(max_total=90_000, max_bytes=100_000)
    readers = []
    for n in range(30):
        readers.append(ground.box(None)[0])
        event = Fragment(bytes([n]) * 1000)
        for box in readers:
            ground.fanout.send(box, event)
    assert all(box.waiting_events for box in readers)
    assert ground.lost() == 0
    alone = ground.box(None)[0]
    ground.fanout.send(alone, Fragment(bytes(9_000)))
    ground.fanout.send(alone, Fragment(bytes(9_000)))
    assert ground.lost() == 1 + (alone.waiting_events == 0) == 2
    assert all(box.waiting_events for box in readers)


def test_pairs_that_share_are_cut_as_pairs():
    ground = Ground(max_total=100 * ONE, max_bytes=100 * ONE)
    ones, others = ([ground.box(None)[0] for _ in range(20)] for _ in range(2))
    events = 0
    for k in range(20):
        for n in range(5):
            event = ground.fragment(100 * k + n)
            ground.fanout.send(ones[k], event)
            ground.fanout.send(others[-k], event)
            events += 2
    lost = ground.fanout.lost["budget"]
    # No more than twice as many as have to go, each time 1/32 of what may wait.
    assert 0 < lost <= 2 * (events // 16)
    assert ground.fanout.waiting <= 100 * ONE


def test_of_many_that_wait_for_one_event_no_more_are_cut_than_it_takes():
    ground = Ground(max_total=ONE + 100 * BOX)
    for _ in range(105):
        ground.box(None)
    ground.fanout.broadcast(ground.fragment(1))
    assert ground.fanout.waiting <= ONE + 100 * BOX
    assert 0 < ground.lost() <= 10


def test_past_the_total_a_part_of_it_is_freed_for_what_follows():
    ground = Ground(max_total=800 * ONE)
    boxes = [ground.box(None)[0] for _ in range(400)]
    cuts = []
    for n in range(4000):
        before = ground.lost()
        ground.fanout.send(boxes[n % 400], ground.fragment(n))
        if ground.lost() > before:
            cuts.append(n)
            assert 760 * ONE < ground.fanout.waiting <= 775 * ONE
    assert len(cuts) > 10
    assert all(later - earlier > 20 for earlier, later in itertools.pairwise(cuts))


def test_past_the_total_the_work_grows_with_what_is_sent_alone():
    def took(count: int) -> float:
        """Send each of so many two events of its own, of which half are too much."""
        ground = Ground(max_total=count * ONE)
        boxes = [ground.box(None)[0] for _ in range(count)]
        started = time.thread_time()
        for n in range(2):
            for box in boxes:
                ground.fanout.send(box, ground.fragment(n))
        assert ground.lost() > 0
        return time.thread_time() - started

    assert min(took(8_000) for _ in range(3)) < 4 * 8 * min(took(1_000) for _ in range(3))


def test_nobody_is_looked_at_for_what_transports_hold():
    def took(count: int) -> float:
        """Many sockets have a backlog, and together all that may wait; others are sent to."""
        ground = Ground(max_total=10 * count)
        for n in range(count):
            box, recorder = ground.box()
            recorder.waiting = 11
            ground.fanout.send(box, ground.fragment(n))
        while ground.clock.soons:
            ground.clock.turn()
        away = ground.box(None)[0]
        started = time.thread_time()
        for n in range(1000):
            ground.fanout.send(away, ground.fragment(n))
        assert ground.fanout.lost["budget"] == 1000
        return time.thread_time() - started

    assert min(took(8_000) for _ in range(3)) < 4 * min(took(1_000) for _ in range(3))


def test_packets_are_not_kept_with_what_others_wait_for():
    ground = Ground(max_bytes=1 << 20, max_events=1000, max_total=1 << 30)
    slow = ground.box(None)[0]
    pairs = [ground.box(None) for _ in range(100)]
    tracemalloc.start()
    for box, recorder in pairs:
        for _ in range(3):
            ground.fanout.broadcast(Fragment(bytes(1000)))
        box.attach(recorder)  # it comes back, and takes a part of what the other waits for
        recorder.packets.clear()
        recorder.writes.clear()
        ground.fanout.leave(box)
        ground.clock.turn()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert slow.waiting_events == 300
    assert held < 2 * ground.fanout.waiting


def test_what_a_closed_transport_did_not_take_waits_for_the_next_one():
    ground = Ground()
    box, recorder = ground.box()
    ground.fanout.send(box, ground.fragment(1))
    recorder.is_closed = True
    ground.clock.turn()
    ground.fanout.send(box, ground.fragment(2))
    other = Recorder()
    box.attach(other)
    assert other.writes == [[batch(1, 2)]]


def test_a_transport_that_raises_counts_as_closed(caplog):
    class Broken(Recorder):
        def write(self, packets: list[Packet]) -> bool:
            raise OSError("broken")

    ground = Ground()
    box, _ = ground.box(None)
    box.attach(Broken())
    ground.fanout.send(box, ground.fragment(1))
    ground.clock.turn()
    assert box.waiting_events == 1
    assert "write_error" in caplog.text


def test_an_outbox_that_left_gets_nothing():
    ground = Ground()
    boxes = [ground.box() for _ in range(3)]
    ground.fanout.leave(boxes[0][0])
    ground.fanout.broadcast(ground.fragment(1))
    ground.clock.turn()
    assert [len(recorder.writes) for _, recorder in boxes] == [0, 1, 1]


def test_a_long_path_dies_without_recursion():
    ground = Ground(max_events=1_000_000, max_bytes=100_000_000, max_total=1_000_000_000)
    box, _ = ground.box(None)
    fragment = [ground.fragment(1), ground.fragment(2)]
    for n in range(300_000):
        ground.fanout.send(box, fragment[n % 2])
    dropped = []
    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: dropped.append(box.drop("grace")))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert dropped == [300_000]


def test_replies_count_towards_the_limit_of_events():
    ground = Ground(max_events=5)
    box, recorder = ground.box()
    recorder.waiting = 1
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    for _ in range(6):
        box.put(Packet(b"r", False))
    assert recorder.code == 1013
    assert ground.fanout.reply_lost == 6


def test_replies_that_were_not_written_do_not_outlive_their_socket():
    ground = Ground()
    box, recorder = ground.box()
    recorder.waiting = 1
    ground.fanout.send(box, ground.fragment(0))
    ground.clock.turn()
    box.put(Packet(b"r", False))
    ground.fanout.send(box, ground.fragment(1))
    box.put(Packet(b"r", False))
    ground.fanout.send(box, ground.fragment(2))
    box.detach()
    poll = Recorder("ajax")
    box.attach(poll)
    assert poll.writes == [[batch(1, 2)]]
    assert ground.fanout.reply_lost == 2


def test_after_a_poll_a_socket_is_written_to_at_the_end_of_the_turn():
    ground = Ground()
    box, _ = ground.box("ajax")
    ground.fanout.send(box, ground.fragment(1))
    box.detach()
    socket = Recorder()
    box.attach(socket)
    ground.fanout.send(box, ground.fragment(2))
    ground.clock.turn()
    assert socket.writes == [[batch(1)], [batch(2)]]


STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3), st.sampled_from([None, "a", "b"])),
    st.tuples(st.just("all"), st.sampled_from([None, "a"])),
    st.tuples(st.just("reply"), st.integers(0, 3)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("block"), st.integers(0, 3), st.integers(1, 60)),
    st.tuples(st.just("drain"), st.integers(0, 3)),
    st.tuples(st.just("away"), st.integers(0, 3)),
    st.tuples(st.just("back"), st.integers(0, 3)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_every_event_is_written_replaced_lost_or_waits_and_order_holds(steps):
    ground = Ground(max_bytes=4 * ONE, max_events=6, max_total=10 * ONE)
    pairs = [list(ground.box()) for _ in range(4)]
    seen: list[list[Recorder]] = [[pair[1]] for pair in pairs]
    number = 0
    for name, *args in steps:
        pair = pairs[args[0]] if name not in ("all", "turn") else None
        if name == "send":
            number += 1
            ground.fanout.send(pair[0], ground.fragment(number, args[1]))
        elif name == "all":
            number += 1
            ground.fanout.broadcast(ground.fragment(number, args[0]))
        elif name == "reply":
            pair[0].put(Packet(b"r", False))
        elif name == "turn":
            ground.clock.turn()
        elif name == "block":
            pair[1].waiting = args[1]
        elif name == "drain":
            pair[1].waiting = 0
            if pair[1].code is None:
                pair[0].drained()
        elif name == "away":
            pair[0].detach()
        else:
            ground.fanout.ended(pair[1])
            pair[1] = Recorder()
            seen[args[0]].append(pair[1])
            pair[0].attach(pair[1])
        waiting = sum(box.waiting_events for box, _ in pairs)
        fanout = ground.fanout
        assert fanout.sent == fanout.written + fanout.replaced + ground.lost() + waiting
        assert fanout.waiting <= 10 * ONE
    for box, recorder in pairs:
        ground.fanout.ended(recorder)
        box.detach()
        box.drop("grace")
    assert ground.fanout.waiting == 0
    for recorders in seen:
        numbers = [
            int(word.rstrip(b"]"))
            for recorder in recorders
            for write in recorder.writes
            for packet in write
            for word in packet.split()
            if word.rstrip(b"]").isdigit()
        ]
        assert numbers == sorted(set(numbers))


def test_a_broadcast_to_many_goes_out_in_slices_and_in_order():
    ground = Ground()
    recorders = [ground.box()[1] for _ in range(1000)]
    ground.fanout.broadcast(ground.fragment(1))
    turns = 0
    while any(recorder.writes == [] for recorder in recorders):
        before = sum(len(recorder.writes) for recorder in recorders)
        ground.clock.turn()  # what else is due runs between two of these
        turns += 1
        assert 0 < sum(len(recorder.writes) for recorder in recorders) - before < 500
        if turns == 2:
            ground.fanout.broadcast(ground.fragment(2))
    assert turns > 2
    while ground.clock.soons:
        ground.clock.turn()
    for recorder in recorders:
        assert recorder.writes in ([[batch(1)], [batch(2)]], [[batch(1, 2)]])
    assert ground.fanout.written == 2000


def test_a_broadcast_is_framed_once_though_somebody_is_away():
    ground = Ground()
    away, _ = ground.box(None)
    recorders = [ground.box()[1] for _ in range(1000)]
    ground.fanout.broadcast(ground.fragment(1))
    while ground.clock.soons:
        ground.clock.turn()
    assert len({id(packet) for each in recorders for packet in each.packets}) == 1
    assert away.waiting_events == 1


def test_who_is_marked_by_a_write_gets_its_turn():
    ground = Ground()
    boxes = [ground.box() for _ in range(600)]

    class Echoing(Recorder):
        def write(self, packets: list[Packet]) -> bool:
            if not self.writes:  # as a handler of a peer in the same process might
                ground.fanout.send(boxes[0][0], ground.fragment(9))
            return super().write(packets)

    last = Outbox(ground.fanout)
    ground.fanout.join(last)
    last.attach(echoing := Echoing())
    ground.fanout.broadcast(ground.fragment(1))
    while ground.clock.soons:
        ground.clock.turn()
    assert echoing.writes == [[batch(1)]]
    assert boxes[0][1].writes == [[batch(1)], [batch(9)]]
