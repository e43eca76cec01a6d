"""Builds one extension for each .pyx below chansock/_fast; everything else is in pyproject.toml.

A .pyx may include parts, .pxi files. cythonize follows `include` as it follows `cimport`: a change
of a part builds each extension that includes it anew.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

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

setup(
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        extensions,
        build_dir="build",
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
