"""How long one packet takes to read and to write: MessagePack as Sente has it, and as others do.

The five messages of bench/data as packets, `[value nil]`. ormsgpack and msgspec get the same
values with strings for keywords, since MessagePack by itself has none. `chansock` writes keys
that come again as references, as in a reply; `chansock, push` writes all in full, as in what many
sockets get. Each answer is checked before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import ormsgpack
import pytest
from bench_edn import TEXTS, as_json, time_it

from chansock import edn, packers

PACKER = packers.MessagePack()
OURS = ("chansock", "chansock, push")


def pushed(packet: list[Any]) -> bytes:
    """Write a packet without references: a value as the data of one event."""
    return PACKER.fragment(("a/b", packet[0]))


READERS: dict[str, Callable[[bytes], Any]] = {
    "chansock": PACKER.unpack,
    "chansock, push": PACKER.unpack,
    "ormsgpack": ormsgpack.unpackb,
    "msgspec": msgspec.msgpack.Decoder().decode,
}
WRITERS: dict[str, Callable[[Any], bytes]] = {
    "chansock": lambda packet: PACKER.packet(packet[0], packet[1]),
    "chansock, push": pushed,
    "ormsgpack": ormsgpack.packb,
    "msgspec": msgspec.msgpack.Encoder().encode,
}


def packet_of(message: str) -> list[Any]:
    value = edn.loads(TEXTS[message])
    return value if len(value) == 2 else [value, None]


def material(message: str, implementation: str) -> list[Any]:
    packet = packet_of(message)
    return packet if implementation in OURS else as_json(packet)


def plain(value: Any) -> Any:
    """Return a packet as all agree on it; a push is an event around the value."""
    value = as_json(list(value))
    return [value[0][1], None] if value[0][:1] == ["a/b"] else value


def label(benchmark: Any, work: str, message: str, implementation: str, size: int) -> None:
    benchmark.group = f"{work} {message} as MessagePack, {len(TEXTS[message]):,} bytes of edn"
    benchmark.extra_info.update(
        implementation=implementation,
        payload=size,
        is_correct=True,  # else the check has failed
        is_least=True,  # no other process is asked, so the quickest round is the code's own time
        mean_of=f"{work} MessagePack: geometric mean of {len(TEXTS)} messages",
    )


def written(message: str, implementation: str) -> bytes:
    """Return the packet; a push as it arrives, `[[:a/b value] nil]`."""
    data = WRITERS[implementation](material(message, implementation))
    return b"\x92" + data + b"\xc0" if implementation == "chansock, push" else data


@pytest.mark.parametrize("implementation", READERS)
@pytest.mark.parametrize("message", TEXTS)
def test_read_msgpack(
    benchmark: Any, request: pytest.FixtureRequest, message: str, implementation: str
) -> None:
    data = written(message, implementation)
    read = READERS[implementation]
    assert plain(read(data)) == as_json(packet_of(message))
    label(benchmark, "read", message, implementation, len(data))
    time_it(benchmark, partial(read, data), is_quick=request.config.getoption("--quick"))


@pytest.mark.parametrize("implementation", WRITERS)
@pytest.mark.parametrize("message", TEXTS)
def test_write_msgpack(
    benchmark: Any, request: pytest.FixtureRequest, message: str, implementation: str
) -> None:
    packet = material(message, implementation)
    data = written(message, implementation)
    assert plain(READERS[implementation](data)) == as_json(packet_of(message))
    label(benchmark, "write", message, implementation, len(data))
    write = WRITERS[implementation]
    time_it(benchmark, partial(write, packet), is_quick=request.config.getoption("--quick"))
