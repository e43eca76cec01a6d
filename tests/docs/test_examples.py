"""The chat of each framework's folder in examples/: whole by itself, with its own test.

What the page does in a browser is tested in browser/test_frameworks.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dist_content import ROOT

EXAMPLES = ROOT / "examples"
FRAMEWORKS = ("aiohttp", "alone", "fastapi", "litestar", "starlette")
PLUGINS = ("-p", "pytest_chansock", "-p", "no:asyncio")  # pytest-asyncio warns unless set up


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_folder_is_whole_and_its_own_test_passes_on_both_transports(
    framework: str, tmp_path: Path
) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    folder = shutil.copytree(EXAMPLES / framework, tmp_path / "mine", ignore=unwanted)
    done = subprocess.run(
        # An installed chansock has its plugin loaded; this one was built in place.
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *PLUGINS],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_have_one_page(framework: str) -> None:
    page = (EXAMPLES / framework / "index.html").read_bytes()
    assert page == (EXAMPLES / "alone" / "index.html").read_bytes()
