"""What a wheel and an sdist carry, compared with the source tree they were made from.

Run as a program by ci/wheel.sh, on files that it names; imported by test_package.py.
Only the standard library is used. It looks at names and sizes, and at the sections of compiled
modules, never at what a file says.
"""

from __future__ import annotations

import re
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROWSER = {  # in a wheel below chansock/
    f"js/{module}.{suffix}"
    for module in ("chansock", "json", "msgpack")
    for suffix in ("js", "d.ts")
}
PLUGIN = "pytest_chansock.py"  # beside the package
MAX_WHEEL = 3 * 1024 * 1024  # bytes; it has 1.8 million
BINARY = re.compile(r"\.(cpython-\d+[\w-]*|cp\d+-[\w-]+)\.(so|pyd)$")


def sources(*suffixes: str) -> set[str]:
    """The files of the package with these suffixes, relative to the tree."""
    found = (ROOT / "chansock").rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in found if path.suffix in suffixes}


def javascript_and_benches() -> set[str]:
    """The sources of the JavaScript tests and of the benches, without what npm put there."""
    found = {path for room in ("js", "bench") for path in (ROOT / room).rglob("*")}
    names = {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}
    return {name for name in names if not re.search(r"/(node_modules|__pycache__)/", name)}


def wheel_faults(wheel: Path) -> list[str]:
    """List what is missing from a wheel, and what does not belong there.

    Expected are .py, .pyi, py.typed, one .so for each .pyx, the browser's client, pytest's
    plugin and the metadata; no .pyx, .pxd, .pxi, .c or .h, nothing of the tests, no debug
    information, and at most MAX_WHEEL bytes.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        debug = {
            name: [each for each in elf_sections(archive.read(name)) if each.startswith(".debug_")]
            for name in sorted(names)
            if name.endswith(".so")
        }
    metadata = {name for name in names if re.match(r"chansock-[^/]+\.dist-info/", name)}
    carried = {BINARY.sub(".pyx", name) for name in names - metadata}
    expected = sources(".py", ".pyi", ".pyx", ".lua", ".typed") | {
        f"chansock/{name}" for name in BROWSER
    }
    faults = _differences(wheel.name, expected | {PLUGIN}, carried)
    faults += [
        f"{wheel.name}: {name} is a source"
        for name in names
        if name.endswith((".pyx", ".pxd", ".pxi", ".c", ".h"))
    ]
    faults += [f"{wheel.name}: {name} has {found[0]}" for name, found in debug.items() if found]
    if (size := wheel.stat().st_size) > MAX_WHEEL:
        faults.append(f"{wheel.name}: expected at most {MAX_WHEEL} bytes, got {size}")
    for kind in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"):
        if not any(name.endswith("/" + kind) for name in metadata):
            faults.append(f"{wheel.name}: {kind} is missing")
    return faults


def elf_sections(data: bytes) -> list[str]:
    """The names of the sections of a 64-bit little-endian ELF file; [] for any other file."""
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, of_names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + k * size) for k in range(count)]
    start, length = headers[of_names][4:6]
    table = data[start : start + length]
    return [table[each[0] : table.index(b"\0", each[0])].decode() for each in headers]


def sdist_faults(sdist: Path) -> list[str]:
    """Say what an sdist has too much and too little: it builds, and it can be tested."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    package = {name for name in names if name.startswith("chansock/")}
    expected = sources(".py", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".lua", ".typed")
    faults = _differences(sdist.name, expected, package)
    needed = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md"}
    tested = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.*")]
    needed |= {path.relative_to(ROOT).as_posix() for path in tested if path.suffix != ".pyc"}
    needed |= BROWSER | {PLUGIN} | javascript_and_benches()
    faults += [f"{sdist.name}: {name} is missing" for name in sorted(needed - names)]
    faults += [
        f"{sdist.name}: {name} was built"
        for name in names
        if name.endswith((".so", ".pyc")) or "/node_modules/" in name
    ]
    return faults


def _differences(archive: str, expected: set[str], carried: set[str]) -> list[str]:
    missing = [f"{archive}: {name} is missing" for name in sorted(expected - carried)]
    return missing + [f"{archive}: {name} was not expected" for name in sorted(carried - expected)]


def main(paths: list[str]) -> int:
    faults: list[str] = []
    for path in map(Path, paths):
        faults += wheel_faults(path) if path.suffix == ".whl" else sdist_faults(path)
    print("\n".join(faults) or f"{len(paths)} archives carry what they should")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
