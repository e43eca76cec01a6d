"""Check the Python of README, docs/ and examples/ with mypy --strict and with pyright.

A program, run by ci/lint.sh. The files of a page are written into a folder, a new one where a
name comes again, and chansock stands in an environment as if it were installed there, so that
both checkers see what a user's would. What is shown without a file's name is one module each; a
session (`>>>`) is one for the page.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from doctest import DocTestParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"# ([\w/]+\.py)\n")
# What a fragment takes for granted, by page.
AROUND = {
    "README": ["import chansock", "from server import current_user"],
    "django": [
        "import chansock",
        "from chat.channel import chsk",
        "from chat.models import Message",
    ],
}
RULES = {  # of pyright
    "typeCheckingMode": "strict",
    "reportUnnecessaryTypeIgnoreComment": True,
    "reportUnusedImport": False,  # a fragment needs a part of what stands around it
    "reportUnusedFunction": False,
    "reportConstantRedefinition": False,  # Django's settings
    # What frameworks leave open; our own types are looked at as a whole.
    **dict.fromkeys(
        (f"reportUnknown{what}Type" for what in ("Argument", "Lambda", "Member", "Variable")), False
    ),
}
# A session shows values by naming them, and takes a name for another one.
SESSION = "# pyright: reportUnusedExpression=false\n"


def write_page(page: Path, base: Path) -> list[Path]:
    """Write the Python blocks of a page below a folder; give the folders to be checked."""
    folders = [base / page.stem]
    text = page.read_text(encoding="utf-8")
    if page.stem == "django":  # whose files are those of the example
        shutil.copytree(ROOT / "examples" / "django", folders[0])
    sessions = []
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)):
        if code.startswith(">>>"):
            sessions.append(code)
            continue
        if named := NAMED.match(code):
            if page.stem == "django":
                continue
            if (folders[-1] / named[1]).exists():
                folders.append(base / f"{page.stem}-{len(folders)}")
            write(folders[-1] / named[1], code)
        else:
            around = [line for line in AROUND.get(page.stem, ()) if line not in code]
            write(folders[-1] / f"block_{number}.py", "\n".join([*around, code]))
    if sessions:
        examples = DocTestParser().get_examples("".join(sessions))
        write(folders[0] / "session.py", SESSION + "".join(one.source for one in examples))
    return [folder for folder in folders if folder.exists()]


def write(path: Path, code: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")


def make_environment(folder: Path) -> Path:
    """Make an environment with chansock, and with all that ours has; give its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    sources = ("*.pyx", "*.pxd", "*.pxi", "*.c", "*.h")
    no_source = shutil.ignore_patterns("__pycache__", "*.so", *sources)
    shutil.copytree(ROOT / "chansock", site / "chansock", ignore=no_source)
    shutil.copy(ROOT / "pytest_chansock.py", site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder / "bin" / "python"


def mypy(folder: Path, python: Path, cache: Path) -> bool:
    config = folder.parent / "mypy.ini"
    settings = "[mypy]\nstrict = true\nallow_redefinition = true\n"
    if (folder / "manage.py").exists():
        settings += (
            "plugins = mypy_django_plugin.main\n"
            "[mypy.plugins.django-stubs]\n"
            "django_settings_module = mysite.settings\n"
        )
    config.write_text(settings, encoding="utf-8")
    options = ["--config-file", config, "--python-executable", python, "--cache-dir", cache]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"-- mypy: {folder.name}\n{done.stdout}", flush=True)
    return done.returncode == 0


def pyright(folders: list[Path], python: Path) -> bool:
    base = folders[0].parent
    settings = {
        **RULES,
        "executionEnvironments": [{"root": folder.name} for folder in folders],
        "include": [folder.name for folder in folders],
    }
    (base / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "-p", base, "--pythonpath", python, "--warnings"]
    return subprocess.run(command, cwd=base, check=False).returncode == 0


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        base = Path(place, "checked")
        base.mkdir()
        folders = [folder for page in PAGES for folder in write_page(page, base)]
        for example in sorted((ROOT / "examples").iterdir()):
            if example.name != "django" and any(example.rglob("*.py")):
                folders.append(base / f"example-{example.name}")
                shutil.copytree(example, folders[-1])
        faces = base / "faces"
        faces.mkdir()
        shutil.copy(ROOT / "tests" / "data" / "faces.py", faces)
        folders.append(faces)
        python = make_environment(Path(place, "environment"))
        found = [mypy(folder, python, Path(place, "cache")) for folder in folders]
        found.append(pyright(folders, python))
        return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
