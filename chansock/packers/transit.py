"""The transit packer of Sente, JSON with codes or verbose: `Transit(verbose=False)`.

    [["~:chat/say",["^ ","~:text","hi"]],null]
    [["~:chat/say",{"~:text":"hi"}],null]                   verbose

Either form is read by both. A push is written without codes, so that a batch is a join of
fragments; a packet that goes alone has them. Values are those of edn (docs/packers.md).
"""

from __future__ import annotations

from typing import Any

from chansock._fast.edn.writer import TextKey
from chansock.errors import PacketError
from chansock.packers.json_text import IN_BATCH, Default, batch, parse, take_apart, written
from chansock.packers.transit_reader import Reader
from chansock.packers.transit_writer import Writer
from chansock.values import Keyword

__all__ = ["Transit"]


class Transit:
    """Sente's transit packer: text, `[value cb-id]`.

    verbose=True: maps are objects, times are dates, and there are no codes, as `:json-verbose`.
    tagged=True: a value whose tag nobody knows travels as a Tagged. By default it is refused
    in both directions. `Tagged("r", text)` is a URI, which every end knows.
    default: given each value that transit has no form for, returns one that can be written.
    """

    def __init__(
        self, *, verbose: bool = False, tagged: bool = False, default: Default | None = None
    ) -> None:
        self.verbose = verbose
        self.tagged = tagged
        self.default = default

    def __repr__(self) -> str:
        shown = "" if self.default is None else f", default={self.default!r}"
        return f"Transit(verbose={self.verbose!r}, tagged={self.tagged!r}{shown})"

    @property
    def binary(self) -> bool:
        """Return False: packets are text."""
        return False

    def fragment(self, event: tuple[str] | tuple[str, Any], /) -> bytes:
        """Return `["~:id",data]` of `(id, data)`, `["~:id"]` of `(id,)`; no codes in it."""
        name, *data = event
        return self._written([Keyword(name), *data], IN_BATCH, has_codes=False)

    def batch(self, fragments: list[bytes], /) -> bytes:
        """Return `[[event,...],null]`."""
        return batch(fragments)

    def packet(self, value: Any, cb_id: Any, /) -> bytes:
        """Return `[value,cb-id]`."""
        return self._written([value, cb_id], 0, has_codes=True)

    def unpack(self, view: memoryview, /) -> tuple[Any, Any]:
        """Return (value, cb_id) of the packet in view; raises PacketError if it is none."""
        tree = parse(view, "transit")
        try:
            packet = Reader(view.nbytes, tagged=self.tagged).value(tree)
        except RecursionError:
            raise PacketError("expected arrays less deep, got more than the stack holds") from None
        return take_apart(packet)

    def _written(self, value: list[Any], level: int, *, has_codes: bool) -> bytes:
        try:
            return self._put(value, level, has_codes=has_codes, is_careful=False)
        except TextKey:
            pass
        return self._put(value, level, has_codes=has_codes, is_careful=True)

    def _put(self, value: list[Any], level: int, *, has_codes: bool, is_careful: bool) -> bytes:
        writer = Writer(
            is_verbose=self.verbose,
            has_codes=has_codes,
            tagged=self.tagged,
            default=self.default,
            is_careful=is_careful,
        )
        return written(writer.tree, value, level)
