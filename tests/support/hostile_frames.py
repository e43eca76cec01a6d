"""Attacks by frames, heads and bodies: what the wire itself allows."""

from __future__ import annotations

import asyncio
import functools
import struct

from hostile_attack import AIOHTTP, CHANSOCK, EDGE, ON_REQUESTS, ON_SOCKETS, OURS, Attack, Target
from hostile_peer import (
    CONTINUATION,
    KIB,
    MIB,
    UPGRADE,
    ZERO,
    Hostile,
    bomb,
    close_all,
    many_upgraded,
    masked_frame,
)
from peer import CLOSE, PING, TEXT, close_payload, frame

CONNECTIONS = 16  # of an attack by requests


async def no_attack(target: Target) -> str:
    """A core that is busy and a server that is not: what the machine adds to a wait."""
    target.begin()
    for n in range(target.size):
        bomb(MIB)
        if n % 10 == 0:
            await target.answers()
    return "served"


async def flood_of_pings(target: Target) -> str:
    """25 MB of pings whose pongs nobody reads."""
    one = await Hostile.upgraded(target.port, receive_buffer=4096)
    target.begin()
    many = masked_frame(0x80 | PING, b"p" * 125) * 1000
    for _ in range(200):
        await one.send(many)
    await one.send(frame(CLOSE, close_payload(1000)))
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def sleeping_reader(target: Target) -> str:
    """128 MiB pushed to a reader that sleeps."""
    one = await Hostile.upgraded(target.port, receive_buffer=4096)
    watcher = await Hostile.upgraded(target.port, client="watcher")
    target.begin()
    await one.send(frame(TEXT, f"[[:t/push {128 * KIB}] nil]"))
    lost = "0"
    while lost == "0":
        await watcher.send(frame(TEXT, '[[:t/too-slow] "q"]'))
        answer = await watcher.read_until(b' "q"]')
        lost = answer.rpartition(b"[")[2].split()[0].decode()
    code = await one.last_word()
    close_all((one, watcher))
    return f"closed {code}"


async def silent_gigabyte(target: Target) -> str:
    """A frame of a gigabyte is announced, and never comes."""
    one = await Hostile.upgraded(target.port)
    target.begin()
    await one.send(struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, 1 << 30) + ZERO + b"x" * 100)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def silent_megabytes(target: Target) -> str:
    """200 frames of a MiB are announced, of which only the first bytes come."""
    target.begin()
    many = await many_upgraded(target.port, 200)
    for one in many:
        await one.send(struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, MIB) + ZERO + b"x" * 100)
    await target.answers()
    close_all(many)
    return "held"


async def endless_message(target: Target) -> str:
    """Fragments of 64 KiB without a last one."""
    one = await Hostile.upgraded(target.port)
    target.begin()
    await one.send(masked_frame(TEXT, b"x"))
    await one.send_all_it_can(masked_frame(CONTINUATION, b"x" * 64 * KIB) * 1000)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def endless_body(target: Target) -> str:
    """Chunks without a last one."""
    one = await Hostile.connect(target.port)
    target.begin()
    await one.send(b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    await one.send_all_it_can((b"8000\r\n" + b"x" * 32 * KIB + b"\r\n") * 1000)
    status = (await one.read()).split()[1].decode()
    one.close()
    return f"status {status}"


@functools.cache
def _bomb() -> bytes:
    return bomb(512 * MIB)


async def deflated_bomb(target: Target) -> str:
    """512 MiB of zeros in half a MiB."""
    sent = masked_frame(0xC0 | TEXT, _bomb())
    one = await Hostile.upgraded(target.port, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    target.begin()
    await one.send_all_it_can(sent)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def empty_fragments(target: Target) -> str:
    """100,000 fragments without a byte."""
    one = await Hostile.upgraded(target.port)
    target.begin()
    await one.send(masked_frame(TEXT, b"x"))
    await one.send_all_it_can(masked_frame(CONTINUATION, b"") * 100_000)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def fragments_of_a_byte(target: Target) -> str:
    """A message in 200,000 fragments: unusual, and allowed."""
    one = await Hostile.upgraded(target.port)
    text = f'[[:t/echo "{"y" * 200_000}"] "c"]'.encode()
    sent = (
        masked_frame(TEXT, text[:1])
        + b"".join(masked_frame(CONTINUATION, text[k : k + 1]) for k in range(1, len(text)))
        + masked_frame(0x80 | CONTINUATION, b"")
    )
    target.begin()
    await one.send(sent)
    read = await one.read_until(b'"c"]')
    one.close()
    return f"answered {len(read) // 1000} KB"


async def half_open_handshakes(target: Target) -> str:
    """500 that begin a head and say no more."""
    target.begin()
    many = [await Hostile.connect(target.port) for _ in range(500)]
    for one in many:
        await one.send(b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nUpgrade:")
    heads = await asyncio.gather(*(one.rest() for one in many))
    close_all(many)
    return f"status {' '.join({head.split()[1].decode() if head else 'none' for head in heads})}"


async def segments_of_a_byte(target: Target) -> str:
    """The upgrade, and a message of 5 KB, each byte in a segment of its own."""
    one = await Hostile.connect(target.port)
    target.begin()
    for byte in UPGRADE.format(client="mallory", fields="").encode():
        await one.send(bytes([byte]))
    for byte in frame(TEXT, f'[[:t/echo "{"z" * 5000}"] "c"]'):
        await one.send(bytes([byte]))
    read = await one.read_until(b'"c"]')
    one.close()
    return f"answered {len(read) // 1000} KB"


# -- many requests, many frames


async def _pipelined(target: Target, request: bytes, begins: bytes) -> str:
    """Send requests on each of some connections without a wait for an answer."""
    many = [await Hostile.connect(target.port) for _ in range(CONNECTIONS)]
    sent = request * target.size
    target.begin()
    senders = [asyncio.create_task(one.send_all_it_can(sent)) for one in many]
    counts = await asyncio.gather(*(one.count(begins, target.size) for one in many))
    await asyncio.gather(*senders)
    close_all(many)
    return f"answered {sum(counts)}"


async def pipelined_refusals(target: Target) -> str:
    """Requests for the channel without a client-id, on 16 connections."""
    sent = b"GET /chsk HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return await _pipelined(target, sent, b"HTTP/1.1 400")


async def pipelined_pages(target: Target) -> str:
    """Requests for a page of the application beside the channel, on 16 connections."""
    sent = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return await _pipelined(target, sent, b"HTTP/1.1 200")


async def pipelined_misses(target: Target) -> str:
    """Requests for what is not there, on 16 connections."""
    sent = b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return await _pipelined(target, sent, b"HTTP/1.1 404")


async def pipelined_posts(target: Target) -> str:
    """Events by POST, on 16 connections."""
    body = b"client-id=mallory&ppstr=%5B%5B%3At%2Fecho%201%5D%20nil%5D"
    sent = (
        b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nX-Requested-With: XMLHTTPRequest\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%b"
    ) % (len(body), body)
    return await _pipelined(target, sent, b"HTTP/1.1 200")


async def flood_of_frames(target: Target) -> str:
    """Events by WebSocket, on 16 connections."""
    many = await many_upgraded(target.port, CONNECTIONS)
    sent = masked_frame(0x80 | TEXT, b'[[:t/echo 1] "c"]') * target.size
    target.begin()
    senders = [asyncio.create_task(one.send_all_it_can(sent)) for one in many]
    counts = await asyncio.gather(*(one.count(b' "c"]', target.size) for one in many))
    await asyncio.gather(*senders)
    close_all(many)
    return f"answered {sum(counts)}"


async def half_sent_bodies(target: Target) -> str:
    """300 bodies of 3 MiB without their last byte, where 100 connections are allowed."""
    size = 3 * MIB
    head = (
        "POST /chsk HTTP/1.1\r\nHost: localhost\r\nX-Requested-With: XMLHTTPRequest\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {size}\r\n\r\n"
    )
    sent = head.encode() + b"client-id=mallory&ppstr=".ljust(size - 1, b"x")
    await target.answers()  # its observer is one of the 100
    target.begin()
    many = [await Hostile.connect(target.port) for _ in range(target.size)]
    senders = [asyncio.create_task(one.send_all_it_can(sent)) for one in many]
    await target.settled()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    close_all(many)
    return "held"


# With a slice of requests for each connection in turn, others have many turns meanwhile.
PER_CONNECTION = {"size": 4000, "full": 4000, "answers": 16}

ATTACKS = (
    Attack(no_attack, "served", MIB, servers=ON_SOCKETS, size=20, full=300),
    Attack(flood_of_pings, "closed 1000", MIB, servers=ON_SOCKETS),
    Attack(sleeping_reader, "closed 1013", 2 * MIB),
    Attack(silent_gigabyte, "closed 1009", MIB, servers=ON_SOCKETS),
    Attack(silent_megabytes, "held", 4 * MIB, servers=ON_SOCKETS),
    Attack(endless_message, "closed 1009", 2 * MIB, servers=ON_SOCKETS),
    Attack(endless_body, "status 413", 7 * MIB, servers=(CHANSOCK, EDGE, AIOHTTP)),
    Attack(deflated_bomb, "closed 1009", 2 * MIB, {"compression": True}, servers=ON_SOCKETS),
    Attack(empty_fragments, "closed 1008", MIB),
    # The message, its text, and its answer, and what a busy machine has the kernel hold for a read.
    Attack(fragments_of_a_byte, "answered 200 KB", 2 * MIB, servers=ON_SOCKETS),
    Attack(
        half_open_handshakes,
        "status 408",
        4 * MIB,
        {"handshake_timeout": 1.0},
        servers=(CHANSOCK, "websockets"),
    ),
    Attack(segments_of_a_byte, "answered 5 KB", MIB, servers=ON_SOCKETS),
    Attack(pipelined_refusals, "answered 64000", 8 * MIB, servers=ON_REQUESTS, **PER_CONNECTION),
    Attack(pipelined_pages, "answered 64000", 8 * MIB, servers=ON_REQUESTS, **PER_CONNECTION),
    Attack(pipelined_misses, "answered 64000", 8 * MIB, servers=ON_REQUESTS, **PER_CONNECTION),
    Attack(pipelined_posts, "answered 64000", 8 * MIB, servers=ON_REQUESTS, **PER_CONNECTION),
    Attack(flood_of_frames, "answered 64000", 8 * MIB, servers=ON_SOCKETS, size=4000, full=4000),
    Attack(
        half_sent_bodies,
        "held",
        128 * MIB,
        {"max_connections": 100},
        servers=(*OURS, AIOHTTP),
        size=300,
        full=300,
    ),
)
