"""What hostile peers do to a server, what it must cost it, and what another client notices.

Each attack runs against a server in a process of its own (hostile_server.py) while a client
that means well asks on: `run(attack)` gives how far the server's memory rose and the longest
that this client waited. No test here: test_hostile.py sets limits, bench_hostile.py shows
the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from peer import CLOSE, PING, TEXT, Peer, close_payload, frame

HERE = Path(__file__).parent
KIB, MIB = 1024, 1 << 20
ZERO = b"\x00" * 4  # a mask that costs the attacker nothing
CONTINUATION = 0


class Hostile:
    """A raw socket: what is not read stays in the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, port: int, receive_buffer: int = 0) -> Hostile:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    @classmethod
    async def upgraded(cls, port: int, fields: str = "", receive_buffer: int = 0) -> Hostile:
        """Connect and become a WebSocket; the handshake is read."""
        self = await cls.connect(port, receive_buffer)
        await self.send(
            (
                "GET /chsk?client-id=mallory HTTP/1.1\r\nHost: localhost\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
            ).encode()
        )
        read = b""
        while not read.endswith(b"] nil]"):
            read += await self.read()
        assert b" 101 " in read
        return self

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def send_all_it_can(self, data: bytes) -> None:
        """Send until the server has hung up."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    async def read(self) -> bytes:
        return await self.loop.sock_recv(self.sock, MIB)

    async def last_word(self) -> int | None:
        """Read to the end; give the code of the close frame there, if there is one."""
        tail = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.read():
                tail = (tail + piece)[-256:]
        at = tail.rfind(bytes([0x80 | CLOSE]))
        if at < 0 or len(tail) - at < 4 or tail[at + 1] != len(tail) - at - 2:
            return None
        return int(struct.unpack_from("!H", tail, at + 2)[0])

    def close(self) -> None:
        self.sock.close()


def masked_frame(first: int, payload: bytes) -> bytes:
    """A frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + ZERO + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 0x80 | 126, size) + ZERO + payload
    return struct.pack("!BBQ", first, 0x80 | 127, size) + ZERO + payload


def bomb(size: int) -> bytes:
    """Deflate so many zeros as a message: a thousandth is left."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = b"\x00" * MIB
    out = [deflater.compress(piece) for _ in range(size // MIB)]
    out.append(deflater.flush(zlib.Z_SYNC_FLUSH)[:-4])
    return b"".join(out)


# -- the attacks: each gives what became of it --


async def flood_of_pings(port: int) -> str:
    """25 MB of pings whose pongs nobody reads."""
    one = await Hostile.upgraded(port, receive_buffer=4096)
    many = masked_frame(0x80 | PING, b"p" * 125) * 1000
    for _ in range(200):
        await one.send(many)
    await one.send(frame(CLOSE, close_payload(1000)))
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def sleeping_reader(port: int) -> str:
    """128 MiB pushed to a reader that sleeps."""
    one = await Hostile.upgraded(port, receive_buffer=4096)
    await one.send(frame(TEXT, f"[[:t/push {128 * KIB}] nil]"))
    async with await Peer.connect(port) as watcher:
        await watcher.upgrade("/chsk?client-id=watcher")
        await watcher.text()
        while await ask(watcher, ":t/too-slow") == "0":
            pass
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def silent_gigabyte(port: int) -> str:
    """A frame of a gigabyte is announced, and never comes."""
    one = await Hostile.upgraded(port)
    await one.send(struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, 1 << 30) + ZERO + b"x" * 100)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def silent_megabytes(port: int) -> str:
    """200 frames of a MiB are announced, of which only the first bytes come."""
    many = [await Hostile.upgraded(port) for _ in range(200)]
    for one in many:
        await one.send(struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, MIB) + ZERO + b"x" * 100)
    async with await Peer.connect(port) as watcher:
        await watcher.ask("GET", "/")  # all that was sent before is read by then
    for one in many:
        one.close()
    return "held"


async def endless_message(port: int) -> str:
    """Fragments of 64 KiB without a last one."""
    one = await Hostile.upgraded(port)
    await one.send(masked_frame(TEXT, b"x"))
    await one.send_all_it_can(masked_frame(CONTINUATION, b"x" * 64 * KIB) * 1000)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def endless_body(port: int) -> str:
    """Chunks without a last one."""
    one = await Hostile.connect(port)
    await one.send(b"POST /chsk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    await one.send_all_it_can((b"8000\r\n" + b"x" * 32 * KIB + b"\r\n") * 1000)
    status = (await one.read()).split()[1].decode()
    one.close()
    return f"status {status}"


async def deflated_bomb(port: int) -> str:
    """512 MiB of zeros in half a MiB."""
    one = await Hostile.upgraded(port, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    await one.send_all_it_can(masked_frame(0xC0 | TEXT, BOMB))
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def empty_fragments(port: int) -> str:
    """100,000 fragments without a byte."""
    one = await Hostile.upgraded(port)
    await one.send(masked_frame(TEXT, b"x"))
    await one.send_all_it_can(masked_frame(CONTINUATION, b"") * 100_000)
    code = await one.last_word()
    one.close()
    return f"closed {code}"


async def fragments_of_a_byte(port: int) -> str:
    """A message in 200,000 fragments: unusual, and allowed."""
    one = await Hostile.upgraded(port)
    text = f'[[:t/echo "{"y" * 200_000}"] "c"]'.encode()
    await one.send(
        masked_frame(TEXT, text[:1])
        + b"".join(masked_frame(CONTINUATION, text[k : k + 1]) for k in range(1, len(text)))
        + masked_frame(0x80 | CONTINUATION, b"")
    )
    read = b""
    while not read.endswith(b'"c"]'):
        read += await one.read()
    one.close()
    return f"answered {len(read) // 1000} KB"


async def half_open_handshakes(port: int) -> str:
    """500 that begin a head and say no more."""
    many = [await Hostile.connect(port) for _ in range(500)]
    for one in many:
        await one.send(b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nUpgrade:")
    heads = await asyncio.gather(*(one.read() for one in many))
    for one in many:
        assert await one.read() == b""
        one.close()
    return f"status {' '.join({head.split()[1].decode() for head in heads})}"


async def segments_of_a_byte(port: int) -> str:
    """The upgrade, and a message of 5 KB, each byte in a segment of its own."""
    one = await Hostile.connect(port)
    for byte in (
        b"GET /chsk?client-id=mallory HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ):
        await one.send(bytes([byte]))
    for byte in frame(TEXT, f'[[:t/echo "{"z" * 5000}"] "c"]'):
        await one.send(bytes([byte]))
    read = b""
    while not read.endswith(b'"c"]'):
        read += await one.read()
    one.close()
    return f"answered {len(read) // 1000} KB"


BOMB = b""  # made once, by run


@dataclass(frozen=True)
class Attack:
    """One attack, what is to become of it, and how far memory may rise, in bytes."""

    run: Callable[[int], Awaitable[str]]
    outcome: str
    growth: int
    settings: dict[str, Any] = field(default_factory=dict)


ATTACKS = {
    attack.run.__name__: attack
    for attack in (
        Attack(flood_of_pings, "closed 1000", MIB),
        Attack(sleeping_reader, "closed 1013", 2 * MIB),
        Attack(silent_gigabyte, "closed 1009", MIB),
        Attack(silent_megabytes, "held", 4 * MIB),
        Attack(endless_message, "closed 1009", 2 * MIB),
        Attack(endless_body, "status 413", 7 * MIB),
        Attack(deflated_bomb, "closed 1009", 2 * MIB, {"compression": True}),
        Attack(empty_fragments, "closed 1008", MIB),
        Attack(fragments_of_a_byte, "answered 200 KB", MIB),
        Attack(half_open_handshakes, "status 408", 4 * MIB, {"handshake_timeout": 1.0}),
        Attack(segments_of_a_byte, "answered 5 KB", MIB),
    )
}


@dataclass(frozen=True)
class Found:
    """What came of an attack."""

    outcome: str
    growth: int  # bytes, at the highest
    worst: float  # seconds that the other client waited for one answer
    asked: int  # its questions


async def ask(client: Peer, event: str) -> str:
    """Ask by WebSocket; give the text of the answer."""
    await client.say(f'[[{event}] "q"]')
    while not (text := await client.text()).endswith(' "q"]'):
        pass
    return text[1:-5]


class Memory:
    """Of a process, by /proc: what it holds, and the most since `reset`."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")

    def _kib(self, name: str) -> int:
        line = next(
            line
            for line in (self.folder / "status").read_text().splitlines()
            if line.startswith(name)
        )
        return int(line.split()[1]) * KIB

    def reset(self) -> int:
        (self.folder / "clear_refs").write_text("5")
        return self._kib("VmRSS")

    def most(self) -> int:
        return self._kib("VmHWM")


async def _beside(port: int, done: asyncio.Event) -> tuple[float, int]:
    """Ask until the attack is over; give the longest wait, and how often."""
    worst, asked = 0.0, 0
    async with await Peer.connect(port) as client:
        await client.upgrade("/chsk?client-id=alice")
        await client.text()
        while not done.is_set() or asked < 10:
            start = monotonic()
            assert await ask(client, f":t/echo {asked}") == str(asked)
            worst = max(worst, monotonic() - start)
            asked += 1
            await asyncio.sleep(0.001)
    return worst, asked


async def _attack(attack: Attack, port: int, memory: Memory) -> Found:
    done = asyncio.Event()
    async with await Peer.connect(port) as client:  # what is made once is made
        await client.upgrade("/chsk?client-id=bob")
        await client.text()
        await ask(client, f':t/echo "{"w" * 100_000}"')
        await ask(client, ":t/push 1024")
    before = memory.reset()
    other = asyncio.create_task(_beside(port, done))
    try:
        outcome = await attack.run(port)
    finally:
        done.set()
    growth = memory.most() - before
    worst, asked = await other
    return Found(outcome, growth, worst, asked)


def run(name: str, seconds: float = 60.0) -> Found:
    """Run one attack against a server of its own."""
    global BOMB
    attack = ATTACKS[name]
    if attack.run is deflated_bomb and not BOMB:
        BOMB = bomb(512 * MIB)
    paths = [str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    server = subprocess.Popen(
        [sys.executable, HERE / "hostile_server.py", json.dumps(attack.settings)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())

        async def limited() -> Found:
            async with asyncio.timeout(seconds):
                return await _attack(attack, port, Memory(server.pid))

        return asyncio.run(limited())
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
