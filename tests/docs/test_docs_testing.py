"""docs/testing.md, followed word by word in an empty folder: its files are written, its commands
run, and their output is what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dist_content import ROOT

from chansock import testing

TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)

pytestmark = pytest.mark.slow


def test_every_block_is_a_file_or_a_command() -> None:
    assert {kind for kind, _ in BLOCKS} == {"python", "console"}
    for kind, text in BLOCKS:
        first = r"# \w+\.py\n" if kind == "python" else r"\$ (pytest|python -m unittest) -q"
        assert re.match(first, text), text


def test_every_public_name_is_in_the_page_and_has_a_docstring() -> None:
    for name in testing.__all__:
        assert re.search(rf"`[^`]*\b{name}\b", TEXT) or f" {name}" in TEXT, name
        public = getattr(testing, name)
        if isinstance(public, type):
            assert public.__doc__, name
            for word, found in vars(public).items():
                if word[0] != "_" and (callable(found) or isinstance(found, property)):
                    bases = [base for base in public.__mro__ if hasattr(base, word)]
                    assert any(getattr(base, word).__doc__ for base in bases), f"{name}.{word}"


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("httpx")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {
        "PYTHONPATH": path,
        "PYTEST_ADDOPTS": "-p pytest_chansock -p no:warnings -p no:cacheprovider",
    }
    for kind, text in BLOCKS:
        if kind == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(text, encoding="utf-8")
            continue
        command, _, shown = text.partition("\n")
        words = command.removeprefix("$ ").removeprefix("python ").split()
        words = words if words[0] == "-m" else ["-m", *words]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert matches(shown, done.stdout), f"{command}\n{done.stdout}"
        assert done.returncode == (" failed" in shown)


def matches(shown: str, printed: str) -> bool:
    """Return whether what was printed is what is shown: `...` is any number of lines."""
    pattern = re.escape(timeless(shown)).replace(re.escape("...\n"), r"(?:.*\n)*?")
    return re.fullmatch(pattern, timeless(printed)) is not None


def timeless(text: str) -> str:
    return re.sub(r"\d+\.\d+s", "0s", text)
