"""Builds one extension for each .pyx below chansock/_fast; everything else is in pyproject.toml.

A .pyx may include parts, .pxi files. cythonize follows `include` as it follows `cimport`: a change
of a part builds each extension that includes it anew.
"""

import os
import sys
from pathlib import Path
from threading import Lock

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
FAST = HERE / "chansock" / "_fast"
COMPILE = [] if os.name == "nt" else ["-O3", "-fno-strict-aliasing", "-Wno-unreachable-code"]
if COMPILE and not os.environ.get("CHANSOCK_DEBUG"):
    # CPython's own flags ask for -g, which makes the modules six times as large. Debuggers and
    # sanitizers want it: build with CHANSOCK_DEBUG=1.
    COMPILE.append("-g0")

extensions = [
    Extension(
        ".".join(path.relative_to(HERE).with_suffix("").parts),
        [path.relative_to(HERE).as_posix()],
        include_dirs=["chansock/_fast"],  # headers are named with their folder
        extra_compile_args=COMPILE,
        # This file too: a change of its flags builds everything anew.
        depends=[
            "setup.py",
            *(header.relative_to(HERE).as_posix() for header in FAST.rglob("*.h")),
        ],
    )
    for path in sorted(FAST.rglob("*.pyx"))
]

# The largest first: with these last, one processor would work alone at the end.
extensions.sort(key=lambda extension: -(HERE / extension.sources[0]).stat().st_size)
JOBS = os.cpu_count() or 1


class BuildExt(build_ext):
    """Prints on stderr which extension is compiled: the compilers are silent for minutes."""

    def build_extensions(self):
        self._done, self._lock = 0, Lock()
        super().build_extensions()

    def build_extension(self, ext):
        path = Path(self.get_ext_fullpath(ext.name))
        before = path.stat().st_mtime_ns if path.exists() else 0
        super().build_extension(ext)
        with self._lock:
            self._done += 1
            if path.stat().st_mtime_ns != before:
                count = f"{self._done:{len(str(len(self.extensions)))}}/{len(self.extensions)}"
                sys.stderr.write(f"[{count}] compiled {ext.name}\n")


def main():
    setup(
        cmdclass={"build_ext": BuildExt},
        options={"build_ext": {"parallel": JOBS}},
        ext_modules=cythonize(
            extensions,
            build_dir="build",
            nthreads=JOBS if JOBS > 1 else 0,
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,  # lengths are checked before reading; parsers are fuzzed
                "wraparound": False,
                "initializedcheck": False,
                "embedsignature": False,
                "binding": False,  # builtin methods: no closure, cheaper calls
            },
        ),
    )


if __name__ == "__main__":  # not in the processes that cythonize starts
    main()
