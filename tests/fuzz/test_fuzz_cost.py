"""The search for cost: it runs for each packer, and finds a packer that is quadratic."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from chansock.packers import JSON
from fuzz import cost
from fuzz.cost import PACKERS, Search
from fuzz.cost_inputs import FORMS, Recipe, crossed, mutated, rendered


class Quadratic(JSON):
    """JSON whose reader compares each key of an object with all those before."""

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            keys = [key for key, _ in pairs]
            assert all(keys.count(key) for key in keys)
            return dict(pairs)

        packet = super().unpack(view)
        json.loads(bytes(view), object_pairs_hook=checked)
        return packet


class Opaque:
    """What the count of weight does not look into."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Hiding(JSON):
    """JSON whose values hold more than is counted."""

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        value, cb_id = super().unpack(view)
        return [value[0], Opaque(value[1])] if isinstance(value, list) else value, cb_id


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """Leave the objects of other tests out of the collections that the search makes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def search(name: str, packer: Any, rounds: int) -> Search:
    made = Search(FORMS[name], packer, Random(1), size=64)
    for _ in range(rounds):
        made.step()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_each_packer_is_searched(name: str) -> None:
    found = search(name, PACKERS[name], 20)
    assert set(found.kept) == {*cost.TIMED, *cost.HELD}
    lines: list[str] = []
    found.finish(lines.append)
    assert [line.split()[0] for line in lines] == list(found.kept)


@pytest.mark.slow
def test_a_quadratic_reader_is_found_and_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    found = Search(FORMS["json"], Quadratic(), Random(1), size=512)
    found.kept = {"read": found.kept["read"]}
    fault = next(fault for fault in found.finish(lambda line: None) if fault.kind == "read")
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    path = cost.save("json", fault)
    assert path.is_relative_to(tmp_path / "build" / "fuzz" / "cost" / "json")
    assert path.read_bytes() == fault.packet
    assert str(path) in path.with_suffix(".txt").read_text()


@pytest.mark.slow
def test_a_value_that_holds_more_than_its_weight_is_found() -> None:
    found = Search(FORMS["json"], Hiding(), Random(1), size=512)
    found.kept = {"weight": found.kept["weight"]}
    assert {fault.kind for fault in found.finish(lambda line: None)} == {"weight"}


class Sized(JSON):
    """JSON that notes the sizes of the packets that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        self.sizes.append(view.nbytes)
        return super().unpack(view)


def test_recipes_are_ranked_and_measured_in_full_size() -> None:
    packer = Sized()
    made = Search(FORMS["json"], packer, Random(1), size=64)
    full = 3 * made.size
    assert max(packer.sizes) > full  # or a limit that cuts large packets short hides the others
    made.kept = {"peak": made.kept["peak"]}
    assert len(made.kept["peak"]) == cost.KEPT
    packer.sizes.clear()
    made.finish(lambda line: None)
    assert sum(size > full for size in packer.sizes) >= cost.KEPT


def test_a_slow_cpu_does_not_count() -> None:
    clock = cost.Clock()
    clock.fastest = cost.cpu_time(lambda: json.loads(cost.REFERENCE), 5) / 1000
    raw, calibrated = clock.time(lambda: json.loads(cost.REFERENCE), 5)
    assert 0 < calibrated < raw / 50


def test_a_call_is_repeated_until_the_clock_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 5.0, 5.0, 8.0])
    monkeypatch.setattr(cost, "thread_time", lambda: next(times))
    called: list[None] = []
    assert cost.cpu_time(lambda: called.append(None), 1) == 1.0
    assert len(called) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_recipe_makes_packets_of_any_size(name: str) -> None:
    form, chance = FORMS[name], Random(name)
    recipes = [Recipe((atom,)) for atom in form.atoms]
    for _ in range(200):
        recipe = mutated(form, crossed(*chance.choices(recipes, k=2), chance), chance)
        recipes.append(recipe)
        assert rendered(form, recipe, 512) == rendered(form, recipe, 512)
    for recipe in recipes:
        if recipe.depth or max(map(len, recipe.atoms)) > 40:
            continue
        assert len(rendered(form, recipe, 8192)) > 4 * len(rendered(form, recipe, 512))
