"""The fuzz targets without a fuzzer: every seed, and a few hundred inputs mutated by chance."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from random import Random

import pytest

from fuzz.leaks import assert_no_leak

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))


def mutated(data: bytes, other: bytes, words: tuple[bytes, ...], chance: Random) -> bytes:
    """Change data as a fuzzer would: a byte, a word put in, a cut, a part of another input."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(made))
        match chance.randrange(4):
            case 0 if at < len(made):
                made[at] = chance.randrange(256)
            case 1:
                made[at:at] = chance.choice(words)
            case 2:
                del made[at : at + chance.randrange(8)]
            case _:
                start = chance.randint(0, len(other))
                made[at:at] = other[start : start + chance.randrange(30)]
    return bytes(made)


def test_there_are_targets_for_all_that_a_peer_sends() -> None:
    targets = ["deflate", "edn", "frames", "gzip", "http", "json", "msgpack", "transit"]
    assert [name.removeprefix("fuzz_") for name in NAMES] == targets


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_target_finds_nothing_in_its_seeds_and_what_is_like_them(name: str) -> None:
    target = import_module(f"fuzz.{name}")
    seeds = list(target.seeds())
    for seed in seeds:
        target.check(seed)
    chance = Random(name)
    for _ in range(300):
        seed, other = chance.choice(seeds), chance.choice(seeds)
        target.check(mutated(seed, other, target.WORDS, chance))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log nothing: pytest would keep the records."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_a_target_gives_leaves_nothing_behind(name: str, quiet: None) -> None:
    target = import_module(f"fuzz.{name}")
    seeds = list(target.seeds())
    for seed in Random(name).sample(seeds, 8):
        assert_no_leak(target.check, seed)


@pytest.mark.slow
def test_what_is_left_behind_is_found() -> None:
    kept: list[list[bytes]] = []
    with pytest.raises(AssertionError, match="expected nothing left behind"):
        assert_no_leak(
            lambda data: kept.append([data * n for n in range(2, 40)]), b"ab", patience=60.0
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_target_takes_any_bytes(name: str) -> None:
    target = import_module(f"fuzz.{name}")
    for first in range(256):
        target.check(bytes([first]))
    target.check(b"")
