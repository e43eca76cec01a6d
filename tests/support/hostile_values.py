"""Attacks by values: packets that are small to send, and dear to read, to hold, or to pass on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

from hostile_attack import KIB, MIB, ON_SOCKETS, OURS, Attack, Target
from hostile_client import question
from hostile_peer import Hostile, close_all, many_upgraded, masked_frame
from peer import BINARY, TEXT

from chansock import packers
from chansock.errors import PacketError

CONNECTIONS = 16  # of an attack by costly messages
MSGPACK_EVENT = {  # [:<name> _ ] nil: what is around the data
    "t/wait": b"\x92\x92\xc7\x06\x00t/wait",
    "t/say": b"\x92\x92\xc7\x05\x00t/say",
}


# -- dear to read


async def _served_on(target: Target, packet: bytes) -> str:
    """Send a packet; then ask on the same connection."""
    one = await Hostile.upgraded(target.port)
    kind = BINARY if target.packer in ("MessagePack", "Gzip") else TEXT
    sent = masked_frame(0x80 | kind, packet)
    target.begin()
    await one.send(sent)
    asks = b'[["t/echo",null],"end"]' if target.packer == "JSON" else b'[[:t/echo nil] "end"]'
    await one.send_all_it_can(masked_frame(0x80 | TEXT, asks))
    is_served = await one.count(b'"end"]', 1)
    one.close()
    return "served on" if is_served else "closed"


async def repeated_key(target: Target) -> str:
    """277 KiB of an object in JSON whose last key was there before."""
    keys, size = [], 0
    while size < target.size:
        keys.append(f'"{len(keys):x}":0')
        size += len(keys[-1]) + 1
    return await _served_on(target, f'[["t/echo",{{{",".join([*keys, keys[-1]])}}}],null]'.encode())


async def _sent_by_many(target: Target, first: bytes, packet: bytes) -> str:
    """Send costly packets on 16 connections at once, `first` before them; ask behind them."""
    kind = 0x80 | (BINARY if target.packer == "Gzip" else TEXT)
    sent = masked_frame(kind, packet) * target.size
    if first:
        sent = masked_frame(kind, first) + sent
    asks, name = question(target.packer, 7)
    many = await many_upgraded(target.port, CONNECTIONS)
    target.begin()
    senders = [asyncio.create_task(one.send_all_it_can(sent + asks)) for one in many]
    counts = await asyncio.gather(*(one.count(name, 1) for one in many))
    await asyncio.gather(*senders)
    close_all(many)
    return f"answered {sum(counts)}"


async def costly_json(target: Target) -> str:
    """Objects of 39,000 keys in JSON, for a handler that does nothing, on 16 connections."""
    pairs = ",".join(f'"{n:x}":0' for n in range(39_000))
    return await _sent_by_many(target, b"", f'[["t/drop",{{{pairs}}}],null]'.encode())


def _dropped_bomb() -> bytes:
    return b"\x01" + gzip.compress(b"[[:t/drop [%b]] nil]" % (b"#{}" * (MIB // 3 - 8)), 9)


async def costly_gzip(target: Target) -> str:
    """Sets of a MiB in edn, gzipped to a KiB each, for a handler that does nothing."""
    return await _sent_by_many(target, b"", _dropped_bomb())


async def costly_gzip_behind_a_wait(target: Target) -> str:
    """The same behind an event whose handler waits for a turn."""
    return await _sent_by_many(target, b"\x00[[:t/later 1] nil]", _dropped_bomb())


async def hexadecimal_amount(target: Target) -> str:
    """An integer of 512 KiB in hexadecimal digits, for a field that is a Decimal."""
    return await _served_on(target, b'[[:t/amount {:amount 0x%b}] "c"]' % (b"F" * target.size))


async def octal_amount(target: Target) -> str:
    """The same in octal digits."""
    return await _served_on(target, b'[[:t/amount {:amount 0%b}] "c"]' % (b"7" * target.size))


async def hexadecimal_bad_event(target: Target) -> str:
    """The same where an event's id should be: what is logged of it has to be short."""
    return await _served_on(target, b"[[0x%b 1] nil]" % (b"F" * target.size))


# -- dear to pass on


def _nested(packer: str, depth: int) -> bytes:
    """Return the packet of an event t/say whose data are that many vectors around nothing."""
    if packer == "MessagePack":
        return MSGPACK_EVENT["t/say"] + b"\x91" * (depth - 1) + b"\x90\xc0"
    if packer == "JSON":
        return b'[["t/say",%b%b],null]' % (b"[" * depth, b"]" * depth)
    if packer == "Transit":
        return b'[["~:t/say",%b%b],null]' % (b"[" * depth, b"]" * depth)
    return b"[[:t/say %b%b] nil]" % (b"[" * depth, b"]" * depth)


def _marker(packer: str, number: int) -> bytes:
    """Return the packet of an event t/say with a number."""
    if packer == "MessagePack":
        return MSGPACK_EVENT["t/say"] + b"\xcd" + number.to_bytes(2) + b"\xc0"
    name = {"JSON": '"t/say",', "Transit": '"~:t/say",'}.get(packer, ":t/say ")
    comma = " " if packer == "EDN" else ","
    return f"[[{name}{number}]{comma}{'nil' if packer == 'EDN' else 'null'}]".encode()


async def poisoned_broadcast(target: Target) -> str:
    """Data nested up to the reader's limit and past it, broadcast beside others' events."""
    packer = getattr(packers, target.packer)()
    kind = 0x80 | (BINARY if packer.binary else TEXT)
    mallory = await Hostile.upgraded(target.port)
    watcher = await Hostile.upgraded(target.port, client="watcher")
    depths = range(480, 520)
    target.begin()
    missing, unread, is_over = set(depths), 0, False
    for depth in depths:
        poison, marker = _nested(target.packer, depth), _marker(target.packer, depth)
        await mallory.send(masked_frame(kind, poison) + masked_frame(kind, marker))
    await target.answers()
    await mallory.send(masked_frame(kind, _marker(target.packer, 9999)))  # in a batch by itself
    buffer = bytearray()
    while not is_over and (piece := await watcher.read()):
        buffer += piece
        while (packet := _taken(buffer)) is not None:
            try:
                events, _ = packer.unpack(memoryview(packet))
            except PacketError:
                unread += 1
                continue
            for _, data in (event for event in events if len(event) == 2):
                if data == 9999:
                    is_over = True
                elif isinstance(data, int):
                    missing.discard(data)
    close_all((mallory, watcher))
    return f"{unread} packets that nobody can read, {len(missing)} events lost in them"


def _taken(buffer: bytearray) -> bytes | None:
    """Take the first whole frame of a server out of the buffer; return its payload."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1], 2
    if size == 126:
        size, start = int.from_bytes(buffer[2:4]), 4
    elif size == 127:
        size, start = int.from_bytes(buffer[2:10]), 10
    if len(buffer) < start + size:
        return None
    payload = bytes(buffer[start : start + size])
    del buffer[: start + size]
    return payload


# -- dear to hold


async def _held(target: Target, packet: bytes, number: int) -> str:
    """Send packets to a handler that waits, until the server takes no more."""
    one = await Hostile.upgraded(target.port)
    kind = BINARY if target.packer in ("MessagePack", "Gzip") else TEXT
    sent = masked_frame(0x80 | kind, packet) * number
    target.begin()
    sender = asyncio.create_task(one.send_all_it_can(sent))
    await target.settled()
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    one.close()
    return "held"


def _edn(item: bytes, size: int) -> bytes:
    return b"[[:t/wait [%b]] nil]" % (item * ((size - 20) // len(item)))


def _quoted(name: bytes, item: bytes, size: int) -> bytes:
    return b'[["%b",[%b]],null]' % (name, b",".join([item] * ((size - 24) // (len(item) + 1))))


PACKET = 60 * KIB  # 34 of them fill max_inbox_bytes


async def inbox_of_gzip_bombs(target: Target) -> str:
    """Sets of a MiB in edn, gzipped to a KiB each."""
    bomb = b"\x01" + gzip.compress(_edn(b"#{}", MIB), 9)
    return await _held(target, bomb, target.size)


async def inbox_of_small_gzip_bombs(target: Target) -> str:
    """The same of 60 KiB each."""
    return await _held(target, b"\x01" + gzip.compress(_edn(b"#{}", PACKET), 9), 40)


async def inbox_of_edn_vectors(target: Target) -> str:
    """2 MiB of empty vectors in edn."""
    return await _held(target, _edn(b"[]", PACKET), 40)


async def inbox_of_edn_sets(target: Target) -> str:
    """2 MiB of empty sets in edn."""
    return await _held(target, _edn(b"#{}", PACKET), 40)


async def inbox_of_edn_maps(target: Target) -> str:
    """2 MiB of maps of one key in edn."""
    return await _held(target, _edn(b"{1 1}", PACKET), 40)


async def inbox_of_json(target: Target) -> str:
    """2 MiB of empty objects in JSON."""
    return await _held(target, _quoted(b"t/wait", b"{}", PACKET), 40)


async def inbox_of_transit(target: Target) -> str:
    """2 MiB of empty arrays in Transit."""
    return await _held(target, _quoted(b"~:t/wait", b"[]", PACKET), 40)


async def inbox_of_msgpack(target: Target) -> str:
    """2 MiB of empty maps in MessagePack, each of a byte."""
    size = PACKET - 20
    data = MSGPACK_EVENT["t/wait"] + b"\xdd" + size.to_bytes(4) + b"\x80" * size + b"\xc0"
    return await _held(target, data, 40)


async def ten_connections(target: Target) -> str:
    """Ten clients, each with a full backlog, a full inbox, and half of a message."""
    fill = masked_frame(0x80 | TEXT, _edn(b"#{}", PACKET)) * 40
    half = masked_frame(0x80 | TEXT, _edn(b"[]", MIB))[: MIB - 100]
    target.begin()
    many, senders = [], []
    for n in range(10):
        one = await Hostile.upgraded(target.port, client=f"reader{n}", receive_buffer=4096)
        many.append(one)
        await one.send(masked_frame(0x80 | TEXT, b"[[:t/push 960] nil]"))
        senders.append(asyncio.create_task(one.send_all_it_can(fill + half)))
    await target.settled()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    close_all(many)
    return "held"


def _inbox(run: Callable[..., object], packer: str, servers: tuple[str, ...]) -> Attack:
    # Twice max_inbox_bytes, one packet that a handler has, and what was read and waits.
    return Attack(run, "held", 16 * MIB, packer=packer, servers=servers)  # type: ignore[arg-type]


BY_MANY = {"size": 2, "full": 4, "answers": CONNECTIONS}
HEX = {"size": 512 * KIB, "full": 512 * KIB}
NOTHING_LOST = "0 packets that nobody can read, 0 events lost in them"

ATTACKS = (
    Attack(
        repeated_key,
        "served on",
        24 * MIB,
        packer="JSON",
        servers=ON_SOCKETS,
        size=277 * KIB,
        full=277 * KIB,
    ),
    Attack(costly_json, "answered 16", 32 * MIB, packer="JSON", servers=ON_SOCKETS, **BY_MANY),
    Attack(costly_gzip, "answered 16", 96 * MIB, packer="Gzip", **BY_MANY),
    Attack(costly_gzip_behind_a_wait, "answered 16", 96 * MIB, packer="Gzip", **BY_MANY),
    Attack(hexadecimal_amount, "served on", 8 * MIB, **HEX),
    Attack(octal_amount, "served on", 8 * MIB, **HEX),
    Attack(hexadecimal_bad_event, "served on", 8 * MIB, **HEX),
    Attack(poisoned_broadcast, NOTHING_LOST, 4 * MIB),
    Attack(inbox_of_gzip_bombs, "held", 160 * MIB, packer="Gzip", servers=OURS, size=12, full=42),
    _inbox(inbox_of_small_gzip_bombs, "Gzip", OURS),
    _inbox(inbox_of_edn_vectors, "EDN", ON_SOCKETS),
    _inbox(inbox_of_edn_sets, "EDN", ON_SOCKETS),
    _inbox(inbox_of_edn_maps, "EDN", ON_SOCKETS),
    _inbox(inbox_of_json, "JSON", ON_SOCKETS),
    _inbox(inbox_of_transit, "Transit", ON_SOCKETS),
    _inbox(inbox_of_msgpack, "MessagePack", ON_SOCKETS),
    Attack(ten_connections, "held", 160 * MIB, servers=OURS),
)
