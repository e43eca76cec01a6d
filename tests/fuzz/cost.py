"""A search for cost: packets that take the most CPU time or memory for each byte.

    python -m fuzz.cost edn 5 --seed 1          for five minutes
    python -m fuzz.cost edn build/fuzz/cost/edn/read-12ab...    measure a packet again

The search mutates and crosses recipes of packets (cost_inputs), and keeps those that cost most: to
read, to log as a bad event, to convert to typed data, and to write back, in CPU time, and what
the decoded value holds, in memory. At the end it makes the worst of each in several sizes. A
packet is a fault if it takes more than MOST_MS for 64 KiB, if its cost grows faster than its size,
or if its value holds more than MOST_WEIGHTS times what `_fast/events/dispatch` counts for it. A
larger packet also leaves the CPU's caches and takes new pages from the system, which costs a step
once; what grows faster than the packet does so again from 64 to 256 KiB. The search saves each
fault, and the status is 1. The build under test is the ordinary one, without sanitizers.

Other programs on the machine slow the CPU down. So each time is the least of several, and a
reference (the standard library reads a fixed JSON document) is timed beside it: if the reference
takes longer than at its fastest, the time is reduced by as much. The report has both figures.

The converters of msgspec and pydantic are not measured: their work for each value is their own.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import Path
from random import Random
from time import monotonic, thread_time
from typing import Any, Final, Literal
from uuid import UUID

from chansock._core.conversion import converter
from chansock._fast.events.dispatch import weigh
from chansock.errors import BadData, EncodeError, PacketError
from chansock.packers import EDN, JSON, Gzip, MessagePack, Packer, Transit
from chansock.values import short_repr
from fuzz.cost_inputs import FORMS, Form, Recipe, crossed, mutated, rendered

ROOT: Final = Path(__file__).parents[2]
KIB: Final = 1024
SIZE: Final = 16 * KIB  # of the packets that are tried: past what the readers allow any packet
SIZES: Final = (1, 2, 4)  # times that: those that cost most are measured at 16, 32, and 64 KiB
LARGE: Final = (4, 8, 16)  # and those whose cost seems to grow faster than their size at these
MOST_MS: Final = 20.0  # of CPU time for 64 KiB
MOST_GROWTH: Final = 5.0  # of the cost, when the size grows fourfold
GROWS: Final = "grows faster than the packet"
MOST_WEIGHTS: Final = 2.0  # what a value holds, for what it weighs
LEAST: Final = 0.0005  # seconds below which growth says nothing
LEAST_HELD: Final = 8 * KIB  # bytes below which the readers' own caches matter
MOST_MEMORY: Final = 4 << 30  # of the whole search
KEPT: Final = 12  # recipes for each kind of cost

PACKERS: Final[dict[str, Packer]] = {
    "edn": EDN(tagged=True),
    "json": JSON(),
    "msgpack": MessagePack(),
    "transit": Transit(tagged=True),
    "gzip": Gzip(EDN(tagged=True)),
}


class Level(Enum):
    LOW = 1
    HIGH = "a"


@dataclass
class Point:
    a: float
    b: tuple[int, ...] = ()


CONVERTERS: Final = [
    converter(kind)
    for kind in (
        list[Decimal],
        list[str | None],
        list[float],
        list[int | str],
        list[Decimal | UUID | str],
        list[Literal["a", 1]],
        list[Level],
        Point,
        list[Point],
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
HELD: Final = ("held", "peak", "weight")

REFERENCE: Final = json.dumps(
    [{"id": n, "name": f"user {n}", "tags": ["a", None, True], "at": n * 1.5} for n in range(100)]
)


@dataclass
class Found:
    """A recipe and what it costs for each byte, in nanoseconds or bytes."""

    recipe: Recipe
    cost: float


@dataclass
class Fault:
    """A packet that costs too much."""

    kind: str
    packet: bytes
    why: str


def cpu_time(call: Callable[[], object], repeats: int) -> float:
    """Return the CPU seconds of one call, the least of several.

    A virtual machine's CPU clock can stand still while the host runs others. The call is repeated
    until the clock moves.
    """
    least = float("inf")
    for _ in range(repeats):
        calls, passed, start = 0, 0.0, thread_time()
        while passed <= 0:
            call()
            calls += 1
            passed = thread_time() - start
        least = min(least, passed / calls)
    return least


class Clock:
    """Measures CPU time, and what it would be if the CPU were as fast as it has ever been."""

    def __init__(self) -> None:
        self.fastest = self._reference(50)

    def time(self, call: Callable[[], object], repeats: int) -> tuple[float, float]:
        """Return the seconds as measured, and calibrated by the reference."""
        before = self._reference(3)
        raw = cpu_time(call, repeats)
        beside = min(before, self._reference(3))
        self.fastest = min(self.fastest, beside)
        return raw, raw * self.fastest / beside

    @staticmethod
    def _reference(repeats: int) -> float:
        return cpu_time(lambda: json.loads(REFERENCE), repeats)


def memory(call: Callable[[], Any]) -> dict[str, float]:
    """Return the bytes that a value holds, the most on the way to it, and held by weight."""
    gc.collect()  # frees what the interpreter keeps of tuples and lists, here and below
    tracemalloc.start()
    try:
        value = call()
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    weight = 0.0
    if value is not None and held >= LEAST_HELD:
        weight = held / max(weigh(value), 1)
    return {"held": held, "peak": peak, "weight": weight}


@dataclass
class Search:
    """Keeps the recipes that cost most, by kind of cost."""

    form: Form
    packer: Packer
    chance: Random
    size: int = SIZE
    kept: dict[str, list[Found]] = field(default_factory=dict)
    rounds: int = 0
    clock: Clock = field(default_factory=Clock)

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
        large = b""
        calls: list[tuple[str, Callable[[], object]]] = []
        for number, (kind, call) in enumerate(self._calls(plain)):
            if kind in TIMED:
                if not self._is_kept(kind, cpu_time(call, 1) * 1e9 / len(plain)):
                    continue
                # In full size the limits may cut it short.
                large = large or rendered(self.form, recipe, SIZES[-1] * self.size)
                calls = calls or list(self._calls(large))
                if number < len(calls):
                    _, seconds = self.clock.time(calls[number][1], 3)
                    self._keep(kind, recipe, seconds * 1e9 / len(large))
                continue
            for name, cost in memory(call).items():
                self._keep(name, recipe, cost / (1 if name == "weight" else len(plain)))

    def _is_kept(self, kind: str, cost: float) -> bool:
        kept = self.kept.setdefault(kind, [])
        return len(kept) < KEPT or cost > kept[-1].cost

    def _keep(self, kind: str, recipe: Recipe, cost: float) -> None:
        if not self._is_kept(kind, cost):
            return
        kept = self.kept[kind]
        if not any(found.recipe == recipe for found in kept):
            kept.append(Found(recipe, cost))
            kept.sort(key=lambda found: -found.cost)
            del kept[KEPT:]

    def _calls(self, plain: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield each kind of cost that a packet has, and the call that causes it.

        "held" stands for all kinds of memory.
        """
        packet = memoryview(self.form.wrap(plain))

        def read() -> object:
            try:
                return self.packer.unpack(packet)
            except PacketError:
                return None

        yield "read", read
        yield "held", read
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
            except EncodeError:
                return None

        yield "write", write

    # -- the end

    def finish(self, report: Callable[[str], object] = print) -> list[Fault]:
        """Report the worst of each kind, and return those that cost too much."""
        faults = []
        for kind, kept in self.kept.items():
            worst: tuple[Cost, str] | None = None
            for found in kept:
                costs = self._least_at(kind, found.recipe, SIZES)
                words = f"{_worded(kind, costs)}: {_told(found.recipe)}"
                if worst is None or costs[-1].each > worst[0].each:
                    worst = costs[-1], words
                trouble = _trouble(kind, costs)
                if trouble == GROWS:
                    trouble = _trouble(kind, self._least_at(kind, found.recipe, LARGE))
                if trouble:
                    faults.append(Fault(kind, costs[-1].packet, f"{trouble}: {words}"))
            if worst is not None:
                report(f"{kind:8} {worst[1]}")
        return faults

    def _least_at(self, kind: str, recipe: Recipe, sizes: tuple[int, ...]) -> list[Cost]:
        """Return the costs at some sizes; up to thrice, as other programs may take their time."""
        costs = [self._at(kind, recipe, times * self.size) for times in sizes]
        for _ in range(2):
            if not _trouble(kind, costs):
                break
            again = [self._at(kind, recipe, times * self.size) for times in sizes]
            costs = [
                min(pair, key=lambda cost: cost.all) for pair in zip(costs, again, strict=True)
            ]
        return costs

    def _at(self, kind: str, recipe: Recipe, size: int) -> Cost:
        plain = rendered(self.form, recipe, size)
        of = kind if kind in TIMED else "held"
        calls = [call for name, call in self._calls(plain) if name == of]
        raw, cost = 0.0, 0.0
        for call in calls:
            if kind in TIMED:
                raw, cost = max((raw, cost), self.clock.time(call, 7), key=lambda pair: pair[1])
            else:
                raw = cost = memory(call)[kind]
        return Cost(raw, cost, len(plain), self.form.wrap(plain))


@dataclass
class Cost:
    """What a packet of some size costs, in seconds or bytes; `size` is before `Form.wrap`."""

    raw: float
    all: float
    size: int
    packet: bytes

    @property
    def each(self) -> float:
        return self.all / max(self.size, 1)


def _growth(costs: list[Cost]) -> float:
    """Return how the cost grew with the size, as if the size had grown fourfold exactly."""
    return 4 * costs[-1].each / max(costs[0].each, 1e-15)


def _trouble(kind: str, costs: list[Cost]) -> str:
    """Say what is wrong with the cost, if anything is."""
    last = costs[-1]
    if kind == "weight":
        return f"more than {MOST_WEIGHTS} times its weight" if last.all > MOST_WEIGHTS else ""
    if kind in TIMED and last.all < LEAST:
        return ""
    if kind in TIMED and last.each * 1e3 * 64 * KIB > MOST_MS:
        return f"more than {MOST_MS} ms"
    return GROWS if _growth(costs) > MOST_GROWTH else ""


def _worded(kind: str, costs: list[Cost]) -> str:
    last = costs[-1]
    if kind == "weight":
        return f"{last.all:.2f} times its weight at {len(last.packet)} bytes"
    if kind in TIMED:
        unit = 1e3 * 64 * KIB
        cost = f"{last.each * unit:.1f} ms ({last.raw / max(last.size, 1) * unit:.1f} as measured)"
    else:
        cost = f"{last.each:.0f} B/B"
    return f"{cost} at {len(last.packet)} bytes, {_growth(costs):.1f} times as at a quarter"


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
        if kind in TIMED:
            raw, seconds = search.clock.time(call, 5)
            print(f"{kind:8} {seconds * 1e3:.2f} ms ({raw * 1e3:.2f} as measured)")
        else:
            print(*(f"{name:8} {cost:.1f}" for name, cost in memory(call).items()), sep="\n")


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
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    gc.disable()
    gc.freeze()
    search = Search(FORMS[options.packer], PACKERS[options.packer], Random(options.seed))
    while monotonic() < end:
        search.step()
    print(f"{options.packer}: {search.rounds} packets of {SIZE // KIB} KiB, seed {options.seed}")
    faults = search.finish()
    for fault in faults:
        print(f"FAULT    {fault.kind} {fault.why}\n         saved as {save(options.packer, fault)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
