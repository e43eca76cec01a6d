"""docs/packers.md: each cell of its table is run, and its examples."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest
from dist_content import ROOT
from test_docs_edn import NAMES

from chansock import packers
from chansock.errors import EncodeError

DOCUMENT = ROOT / "docs" / "packers.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
(TABLE,) = re.findall(r"^\| value \|(.*)\|\n\|[-|]+\n((?:\|.*\|\n)+)", TEXT, re.M)
COLUMNS = re.findall(r"`([^`]+)`", TABLE[0])


def cells() -> list[tuple[str, str, str]]:
    """Return (packer, value, what arrives) of each cell; several values in a row are several."""
    found = []
    for line in TABLE[1].splitlines():
        first, *rest = re.split(r" \| ", line.strip("| "))
        assert len(rest) == len(COLUMNS), line
        for value in re.findall(r"`([^`]+)`", first):
            found += [(name, value, cell) for name, cell in zip(COLUMNS, rest, strict=True)]
    return found


def packed(packer: packers.Packer, value: Any) -> Any:
    """Send a value through as a reply, and in a push; both arrive alike."""
    replied, cb_id = packer.unpack(memoryview(packer.packet(value, "cb")))
    fragment = packer.fragment(("a/b", [value]))
    (((_, (pushed,)),), nothing) = packer.unpack(memoryview(packer.batch([fragment])))
    assert (cb_id, nothing, repr(replied)) == ("cb", None, repr(pushed))
    return replied


def test_the_table_is_found() -> None:
    assert len(COLUMNS) >= 4
    assert len(cells()) > 120


@pytest.mark.parametrize("is_gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("name", "text", "arrives"), cells())
def test_a_cell_tells_what_arrives(name: str, text: str, arrives: str, is_gzipped: bool) -> None:
    packer = eval(name, vars(packers).copy())
    if is_gzipped:
        packer = packers.Gzip(packer)
    value = eval(text, dict(NAMES))
    if arrives == "refused":
        for write in (
            lambda: packer.packet([value], None),
            lambda: packer.fragment(("a/b", {"k": value})),
        ):
            with pytest.raises(EncodeError):
                write()
        return
    expected = value if arrives == "=" else eval(arrives.strip("`"), dict(NAMES))
    found = packed(packer, value)
    assert (type(found), repr(found)) == (type(expected), repr(expected))


def test_the_examples_print_what_the_document_says() -> None:
    names = {"Keyword": NAMES["Keyword"]}
    failed, tried = doctest.testfile(
        str(DOCUMENT), module_relative=False, encoding="utf-8", extraglobs=names
    )
    assert failed == 0
    assert tried > 10
