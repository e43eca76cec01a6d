"""The edn modules without SSE2, words or 128 bits (CHANSOCK_PORTABLE), against those that the
suite runs on: what other processors and compilers get reads and writes the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from edn_corpus import cases, text_of

import chansock

PACKAGE = Path(chansock.__file__).parent
# What reads each text of the folder and says, line by line, what it was and how it is written.
PROGRAM = """
import sys
from pathlib import Path
from chansock import edn
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        value = edn.loads(path.read_bytes())
        print(path.name, type(value), edn.dumps(value))
    except (edn.EdnError, edn.EncodeError) as error:
        print(path.name, ascii(str(error)))
"""


def texts() -> list[bytes]:
    found = [text_of(case) for case in cases("corpus.jsonl")]
    # every place where a loop by words may end, and every digit count
    found += [b'"' + b"x" * n + tail for n in range(40) for tail in (b'"', b'\\n"', b'\xc3\xa9"')]
    found += [b"1" * n + tail for n in range(1, 40) for tail in (b"", b".5", b"e5", b"N", b"M")]
    found += [b":" + b"k" * n + b"/" + b"x" * (40 - n) for n in range(1, 40)]
    found += [repr(7.0**k).encode() for k in range(-300, 300)]
    return found


def build(folder: Path) -> None:
    """Copy the package into folder, and compile its edn modules again."""
    package = folder / "chansock"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC").split()[0]
    include = sysconfig.get_paths()["include"]
    options = ["-O0", "-w", "-fno-strict-aliasing", "-DCHANSOCK_PORTABLE", f"-I{include}"]
    options.append(f"-I{package / '_fast'}")
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", *sorted(package.glob("_fast/edn/*.pyx"))]
        + [f"-X{name}=False" for name in ("boundscheck", "wraparound", "initializedcheck")],
        cwd=folder,
        check=True,
    )

    def compile_one(source: Path) -> None:
        target = source.with_suffix("").as_posix() + suffix
        command = [compiler, "-shared", "-fPIC", *options, source, "-o", target]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, package.glob("_fast/edn/*.c")))


def answers(folder: Path, where: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(folder)],
        env={**os.environ, "PYTHONPATH": str(where), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.full
@pytest.mark.slow
def test_the_portable_build_reads_and_writes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(texts()):
        (folder / f"{number:05}").write_bytes(text)
    build(tmp_path / "portable")
    ours = answers(folder, PACKAGE.parent)
    assert len(ours) == len(texts())
    assert answers(folder, tmp_path / "portable") == ours
