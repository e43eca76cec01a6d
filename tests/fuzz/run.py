"""Feeds a target: from libFuzzer by way of atheris, or with the inputs of files.

    python -m fuzz.run edn -max_total_time=60 corpus/      fuzz
    python -m fuzz.run edn --seeds corpus/ --words words   write seeds and dictionary, no more
    python -m fuzz.run edn crash-1234                      replay files; atheris is not needed

Arguments that are not ours are libFuzzer's. ci/fuzz.sh says with which build and sanitizers.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from fuzz.leaks import watched


def load(target: str) -> ModuleType:
    return importlib.import_module(f"fuzz.fuzz_{target}")


def write_seeds(target: ModuleType, corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)


def write_words(target: ModuleType, path: Path) -> None:
    """Write the dictionary as libFuzzer reads it."""
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.WORDS)
    path.write_text("\n".join(lines) + "\n")


def fuzz(name: str, options: list[str]) -> None:
    import atheris

    # The compiled modules have counters of their own; the targets need none, and are slow
    # with them.
    with atheris.instrument_imports(include=["chansock"]):
        target = load(name)
    atheris.Setup([sys.argv[0], *options], watched(target.check))
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    name, *rest = arguments
    if rest[:1] == ["--seeds"]:
        _, corpus, _, words = rest
        target = load(name)
        write_seeds(target, Path(corpus))
        write_words(target, Path(words))
    elif rest and all(Path(path).is_file() for path in rest):
        target = load(name)
        for path in rest:
            target.check(Path(path).read_bytes())
            print(f"{path}: nothing found")
    else:
        fuzz(name, rest)


if __name__ == "__main__":
    main(sys.argv[1:])
