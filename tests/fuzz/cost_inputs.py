"""Inputs for the search for cost: recipes of packets, which can be made in any size.

A Recipe repeats a few atoms in containers until the packet has the size that is wanted. So the
same recipe measured at two sizes shows how its cost grows. A Form knows the atoms and containers
of one format. In an atom `<n>` stands for a number that counts up, `<h>` for numbers of one hash,
and `<u>` for the hexadecimal digits of UUIDs of one hash.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final
from uuid import UUID

__all__ = ["FORMS", "Form", "Recipe", "crossed", "mutated", "rendered"]

Container = Callable[[Sequence[bytes]], bytes]

MODULUS: Final = 2**61 - 1  # of Python's hash of numbers
DEEPEST: Final = 480
MARK: Final = b"<"


@dataclass(frozen=True)
class Form:
    """What packets of one format consist of."""

    atoms: tuple[bytes, ...]
    containers: tuple[Container, ...]
    fill: Callable[[bytes, int], bytes]
    envelope: Callable[[bytes], bytes]
    wrap: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Recipe:
    """`atoms` over and over, `group` of them in each inner container, nested `depth` times."""

    atoms: tuple[bytes, ...]
    outer: int = 0
    inner: int = 0
    group: int = 0  # 0: without inner containers
    around: int = 0
    depth: int = 0
    cut: int = 0  # bytes that are missing at the end
    is_repeated: bool = False  # the last item comes again: in a map or set it is refused


def rendered(form: Form, recipe: Recipe, size: int) -> bytes:
    """Return the packet of a recipe with about `size` bytes, before `form.wrap`."""
    nested = recipe.depth * (len(form.containers[recipe.around]([b""])) + 1)
    left = max(size - nested - 20, 1)
    items: list[bytes] = []
    group: list[bytes] = []
    count = 0
    while left > 0:
        atom = recipe.atoms[count % len(recipe.atoms)]
        item = form.fill(atom, count) if MARK in atom else atom
        left -= len(item) + 1
        count += 1
        if not recipe.group:
            items.append(item)
            continue
        group.append(item)
        if len(group) >= recipe.group or left <= 0:
            items.append(form.containers[recipe.inner](group))
            left -= len(items[-1]) - sum(len(item) + 1 for item in group)
            group = []
    if recipe.is_repeated:
        items += items[-2:]
    value = form.containers[recipe.outer](items)
    for _ in range(recipe.depth):
        value = form.containers[recipe.around]([value])
    packet = form.envelope(value)
    return packet[: len(packet) - recipe.cut]


def crossed(one: Recipe, other: Recipe, chance: Random) -> Recipe:
    """Return a recipe with atoms of both and the structure of either."""
    atoms = [*one.atoms, *other.atoms]
    kept = chance.sample(atoms, chance.randint(1, min(len(atoms), 4)))
    return replace(chance.choice((one, other)), atoms=tuple(kept))


def mutated(form: Form, recipe: Recipe, chance: Random) -> Recipe:
    """Return a recipe that is changed in one respect."""
    atoms = list(recipe.atoms)
    at = chance.randrange(len(atoms))
    kinds = range(len(form.containers))
    match chance.randrange(13):
        case 0:
            atoms[at] = chance.choice(form.atoms)
        case 1 if len(atoms) < 6:
            atoms.insert(at, chance.choice(form.atoms))
        case 2 if len(atoms) > 1:
            del atoms[at]
        case 3:  # a container around an atom, or around two
            inner = [atoms[at], *chance.choices(form.atoms, k=chance.randrange(3))]
            atoms[at] = form.containers[chance.choice(kinds)](inner)
        case 4:  # nested
            nest = form.containers[chance.choice(kinds)]
            for _ in range(chance.choice((2, 5, 20, 100, DEEPEST))):
                atoms[at] = nest([atoms[at]])
        case 5:  # a chunk repeated
            start = chance.randrange(len(atoms[at]) or 1)
            end = chance.randint(start, len(atoms[at]))
            chunk = atoms[at][start:end] * chance.choice((2, 8, 64, 512))
            atoms[at] = atoms[at][:start] + chunk + atoms[at][end:]
        case 6:  # a byte
            start = chance.randrange(len(atoms[at]) or 1)
            byte = bytes([chance.randrange(256)])
            atoms[at] = atoms[at][:start] + byte + atoms[at][start + 1 :]
        case 7:  # spliced
            start = chance.randrange(len(atoms[at]) or 1)
            atoms[at] = atoms[at][:start] + chance.choice(form.atoms) + atoms[at][start:]
        case 8:
            group = chance.choice((0, 1, 2, 3, 8, 33, 300))
            return replace(recipe, inner=chance.choice(kinds), group=group)
        case 9:
            return replace(recipe, outer=chance.choice(kinds))
        case 10:
            depth = chance.choice((0, 0, 1, 2, 20, DEEPEST))
            return replace(recipe, around=chance.choice(kinds), depth=depth)
        case 11:
            return replace(recipe, cut=chance.choice((0, 0, 1, 2, 8)))
        case _:
            return replace(recipe, is_repeated=not recipe.is_repeated)
    atoms = [atom for atom in atoms if 0 < len(atom) <= 8192]
    return replace(recipe, atoms=tuple(atoms)) if atoms else recipe


# -- formats of text


def _fill_text(atom: bytes, count: int) -> bytes:
    digits = UUID(int=MODULUS * (count + 1))
    return (
        atom.replace(b"<n>", b"%d" % count)
        .replace(b"<h>", b"%d" % (MODULUS * count))
        .replace(b"<u>", str(digits).encode())
    )


def _between(opening: bytes, separator: bytes, closing: bytes) -> Container:
    return lambda items: opening + separator.join(items) + closing


def _pairs(
    opening: bytes, between: bytes, separator: bytes, closing: bytes, key: bytes
) -> Container:
    """Make a map of keys and values in turn; `key` comes first if one is missing."""

    def container(items: Sequence[bytes]) -> bytes:
        items = items if len(items) % 2 == 0 else [key, *items]
        pairs = zip(items[::2], items[1::2], strict=True)
        return opening + separator.join(between.join(pair) for pair in pairs) + closing

    return container


def _keyed(opening: bytes, key: bytes, separator: bytes, closing: bytes) -> Container:
    """Make a map whose keys count up."""

    def container(items: Sequence[bytes]) -> bytes:
        entries = [key % number + item for number, item in enumerate(items)]
        return opening + separator.join(entries) + closing

    return container


EDN: Final = Form(
    atoms=(
        *b"nil|true|1|-1|<n>|<h>|<n>.0|<h>.0|1.5e300|1.<n>e-300|<n>M|1E+<n>M|1e2147483647M|<h>N"
        b"|1/<n>1|<h>/7|0x<n>f|017|36rZZ|2r101|##NaN|##Inf|:a|:k<n>|:n/k<n>|a|s<n>|n/s<n>"
        b'|"a"|"<n>"|"\\n"|"\\u0041"|"\\o101"|"\\ud83d"|\\a|\\newline|\\u0041|\\o101|[]|{}|()|#{}'
        b'|#{[]}|{[] []}|{{} {}}|#{#{}}|#{1}|#{<n>}|{:a 1}|{"a" 1}|{1 2}|#:n{:a 1}|^:a []'
        b'|^{:a 1} {}|#_1|#_ #_ 1 2|[<h> <h>]|#{<h>}|{<h> 1}|#{[<n>]}|#inst "2018"|#t 1|#t []'
        b'|#inst "2018-03-28T10:48:00.123-00:00"|#uuid "0-0-0-0-<n>"|#uuid "<u>"|"<u>"|"<h>"'
        b'|"2018-03-28T10:48:00"|#{{} [] ()}'.split(b"|"),
        *'"é"|"€<n>"|"𝄞"|é<n>|:é/<n>|\\€'.encode().split(b"|"),
        *(b";\n", b";\n1", b"9" * 4300, b"0x" + b"f" * 3571, b"1." + b"9" * 800, b"1e" + b"0" * 99),
    ),
    containers=(
        _between(b"[", b" ", b"]"),
        _between(b"(", b" ", b")"),
        _between(b"#{", b" ", b"}"),
        _between(b"[", b"", b"]"),
        _pairs(b"{", b" ", b" ", b"}", b"1"),
        _keyed(b"{", b":k%d ", b" ", b"}"),
        _keyed(b"#:a{", b":k%d ", b" ", b"}"),
        _keyed(b"{", b"[%d] ", b" ", b"}"),
        _between(b"#t [", b" ", b"]"),
        _between(b"^[", b" ", b"] []"),
        _between(b'"', b"", b'"'),
    ),
    fill=_fill_text,
    envelope=lambda value: b"[[:a/b " + value + b"] nil]",
)

JSON: Final = Form(
    atoms=(
        *b'null|true|1|-1|<n>|<h>|1.5|1e300|<n>.5e-300|""|"a"|"<n>"|"\\n"|"\\u0041"|"\\ud83d\\ude00"'
        b'|[]|{}|[[]]|{"":1}|{"a":1}|{"a<n>":1}|{"a":{}}|["a/b"]|["a/b",1]|[<n>,<n>]|"<u>"|"<h>"'
        b'|"chsk/a"|"a/b"|"2018-03-28T10:48:00"'.split(b"|"),
        *'"é"|"€<n>"|"𝄞"'.encode().split(b"|"),
        *(b"9" * 4300, b"1." + b"9" * 800, b"\\\\" * 50, b" " * 20),
    ),
    containers=(
        _between(b"[", b",", b"]"),
        _pairs(b"{", b":", b",", b"}", b'"a"'),
        _keyed(b"{", b'"k%d":', b",", b"}"),
        _between(b'"', b"", b'"'),
        _between(b'["a/b",', b",", b"]"),
    ),
    fill=_fill_text,
    envelope=lambda value: b'[["a/b",' + value + b"],null]",
)

TRANSIT: Final = Form(
    atoms=(
        *JSON.atoms,
        *b'"~:a"|"~:k<n>"|"~:n/kkkk<n>"|"~$s<n>"|"~_"|"~?t"|"~i1"|"~n<n>"|"~n<h>"|"~d1.5"|"~d<n>"'
        b'|"~f1"|"~f<n>"|"~f1E+<n>"|"~zNaN"|"~ca"|"~m0"|"~m<n>"|"~t2018-03-28T10:48:00.123Z"|"~t2018"'
        b'|"~u<u>"|"~rx"|"~b"|"~bAAAA"|"~~"|"~^"|"^0"|"^1"|"^10"|["^ "]|["^ ","~:a",1]|["~#set",[]]'
        b'|["^0",[]]|["~#list",[]]|["~#cmap",[]]|["~#cmap",[[],1]]|["~#ratio",["~n1","~n<n>7"]]'
        b'|["~#\'",1]|["~#set",[<n>]]|["~#set",["~n<h>"]]|{"~:a":1}|{"~#set":[]}|["~#m",0]|["~#i","1"]'
        b'|["~#set",[["~#set",[]]]]|["~#cmap",[["^ "],1]]'.split(b"|"),
    ),
    containers=(
        *JSON.containers,
        _between(b'["^ ",', b",", b"]"),
        _keyed(b'["^ ",', b'"~:k%d",', b",", b"]"),
        _between(b'["~#set",[', b",", b"]]"),
        _between(b'["~#list",[', b",", b"]]"),
        _between(b'["~#cmap",[', b",", b"]]"),
        _between(b'["^0",[', b",", b"]]"),
    ),
    fill=_fill_text,
    envelope=lambda value: b'[["~:a/b",' + value + b"],null]",
)


# -- MessagePack


def _fill_bytes(atom: bytes, count: int) -> bytes:
    # A fraction above 5 by a multiple of the modulus has the hash of 5.
    ratio = b"\xcf%b\xce%b" % (
        (5 * (count + 1) + MODULUS).to_bytes(8, "big"),
        (count + 1).to_bytes(4, "big"),
    )
    return (
        atom.replace(b"<n>", b"\xce" + count.to_bytes(4, "big"))
        .replace(b"<k>", b"\xc7\x05\x00k" + count.to_bytes(4, "big").hex().encode()[-4:])
        .replace(b"<s>", b"\xa4" + count.to_bytes(4, "big").hex().encode()[-4:])
        .replace(b"<h>", b"\xc7\x0e\x03" + ratio)
        .replace(b"<u>", b"\xd9\x24" + str(UUID(int=MODULUS * (count + 1))).encode())
    )


def _array(items: Sequence[bytes]) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def _map(items: Sequence[bytes]) -> bytes:
    items = items if len(items) % 2 == 0 else [b"\x01", *items]
    return b"\xdf" + (len(items) // 2).to_bytes(4, "big") + b"".join(items)


def _numbered(items: Sequence[bytes]) -> bytes:
    entries = [b"\xce" + n.to_bytes(4, "big") + item for n, item in enumerate(items)]
    return b"\xdf" + len(items).to_bytes(4, "big") + b"".join(entries)


def _named(items: Sequence[bytes]) -> bytes:
    entries = [b"\xc7\x05\x00k%04x" % (n & 0xFFFF) + item for n, item in enumerate(items)]
    return b"\xdf" + len(items).to_bytes(4, "big") + b"".join(entries)


def _set(items: Sequence[bytes]) -> bytes:
    array = _array(items)
    return b"\xc9" + len(array).to_bytes(4, "big") + b"\x04" + array


MESSAGEPACK: Final = Form(
    atoms=(
        *(b"\xc0", b"\xc3", b"\x01", b"\xff", b"<n>", b"<h>", b"<k>", b"<s>", b"<u>"),
        *(b"\xca\x3f\xc0\x00\x00", b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x3f" + bytes(7)),
        *(b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xcd\x01\x00", b"\xd0\x80"),
        *(b"\xa0", b"\xa1a", b"\xa2ab", b"\xa2\xc3\xa9", b"\xa4\xf0\x9f\x98\x80", b"\xc4\x00"),
        *(b"\xc4\x02ab", b"\x90", b"\x80", b"\x91\x90", b"\x81\x01\x01", b"\x81\x80\x01"),
        *(b"\x81\x90\x01", b"\x81\xa1a\x01", b"\x81\xd4\x00a\x01", b"\x81\xd4\x08\x00\x01"),
        *(b"\xd4\x00a", b"\xd5\x00ab", b"\xc7\x03\x00a b", b"\xd4\x01s", b"\xd4\x02x"),
        *(b"\xd5\x03\x01\x02", b"\xd4\x04\x90", b"\xd5\x04\x91\x01", b"\xd6\x04\x91\xd4\x04"),
        *(b"\xd6\x05\x00\x00\x00\x01", b"\xc7\x00\x05", b"\xc7\x00\x07", b"\xd6\x06" + bytes(4)),
        *(b"\xd6\xff" + bytes(4), b"\xc7\x0c\xff" + bytes(12), b"\xc7\x06\x04\x91<n>"),
        *(b"\xc7\x24\x09" + b"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", b"\xc7\x01\x09a"),
    ),
    containers=(_array, _map, _numbered, _named, _set),
    fill=_fill_bytes,
    envelope=lambda value: b"\x92\x92\xc7\x03\x00a/b" + value + b"\xc0",
)

FORMS: Final = {
    "edn": EDN,
    "json": JSON,
    "msgpack": MESSAGEPACK,
    "transit": TRANSIT,
    "gzip": replace(EDN, wrap=lambda packet: b"\x01" + gzip.compress(packet, 1, mtime=0)),
}
