"""How long a request may take to come: Protocol on a transport of memory, virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from http_cases import MALFORMED
from manual_clock import ManualClock
from raw_listener import Door, Socket

from chansock._edge import http1
from chansock._fast.events.server_protocol import Service
from chansock._fast.io.timers import TimerQueue
from chansock.config import Config
from chansock.request import Response

HEAD = b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CHUNKED = b"POST /other HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = HEAD + b"\r\n" + CHUNKED + b"2;x\r\nab\r\n0\r\nA: b\r\n\r\n" + POST + b"x" * 100 + UPGRADE


class Memory:
    """A transport that keeps what it is given; `ended` says how it was let go."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self.is_reading = True
        self.waiting = 0  # bytes that the peer has not taken

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("203.0.113.9", 5000)}.get(name)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = self.ended or "eof"

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Place:
    """One connection, its clock, and what the peer sees."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        config = Config(**settings)
        timers = TimerQueue(self.clock)
        self.door = Door(self.clock, timers, config)  # type: ignore[arg-type]
        self.service = Service(
            self.door, self.clock, timers, config, path="/chsk", fallback=None, http1=http1
        )
        self.wire = Memory()
        self.protocol = Socket(self.service)
        self.protocol.connection_made(self.wire)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        """Make the kernel return this in one read."""
        window = memoryview(self.protocol.get_buffer(-1))
        window[: len(data)] = data
        window.release()
        self.protocol.buffer_updated(len(data))
        self.clock.turn()

    def trickle(self, data: bytes, every: float) -> float:
        """Feed a byte each so many seconds until somebody ends it; give how long it took."""
        start = self.clock.time
        for k in range(len(data)):
            self.feed(data[k : k + 1])
            self.clock.advance(every)
            if self.wire.ended:
                break
        return self.clock.time - start

    @property
    def status(self) -> int | None:
        """That of the last answer."""
        line = self.wire.written.rpartition(b"HTTP/1.1 ")[2]
        return int(line[:3]) if line else None


def test_head_that_trickles_in_gets_408_after_handshake_timeout() -> None:
    place = Place()
    took = place.trickle(HEAD + b"A: b\r\n" * 1000, 0.5)
    assert (took, place.status, place.wire.ended) == (5.0, 408, "eof")


def test_head_that_trickles_in_faster_is_taken() -> None:
    place = Place()
    place.trickle(HEAD, 4.9 / len(HEAD))
    assert (place.status, place.wire.ended) == (404, "")


def test_second_head_on_a_connection_has_no_more_time_than_the_first() -> None:
    place = Place()
    place.feed(HEAD)
    place.clock.advance(60)
    assert place.trickle(HEAD, 0.5) == 5.0
    assert (place.status, place.wire.ended) == (408, "eof")


def test_empty_lines_win_no_time() -> None:
    place = Place()
    assert place.trickle(b"\r\n" * 1000, 0.5) == 5.0
    assert (place.status, place.wire.ended) == (408, "eof")


@pytest.mark.parametrize("body", [POST + b"x" * 99, CHUNKED + b"1\r\na\r\n" * 1000])
def test_body_that_trickles_in_gets_408_after_body_timeout(body: bytes) -> None:
    place = Place()
    head, _, rest = body.partition(b"\r\n\r\n")
    place.feed(head + b"\r\n\r\n")
    assert place.trickle(rest, 0.5) == 20.0
    assert (place.status, place.wire.ended) == (408, "eof")


def test_peer_that_stays_after_its_408_is_let_go_after_close_timeout() -> None:
    place = Place()
    place.feed(b"GET ")
    place.clock.advance(5)
    assert (place.status, place.wire.ended) == (408, "eof")
    for _ in range(10):
        place.feed(b"x" * 1000)
        place.clock.advance(0.49)
    assert place.wire.ended == "eof"
    place.clock.advance(0.2)
    assert place.wire.ended == "abort"


def test_connection_that_says_nothing_is_closed_without_an_answer() -> None:
    place = Place()
    place.clock.advance(4.9)
    assert place.wire.ended == ""
    place.clock.advance(0.2)
    assert (place.wire.written, place.wire.ended) == (b"", "close")


def test_kept_connection_may_be_idle_for_http_idle_timeout() -> None:
    place = Place()
    place.feed(HEAD)
    place.clock.advance(74.9)
    assert place.wire.ended == ""
    place.clock.advance(0.2)
    assert place.wire.ended == "close"


def lagging(data: bytes) -> Place:
    """A request whose answer waits for its peer."""
    place = Place()
    place.wire.waiting = 1000
    place.feed(data)
    place.protocol.pause_writing()
    return place


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_answer_is_not_cut_off_while_its_peer_takes_some_of_it(fields: bytes) -> None:
    place = lagging(HEAD[:-2] + fields + b"\r\n")
    ended = place.wire.ended
    for _ in range(20):
        place.clock.advance(74)
        place.wire.waiting -= 1
        assert place.wire.ended == ended
    place.clock.advance(200)
    assert place.wire.ended == "abort"


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_peer_that_takes_nothing_of_its_answer_is_cut_off(fields: bytes) -> None:
    place = lagging(HEAD[:-2] + fields + b"\r\n")
    place.clock.advance(200)
    assert place.wire.ended == "abort"


def test_socket_that_was_closed_is_given_no_more_time_for_what_it_takes() -> None:
    place = lagging(UPGRADE)
    place.door.transports[0].close(1013)
    place.clock.advance(9.9)
    place.wire.waiting -= 1
    assert place.wire.ended == ""
    place.clock.advance(0.2)
    assert place.wire.ended == "abort"


def test_empty_lines_before_a_request_are_bounded() -> None:
    place = Place(max_head_bytes=1000)
    for _ in range(50):
        place.feed(b"\r\n" * 10)
    assert (place.status, place.wire.ended) == (None, "")
    place.feed(b"\r\n")
    assert (place.status, place.wire.ended) == (431, "eof")
    place = Place(max_head_bytes=1000)
    for _ in range(50):
        place.feed(b"\r\n" * 500 + HEAD)
        assert place.status == 404


def test_parked_poll_is_no_business_of_these_times() -> None:
    place = Place()
    place.feed(UPGRADE.replace(b"Upgrade", b"X"))
    place.clock.advance(3600)
    assert (place.status, place.wire.ended) == (None, "")
    place.door.transports[0].refuse(Response(503))
    assert place.status == 503


def test_socket_is_no_business_of_these_times() -> None:
    place = Place()
    place.feed(UPGRADE)
    place.clock.advance(3600)
    assert (place.status, place.wire.ended) == (101, "")


def outcome(pieces: list[bytes]) -> tuple[bytes, str, int]:
    place = Place()
    for piece in pieces:
        place.feed(piece)
    written = b"".join(
        line for line in place.wire.written.splitlines(True) if not line.startswith(b"Date: ")
    )
    return written, place.wire.ended, len(place.door.requests)


def test_requests_of_every_kind_are_answered_alike_however_they_are_cut() -> None:
    whole = outcome([STREAM])
    assert whole[0].count(b"HTTP/1.1 404 ") == 3
    assert whole[0].count(b"HTTP/1.1 101 ") == 1
    assert whole[1:] == ("", 1)
    assert outcome([STREAM[k : k + 1] for k in range(len(STREAM))]) == whole
    for k in range(1, len(STREAM)):
        assert outcome([STREAM[:k], STREAM[k:]]) == whole, f"split at {k}"


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_answered_alike_however_they_are_cut(case: str) -> None:
    data = HEAD + MALFORMED[case][0]
    whole = outcome([data])
    assert outcome([data[k : k + 1] for k in range(len(data))]) == whole
    for k in range(len(HEAD) + 1, len(data), 7):
        assert outcome([data[:k], data[k:]]) == whole, f"split at {k}"


def wake_late(place: Place, late: float) -> None:
    """Block the loop, and then run what is due."""
    due, call = place.clock.wakes.pop()
    place.clock.time = due + late
    call()


def test_a_deadline_that_the_loop_missed_itself_is_put_off_once() -> None:
    # What came in time may still be unread then; a 408 would be our fault, not the peer's.
    place = Place()
    place.feed(HEAD[:20])
    wake_late(place, 3.0)
    assert place.status is None
    place.feed(HEAD[20:])
    assert (place.status, place.wire.ended) == (404, "")


def test_a_loop_that_is_always_late_still_ends_what_is_due() -> None:
    place = Place()
    place.feed(HEAD[:20])
    wake_late(place, 3.0)
    wake_late(place, 3.0)
    assert (place.status, place.wire.ended) == (408, "eof")
