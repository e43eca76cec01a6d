"""A search for cost: packets that take the most CPU time or memory for each byte.

    python -m fuzz.cost edn 5 --seed 1          for five minutes
    python -m fuzz.cost edn build/fuzz/cost/edn/read-12ab...    measure a packet again

Recipes of packets (cost_inputs) are mutated and crossed, and those that cost most are kept: to
read, to log as a bad event, to convert to typed data, and to write back, in CPU time, and what
the decoded value holds, in memory. At the end the worst of each are made in several sizes. One
that takes more than MOST_MS for 64 KiB, or more than in proportion to its size, is a fault: it is
saved, and the status is 1. The build under test is the ordinary one, without sanitizers.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from time import monotonic, thread_time
from typing import Any, Final
from uuid import UUID

from chansock._core.conversion import converter
from chansock.errors import BadData, EdnEncodeError, PacketError
from chansock.packers import EDN, JSON, Gzip, MessagePack, Packer, Transit
from chansock.values import short_repr
from fuzz.cost_inputs import FORMS, Form, Recipe, crossed, mutated, rendered

ROOT: Final = Path(__file__).parents[2]
KIB: Final = 1024
SIZE: Final = 16 * KIB
MOST_MS: Final = 20.0  # of CPU time for 64 KiB
MOST_GROWTH: Final = 5.0  # of the time, when the size grows fourfold
LEAST: Final = 0.0005  # seconds below which growth says nothing
KEPT: Final = 12  # recipes for each kind of cost

PACKERS: Final[dict[str, Packer]] = {
    "edn": EDN(tagged=True),
    "json": JSON(),
    "msgpack": MessagePack(),
    "transit": Transit(tagged=True),
    "gzip": Gzip(EDN(tagged=True)),
}

CONVERTERS: Final = [
    converter(kind)
    for kind in (
        list[Decimal],
        list[str | None],
        set[int],
        set[float],
        set[Decimal],
        set[UUID],
        set[frozenset[int]],
        set[tuple[int, ...]],
        frozenset[datetime],
        dict[str, Decimal],
        dict[Decimal, Any],
        dict[UUID, Any],
    )
]
TIMED: Final = ("read", "log", "convert", "write")
HELD: Final = ("held", "peak")


@dataclass
class Found:
    """A recipe and what it costs for each byte: nanoseconds, or bytes."""

    recipe: Recipe
    cost: float


@dataclass
class Fault:
    """A packet that costs too much."""

    kind: str
    packet: bytes
    why: str


def cpu_time(call: Callable[[], object], repeats: int) -> float:
    least = float("inf")
    for _ in range(repeats):
        start = thread_time()
        call()
        least = min(least, thread_time() - start)
    return least


@dataclass
class Search:
    """Keeps the recipes that cost most, by kind of cost."""

    form: Form
    packer: Packer
    chance: Random
    size: int = SIZE
    kept: dict[str, list[Found]] = field(default_factory=dict)
    rounds: int = 0

    def __post_init__(self) -> None:
        for atom in self.form.atoms:
            self._try(Recipe((atom,)))
            self._try(Recipe((atom,), outer=self.chance.randrange(len(self.form.containers))))

    def step(self) -> None:
        """Try one new recipe."""
        chance = self.chance
        pool = self.kept[chance.choice(list(self.kept))]
        recipe = chance.choice(pool).recipe
        if chance.random() < 0.2:
            other = chance.choice(self.kept[chance.choice(list(self.kept))])
            recipe = crossed(recipe, other.recipe, chance)
        for _ in range(chance.choice((1, 1, 2, 4))):
            recipe = mutated(self.form, recipe, chance)
        self._try(recipe)

    def _try(self, recipe: Recipe) -> None:
        self.rounds += 1
        plain = rendered(self.form, recipe, self.size)
        if not 0 < len(plain) <= 2 * self.size:
            return
        for kind, call in self._calls(plain):
            cost = self._cost(kind, call, 1) / len(plain)
            kept = self.kept.setdefault(kind, [])
            if len(kept) == KEPT and cost <= kept[-1].cost:
                continue
            if kind in TIMED:
                cost = min(cost, self._cost(kind, call, 3) / len(plain))
            if any(found.recipe == recipe for found in kept):
                continue
            kept.append(Found(recipe, cost))
            kept.sort(key=lambda found: -found.cost)
            del kept[KEPT:]

    def _calls(self, plain: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield each kind of cost that a packet has, and the call that causes it."""
        packet = memoryview(self.form.wrap(plain))

        def read() -> object:
            try:
                return self.packer.unpack(packet)
            except PacketError:
                return None

        yield "read", read
        yield "held", read
        yield "peak", read
        found = read()
        if found is None:
            return
        value = found[0]  # type: ignore[index]
        data = value[1] if isinstance(value, list) and len(value) == 2 else value
        yield "log", lambda: short_repr(value)

        def convert_by(convert: Any) -> Callable[[], object]:
            def call() -> object:
                try:
                    return convert(data)
                except BadData:
                    return None

            return call

        for convert in CONVERTERS:
            yield "convert", convert_by(convert)

        def write() -> object:
            try:
                return self.packer.packet(data, None)
            except EdnEncodeError:
                return None

        yield "write", write

    def _cost(self, kind: str, call: Callable[[], object], repeats: int) -> float:
        """Return nanoseconds, or bytes."""
        if kind in TIMED:
            return cpu_time(call, repeats) * 1e9
        tracemalloc.start()
        try:
            value = call()
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        del value
        return held if kind == "held" else peak

    # -- the end

    def finish(self, report: Callable[[str], object] = print) -> list[Fault]:
        """Report the worst of each kind, and return those that cost too much."""
        faults = []
        for kind, kept in self.kept.items():
            worst: tuple[float, Recipe, str] | None = None
            for found in kept[:4]:
                costs = self._at_sizes(kind, found.recipe)
                for _ in range(2):  # what other programs took at a time is no fault
                    if _is_well(kind, costs):
                        break
                    costs = list(map(min, costs, self._at_sizes(kind, found.recipe)))
                per_64k, growth = costs[2][0] * 64 * KIB / costs[2][1], _growth(costs)
                unit = f"{per_64k * 1e3:.1f} ms" if kind in TIMED else f"{per_64k / 65536:.0f} B/B"
                words = f"{unit} at {len(costs[2][2])} bytes, {growth:.1f} times as at a quarter"
                if worst is None or per_64k > worst[0]:
                    worst = per_64k, found.recipe, words
                if not _is_well(kind, costs):
                    faults.append(Fault(kind, costs[2][2], f"{words}: {_told(found.recipe)}"))
            if worst is not None:
                report(f"{kind:8} {worst[2]}: {_told(worst[1])}")
        return faults

    def _at_sizes(self, kind: str, recipe: Recipe) -> list[tuple[float, int, bytes]]:
        return [self._at(kind, recipe, times * self.size) for times in (1, 2, 4)]

    def _at(self, kind: str, recipe: Recipe, size: int) -> tuple[float, int, bytes]:
        """Return the cost at a size, in seconds or bytes, the size, and the packet."""
        plain = rendered(self.form, recipe, size)
        calls = [call for name, call in self._calls(plain) if name == kind]
        costs = [self._cost(kind, call, 7) for call in calls]
        cost = max(costs, default=0.0)
        return cost / 1e9 if kind in TIMED else cost, len(plain), self.form.wrap(plain)


def _is_well(kind: str, costs: list[tuple[float, int, bytes]]) -> bool:
    cost, size, _ = costs[2]
    if kind in TIMED and (cost * 1e3 * 64 * KIB / size > MOST_MS or cost < LEAST):
        return cost < LEAST
    return _growth(costs) <= MOST_GROWTH


def _growth(costs: list[tuple[float, int, bytes]]) -> float:
    """Return how the cost grew with the size, as if the size had grown fourfold exactly."""
    (first, small, _), _, (last, large, _) = costs
    return 4 * (last / max(large, 1)) / (max(first, 1e-9) / max(small, 1))


def _told(recipe: Recipe) -> str:
    structure = ", ".join(
        f"{name}={value}"
        for name in ("outer", "inner", "group", "around", "depth", "cut", "is_repeated")
        if (value := getattr(recipe, name))
    )
    atoms = " ".join(short_repr(atom, 60) for atom in recipe.atoms)
    return f"{atoms} {structure}".rstrip()


def save(name: str, fault: Fault) -> Path:
    folder = ROOT / "build" / "fuzz" / "cost" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fault.kind}-{sha256(fault.packet).hexdigest()[:12]}"
    path.write_bytes(fault.packet)
    path.with_suffix(".txt").write_text(f"ci/fuzz.sh cost {name} {path}\n{fault.why}\n")
    return path


def measure(name: str, path: Path) -> None:
    """Print what a saved packet costs."""
    search = Search(Form((), (), lambda atom, count: atom, bytes), PACKERS[name], Random(0))
    packet = path.read_bytes()
    for kind, call in search._calls(packet):
        cost = search._cost(kind, call, 5)
        print(f"{kind:8} {cost / 1e6:.2f} ms" if kind in TIMED else f"{kind:8} {cost:.0f} bytes")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fuzz.cost", description=__doc__)
    parser.add_argument("packer", choices=FORMS)
    parser.add_argument("what", nargs="+", help="minutes, or packets to measure")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen by chance")
    options = parser.parse_args(arguments)
    if all(Path(path).is_file() for path in options.what):
        for path in options.what:
            measure(options.packer, Path(path))
        return 0
    end = monotonic() + float(options.what[0]) * 60
    gc.disable()
    search = Search(FORMS[options.packer], PACKERS[options.packer], Random(options.seed))
    while monotonic() < end:
        search.step()
        if search.rounds % 500 == 0:
            gc.collect()
    print(f"{options.packer}: {search.rounds} packets of {SIZE // KIB} KiB, seed {options.seed}")
    faults = search.finish()
    for fault in faults:
        print(f"FAULT    {fault.kind} {fault.why}\n         saved as {save(options.packer, fault)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
