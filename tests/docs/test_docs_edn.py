"""docs/edn.md, and the table in the docstring of chansock.edn: each line of them is run."""

from __future__ import annotations

import doctest
import enum
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from dist_content import ROOT

from chansock import edn

DOCUMENT = ROOT / "docs" / "edn.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


NAMES = {name: getattr(edn, name) for name in edn.__all__} | {
    "Colour": Colour,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "OrderedDict": OrderedDict,
    "Point": Point,
    "UTC": UTC,
    "UUID": UUID,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
}


def rows(*header: str) -> Iterator[tuple[str, ...]]:
    """Return the code of a table's rows, cell by cell; several in a cell are several rows."""
    head = re.escape("| " + " | ".join(header) + " |\n|" + "---|" * len(header) + "\n")
    (table,) = re.findall(head + r"((?:\|.*\|\n)+)", TEXT)
    for line in table.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in re.split(r" \| ", line.strip("| "))]
        assert len(cells) == len(header), line
        assert len({len(cell) for cell in cells}) == 1, line
        yield from zip(*cells, strict=True)


def same(found: Any, expected: Any) -> bool:
    return found == expected and type(found) is type(expected) and repr(found) == repr(expected)


BOTH_WAYS = [*rows("edn", "Python")]
READ_OTHERWISE = [*rows("edn", "Python", "written")]
WRITTEN = [*rows("Python", "edn")]
DOCSTRING = re.findall(r"^ {4}(\S.*?) +<-> +(.+)$", edn.__doc__ or "", re.M)


def test_the_tables_are_found() -> None:
    assert len(BOTH_WAYS) > 30
    assert len(READ_OTHERWISE) > 10
    assert len(WRITTEN) > 8
    assert len(DOCSTRING) > 15


@pytest.mark.parametrize(("text", "python"), BOTH_WAYS + DOCSTRING)
def test_each_pair_holds_both_ways(text: str, python: str) -> None:
    value = eval(python, dict(NAMES))
    assert same(edn.loads(text), value)
    assert edn.dumps(value) == text.encode()


@pytest.mark.parametrize(("text", "python", "again"), READ_OTHERWISE)
def test_what_is_read_is_written_in_the_usual_way(text: str, python: str, again: str) -> None:
    value = eval(python, dict(NAMES))
    assert same(edn.loads(text), value)
    assert edn.dumps(value) == again.encode()


@pytest.mark.parametrize(("python", "text"), WRITTEN)
def test_what_python_alone_has_is_written(python: str, text: str) -> None:
    assert edn.dumps(eval(python, dict(NAMES))) == text.encode()


def test_the_examples_print_what_the_document_says() -> None:
    failed, tried = doctest.testfile(str(DOCUMENT), module_relative=False, encoding="utf-8")
    assert failed == 0
    assert tried > 25
