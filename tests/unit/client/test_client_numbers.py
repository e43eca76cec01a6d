"""What a client keeps over its connections: numbers, the buffer, positions, and replies."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chansock import packers
from chansock._core.log_limit import LogLimit, call_later
from chansock._fast.events.packet import adapt
from chansock.client.packets import LARGE, Events, Handshake, Resumption, read_packet, unpack
from chansock.client.resume import Resume, Sender
from chansock.errors import ChannelClosed, ConnectionLost, ReplyError, ReplyTimeout
from chansock.values import Keyword

EDN = adapt(packers.EDN())


def begun(handled: int = 0, was: str = "fresh", position: str = "7-0", **limits: int) -> Resume:
    resume = Resume(**limits)
    resume.begin(Resumption(position, was, handled))
    return resume


def taken(resume: Resume) -> list[tuple[int, bytes]]:
    found = []
    while (item := resume.take()) is not None:
        found.append(item)
        resume.mark_sent(item[0])
    return found


# numbers and the buffer


def test_events_are_numbered_from_1_and_taken_once_for_each_connection():
    resume = begun()
    assert [resume.add(b"a"), resume.add(b"b")] == [1, 2]
    assert taken(resume) == [(1, b"a"), (2, b"b")]
    assert taken(resume) == []
    assert (resume.acked, resume.sent, resume.last) == (0, 2, 2)


def test_an_event_that_is_taken_to_be_written_now_counts_as_sent():
    resume = begun()
    resume.add(b"a")
    resume.add(b"b")
    assert (resume.take_now(), resume.taken, resume.sent, len(resume)) == (b"a", 1, 1, 2)
    resume.begin(None)
    assert (resume.take_now(), resume.taken, resume.sent, len(resume)) == (b"b", 2, 2, 0)


def test_a_new_connection_gets_what_the_server_has_not_taken():
    resume = begun()
    for packet in (b"a", b"b", b"c"):
        resume.add(packet)
    taken(resume)
    resume.add(b"d")
    resume.begin(Resumption("7-1", "resumed", 1))
    assert taken(resume) == [(2, b"b"), (3, b"c"), (4, b"d")]


def test_what_is_taken_and_not_acknowledged_stays_in_the_buffer():
    resume = begun()
    resume.add(b"a")
    taken(resume)
    resume.begin(Resumption("7-1", "resumed", 1))
    assert len(resume) == 1
    assert resume.ack(1)
    assert len(resume) == 0
    assert not resume.ack(1)


def test_an_acknowledgment_of_what_was_never_sent_drops_nothing_unsent():
    resume = begun()
    resume.add(b"a")
    taken(resume)
    resume.add(b"b")
    resume.ack(9)
    assert (resume.acked, len(resume)) == (1, 1)
    assert taken(resume) == [(2, b"b")]


def test_the_buffer_is_bounded_by_events():
    resume = begun(max_events=2)
    assert resume.fits(1)
    resume.add(b"a")
    assert resume.fits(1)
    resume.add(b"b")
    assert not resume.fits(0)
    taken(resume)
    resume.ack(1)
    assert resume.fits(1)


def test_the_buffer_is_bounded_by_bytes_but_for_a_single_event():
    resume = begun(max_bytes=10)
    assert resume.fits(100)
    resume.add(b"x" * 4)
    assert resume.fits(6)
    assert not resume.fits(7)
    resume.add(b"x" * 6)
    taken(resume)
    resume.ack(2)
    assert resume.fits(100)


def test_a_packet_is_replaced_and_its_bytes_with_it():
    resume = begun(max_bytes=10)
    resume.add(b"x" * 10)
    resume.replace(1, b"y")
    resume.replace(2, b"never")
    assert resume.fits(9)
    assert taken(resume) == [(1, b"y")]


# what requests carry


def fields(resume):
    """Return the fields of a handshake, without its attempt."""
    return [field for field in resume.handshake_fields() if field[0] != "try"]


def test_handshake_fields_are_position_and_numbers():
    resume = Resume()
    assert fields(resume) == [("pos", "0"), ("acked", "0"), ("sent", "0")]
    resume = begun(position="7-3")
    for _ in range(3):
        resume.add(b"x")
    taken(resume)
    resume.ack(1)
    resume.add(b"x", "cb")  # waits, but was not sent
    assert fields(resume) == [("pos", "7-3"), ("acked", "1"), ("sent", "3")]
    taken(resume)
    assert resume.handshake_fields()[-1] == ("waits", "4")


def test_polls_carry_the_position_only_to_a_server_that_resumes():
    resume = Resume()
    assert resume.poll_fields() == []
    assert resume.poll_fields("7-3") == [("pos", "7-3")]  # of a handshake that is taken next
    resume.begin(Resumption("7-4", "fresh", 0))
    assert resume.poll_fields() == [("pos", "7-4")]
    resume.add(b"x", "cb")
    taken(resume)
    assert resume.poll_fields() == [("pos", "7-4"), ("waits", "1")]
    resume.settle(1)
    assert resume.poll_fields() == [("pos", "7-4")]


def test_a_client_that_does_not_want_it_says_nothing():
    resume = Resume(is_wanted=False)
    assert resume.handshake_fields() == []
    assert resume.begin(Resumption("7-4", "fresh", 0)) == (None, [])
    assert resume.poll_fields("7-4") == []
    assert resume.is_on is False


def test_counts_of_a_ping_are_what_this_connection_has_and_the_lowest_that_waits():
    resume = begun()
    assert resume.counts() == [0, 1]
    for cb_id in (None, "a", "b"):
        resume.add(b"x", cb_id)
    assert resume.counts() == [0, 1]
    resume.take()
    assert resume.counts() == [1, 2]  # 2 waits, and is still to be written
    resume.take()
    resume.take()
    assert resume.counts() == [3, 2]
    resume.settle(2)
    assert resume.counts() == [3, 3]
    resume.settle(3)
    assert resume.counts() == [3, 4]
    resume.begin(Resumption("7-0", "resumed", 1))
    assert resume.counts() == [1, 2]


# handshakes


def test_the_handshake_decides_how_it_was_and_where_it_goes_on():
    resume = Resume()
    assert resume.is_on is None
    assert resume.begin(Resumption("7-9", "gap", 0)) == ("gap", [])
    assert (resume.is_on, resume.position) == (True, "7-9")


@pytest.mark.parametrize(("handled", "is_foreign"), [(0, True), (1, False), (2, False), (3, True)])
def test_a_count_outside_acked_to_sent_is_that_of_another_client(handled, is_foreign):
    resume = begun()
    for _ in range(3):
        resume.add(b"x")
    for number in (1, 2):
        resume.take()
        resume.mark_sent(number)
    resume.ack(1)
    assert resume.is_foreign(Resumption("7-1", "resumed", handled)) is is_foreign


def test_a_client_that_sent_nothing_counts_on_from_the_servers_count():
    resume = Resume()
    assert not resume.is_foreign(Resumption("7-1", "fresh", 5))
    resume.begin(Resumption("7-1", "fresh", 5))
    assert resume.add(b"x") == 6
    assert taken(resume) == [(6, b"x")]


def test_a_server_that_does_not_resume_gets_what_was_never_sent():
    resume = begun()
    resume.add(b"a", "one")
    resume.add(b"b")
    taken(resume)
    resume.add(b"c", "two")
    assert resume.begin(None) == (None, ["one"])
    assert resume.callback_of(1) is None
    assert resume.callback_of(3) == "two"
    assert taken(resume) == [(3, b"c")]
    assert len(resume) == 0  # each once
    assert fields(resume) == [("pos", "0"), ("acked", "3"), ("sent", "3")]


def test_an_unreadable_packet_makes_the_next_handshake_a_gap_and_no_other():
    resume = begun()
    resume.lose_position()
    assert resume.handshake_fields()[0] == ("pos", "0")
    assert resume.begin(Resumption("7-5", "fresh", 0))[0] == "gap"
    assert resume.begin(Resumption("7-5", "resumed", 0))[0] == "resumed"


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        (None, None),
        ("token", None),
        ({"pos": "7-1", "was": "resumed", "handled": 3}, Resumption("7-1", "resumed", 3)),
        (
            {Keyword("pos"): "7-1", Keyword("was"): Keyword("gap"), Keyword("handled"): 0},
            Resumption("7-1", "gap", 0),
        ),
        ({"pos": "7-1", "was": "later", "handled": 3}, None),
        ({"pos": 7, "was": "gap", "handled": 3}, None),
        ({"pos": "7 1", "was": "gap", "handled": 3}, None),
        ({"pos": "7-1", "was": "gap", "handled": True}, None),
        ({"pos": "7-1", "was": "gap", "handled": -1}, None),
        ({"pos": "7-1", "was": "gap"}, None),
    ],
)
def test_the_middle_of_a_handshake_says_how_it_resumes(middle, expected):
    value = [Keyword("chsk/handshake"), ["u", middle, {"a": 1}]]
    assert read_packet(value, None) == Handshake("u", {"a": 1}, expected)


@pytest.mark.parametrize("size", [1, LARGE])
def test_the_position_is_the_last_of_a_batch_of_any_size(size):
    def position(*items):
        inbound = unpack(EDN, f"[[{' '.join(items)}] nil]".encode())
        assert isinstance(inbound, Events)
        return inbound.position

    large = f'[:a/b "{"x" * size}"]'
    assert position(large, '[:chsk/pos "7-3"]') == "7-3"
    assert position('[:chsk/pos "7-3"]', large) is None
    assert position(large, '[:a/b [:chsk/pos "7-3"]]') is None
    assert position(large, '[:a/b "[:chsk/pos \\"7-3\\"]"]') is None
    assert position(large, "[:chsk/pos 7]") is None


# a model: a server that takes some of what was written, and may lose the rest


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_each_event_is_taken_once_and_in_order_over_any_breaks(data):
    resume = Resume(max_events=5)
    server: list[bytes] = []  # what it took
    wire: list[tuple[int, bytes]] = []  # written to this connection, and not taken yet
    count, handled = 0, 0
    resume.begin(Resumption("1-0", "fresh", 0))
    for _ in range(data.draw(st.integers(0, 60))):
        step = data.draw(st.sampled_from(["add", "add", "write", "take", "handle", "ack", "break"]))
        if step == "add" and resume.fits(1):
            count += 1
            assert resume.add(b"%d" % count) == count
        elif step == "write" and (item := resume.take()) is not None:
            resume.mark_sent(item[0])
            wire.append(item)
        elif step == "take" and wire:
            number, packet = wire.pop(0)
            server.append(packet)
            assert number == len(server)  # both sides count
        elif step == "handle":
            handled = min(handled + 1, len(server))
        elif step == "ack":
            resume.ack(handled)
        elif step == "break":
            wire.clear()
            answer = Resumption("1-0", "resumed", len(server))
            assert not resume.is_foreign(answer)
            resume.begin(answer)
        assert resume.acked <= resume.taken <= resume.last
        assert len(resume) == resume.last - resume.acked <= 5
        assert resume.sent <= resume.last
    resume.begin(Resumption("1-0", "resumed", len(server)))
    server += [packet for _, packet in taken(resume)]
    assert server == [b"%d" % number for number in range(1, count + 1)]


# send


def test_a_sender_serves_one_loop_after_the_other():
    link = Link(max_events=1)

    async def main():
        link.sender.open()
        link.begin(handled=link.resume.last)
        sends = [link.send(name) for name in "abc"]
        for _ in range(3):
            await turns()
            link.sender.ack(link.resume.last)
        await asyncio.gather(*sends)
        link.sender.close(" (why)")

    asyncio.run(main())
    asyncio.run(main())


class Link:
    """A connection that takes all that the buffer has, while it is open."""

    def __init__(self, **limits):
        self.resume = Resume(**limits)
        self.is_open = False
        self.has_room = True
        self.written = []
        self.now = []
        self.asked = 0
        self.sender = Sender(
            self.resume,
            EDN,
            LogLimit(time.monotonic, call_later),
            send_now=self.send_now,
        )
        self.sender.attach(self.flush, self.ask_acks)

    def begin(self, handled=0, was="fresh"):
        self.is_open = True
        self.sender.begin(Resumption("1-0", was, handled))
        self.flush()

    def flush(self):
        if not self.is_open:
            return True
        if not self.has_room:
            return False
        for number, packet in taken(self.resume):
            self.written.append(packet.decode())
            self.sender.written(number)
        return True

    def ask_acks(self):
        self.asked += 1

    async def send_now(self, event, timeout):
        self.now.append((event, timeout))
        return "now"

    def send(self, name, timeout=None):
        return asyncio.ensure_future(self.sender.send([Keyword("a/" + name)], timeout))


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


def driven(test):
    def run():
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@driven
async def test_what_is_sent_before_the_first_handshake_waits_in_order():
    link = Link()
    sends = [link.send(name) for name in "abc"]
    await turns()
    assert not any(send.done() for send in sends)
    link.begin()
    await turns()
    assert all(send.done() for send in sends)
    assert link.written == ["[[:a/a] nil]", "[[:a/b] nil]", "[[:a/c] nil]"]


@driven
async def test_what_waits_for_a_server_that_does_not_resume_is_sent_by_it_in_order():
    link = Link()
    sends = [link.send(name, timeout) for name, timeout in (("a", None), ("b", 60))]
    await turns()
    link.sender.begin(None)
    later = link.send("c")
    await turns()
    assert [send.result() for send in (*sends, later)] == ["now"] * 3
    assert [event[0] for event, _ in link.now] == ["a/a", "a/b", "a/c"]
    assert link.written == []


@driven
async def test_a_send_without_a_connection_returns_once_it_is_kept():
    link = Link()
    link.begin()
    link.is_open = False
    assert await link.send("a") is None
    assert link.written == []
    link.begin()
    assert link.written == ["[[:a/a] nil]"]


@driven
async def test_a_send_over_a_connection_waits_until_it_is_written_or_the_connection_ends():
    link = Link()
    link.begin()
    link.has_room = False
    first, second = link.send("a"), link.send("b")
    await turns()
    assert not first.done()
    link.has_room = True
    link.flush()
    await asyncio.gather(first, second)
    link.has_room = False
    third = link.send("c")
    await turns()
    assert not third.done()
    link.sender.detach()
    assert await third is None


@driven
async def test_at_the_limit_send_waits_for_acknowledgments_in_turn():
    link = Link(max_events=1)
    link.begin()
    await link.send("a")
    sends = [link.send("b"), link.send("c")]
    await turns()
    assert link.asked == 1  # the holder of the line has asked what is handled
    late = link.send("d")
    link.sender.ack(1)
    await turns()
    assert [send.done() for send in (*sends, late)] == [True, False, False]
    sends[1].cancel()  # has no place yet: it is not sent
    await turns()
    link.sender.ack(2)
    await late
    assert link.written == ["[[:a/a] nil]", "[[:a/b] nil]", "[[:a/d] nil]"]


@driven
async def test_a_request_that_finds_no_room_in_time_is_not_sent():
    link = Link(max_events=1)
    link.begin()
    await link.send("a")
    with pytest.raises(ReplyTimeout, match="the event was not sent"):
        await link.send("b", 0.01)
    assert link.resume.last == 1


@driven
async def test_a_request_that_times_out_is_still_delivered():
    link = Link()
    link.begin()
    link.is_open = False
    with pytest.raises(ReplyTimeout, match=r"within 0\.01 s"):
        await link.send("a", 0.01)
    assert len(link.sender.pending) == 0
    link.begin()
    assert [text[:8] for text in link.written] == ["[[:a/a] "]
    assert link.resume.counts() == [1, 2]  # and waits no more


@driven
async def test_a_late_reply_resolves_its_request_once():
    link = Link()
    link.begin()
    asking, failing = link.send("a", 60), link.send("b", 60)
    await turns()
    batch = [
        [Keyword("chsk/reply"), [1, 42]],
        [Keyword("c/d"), 1],
        [Keyword("chsk/reply"), [1, 43]],
        [Keyword("chsk/reply"), [2, [Keyword("chsk/error"), "why"]]],
        [Keyword("chsk/reply"), [9, 0]],
        [Keyword("chsk/reply"), 9],
        [Keyword("chsk/ack"), 1],
        [Keyword("chsk/ack"), "x"],
        [Keyword("chsk/pos"), "1-1"],
    ]
    assert link.sender.sift(batch) == [[Keyword("c/d"), 1]]
    assert await asking == 42
    with pytest.raises(ReplyError, match="why"):
        await failing
    assert link.resume.acked == 1
    assert list(link.sender.sift(iter(batch))) == [[Keyword("c/d"), 1]]


@driven
async def test_a_request_outlives_its_connection_and_ends_with_the_client():
    link = Link()
    link.begin()
    asking = link.send("a", 60)
    await turns()
    link.begin(handled=1, was="resumed")
    await turns()
    assert not asking.done()
    link.has_room = False
    waiting = link.send("b")
    await turns()
    link.sender.close(" (why)")
    with pytest.raises(ConnectionLost, match=r"expected a reply, got the end .* \(why\)"):
        await asking
    with pytest.raises(ConnectionLost, match=r"expected to send, got the end .* \(why\)"):
        await waiting
    with pytest.raises(ChannelClosed, match=r"one that is closed \(why\)"):
        await link.send("c")
    link.sender.open()
    link.has_room = True
    await link.send("d")
    assert link.written[1:] == ["[[:a/b] nil]", "[[:a/d] nil]"]


@driven
async def test_a_request_that_was_sent_is_lost_with_a_server_that_resumes():
    link = Link()
    link.begin()
    asking = link.send("a", 60)
    await turns()
    link.is_open = False
    later = link.send("b", 60)
    await turns()
    link.sender.begin(None)
    with pytest.raises(ConnectionLost, match="a server that does not resume"):
        await asking
    assert not later.done()
    later.cancel()


@driven
async def test_an_event_that_is_too_big_is_replaced_after_its_connection():
    link = Link()
    link.begin()
    asking = link.send("a", 60)
    await link.send("b")
    link.sender.has_too_big = True
    link.begin(handled=0, was="resumed")
    with pytest.raises(ReplyError, match="1009"):
        await asking
    assert link.written[2:] == ["[[:chsk/refused] nil]", "[[:a/b] nil]"]
    link.begin(handled=1, was="resumed")
    assert link.written[4:] == ["[[:a/b] nil]"]


@driven
async def test_an_event_that_was_never_written_is_not_taken_for_too_big():
    link = Link()
    link.begin()
    await link.send("a")
    link.is_open = False
    await link.send("b")
    link.sender.has_too_big = True
    link.begin(handled=1, was="resumed")
    assert link.written == ["[[:a/a] nil]", "[[:a/b] nil]"]


@driven
async def test_a_send_that_waits_for_room_ends_with_the_client_at_once():
    link = Link(max_events=1)
    link.begin()
    await link.send("a")
    waits = [link.send("b"), link.send("c")]
    await turns()
    link.sender.close(" (why)")
    await turns()
    for task in waits:
        with pytest.raises(ChannelClosed, match="why"):
            task.result()


def test_the_attempts_of_a_client_grow_also_if_its_clock_goes_back(monkeypatch):
    resume = Resume()
    attempts = []
    for seconds in (1000.0, 1000.0, 900.0, 1001.0):
        monkeypatch.setattr("time.time", lambda seconds=seconds: seconds)
        attempts.append(int(dict(resume.handshake_fields())["try"]))
    assert attempts == [1_000_000, 1_000_001, 1_000_002, 1_001_000]
