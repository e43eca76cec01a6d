"""Builds one extension per .pyx of chansock/_fast; everything else is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
FAST = Path("chansock/_fast")
COMPILE = [] if os.name == "nt" else ["-O3", "-fno-strict-aliasing", "-Wno-unreachable-code"]
HEADERS = sorted(path.relative_to(HERE).as_posix() for path in (HERE / FAST).glob("*.h"))

extensions = [
    Extension(
        "chansock._fast." + path.stem,
        [path.relative_to(HERE).as_posix()],
        extra_compile_args=COMPILE,
        depends=HEADERS,
    )
    for path in sorted((HERE / FAST).glob("*.pyx"))
]

setup(
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
