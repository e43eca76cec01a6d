"""What one side writes, every reader reads as the same: all packers, Python and JavaScript.

Some thousand values, always the same. DIFFERENTIAL_MINUTES says for how long to go on by chance
(`ci/fuzz.sh differential 20`); it prints how many values that were.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from differential import (
    PACKERS,
    Bulk,
    Difference,
    Maker,
    PacketError,
    b64decode,
    b64encode,
    difference,
    packed,
    read,
)

from chansock import EncodeError

pytestmark = pytest.mark.slow

MINUTES = float(os.environ.get("DIFFERENTIAL_MINUTES", "0")) / 8  # of each test
BULK = 200
NEW_DIGIT = "\U0001e4f0"  # of Unicode 15: one to JavaScript, and not to Python 3.11
IN_BROWSER = ["edn", "msgpack", "json"]


@pytest.fixture(scope="module")
def bulk() -> Iterator[Bulk]:
    with Bulk() as bulk:
        yield bulk


def seeds(least: int) -> Iterator[int]:
    """Return so many seeds; or others for as long as DIFFERENTIAL_MINUTES says."""
    if not MINUTES:
        yield from range(least)
        return
    end, chance = time.monotonic() + 60 * MINUTES, Random()
    while time.monotonic() < end:
        yield chance.getrandbits(31)


def groups(kind: str, seed: int) -> Iterator[tuple[Any, list[Any], bytes]]:
    """Return a packer, values that it has written, and the packet of them."""
    maker, chance = Maker(seed), Random(seed)
    left = BULK
    while left > 0:
        values = [maker.value() for _ in range(chance.randint(1, 4))]
        left -= len(values)
        packer = chance.choice(PACKERS[kind])
        written, packet = packed(packer, values, chance.random() < 0.3)
        if written:
            yield packer, written, packet


def in_python(kind: str, packer: Any, values: list[Any], packet: bytes) -> list[Any]:
    """Return what Python reads of a packet, and make sure that it can be passed on."""
    try:
        found, cb_id = read(packer, packet)
    except PacketError as error:
        raise Difference(
            f"{packer!r} cannot read what it wrote: {error}: {packet!r:.500}"
        ) from None
    if len(found) != len(values):
        raise Difference(f"expected {len(values)} events, got {len(found)}: {packet!r:.500}")
    again = packed(packer, found, cb_id is not None)[1]
    for one, other in zip(found, read(packer, again)[0], strict=True):
        if told := difference(one, other, kind):
            raise Difference(f"{packer!r}, read, written and read: {told}: {packet!r:.500}")
    return found


def may_refuse(kind: str, error: str) -> bool:
    """Return whether JavaScript may refuse to write what it has read."""
    if "at most 500 levels" in error:
        return True  # a reply's value stands one level deeper as an event's data
    if kind == "edn" and NEW_DIGIT in error:
        return True
    return kind == "json" and bool(re.match(r"expected a value of JSON, got -?\d{17,21} at", error))


def check_ours(bulk: Bulk, kind: str, seed: int) -> int:
    """Write values in Python; read them in Python, and in JavaScript, which writes them again."""
    made = list(groups(kind, seed))
    held = [in_python(kind, *group) for group in made]
    if kind in IN_BROWSER:
        packets = [b64encode(packet).decode() for _, _, packet in made]
        answers = bulk.ask(packer=kind, again=packets)
        faults = []
        for (packer, _, packet), found, answer in zip(made, held, answers, strict=True):
            if isinstance(answer, dict):
                faults.append((packet, f"JavaScript cannot read: {answer['error']}"))
                continue
            for value, written in zip(found, answer, strict=True):
                if isinstance(written, dict) and not may_refuse(kind, written["error"]):
                    faults.append((packet, f"JavaScript cannot write again: {written['error']}"))
                if isinstance(written, dict):
                    continue
                try:
                    event, _ = packer.unpack(memoryview(b64decode(written)))
                    told = difference(value, event[1] if len(event) == 2 else None, kind)
                except PacketError as error:
                    told = f"Python cannot read what JavaScript wrote again: {error}"
                if told:
                    faults.append((packet, told))
        if faults:
            packet, told = min(faults, key=lambda fault: len(fault[0]))
            raise Difference(
                f"{kind} seed {seed}, {len(faults)} times: {told[:900]}: {packet!r:.700}"
            )
    return sum(len(values) for _, values, _ in made)


def check_theirs(bulk: Bulk, kind: str, seed: int) -> int:
    """Write values in JavaScript; read them in Python, and what Python writes again there."""
    packer = PACKERS[kind][0]
    made = bulk.ask(packer=kind, make=BULK, seed=seed)
    back: list[str | None] = []
    faults = []
    count = 0
    for answer in made:
        back.append(None)
        if isinstance(answer, dict):
            if "isWrong" in answer:
                faults.append((b"", answer["error"]))
            continue
        count += 1
        packet = b64decode(answer)
        try:
            value, cb_id = packer.unpack(memoryview(packet))
        except PacketError as error:
            faults.append((packet, f"Python cannot read: {error}"))
            continue
        data = value[1] if len(value) == 2 else None
        try:
            if cb_id is None:
                again = packer.batch([packer.fragment(("a/b", data))])
            else:
                again = packer.packet(data, cb_id)
        except EncodeError as error:
            is_deeper = "at most 500" in error.message  # by one level than it came
            is_large = kind == "json" and error.message.endswith("got int")  # past 2^53
            if not is_deeper and not is_large:
                faults.append((packet, f"Python cannot write again: {error}"))
            continue
        back[-1] = b64encode(again).decode()
    for told, sent in zip(bulk.ask(packer=kind, check=back), made, strict=True):
        if told:
            faults.append((b64decode(sent), f"JavaScript, of what Python wrote again: {told}"))
    if faults:
        packet, told = min(faults, key=lambda fault: len(fault[0]))
        raise Difference(f"{kind} seed {seed}, {len(faults)} times: {told[:900]}: {packet!r:.700}")
    return count


@pytest.mark.parametrize("kind", PACKERS)
def test_what_python_writes_every_reader_reads(bulk: Bulk, kind: str) -> None:
    count = sum(check_ours(bulk, kind, seed) for seed in seeds(10))
    print(f"{kind}: {count} values written in Python")
    assert MINUTES or count > 500


@pytest.mark.parametrize("kind", IN_BROWSER)
def test_what_javascript_writes_every_reader_reads(bulk: Bulk, kind: str) -> None:
    count = sum(check_theirs(bulk, kind, seed) for seed in seeds(10))
    print(f"{kind}: {count} values written in JavaScript")
    assert MINUTES or count > 500
