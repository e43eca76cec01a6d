"""chansock._fast.events.dispatch: what a decoded value holds, as sys.getsizeof counts it."""

from __future__ import annotations

import dataclasses
import gc
import random
import sys
import tracemalloc
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from chansock import Keyword
from chansock._fast.events.dispatch import weigh
from chansock.packers import EDN, JSON, MessagePack, Transit


@dataclasses.dataclass
class Plain:
    name: Any
    other: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    name: Any


TEXTS = ["x" * 50, "é" * 50, "€" * 50, "😀" * 50, Keyword("a/b"), b"x" * 50, bytearray(50)]
NUMBERS = [1.5, 300, 2**29, 2**40, 10**1000, Decimal("1.5"), Decimal("1." + "3" * 10_000)]
EMPTY: list[Any] = [[], (), {}, set(), frozenset()]
FULL = [frozenset(range(40)), dict.fromkeys(range(-5, 100)), list(range(200)), tuple(range(9))]


@pytest.mark.parametrize("value", [*TEXTS, *NUMBERS, *EMPTY, *FULL])
def test_an_object_weighs_what_getsizeof_says(value: Any) -> None:
    assert weigh(value) == sys.getsizeof(value)


@pytest.mark.parametrize("value", [None, True, False, 0, 256, -5])
def test_what_python_makes_once_weighs_nothing(value: Any) -> None:
    assert weigh(value) == 0


def test_a_container_weighs_what_it_contains() -> None:
    text = "y" * 100
    size = sys.getsizeof(text)
    for value in ([text], (text,), {1: text}, {text}, [[(text,)]], Plain(text, None)):
        assert weigh(value) >= size + 40
    assert weigh(Slotted(text)) >= size + 40
    assert weigh(Fraction(10**400, 3)) >= 400 // 3
    assert weigh(UUID(int=2**100)) > 32


def test_a_key_of_its_own_weighs_all_that_it_takes() -> None:
    own = {"a" * len("a" * 20): None}
    assert weigh(own) == sys.getsizeof(own) + sys.getsizeof("a" * 20)


@pytest.mark.parametrize("packer", [EDN(), JSON(), MessagePack(), Transit()], ids=repr)
def test_keys_that_dicts_share_weigh_once_what_they_take(packer: Any) -> None:
    long = "k" * 10_000
    packet = packer.packet([{long: 1}, {long: 2}, {long: 3}], None)
    value, _ = packer.unpack(memoryview(packet if isinstance(packet, bytes) else packet.encode()))
    assert 0.7 < weigh(value) / real_size(value) < 1.4


def real_size(value: Any) -> int:
    """Return what sys.getsizeof counts for all of a value of dicts, lists, and scalars."""
    seen: dict[int, Any] = {}
    left = [value]
    for node in left:  # grows while it is walked
        if id(node) not in seen:
            seen[id(node)] = node
            left += [*node, *node.values()] if isinstance(node, dict) else []
            left += node if isinstance(node, list) else []
    return sum(map(sys.getsizeof, seen.values()))


def test_a_value_of_any_depth_is_weighed_without_recursion() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert weigh(value) > 100_000 * sys.getsizeof([None]) * 0.9
    while value:
        value = value.pop()


def test_the_walk_ends_soon_after_the_most_that_matters() -> None:
    shared: Any = ["x" * 100]
    for _ in range(60):
        shared = [shared, shared]  # 2**60 paths: a walk of all of them would never end
    assert 100_000 < weigh(shared, 100_000) < 101_000


@pytest.mark.parametrize("packer", [EDN(), JSON(), MessagePack()], ids=repr)
def test_a_decoded_value_weighs_what_its_memory_takes(packer: Any) -> None:
    chance = random.Random(7)

    def some(depth: int) -> Any:
        if depth == 0 or chance.random() < 0.2:
            return chance.choice([chance.random(), chance.randrange(10**12), "t" * 30, None, True])
        if chance.random() < 0.5:
            return [some(depth - 1) for _ in range(chance.randrange(6))]
        return {f"key{n}": some(depth - 1) for n in range(chance.randrange(6))}

    packet = memoryview(packer.packet([some(6) for _ in range(40)], None))
    packer.unpack(packet)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    value = packer.unpack(packet)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * held < weigh(value) < 1.3 * held
