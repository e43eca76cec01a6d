"""Attacks on what a server keeps: sessions, sockets, events that wait, its log, its end."""

from __future__ import annotations

import asyncio
from time import monotonic

from hostile_attack import (
    AIOHTTP,
    CHANSOCK,
    EDGE,
    KIB,
    MIB,
    ON_SOCKETS,
    OURS,
    WEBSOCKETS,
    Attack,
    Target,
)
from hostile_peer import Hostile, close_all, many_upgraded, masked_frame
from peer import CLOSE, TEXT, frame

EVENT_BYTES = 6000


# -- sockets of one client


async def displaced_sockets(target: Target) -> str:
    """Thousands of sockets of one client, then closed, the newest first."""
    many = await many_upgraded(target.port, target.size, client="mallory")
    await target.answers()
    held = sum(map(_is_open, many))
    target.begin()
    for one in reversed(many):
        one.close()
    await target.answers(20)
    return f"{held} were open at once"


def _is_open(one: Hostile) -> bool:
    """Return whether the server has sent no close frame and not hung up."""
    try:
        read = one.sock.recv(65536)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return bool(read) and read[0] != 0x80 | CLOSE


# -- events that wait for many


async def _sessions(target: Target, number: int) -> None:
    """Open sessions by Ajax handshakes, whose clients then say no more."""
    connections = [await Hostile.connect(target.port) for _ in range(16)]
    for k, one in enumerate(connections):
        sent = b"".join(
            f"GET /chsk?udt=1&client-id=mallory{n}&handshake%3F=1 HTTP/1.1\r\n"
            "Host: localhost\r\nX-Requested-With: XMLHTTPRequest\r\n\r\n".encode()
            for n in range(k, number, len(connections))
        )
        sender = asyncio.create_task(one.send(sent))
        wanted = len(range(k, number, len(connections)))
        found = await one.count(b"HTTP/1.1 200", wanted)
        await sender
        if found < wanted:
            raise ConnectionError(f"expected {wanted} handshakes of a connection, got {found}")
        one.close()


async def _asked(one: Hostile, text: str) -> str:
    """Ask in edn; return the text of the answer."""
    await one.send(frame(TEXT, f'[{text} "q"]'))
    answer = await one.read_until(b' "q"]')
    return answer[:-5].rpartition(b"[")[2].decode()


async def broadcast_past_the_budget(target: Target) -> str:
    """One event for sessions in grace: it is held once, however many it is for."""
    await _sessions(target, target.size)
    one = await Hostile.upgraded(target.port, client="watcher")
    target.begin()
    await _asked(one, f"[:t/broadcast {EVENT_BYTES}]")
    lost = await _asked(one, "[:t/budget]")
    one.close()
    return f"{lost} events lost"


async def events_past_the_budget(target: Target) -> str:
    """An event for each session in grace, another for each: they cannot all be held."""
    await _sessions(target, target.size)
    one = await Hostile.upgraded(target.port, client="watcher")
    target.begin()
    for first in range(0, target.size, 100):
        await _asked(one, f"[:t/each [{first} {first + 100} {EVENT_BYTES}]]")
    lost = await _asked(one, "[:t/budget]")
    one.close()
    return f"{lost} events lost"


# -- what is due


async def keep_alives_at_once(target: Target) -> str:
    """Thousands of connections whose keep-alives are due in the same moment."""
    many = await many_upgraded(target.port, target.size)
    await target.answers()
    target.pause()
    try:
        await asyncio.sleep(2.2)  # past ws_ping_interval, while the server does not run
        target.begin()
    finally:
        target.resume()
    await target.answers(20)
    held = len(many)
    close_all(many)
    return f"{held} held"


# -- the log


async def log_of_requests(target: Target) -> str:
    """Requests that are refused, on one connection."""
    one = await Hostile.connect(target.port)
    target.begin()
    sent = b"GET /chsk HTTP/1.1\r\nHost: localhost\r\n\r\n" * target.size
    sender = asyncio.create_task(one.send_all_it_can(sent))
    found = await one.count(b"HTTP/1.1 400", target.size)
    await sender
    one.close()
    return f"refused {found}"


async def log_of_connections(target: Target) -> str:
    """Connections of which each has one request refused."""
    target.begin()
    found = 0
    for _ in range(target.size):
        one = await Hostile.connect(target.port)
        await one.send(b"GET /chsk HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        found += b" 4" in (await one.rest())[:16]
        one.close()
    return f"refused {found}"


async def _logged_events(target: Target, events: list[str]) -> str:
    one = await Hostile.upgraded(target.port)
    sent = b"".join(masked_frame(0x80 | TEXT, event.encode()) for event in events)
    asks = masked_frame(0x80 | TEXT, b'[[:t/echo nil] "end"]')
    target.begin()
    for _ in range(target.size):
        await one.send(sent)
    await one.send(asks)
    await one.count(b'"end"]', 1)
    one.close()
    return "served on"


async def log_of_events(target: Target) -> str:
    """Packets and events of each kind that is logged, on one connection."""
    kinds = ["no packet", "[[:bad] nil]", "[[:chsk/forged] nil]", "[[:t/amount 1] nil]"]
    return await _logged_events(target, [*kinds, "[[:t/nobody] nil]"])


async def log_of_a_failing_handler(target: Target) -> str:
    """Events whose handler raises, on one connection."""
    return await _logged_events(target, ["[[:t/fail 1] nil]"])


# -- the end


async def stop_with_half_a_body(target: Target) -> str:
    """A stop, while a body has not come to its end."""
    one = await Hostile.connect(target.port)
    await one.send(
        b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nX-Requested-With: XMLHTTPRequest\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nclient-"
    )
    await target.answers()
    target.begin()
    start = monotonic()
    await target.stopped()
    took = monotonic() - start
    one.close()
    return f"stopped in {took:.1f} s"


async def stop_amid_events(target: Target) -> str:
    """A stop, while clients send events whose handlers are coroutines."""
    many = await many_upgraded(target.port, 8)
    asks = b"".join(
        masked_frame(0x80 | TEXT, f'[[:t/later 1] "c{n:05}"]'.encode()) for n in range(target.size)
    )
    target.begin()
    senders = [asyncio.create_task(one.send_all_it_can(asks)) for one in many]
    first = await asyncio.gather(*(one.count(b'"c', 1) for one in many))
    rest = [asyncio.create_task(one.rest()) for one in many]
    handled = await target.stopped()
    answered = sum(first) + sum([(await read).count(b'"c') for read in rest])
    await asyncio.gather(*senders)
    close_all(many)
    return f"{handled - answered} replies lost"


# 256 MiB, the default, for 50,000 sessions: less than EVENT_BYTES for each.
BUDGET = {"max_total_backlog_bytes": lambda size: size * 5 * KIB, "grace_ajax": 300.0}

ATTACKS = (
    Attack(
        displaced_sockets,
        r"(\d|[12]\d|3[0-3]) were open at once",  # one, and the few displaced ones that are kept
        24 * MIB,
        servers=ON_SOCKETS,
        has_users=True,
        size=1000,
        full=4000,
    ),
    Attack(
        broadcast_past_the_budget,
        "0 events lost",
        8 * MIB,
        BUDGET,
        servers=OURS,
        has_users=True,
        size=4000,
        full=50_000,
    ),
    Attack(
        events_past_the_budget,
        "[1-9][0-9]* events lost",
        28 * MIB,
        BUDGET,
        servers=OURS,
        has_users=True,
        size=4000,
        full=20_000,
    ),
    Attack(
        keep_alives_at_once,
        "1000 held",
        4 * MIB,
        {"ws_ping_interval": 2.0, "ws_ping_timeout": None},
        servers=ON_SOCKETS,
        size=1000,
        full=5000,
    ),
    Attack(
        log_of_requests,
        "refused 5000",
        4 * MIB,
        servers=(*OURS, AIOHTTP),
        logged=16 * KIB,
        size=5000,
        full=50_000,
    ),
    Attack(
        log_of_connections,
        "refused 1000",
        4 * MIB,
        servers=(CHANSOCK, EDGE, WEBSOCKETS, AIOHTTP),
        logged=16 * KIB,
        size=1000,
        full=2000,
    ),
    Attack(log_of_events, "served on", 4 * MIB, logged=16 * KIB, size=1000, full=10_000),
    Attack(log_of_a_failing_handler, "served on", 4 * MIB, logged=64 * KIB, size=1000, full=10_000),
    Attack(
        stop_with_half_a_body,
        r"stopped in \d{1,2}\.\d s",  # on a busy machine; it waited for neither time-out
        4 * MIB,
        {"stop_timeout": 300.0, "body_timeout": 300.0},
        servers=(*OURS, AIOHTTP),
    ),
    Attack(
        stop_amid_events,
        "0 replies lost",
        8 * MIB,
        servers=ON_SOCKETS,
        size=1000,
        full=4000,
    ),
)
