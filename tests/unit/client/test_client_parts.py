"""The parts of the client that need no socket: fed, and asked."""

from __future__ import annotations

import asyncio
import functools
import http.cookiejar
import os
import random
import sys
import time
import tracemalloc
import types
import urllib.request
from collections import Counter
from email.message import Message
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import peer
import pytest

from chansock import packers
from chansock._core.log_limit import LogLimit, call_later
from chansock._fast.events.packet import adapt
from chansock.client.arguments import Address, ClientConfig, encode_pairs
from chansock.client.attempt import Attempt, Jar
from chansock.client.http import BadResponse, HttpConnection, Response, ResponseReader
from chansock.client.inbox import Inbox
from chansock.client.packets import (
    LARGE,
    Event,
    Events,
    Handshake,
    Pending,
    Ping,
    PollTimeout,
    Reply,
    read_event,
    read_packet,
    unpack,
)
from chansock.client.resume import Resume
from chansock.client.socket import WsLink
from chansock.client.state import Owner, Reason, Settings, close_reason, http_reason, said
from chansock.client.timing import Backoff, KeepAlive, delay, restart_delay
from chansock.client.websocket import WebSocket
from chansock.errors import PacketError
from chansock.values import Keyword

LOG_LIMIT = LogLimit(time.monotonic, call_later)

# backoff


def test_delays_lie_where_sentes_do_up_to_the_cap():
    for n in range(60):
        if n <= 29:
            assert delay(n, 0.0, cap=1e9) == Fraction(2) ** (n - 1)
            assert delay(n, 0.5, cap=1e9) == Fraction(2) ** n * Fraction(3, 4)
        assert delay(n, 0.999999) < 10.0
        assert delay(n, 0.0) >= (5.0 if n > 3 else 2.0 ** (n - 1))


def test_first_retry_is_at_once_and_health_counts_from_the_handshake():
    backoff = Backoff(rnd=lambda: 0.5)
    assert [backoff.next_delay(0.0) for _ in range(5)] == [0.0, 3.0, 6.0, 7.5, 7.5]
    backoff.opened(100.0)
    assert backoff.next_delay(101.0) == 0.0
    backoff.opened(102.0)
    assert backoff.next_delay(102.5) == 3.0  # it was open for too short a time
    backoff.reset()
    assert backoff.next_delay(103.0) == 0.0


def test_a_restart_is_tried_twice_within_a_second_each_before_the_backoff():
    backoff = Backoff(rnd=lambda: 0.5)
    after_1012 = [backoff.next_delay(0.0, is_restart=True) for _ in range(5)]
    assert after_1012 == [restart_delay(0.5)] * 2 + [3.0, 6.0, 7.5]
    backoff.reset()
    after_a_kill = [backoff.next_delay(0.0)]  # the connection broke, then nobody listens
    after_a_kill += [backoff.next_delay(0.0, is_restart=True) for _ in range(4)]
    assert after_a_kill == [0.0] + [restart_delay(0.5)] * 2 + [3.0, 6.0]
    for rnd in (0.0, 0.999999):
        assert 0.3 <= Backoff(rnd=lambda rnd=rnd: rnd).next_delay(0.0, is_restart=True) < 1.0


def test_ten_thousand_clients_of_a_restarted_server_come_back_spread():
    rnd = random.Random(16).random
    backoffs = [Backoff(rnd=rnd) for _ in range(10_000)]
    at = [0.0] * len(backoffs)
    for round_ in range(4):  # of a server that stays away
        for i, backoff in enumerate(backoffs):
            at[i] += backoff.next_delay(at[i], is_restart=True)
        spread = Counter(int(when * 10) for when in at)
        # of a tenth of a second: 1/7 of all, 1/7 at the top of two dice, then ever fewer
        assert max(spread.values()) <= (1560, 1560, 620, 320)[round_]


def test_retry_after_puts_the_next_attempt_off_and_is_spread_too():
    for rnd, expected in ((0.0, 8.0), (0.5, 9.0)):
        backoff = Backoff(rnd=lambda rnd=rnd: rnd)
        assert backoff.next_delay(0.0, is_restart=True, retry_after=8.0) == expected
    assert Backoff(rnd=lambda: 0.0).next_delay(0.0, retry_after=1e9) == 3600.0
    assert Backoff(rnd=lambda: 0.0).next_delay(0.0, is_restart=True, retry_after=0.0) == 0.3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("soon", None),
        ("-5", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("9" * 40, 999_999_999.0),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date(value, seconds):
    assert Response(503, (("retry-after", value),), b"", True).retry_after == seconds
    assert Response(503, (), b"", True).retry_after is None


# keep-alive


def test_ping_is_due_at_a_tick_with_nothing_since_the_one_before():
    alive = KeepAlive()
    alive.heard()
    assert not alive.tick()  # the first never
    assert alive.tick()
    alive.heard()  # the pong
    assert not alive.tick()
    assert alive.tick()
    assert alive.tick()  # no pong: still nothing since


# reasons


def test_reasons_name_what_a_close_or_a_status_means():
    assert close_reason(1000, "", was_open=True) == Reason("clean", 1000)
    assert close_reason(1012, "stop", was_open=True) == Reason("unexpected", 1012, "stop")
    assert close_reason(4401, "over", was_open=False) == Reason("refused", 4401, "over")
    assert close_reason(1006, "", was_open=False).kind == "not-opened"
    assert http_reason(403, "Bad CSRF token", was_open=False).is_final
    assert http_reason(503, "", was_open=True) == Reason("unexpected", 503)
    assert str(Reason("refused", 403, "Bad CSRF token")) == "refused 403: Bad CSRF token"
    assert said(b"Bad CSRF token\r\nmore") == "Bad CSRF token"
    assert said(b"\xff" * 1000) == "�" * 200
    assert said(b"") == ""


# packets


@pytest.mark.parametrize(
    ("text", "inbound"),
    [
        ('[[:chsk/handshake ["u" nil {:a 1}]] nil]', Handshake("u", {"a": 1})),
        ('[[:chsk/handshake ["u" nil]] nil]', Handshake("u", None)),  # up to 1.20
        ('[[:chsk/handshake ["u"]]]', Handshake("u", None)),
        ("[[:chsk/handshake [:sente/nil-uid nil nil]] nil]", Handshake(None, None)),
        ('[[:chsk/handshake [":sente/nil-uid" nil nil]] nil]', Handshake(":sente/nil-uid", None)),
        ('[[:chsk/handshake ["sente/nil-uid" nil nil]] nil]', Handshake("sente/nil-uid", None)),
        ("[:chsk/ws-ping nil]", Ping()),
        ("[:chsk/ws-ping]", Ping()),
        ("[:chsk/timeout nil]", PollTimeout()),
        ('[:chsk/timeout "2c4461"]', Reply("2c4461", "chsk/timeout")),
        ('["pong" "abc123"]', Reply("abc123", "pong")),
        ('[nil "abc123"]', Reply("abc123", None)),
        ("[[[:a/b 1] [:a/b]] nil]", [Event("a/b", 1), Event("a/b")]),
        ('["chsk/ws-ping" nil]', [None]),
        ("[[] nil]", []),
        ("[nil nil]", [None]),
        ('[[["a/b" 1] (:a/b 1) [:a/b 1 2] []] nil]', [None] * 4),
    ],
)
def test_packets_mean_what_they_mean_to_sentes_client(text, inbound):
    got = read_packet(*packers.EDN().unpack(text.encode()))
    if isinstance(inbound, list):
        assert isinstance(got, Events)
        assert [read_event(item) for item in got.items] == inbound
    else:
        assert got == inbound


EDN = adapt(packers.EDN())
FILL = "x" * LARGE


@pytest.mark.parametrize(
    "items",
    [
        "[:a/b 1] [:a/b]",
        "[:a/b 1][:a/b]",
        '  [:a/b [[1] [2]]] , [:a/c "]] nil]"] ; said [\n [:a/b {:k #{1}}]',
        "[:bare] [] [1 2 3] (:a/b 1)",
    ],
)
@pytest.mark.parametrize("frame", ["[[{} {}] nil]", " [ [{} {}], nil ] ", "[[{} {}]nil]\n"])
def test_a_large_batch_is_read_item_by_item_as_it_is_read_whole(items, frame):
    large = frame.format(items, f'[:fill/it "{FILL}"]').encode()
    inbound = unpack(EDN, large)
    assert not inbound.is_whole
    assert list(inbound.items) == EDN.unpack(memoryview(large))[0]


@pytest.mark.parametrize(
    "packet",
    [
        f'[[[1] "{FILL}"] "2c4461"]',  # a reply
        f'[[:chsk/handshake ["u" nil "{FILL}"]] nil]',
        f'["{FILL}" "2c4461"]',
        f'[[[:a/b "{FILL}"]] nil extra]',
        "[[[:a/b 1]] nil]",
    ],
)
def test_what_is_no_large_batch_is_read_whole(packet):
    packet = packet.encode()
    assert unpack(EDN, packet) == read_packet(*EDN.unpack(memoryview(packet)))
    json = adapt(packers.JSON())
    batch = json.batch([json.fragment(("a/b", FILL))])
    assert unpack(json, batch) == Events([["a/b", FILL]])


@pytest.mark.parametrize(
    ("broken", "got"),
    [
        ("[:a/b 1] [:a/b )] [:a/b 2]", "at byte"),
        ("[:a/b 1] ] [:a/b 2]", "expected `] nil]` at byte"),
        ('[:a/b 1] "', "at byte"),
    ],
)
def test_a_fault_in_a_large_batch_is_found_where_it_stands(broken, got):
    items = unpack(EDN, f'[[[:fill/it "{FILL}"] {broken}] nil]'.encode()).items
    assert next(items)[0] == "fill/it"
    assert next(items) == [Keyword("a/b"), 1]
    with pytest.raises(PacketError, match=got):
        list(items)


# URLs and requests


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target", "origin"),
    [
        ("ws://h/chsk", "h", 80, "h", "/chsk", "http://h:80"),
        ("http://h:8000/chsk?a=1", "h", 8000, "h:8000", "/chsk?a=1", "http://h:8000"),
        ("wss://h", "h", 443, "h", "/", "https://h:443"),
        ("HTTPS://H:443/a%20b/é", "h", 443, "h:443", "/a%20b/%C3%A9", "https://h:443"),
        ("ws://[::1]:9/x", "::1", 9, "[::1]:9", "/x", "http://::1:9"),
        ("ws://bücher.example/x", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/x", None),
        ("ws://h/a;b?c d", "h", 80, "h", "/a%3Bb?c%20d", None),
    ],
)
def test_url_is_taken_apart(url, host, port, authority, target, origin):
    address = Address.parse(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert address.target([]) == target
    if origin is not None:
        assert address.origin == origin


def test_parameters_are_written_as_encode_uri_component_does():
    # node: encodeURIComponent("a b/é&=+?#'()*!~._-\u{1F600}")
    assert encode_pairs([("handshake?", "1"), ("v", "a b/é&=+?#'()*!~._-\U0001f600")]) == (
        "handshake%3F=1&v=a%20b%2F%C3%A9%26%3D%2B%3F%23'()*!~._-%F0%9F%98%80"
    )


def test_own_query_of_the_url_stays_in_front():
    attempt = Attempt(Address.parse("ws://h/chsk?room=7"), "c", None, (("a", "1"),), (), Jar())
    upgrade = attempt.upgrade("key").split(b"\r\n")[0]
    assert upgrade == b"GET /chsk?room=7&a=1&client-id=c&why=1 HTTP/1.1"
    get = attempt.get(5, wants_handshake=True).split(b"\r\n")[0]
    assert get == b"GET /chsk?room=7&udt=5&client-id=c&handshake%3F=1&a=1 HTTP/1.1"
    post = attempt.post_form(5, b"[[:a/b] nil]", [("n", "4-1")]).split(b"\r\n")[0]
    assert post == b"POST /chsk?room=7&a=1 HTTP/1.1"


# cookies


def sent(fields, url):
    """What the standard library's cookie jar would send."""
    jar = http.cookiejar.CookieJar()
    for field in fields:
        headers = Message()
        headers["Set-Cookie"] = field
        answer = types.SimpleNamespace(info=functools.partial(lambda fields: fields, headers))
        jar.extract_cookies(answer, urllib.request.Request(url))
    request = urllib.request.Request(url)
    jar.add_cookie_header(request)
    return set((request.get_header("Cookie") or "").split("; ")) - {""}


@pytest.mark.parametrize(
    "fields",
    [
        ["a=1"],
        ["a=1; Path=/"],
        ["a=1; Path=/other"],
        ["a=1; Path=/chsk"],
        ["a=1; Path=/ch"],
        ["a=1; Secure"],
        ["a=1; HttpOnly; SameSite=Lax"],
        ["a=1", "b=2"],
        ["a=1", "a=2"],
        ["a=1; Max-Age=1000", "b=2; Max-Age=0"],
        ["a=1", "a=; Max-Age=0"],
        ["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        ["a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT"],
        ["a=1; Expires=not a date"],
        ["a=1; Priority=very high; Partitioned"],
        ["a=1=2"],
        ['a={"x":[1]}'],
        ["=1"],
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookies_go_where_the_standard_librarys_jar_sends_them(fields, scheme):
    jar = Jar()
    address = Address.parse(f"{scheme}://h/chsk")
    jar.take(address.origin, fields)
    ours = set(jar.header(address.origin, address.path).split("; ")) - {""}
    assert ours == sent(fields, f"{scheme}://h/chsk")


def test_cookies_never_go_to_another_origin():
    jar = Jar()
    jar.take("http://h:80", ["a=1"])
    for other in ("https://h:443", "http://h:81", "http://evil:80"):
        assert jar.header(other, "/") == ""
    assert jar.header("http://h:80", "/", "mine=2; a=3") == "mine=2; a=3"
    jar.take("http://evil:80", ["b=1"])
    assert jar.header("http://h:80", "/") == ""


def test_attribute_that_cannot_be_read_counts_as_absent():
    jar = Jar()  # RFC 6265 section 5.2.2; the standard library drops the cookie
    jar.take("http://h:80", ["a=1; Max-Age=soon"])
    assert jar.header("http://h:80", "/") == "a=1"


def test_a_server_cannot_make_the_jar_grow_without_end():
    jar = Jar()
    jar.take("http://h:80", [f"c{i}=1" for i in range(1000)])
    assert len(jar.header("http://h:80", "/").split("; ")) == 50


def test_a_cookie_longer_than_browsers_keep_is_ignored():
    jar = Jar()
    jar.take("http://h:80", ["a=" + "x" * 4095, "b=" + "x" * 4096])
    assert jar.header("http://h:80", "/") == "a=" + "x" * 4095


def test_cookie_ends_when_it_said():
    jar = Jar()
    jar.take("http://h:80", ["a=1; Max-Age=10"], now=100.0)
    assert jar.header("http://h:80", "/", now=109.0) == "a=1"
    assert jar.header("http://h:80", "/", now=110.0) == ""


# HTTP responses

ANSWERS = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
)


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_is_read_whole_split_anywhere_and_byte_by_byte(answer):
    pieces = [[answer], [answer[i : i + 1] for i in range(len(answer))]]
    pieces += [[answer[:i], answer[i:]] for i in range(1, len(answer))]
    for split in pieces:
        reader = ResponseReader(100)
        got = [response for piece in split if (response := reader.feed(piece))]
        assert [(r.status, r.body, r.keep_alive) for r in got] == [(200, b"hello", True)]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_that_is_cut_anywhere_raises(answer):
    for i in range(len(answer)):
        reader = ResponseReader(100)
        if i:
            assert reader.feed(answer[:i]) is None
        with pytest.raises(BadResponse, match="connection closed"):
            reader.feed_eof()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
    ],
)
def test_what_is_no_answer_raises_bad_response(answer):
    with pytest.raises(BadResponse, match="expected"):
        ResponseReader(100).feed(answer)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 100),
        (CHUNKED + b"1\r\nx\r\n0\r\nA: ", b"x" * 1000),
        (CHUNKED + b"1;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nA: ", b"x" * 1000),
    ],
)
def test_what_comes_without_a_byte_of_the_body_is_bounded(start, piece):
    reader = ResponseReader(100)
    assert reader.feed(start) is None
    for _ in range(65_000 // len(piece)):
        assert reader.feed(piece) is None
    with pytest.raises(BadResponse, match="of at most 65536 bytes, got more"):
        reader.feed(piece * 2)


def test_a_body_in_small_pieces_holds_its_bytes_alone():
    reader = ResponseReader(100_000)
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") is None
    tracemalloc.start()
    try:
        for _ in range(20_000):
            assert reader.feed(b"ab") is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 80_000
    assert reader.feed(b"ab" * 30_000).body == b"ab" * 50_000


ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_body_past_the_limit_is_free_while_its_error_lives():
    reader = ResponseReader(1_000_000)
    assert reader.feed(ENDLESS) is None
    piece = b"x" * 100_000
    tracemalloc.start()
    try:
        for _ in range(10):
            assert reader.feed(piece) is None
        with pytest.raises(BadResponse, match="a body of at most") as error:
            reader.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000, error


def test_a_closed_connection_holds_nothing_of_its_answer():
    async def measure():
        reader = asyncio.StreamReader()
        transport = types.SimpleNamespace(abort=lambda: None)
        drain = functools.partial(asyncio.sleep, 0)
        writer = types.SimpleNamespace(write=len, drain=drain, transport=transport)
        connection = HttpConnection(reader, writer, 2_000_000)
        connection.write(b"")
        reading = asyncio.create_task(connection.read())
        for data in [ENDLESS, *[b"x" * 50_000] * 20]:
            reader.feed_data(data)
            for _ in range(5):
                await asyncio.sleep(0)
        before, _ = tracemalloc.get_traced_memory()
        connection.close()
        held, _ = tracemalloc.get_traced_memory()
        reading.cancel()
        return before - held

    tracemalloc.start()
    try:
        freed = asyncio.run(measure())
    finally:
        tracemalloc.stop()
    assert freed > 950_000


# sockets


def test_a_server_that_pings_and_does_not_read_makes_no_pongs_pile_up():
    async def main():
        sent = []
        ws = types.SimpleNamespace(
            can_send=True,
            send=lambda kind, payload: sent.append(payload),
            set_reading=lambda on: None,
        )
        owner = Owner(opened=lambda *_: None, received=lambda *_: None, would_fill=None)
        attempt = Attempt(Address.parse("ws://h/"), "c", None, (), (), Jar())
        config = ClientConfig(ws_ping_interval=None)
        settings = Settings(packer=adapt(packers.EDN()), config=config)
        sender = types.SimpleNamespace(resume=Resume(is_wanted=False), pending=Pending())
        link = WsLink(attempt, settings, owner, sender)
        link.upgraded(ws, [])
        link.message(b'[[:chsk/handshake ["u" nil]] nil]')
        link.ping(b"0")
        link.message(b"[:chsk/ws-ping nil]")
        assert sent == [b"0", b"[[:chsk/ws-pong] nil]"]
        sent.clear()
        link.set_room(False)
        for number in range(100):
            link.ping(b"%d" % number)
            link.message(b"[:chsk/ws-ping nil]")
        assert sent == []
        link.set_room(True)
        assert sent == [b"99"]
        link.set_room(False)
        link.set_room(True)
        assert sent == [b"99"]

    asyncio.run(main())


UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


def resident():
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_websocket_that_ends_holds_nothing_of_a_message_without_an_end(is_lost):
    fragment = peer.frame(peer.CONTINUATION, b"x" * (1 << 20), fin=False, mask=False)

    async def main():
        sockets = []
        before = resident()
        for _ in range(8):
            listener, transport = Mock(), Mock()
            transport.is_closing.return_value = False
            key = "AAAAAAAAAAAAAAAAAAAAAA=="
            limits = {"max_empty_fragments": 1, "max_backlog_bytes": 1}
            ws = WebSocket(listener, b"", key, int, max_message_bytes=1 << 24, **limits)
            ws.connection_made(transport)
            ws.data_received(UPGRADED % peer.accept_of(key).encode())
            ws.data_received(peer.frame(peer.TEXT, b"x", fin=False, mask=False))
            for _ in range(12):
                ws.data_received(fragment)
                for _ in range(3):
                    await asyncio.sleep(0)
            if is_lost:
                ws.connection_lost(None)
            else:
                ws.data_received(peer.frame(peer.TEXT, b"", mask=False))  # no continuation
            assert listener.lost.called is is_lost
            assert listener.failed.called is not is_lost
            sockets.append(ws)
        assert resident() - before < 40 << 20

    asyncio.run(main())


# inbox


@pytest.fixture(autouse=True)
def unsliced(monkeypatch):
    """A pause of a busy machine does not end a slice of work; test_client_hostile tests slices."""
    monkeypatch.setattr("chansock.client.inbox.SLICE", 60.0)


def inbox_of(limit, set_reading, **options):
    return Inbox(limit, set_reading, LOG_LIMIT, **{"max_bytes": 1 << 26, **options})


def test_reading_stops_where_few_events_hold_much():
    async def main():
        reading = []
        inbox = inbox_of(100, reading.append, max_bytes=10_000)
        assert not inbox.would_fill(1)
        inbox.put([Event("a/b", "x" * 6000)])
        assert reading == []
        inbox.put([Event("a/b", "x" * 3000), Event("a/b", "x" * 3000)])
        assert reading == [False]
        assert inbox.would_fill(1)
        await inbox.get()
        assert reading == [False]
        await inbox.get()
        await asyncio.sleep(0)  # the next slice sees that the batch was read to its end
        assert reading == [False, True]
        inbox.handlers.add("a/b", lambda event: None)
        inbox.put([Event("a/b", "x" * 60_000)])
        assert reading == [False, True]

    asyncio.run(main())


def test_events_are_handed_to_many_readers_without_a_search():
    looks = 0

    def profile(frame, kind, called):
        nonlocal looks
        looks += kind == "c_call" and called.__name__ == "done"

    async def main():
        inbox = inbox_of(10_000, lambda on: None)
        readers = [asyncio.create_task(inbox.get()) for _ in range(300)]
        await asyncio.sleep(0)
        sys.setprofile(profile)
        try:
            inbox.put([Event("a/b", i) for i in range(300)])
        finally:
            sys.setprofile(None)
        assert [event.data for event in await asyncio.gather(*readers)] == list(range(300))

    asyncio.run(main())
    assert looks <= 300


def test_reading_stops_at_the_limit_and_goes_on_at_half():
    async def main():
        reading = []
        inbox = inbox_of(4, reading.append)
        inbox.put([Event("a/b", i) for i in range(3)])
        assert reading == []
        inbox.put([Event("a/b", 3), Event("a/b", 4)])
        assert reading == [False]
        assert [(await inbox.get()).data for _ in range(2)] == [0, 1]
        assert reading == [False]
        await asyncio.sleep(0)
        assert (await inbox.get()).data == 2
        assert reading == [False, True]
        assert [(await inbox.get()).data for _ in range(2)] == [3, 4]

    asyncio.run(main())


def test_events_behind_a_coroutine_count_as_waiting():
    async def main():
        reading = []
        gate = asyncio.Event()
        inbox = inbox_of(2, reading.append)
        done = []

        async def slow(event):
            await gate.wait()
            done.append(event.data)

        inbox.handlers.add("a/b", slow)
        inbox.put([Event("a/b", i) for i in range(3)])
        assert (reading, done) == ([False], [])
        gate.set()
        inbox.put([Event("other/x", 3)])
        assert (await inbox.get()).data == 3
        assert (reading, done) == ([False, True], [0, 1, 2])

    asyncio.run(main())


def test_two_readers_share_the_events_and_both_end():
    async def main():
        inbox = inbox_of(100, lambda on: None)
        got = []

        async def read():
            try:
                while True:
                    got.append((await inbox.get()).data)
            except StopAsyncIteration:
                return "ended"

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.sleep(0)
        readers[0].cancel()
        inbox.put([Event("a/b", i) for i in range(10)])
        for _ in range(5):
            await asyncio.sleep(0)
        inbox.end()
        assert await asyncio.gather(*readers[1:]) == ["ended", "ended"]
        assert got == list(range(10))

    asyncio.run(main())


def test_handler_may_end_the_client_that_called_it():
    async def main():
        inbox = inbox_of(100, lambda on: None)

        async def leave(event):
            await inbox.stop()

        inbox.handlers.add("a/b", leave)
        inbox.put([Event("a/b"), Event("a/b")])
        with pytest.raises(StopAsyncIteration):
            await inbox.get()

    asyncio.run(main())
