"""What the worst texts cost the edn reader, and the worst values the writer: time and memory by
the byte of text, at three sizes.

Each text is made to grow without bound what it can: brackets, digits, names, escapes, keys of
one hash, and errors at the very end. What grows from column to column as the size does is a
quadratic case (memory that is touched for the first time costs up to some 100 ns by the object).
The last column says whether the text was read, cut or refused, or the value written. The
collector is off.

    python bench/edn_worst.py [--sizes 20000,200000,2000000] [--only PART-OF-A-NAME]
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

from chansock import edn

PRIME = sys.hash_info.modulus


def repeat(part: str, size: int) -> str:
    return part * (size // len(part.encode()))


def numbered(form: str, size: int) -> str:
    """Return forms with a number each, up to size."""

    def parts() -> Iterator[str]:
        room, n = size, 0
        while room > 0:
            part = form.replace("N", str(n))
            room -= len(part)
            n += 1
            yield part

    return "".join(parts())


def alike(size: int) -> str:
    """Return two sets of sets of integers, all of one hash, that differ in their last member."""

    def sets(level: int, many: int) -> list[str]:
        if level == 0:
            return [str(n * PRIME) for n in range(1, many + 2)]
        members = sets(level - 1, many)
        return [
            f"#{{{' '.join(members[:skip] + members[skip + 1 :])}}}" for skip in range(many, -1, -1)
        ]

    many = max(2, round((size / 40) ** (1 / 3)))
    return f"#{{{' '.join(sets(2, many)[:2])}}}"


TEXTS: dict[str, Callable[[int], str]] = {
    "one string": lambda n: '"' + "x" * n + '"',
    "one string past ASCII": lambda n: '"' + repeat("жé漢😀", n) + '"',
    "escapes": lambda n: '"' + repeat("\\n", n) + '"',
    "escapes past ASCII": lambda n: '"' + repeat("\\né", n) + '"',
    "escapes with codes": lambda n: '"' + repeat("\\u00e9", n) + '"',
    "a string without its end": lambda n: '"' + "x" * n,
    "an #inst without its end": lambda n: '#inst "2018-01-01T00:00:00.' + "0" * n,
    "digits": lambda n: "1" * n,
    "digits and a bracket": lambda n: "[" + "1" * n + "]",
    "digits of a float": lambda n: "1." + "1" * n,
    "digits of an exponent": lambda n: "1e" + "1" * n,
    "a small float": lambda n: "0." + "0" * n + "1",
    "digits of a decimal": lambda n: "1" * n + "M",
    "hexadecimal digits": lambda n: "0x" + "f" * n,
    "integers of 4300 digits": lambda n: "[" + repeat("7" * 4300 + " ", n) + "]",
    "ratios of 4300 digits": lambda n: "[" + repeat("7" * 4300 + "/" + "3" * 4300 + " ", n) + "]",
    "a long keyword": lambda n: ":" + repeat("a:", n) + "a",
    "a long symbol": lambda n: repeat("a.", n),
    "brackets": lambda n: "[" * n,
    "braces": lambda n: "{" * n,
    "sets": lambda n: "#{" * (n // 2),
    "tags": lambda n: repeat("#t ", n),
    "metadata": lambda n: repeat("^:a ", n) + "[]",
    "metadata of metadata": lambda n: "^" * n,
    "discards": lambda n: "#_ " * (n // 5) + "1 " * (n // 5) + "1",
    "discards without a form": lambda n: "#_" * (n // 2),
    "comments": lambda n: repeat(";c\n", n) + "1",
    "blanks": lambda n: " " * n + "1",
    "empty vectors": lambda n: "[" + repeat("[]", n) + "]",
    "empty maps": lambda n: "[" + repeat("{}", n) + "]",
    "empty sets": lambda n: "[" + repeat("#{}", n) + "]",
    "symbols": lambda n: "[" + repeat("a ", n) + "]",
    "characters": lambda n: "[" + repeat("\\é ", n) + "]",
    "new keywords": lambda n: "[" + numbered(":kN ", n) + "]",
    "500 vectors deep": lambda n: "[" + repeat("[" * 499 + "]" * 499, n) + "]",
    "500 sets deep": lambda n: "[" + repeat("#{" * 499 + "}" * 499, n) + "]",
    "500 maps deep as keys": lambda n: "[" + repeat("{" * 499 + "}" + " 1}" * 498, n) + "]",
    "keyword keys": lambda n: "{" + numbered(":kN 1 ", n) + "}",
    "string keys": lambda n: "{" + numbered('"kN" 1 ', n) + "}",
    "integer keys": lambda n: "{" + numbered("N 1 ", n) + "}",
    "vector keys": lambda n: "{" + numbered("[N] 1 ", n) + "}",
    "a string key behind keywords": lambda n: "{" + numbered(":kN 1 ", n) + '"s" 1}',
    "the first key again": lambda n: "{" + numbered(":kN 1 ", n) + ":k0 1}",
    "the first key again, and the end": lambda n: "{" + numbered(":kN 1 ", n) + ":k0 ",
    "a long namespace": lambda n: f"#:{'n' * (n // 2)}{{{numbered(':kN 1 ', n // 2)}}}",
    "a namespace of 255": lambda n: f"#:{'n' * 255}{{{numbered(':kN 1 ', n)}}}",
    "keys of one hash": lambda n: "{" + "".join(f"{m * PRIME} 1 " for m in range(n // 22)) + "}",
    "vectors of one hash": lambda n: (
        "#{" + "".join(f"[{m * PRIME}] " for m in range(n // 22)) + "}"
    ),
    "long members of one hash": lambda n: (
        "#{" + "".join(f"[{repeat('[1] ', n // 32)}{m * PRIME}] " for m in range(31)) + "}"
    ),
    "sets of one hash in sets": alike,
    "equal members": lambda n: f"#{{[{repeat('[1] ', n // 2)}] [{repeat('[1] ', n // 2)}]}}",
    "bytes that are no UTF-8, at the end": lambda n: '"' + "x" * n + "\ud800",
}


class Text(str):
    """A str that is written as one: what is written as another value may be there twice."""


def deep_lists(size: int) -> object:
    """Return lists in lists, with a string in each."""
    deep: object = []
    for level in range(490):
        deep = [deep, f"{level} {'x' * (size // 490)}"]
    return deep


def deep_sets(size: int) -> object:
    """Return sets in sets, each with a member that is written as another."""
    deep: object = Text("twin")
    for level in range(490):
        deep = frozenset([deep, f"{level} {'x' * (size // 490)}"])
    return deep


def deep_keys(size: int) -> object:
    """Return maps in keys of maps, each written as another."""
    deep: object = Text("twin")
    for level in range(240):
        deep = edn.FrozenDict({(deep,): 1, f"{level}{'x' * (size // 240)}": 2, Text("one"): 3})
    return deep


# What costs the writer most: values to write, by the size of their text.
VALUES: dict[str, Callable[[int], object]] = {
    "written: one string": lambda n: "x" * n,
    "written: quotes": lambda n: '"' * (n // 2),
    "written: a string past ASCII": lambda n: repeat("жé漢😀", n),
    "written: integers of 4300 digits": lambda n: [7**5000] * (n // 4226),
    "written: lists 490 deep": deep_lists,
    "written: sets 490 deep": deep_sets,
    "written: maps 240 deep as keys": deep_keys,
    "written: a set of converted members": lambda n: {Text(k) for k in range(n // 8)},
    "written: converted keys of one length": lambda n: {
        Text(f"k{k:06}"): 1 for k in range(n // 12)
    },
}


def read(text: bytes) -> str:
    try:
        edn.loads(text)
    except edn.EdnTruncated:
        return "cut"
    except edn.EdnDecodeError:
        return "refused"
    return "read"


def write(value: object) -> str:
    edn.dumps(value)
    return "written"


def row(name: str, call: Callable[[Any], str], cases: list[tuple[Any, int]]) -> str:
    """Return a line of the table: `cases` are arguments of call, with the size of the text."""
    times, peaks = [], []
    for argument, size in cases:
        outcome = call(argument)
        best = float("inf")
        for _ in range(3):
            start = thread_time()
            call(argument)
            best = min(best, thread_time() - start)
        times.append(best / size)
        tracemalloc.start()
        call(argument)
        peaks.append(tracemalloc.get_traced_memory()[1] / size)
        tracemalloc.stop()
    columns = [f"{time * 1e9:7.1f} ns" for time in times] + [f"{peak:6.1f} B" for peak in peaks]
    return " ".join([f"{name:38}", *columns, f" {outcome}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="20000,200000,2000000")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    gc.disable()
    print(f"{'':38}", *(f"{size:>10,}" for size in sizes), "  bytes of text")
    for name, text_of in TEXTS.items():
        if options.only not in name:
            continue
        texts = [text_of(size).encode("utf-8", "surrogatepass") for size in sizes]
        print(row(name, read, [(text, len(text)) for text in texts]))
    for name, value_of in VALUES.items():
        if options.only not in name:
            continue
        values = [value_of(size) for size in sizes]
        print(row(name, write, [(value, len(edn.dumps(value))) for value in values]))


if __name__ == "__main__":
    main()
