"""http: what a connection makes of any bytes, before an upgrade and after it.

The two high bits of the first byte choose: BYTES are read by a request reader alone, MADE
are choices that make requests, LINE is fed to a connection of a whole server, whole and in
pieces, and LINES to several of them, whose peers read slowly. The bits below choose limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from recording import load
from same import is_batch

from chansock import edn
from chansock._core import guard
from chansock._core.log_limit import LogLimit, call_later
from chansock._edge import http1
from chansock._edge.forwarded import Proxies
from chansock._edge.http1 import judge_head
from chansock._fast.http.request import unquote_form
from chansock._fast.http.request_reader import RequestReader
from chansock._fast.ws.frames import Parser, close_payload, frame
from chansock.request import Request, Response
from fuzz.draw import Draw, pieces_of
from fuzz.wire import STEP, Server, Wire, server

BYTES, MADE, LINE, LINES = 0x00, 0x40, 0x80, 0xC0
KIND = 0xC0
# Bits below
SMALL, TLS, SLOW_HOOKS, RESET = 0x01, 0x02, 0x04, 0x08

LIMITS = {0: (16384, 100, 1 << 20), SMALL: (200, 5, 50)}  # head, fields, body
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
OPEN = bytes(4)  # a key that leaves the payload as it is, so that words can be put into it
NEXT = b"\n--\n"  # what follows is for the next connection

UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FORM = (
    b"POST /chsk?client-id=a HTTP/1.1\r\nHost: h\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s"
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = (
    b'[[:t/echo {:a 1}] "c1"]',
    b"[[:t/push [1 2]] nil]",
    b'[[:t/wait 1] "c2"]',
    b'[[:t/side 2] "c3"]',
    b'[[:t/latest 3] "c4"]',
    b'[:chsk/ws-ping "c5"]',
    b"[[:t/leave] nil]",
    b"[[:chsk/uidport-open 1]]",
    b"[[:t/nobody] nil]",
)

WORDS = (
    NEXT,
    UPGRADE,
    *(
        b"\r\n|\r\n\r\n|\r|\n|: |GET |POST |HEAD |OPTIONS |PRI * HTTP/2.0| HTTP/1.1| HTTP/1.0|/chsk"
        b"|/echo?|/slow|/empty|client-id=a|&client-id=b|&udt=1|&handshake?=1|&user=u|ppstr=|%5B%3A"
        b"|%zz|%|+|binary?=1|Host: h\r\n|Content-Length: 5\r\n|Content-Length: 0\r\n"
        b"|Transfer-Encoding: chunked\r\n|Expect: 100-continue\r\n|Connection: close\r\n"
        b"|Connection: keep-alive\r\n|Connection: Upgrade\r\n|Upgrade: websocket\r\n"
        b"|Sec-WebSocket-Version: 13\r\n|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"|Content-Type: application/x-www-form-urlencoded\r\n|Origin: http://h\r\n"
        b"|Cookie: a=b; c\r\n|5\r\nhello\r\n|0\r\n\r\n|5;a=b\r\n|0\r\n|fffffffff|Trailer: x\r\n"
        b'|[[:t/echo |[[:t/push |[[:t/wait |[[:t/side |[[:t/latest |[[:t/leave]|] "c"]|] nil]'
        b"|[:chsk/ws-ping |:chsk/ws-pong|\x81\x80\0\0\0\0|\x81\xfe|\x01\x81|\x80\x81"
        b"|\x88\x82\0\0\0\0\x03\xe8|\x89\x80|Access-Control-Request-Method: POST\r\n"
        b"|Access-Control-Request-Headers: x-a, x-b\r\n|X-Forwarded-For: 192.0.2.2, 1.2.3.4\r\n"
        b"|X-Forwarded-Proto: https\r\n|X-Forwarded-Host: a.example:80\r\n"
        b'|Forwarded: for="[::1]:80";proto=https;host=a, for=_x\r\n|[::1]|::ffff:1.2.3.4'
    ).split(b"|"),
)


def text_frames(*packets: bytes) -> bytes:
    return b"".join(frame(TEXT, packet, mask=OPEN) for packet in packets)


def seeds() -> Iterator[bytes]:
    """Return requests of RFC 9112's kinds, recorded ones, and sockets with frames."""
    get = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"
    requests = [
        get % b"/echo?x",
        get % b"/slow",
        get % b"/empty",
        b"HEAD /nowhere HTTP/1.1\r\nHost: h\r\n\r\n" + get % b"/echo?b",
        b"GET / HTTP/1.0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n00A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        get % b"/chsk?client-id=a&handshake%3F=1&user=u" + get % b"/chsk?client-id=a&user=u",
        get % b"/chsk?client-id=a" + get % b"/chsk?client-id=a",
        *(FORM % (len(body), body) for body in (b"ppstr=" + event for event in EVENTS)),
        FORM % (33, b"ppstr=%5B%5B%3At%2Fecho+1%5D+1%5D"),
        b"\r\n\r\n" + get % b"http://h/echo?c",
        b"OPTIONS /chsk HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\n"
        b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\n\r\n",
        b"GET /slow HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4, 192.0.2.7\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n\r\n",
        b"GET /slow HTTP/1.1\r\nHost: h\r\n"
        b'Forwarded: for="[2001:db8::1]:80";proto=https;host=a, for=_x\r\n\r\n',
        b"nonsense\r\n\r\n",
    ]
    sockets = [
        UPGRADE,
        UPGRADE + text_frames(*EVENTS),
        UPGRADE
        + frame(PING, b"p", mask=OPEN)
        + frame(TEXT, EVENTS[0][:9], mask=OPEN, fin=False)
        + frame(0, EVENTS[0][9:], mask=OPEN)
        + frame(CLOSE, close_payload(1000, "bye"), mask=OPEN),
        UPGRADE + text_frames(*EVENTS[2:3] * 8) + frame(BINARY, EVENTS[0], mask=OPEN),
        UPGRADE + b"\x81\x05hello",
    ]
    for name in ("chromium-ajax-edn", "node-ajax-edn", "chromium-ws-edn", "jvm-ws-edn"):
        requests += [_recorded(record) for record in load(name) if record.kind == "http-request"]
    for data in requests:
        yield bytes([BYTES]) + data
    for data in (*requests, *sockets):
        for bits in (0, SMALL, TLS, SLOW_HOOKS | RESET):
            yield bytes([LINE | bits]) + data
    poll = get % b"/chsk?client-id=b&handshake%3F=1" + get % b"/chsk?client-id=b"
    for bits in (0, SMALL):
        yield bytes([LINES | bits]) + NEXT.join((poll, sockets[1], requests[11], sockets[2]))
        yield bytes([LINES | bits]) + NEXT.join((sockets[3], sockets[1], poll + poll, sockets[3]))
    for k in range(32):
        yield bytes([MADE | k & 1]) + bytes((k * 13 + n * n) & 0xFF for n in range(80))


def _recorded(record: Any) -> bytes:
    head = f"{record.method} {record.target} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in record.headers)
    return head.encode() + b"\r\n" + record.text.encode()


def check(data: bytes) -> None:
    bits = data[0] if data else 0
    kind = bits & KIND
    if kind == BYTES:
        _check_reading(data[1:], *LIMITS[bits & SMALL])
    elif kind == MADE:
        _check_made(Draw(data[1:]))
    elif kind == LINE:
        _check_line(data[1:], bits)
    else:
        _check_lines(data[1:], bits)


# -- the request reader alone --


def _read(pieces: list[bytes], head: int, fields: int, body: int) -> list[Any]:
    """Return the requests of pieces as (head, body), and at the end a refusal."""
    reader = RequestReader(judge_head, head, fields, body)
    waiting = b""
    seen: list[Any] = []
    for piece in pieces:
        waiting += piece
        while waiting:
            found, used = reader.read(waiting)
            assert 0 <= used <= len(waiting)
            waiting = waiting[used:]
            if isinstance(found, tuple):
                seen.append(found)
                if isinstance(found[0], int):
                    return seen
            elif not used:
                break
    return seen


def _check_reading(data: bytes, max_head: int, max_fields: int, max_body: int) -> None:
    seen = _read([data], max_head, max_fields, max_body)
    assert _read(pieces_of(data), max_head, max_fields, max_body) == seen
    for head, body in seen:
        if isinstance(head, int):
            assert head in (400, 413, 417, 431, 501, 505), (head, body)
            continue
        assert len(head) <= max_head
        assert len(body) <= max_body
        _check_request(head, body)
    assert unquote_form(data) == unquote_to_bytes(data.replace(b"+", b" "))


def _check_request(head: bytes, body: bytes) -> None:
    """Ask everything of a request that hooks and checks may ask."""
    request = Request(head)
    assert head.startswith(f"{request.method} {request.target} ".encode("latin-1"))
    fields = request.headers.fields()
    for name, value in fields:
        assert value in request.headers.getall(name)
        assert request.headers[name.upper()] == request.headers.getall(name)[0]
    assert set(request.headers) == {name.lower() for name, _ in fields}
    assert isinstance(request.cookies, dict)
    if http1.is_form(request):
        request.set_form(body)
    for name in request.params:
        assert request.params[name] == request.params.getall(name)[0]
    assert repr(request)
    assert repr(request.params)
    assert repr(request.headers)
    assert request.query in request.target
    assert isinstance(request.path, str)
    guard.check_client_id(request)
    for is_loopback in (False, True):
        guard.check_host(request, None, is_loopback=is_loopback)
    guard.check_host(request, ("a.example",), is_loopback=False)
    for allowed in (None, ("http://a.example",), ("http://h", "*")):
        guard.check_origin(request, allowed)
        Response(204, headers=guard.cors_fields(request, allowed))
    guard.check_token(request, "token")
    guard.is_preflight(request)
    Response(204, headers=guard.preflight_fields(request))
    request.client = ("192.0.2.1", 1)
    PROXIES.apply(request)
    assert request.scheme in ("http", "https")
    assert "\r" not in request.host
    http1.wants_upgrade(request)
    switch = http1.check_upgrade(request)
    if not isinstance(switch, bytes):
        assert http1.render(switch, keep_alive=True).startswith(b"HTTP/1.1 4")


LOG_LIMIT = LogLimit(time.monotonic, call_later)
FIELDS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
PROXIES = Proxies(("192.0.2.0/24", "::1"), FIELDS, lambda: LOG_LIMIT)
NAMES = (b"A", b"x-b", b"Cookie", b"Accept", b"!#$%&'*+-.^_`|~0", b"Z" * 40)
BLANKS = (b"", b" ", b"\t", b" \t ")


def _check_made(draw: Draw) -> None:
    """Make requests as a peer may, and read them back."""
    wire: list[bytes] = []
    meaning: list[Any] = []
    for _ in range(draw.below(5)):
        method = draw.of((b"GET", b"POST", b"PUT", b"OPTIONS", b"DELETE"))
        target = b"/" + bytes(33 + byte % 94 for byte in draw.bytes(draw.below(40)))
        lines = [b"%s %s HTTP/1.1" % (method, target), b"Host:%sh" % draw.of(BLANKS)]
        for _ in range(draw.below(4)):
            value = bytes(33 + byte % 94 for byte in draw.bytes(draw.below(20)))
            lines.append(b"%s:%s%s%s" % (draw.of(NAMES), draw.of(BLANKS), value, draw.of(BLANKS)))
        body = draw.bytes(draw.below(200))
        framing = draw.below(3)
        if framing == 0:
            body, sent = b"", b""
        elif framing == 1:
            lines.append(b"%s:%s%d" % (draw.of((b"Content-Length", b"content-LENGTH")),
                                       draw.of(BLANKS), len(body)))  # fmt: skip
            sent = body
        else:
            lines.append(b"Transfer-Encoding: chunked")
            sent = b"".join(
                draw.of((b"%x\r\n%s\r\n", b"00%X\r\n%s\r\n", b"%x;a=b\r\n%s\r\n"))
                % (len(part), part)
                for part in pieces_of(body)
                if part
            ) + draw.of((b"0\r\n\r\n", b"000;x\r\n\r\n", b"0\r\nA: b\r\nC: d\r\n\r\n"))
        head = b"\r\n".join([*lines, b"", b""])
        if judge_head(head) == 0 and b"#" not in target and b"%" not in target:
            wire += [draw.of((b"", b"\r\n")), head, sent]
            meaning.append((head, body))
    data = b"".join(wire)
    assert _read([data], 16384, 100, 1 << 20) == meaning
    assert _read(pieces_of(data), 16384, 100, 1 << 20) == meaning


# -- a connection of a server --


class Said:
    """What a server said on one connection, taken apart; what no peer could read fails."""

    def __init__(self, data: bytes, methods: tuple[list[bytes], bytes]) -> None:
        self.answers: list[Any] = []
        self.packets: list[Any] = []
        self.pongs: list[bytes] = []
        self.close: Any = None
        while data and not self._is_switched():
            data = self._take_answer(data, methods)
        if data:
            self._take_frames(bytearray(data))

    def _is_switched(self) -> bool:
        return bool(self.answers) and self.answers[-1][0] == 101

    def _take_answer(self, data: bytes, methods: tuple[list[bytes], bytes]) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, f"an answer without an end: {data!r:.200}"
        line, *fields = head.split(b"\r\n")
        version, code, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        status = int(code)
        if status == 100:
            return rest
        named = {}
        for field in fields:
            name, colon, value = field.partition(b": ")
            assert colon, field
            assert name.lower() not in named, f"twice: {field!r}"
            named[name.lower()] = value
        named.pop(b"date", None)
        whole, broken = methods
        if len(self.answers) < len(whole):
            asked = whole[len(self.answers)]
        else:
            asked = broken if not rest else b""  # its method may not have been looked at
        size = 0
        if status not in (101, 204, 304) and asked != b"HEAD":
            size = int(named[b"content-length"])
        assert len(rest) >= size, f"a body of {len(rest)} bytes of {size}: {data!r:.300}"
        self.answers.append((status, rest[:size], sorted(named.items())))
        return rest[size:]

    def _take_frames(self, data: bytearray) -> None:
        parser = Parser(1 << 30, masked=False)
        while data:
            what, used, _ = parser.step(data)
            assert what is not None, f"a frame without an end: {data!r:.200}"
            assert self.close is None, f"a frame behind the close frame: {what!r:.200}"
            del data[:used]
            if what[0] == "message":
                self._take_packet(what[1])
            elif what[0] == "pong":
                self.pongs.append(what[1])
            else:
                assert what[0] == "close"
                self.close = what[1:]

    def _take_packet(self, packet: bytes) -> None:
        value, cb_id = edn.loads(packet)
        if value == "chsk/ws-ping":
            return  # comes by time
        if cb_id is None and is_batch(value):
            self.packets += map(repr, value)  # what goes with what is free
        else:
            self.packets.append(repr([value, cb_id]))

    def all(self) -> Any:
        return self.answers, self.packets, self.pongs, self.close


def _methods(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the method of each request, and that of what is no whole one behind them."""
    reader = RequestReader(judge_head, 16384, 100, 4 << 20)
    methods: list[bytes] = []
    while data:
        found, used = reader.read(data)
        if isinstance(found, tuple) and isinstance(found[0], bytes):
            methods.append(found[0].partition(b" ")[0])
        elif isinstance(found, tuple) or not used:
            break
        data = data[used:]
    return methods, data.lstrip(b"\r\n").partition(b" ")[0]


def _talk(
    pieces: list[bytes], bits: int, methods: tuple[list[bytes], bytes], *, turns: bool
) -> Any:
    """Feed one connection; with `turns` the loop turns between the pieces."""
    with server(is_small=bool(bits & SMALL), has_slow_hooks=bool(bits & SLOW_HOOKS)) as made:
        wire = made.connect(is_tls=bool(bits & TLS))
        for piece in pieces:
            made.feed(wire, piece)
            if turns:
                made.loop.advance(0)
        made.loop.advance(1.0)  # handlers that wait
        for _ in range(4):
            made.loop.advance(21.0)  # polls, and what stands behind them
        wire.hang_up(in_order=not bits & RESET)
    return Said(b"".join(wire.written), methods).all()


def _check_line(data: bytes, bits: int) -> None:
    methods = _methods(data)
    whole = _talk([data], bits, methods, turns=False)
    pieces = pieces_of(data)
    assert _talk(pieces, bits, methods, turns=False) == whole
    if b"t/push" not in data and b"t/latest" not in data:
        # A push leaves at the end of a turn, a reply at the end of a read.
        assert _talk(pieces, bits, methods, turns=True) == whole


def _check_lines(data: bytes, bits: int) -> None:
    """Several peers at once, who read slowly and leave when they like: no fault, no leftover."""
    parts = data.split(NEXT)[:6]
    with server(is_small=bool(bits & SMALL), has_slow_hooks=bool(bits & SLOW_HOOKS)) as made:
        wires: list[Wire] = []
        for k, part in enumerate(parts):
            wire = made.connect(is_tls=bool(bits & TLS), room=None if k & 1 else 300)
            wires.append(wire)
            for piece in pieces_of(part, 3):
                _feed_some(made, wire, piece)
            if len(part) % 5 == 0:
                wire.hang_up(in_order=len(part) % 2 == 0)
        made.loop.advance(1.0)
        for wire in wires:
            made.inside(wire.drain, 1 << 20)
            made.loop.advance(7.0)
        for wire, part in zip(wires, parts, strict=True):
            wire.hang_up(in_order=not bits & RESET)
            Said(b"".join(wire.written), _methods(part))


def _feed_some(made: Server, wire: Wire, piece: bytes) -> None:
    """Feed a peer whose server may not read, because the peer does not."""
    rest = made.inside(wire.feed, piece)
    for room in (0, 200, 1 << 20):
        if not rest:
            break
        made.loop.advance(STEP)
        made.inside(wire.drain, room)
        rest = made.inside(wire.feed, rest)
    made.loop.advance(0)
