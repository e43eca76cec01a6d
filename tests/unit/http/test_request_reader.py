"""request_reader: where a head ends, and where the next request begins.

What is refused stands in http_cases.py, and is tested in test_http_malformed.py.
"""

from __future__ import annotations

from itertools import product
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chansock._edge import http1
from chansock._edge.http1 import judge_head
from chansock._fast.http.request import unquote_form
from chansock._fast.http.request_reader import RequestReader
from chansock.request import Request

GET = b"GET /chsk?a=1 HTTP/1.1\r\nHost: h\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, *, step: int = 0, head: int = 1000, fields: int = 10, body: int = 100) -> Any:
    """What a reader makes of data, whole or `step` bytes at a time: requests as (head,
    body), and at the end a refusal as (status, why)."""
    reader = RequestReader(judge_head, head, fields, body)
    waiting = b""
    seen: list[Any] = []
    for piece in [data[k : k + step] for k in range(0, len(data), step)] if step else [data]:
        waiting += piece
        while waiting:
            found, used = reader.read(waiting)
            waiting = waiting[used:]
            if isinstance(found, tuple):
                seen.append(found)
                if isinstance(found[0], int):
                    return seen
            elif not used:
                break
    return seen


def request(*lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: h", *lines, b"", b""])


def test_a_request_without_a_body_ends_at_its_empty_line() -> None:
    assert read(GET + GET) == [(GET, b""), (GET, b"")]


def test_a_content_length_ends_the_body() -> None:
    assert read(LENGTH + b"hello" + GET) == [(LENGTH, b"hello"), (GET, b"")]
    assert read(request(b"content-LENGTH:0") + GET)[1:] == [(GET, b"")]


def test_chunks_are_joined_and_trailers_left_out() -> None:
    body = b"3\r\nabc\r\n00A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    assert read(CHUNKED + body + GET) == [(CHUNKED, b"abc0123456789"), (GET, b"")]


def test_why_a_chunk_is_refused_does_not_hang_on_how_it_was_cut() -> None:
    for line in (b"^3\rx", b"^\n", b"\r\n", b"3^\rx", b"3\rx\n", b"\n", b"^" * 200):
        whole = read(CHUNKED + line)
        assert whole[-1][0] == 400
        for step in range(1, len(CHUNKED + line)):
            assert read(CHUNKED + line, step=step) == whole


def test_an_empty_chunked_body_is_empty() -> None:
    assert read(CHUNKED + b"0\r\n\r\n" + GET) == [(CHUNKED, b""), (GET, b"")]


def test_empty_lines_before_a_request_are_skipped() -> None:
    assert read(b"\r\n\r\n" + GET) == [(GET, b"")]


STREAM = LENGTH + b"hello" + CHUNKED + b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\n" + GET
MEANING = [(LENGTH, b"hello"), (CHUNKED, b"abcde"), (GET, b"")]


@pytest.mark.parametrize("step", range(12))
def test_requests_are_read_in_pieces_of_any_size(step: int) -> None:
    assert read(STREAM, step=step) == MEANING


def test_requests_are_read_when_split_at_any_byte() -> None:
    for split in range(1, len(STREAM)):
        reader, waiting, seen = RequestReader(judge_head, 1000, 10, 100), b"", []
        for piece in (STREAM[:split], STREAM[split:]):
            waiting += piece
            found, used = reader.read(waiting)
            while used:
                waiting = waiting[used:]
                if isinstance(found, tuple):
                    seen.append(found)
                found, used = reader.read(waiting)
        assert seen == MEANING


@pytest.mark.parametrize(
    "data",
    [
        request(b"A: b", b"B:", b"C:\tc\t", b"Connection: close", start=b"GET / HTTP/1.1"),
        request(start=b"GET http://localhost:80/chsk?a HTTP/1.1"),
        request(start=b"GET HTTPS://[::1]?a HTTP/1.1"),
        request(start=b"OPTIONS * HTTP/1.1"),
        request(start=b"GET /%7e/%C3%a9?%zz%00 HTTP/1.1"),  # a query is a form's, as it comes
        request(start=b"GET / HTTP/1.0"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:localhost\r\n\r\n",
        *(
            b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host
            for host in (b"a.example:8000", b"a_b.example", b"127.0.0.1:1", b"h:", b"h:65535")
        ),
        *(
            b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host
            for host in (b"[::1]", b"[2001:DB8::1]:8000", b"[::ffff:1.2.3.4]:", b"x" * 255)
        ),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_a_client_may_send_is_taken_as_it_came(data: bytes, step: int) -> None:
    assert read(data + GET, step=step) == [(data, b""), (GET, b"")]


@pytest.mark.parametrize("data", [b"\x16", b"\x05", b"\0", b" ", b"GET / HTTP/1.1\n", b"G\rE"])
def test_what_can_become_no_request_is_refused_at_once(data: bytes) -> None:
    assert read(data)[-1][0] == 400


def test_a_body_past_the_limit_is_refused_by_its_head_alone() -> None:
    found, _ = RequestReader(judge_head, 1000, 10, 100).read(request(b"Content-Length: 101"))
    assert found == (413, "expected at most 100 bytes of body")


def test_a_head_without_an_end_is_refused_at_the_limit() -> None:
    reader = RequestReader(judge_head, 1000, 10, 100)
    assert reader.read(b"GET / HTTP/1.1\r\nA: " + b"x" * 900) == (None, 0)
    found, _ = reader.read(b"GET / HTTP/1.1\r\nA: " + b"x" * 1000)
    assert isinstance(found, tuple)
    assert found[0] == 431


def test_http_1_0_needs_no_host_but_takes_no_chunks() -> None:
    old = b"GET / HTTP/1.0\r\n\r\n"
    assert read(old) == [(old, b"")]
    bad = request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")
    assert read(bad)[-1][0] == 400


@settings(max_examples=300, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from([GET, LENGTH, b"hello", CHUNKED, b"1\r\n", b"a", b"\r\n", b"0\r\n"]),
            max_size=12,
        ).map(b"".join),
    ),
    step=st.integers(1, 50),
)
def test_any_bytes_are_read_alike_whole_and_split(data: bytes, step: int) -> None:
    assert read(data) == read(data, step=step)


@given(st.text(), st.sampled_from(["", "+", "%", "%4", "%zz", "%C3"]))
def test_a_form_value_is_decoded_as_the_standard_library_does(text: str, tail: str) -> None:
    raw = (quote_plus(text.encode("utf-8", "surrogatepass")) + tail).encode()
    assert unquote_form(raw) == unquote_to_bytes(raw.replace(b"+", b" "))


# Fields of a handshake, well and badly made; every choice with every other.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKES = [
    (b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.0"),
    (
        b"Upgrade: websocket",
        b"UPGRADE:\th2c ,WebSocket\t",
        b"Upgrade: websockets",
        b"Upgrade: web socket",
        b"X-Upgrade: websocket",
    ),
    (b"Connection: Upgrade", b"connection: keep-alive,upgrade ,", b"Connection: close"),
    (
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Version: 13\r\nsec-websocket-version: 13",
        b"Sec-WebSocket-Version: 013",
        b"X: y",
    ),
    (
        b"Sec-WebSocket-Key: " + KEY,
        b"sec-websocket-key:" + KEY + b" \t",
        b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Key: " + KEY[:-1],
        b"Sec-WebSocket-Key: " + KEY.replace(b"G", b"-"),
        b"Sec-WebSocket-Key: " + b"A" * 24,
        b"Sec-WebSocket-Key:",
    ),
]


def test_a_handshake_is_faultless_to_the_reader_as_to_the_check_in_words() -> None:
    keys = 0
    for start, *lines in product(*HANDSHAKES):
        reader = RequestReader(judge_head, 1000, 10, 100)
        found, _ = reader.read(request(*lines, start=start))
        assert isinstance(found, tuple)
        asked = Request(found[0])
        assert reader.wants_websocket == http1.wants_upgrade(asked), lines
        answer = http1.check_upgrade(asked)
        assert (reader.key is not None) == isinstance(answer, bytes), (start, lines)
        if reader.key is not None:
            keys += 1
            assert http1.switch(reader.key) == answer
    assert keys == 2 * 2 * 1 * 2


PLAIN = request(
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b'X-Token!#$%&\'*+-.^_`|~09: a "b" (c); d=1, <e>@[f]',
    b"Empty:",
    start=b"GET /chsk?client-id=a%20b HTTP/1.1",
)


def asks_nobody(data: bytes) -> bool:
    """Whether a head is taken without asking the judge of its syntax."""
    asked = []
    found, _ = RequestReader(lambda head: asked.append(head) or 0, 1000, 10, 100).read(data)  # type: ignore[func-returns-value]
    return isinstance(found, tuple) and isinstance(found[0], bytes) and not asked


def test_a_plain_get_needs_no_judge() -> None:
    assert asks_nobody(PLAIN)
    assert not asks_nobody(PLAIN.replace(b"GET", b"PUT"))
    assert not asks_nobody(PLAIN.replace(b"Empty:", b"Empty:\t"))
    assert not asks_nobody(PLAIN.replace(b"Empty:", b"Em(ty:"))
    assert not asks_nobody(PLAIN.replace(b"Empty:", b"Content-Length: 0"))
    assert not asks_nobody(PLAIN.replace(b"Empty:", b"Empty: \xe9"))


def test_what_needs_no_judge_passes_llhttp_whatever_one_byte_becomes() -> None:
    passed = 0
    for at in range(len(PLAIN)):
        for byte in range(256):
            for end in (at, at + 1):  # put before, or instead of
                head = PLAIN[:at] + bytes([byte]) + PLAIN[end:]
                if asks_nobody(head):
                    passed += 1
                    assert judge_head(head) == 0, head
    assert passed > len(PLAIN) * 100


@given(st.binary(max_size=40))
def test_values_are_decoded_as_the_standard_library_does(raw: bytes) -> None:
    raw = raw.replace(b"&", b"").replace(b"=", b"")
    head = Request.from_fields("GET", b"/?" + raw.replace(b"?", b"").replace(b" ", b"+"))
    expected = unquote_to_bytes(head.query.encode("latin-1").replace(b"+", b" "))
    assert list(head.params) == ([expected.decode("utf-8", "replace")] if head.query else [])


def test_one_call_takes_a_bounded_number_of_chunks() -> None:
    """The caller can stop between two calls, however many chunks one read holds."""
    reader = RequestReader(judge_head, 1000, 10, 10_000)
    data = CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"
    found, at = reader.read(data)
    calls = 0
    while not isinstance(found, tuple):
        found, used = reader.read(data, at)
        assert 0 < used <= 256 * 6
        at += used
        calls += 1
    assert found == (CHUNKED, b"x" * 1000)
    assert at == len(data)
    assert calls >= 4
