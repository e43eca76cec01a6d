"""The transit packer of Sente, JSON with codes or verbose: `Transit(verbose=False)`.

    [["~:chat/say",["^ ","~:text","hi"]],null]
    [["~:chat/say",{"~:text":"hi"}],null]                   verbose

Either form is read by both. A push is written without codes, so that a batch is a join of
fragments; a packet that goes alone has them. Values are those of edn (docs/packers.md).
"""

from __future__ import annotations

from typing import Any

from chansock._fast.edn_spelling import shown
from chansock.errors import EdnEncodeError, PacketError
from chansock.packers.json_text import batch, parse, refuse_depth, serialize
from chansock.packers.transit_reader import Reader
from chansock.packers.transit_writer import Default, Writer
from chansock.values import Keyword

__all__ = ["Transit"]

IN_BATCH = 2  # arrays around an event of a batch: [[event, ...], null]


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
        """Tell that packets are text."""
        return False

    def fragment(self, event: tuple[str, Any], /) -> bytes:
        """Return `["~:id",data]`, or `["~:id"]` without data; no codes in it."""
        name, data = event
        value = [Keyword(name)] if data is None else [Keyword(name), data]
        return self._written(value, IN_BATCH, has_codes=False)

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
            packet = Reader(tagged=self.tagged).value(tree)
        except RecursionError:
            raise PacketError("expected arrays less deep, got more than the stack holds") from None
        if packet is None:
            return None, None
        if not isinstance(packet, list | tuple):
            raise PacketError(f"expected a packet `[value cb-id]`, got {shown(packet)}")
        return packet[0] if packet else None, packet[1] if len(packet) > 1 else None

    def _written(self, value: Any, level: int, *, has_codes: bool) -> bytes:
        writer = Writer(
            is_verbose=self.verbose,
            has_codes=has_codes,
            tagged=self.tagged,
            default=self.default,
        )
        try:
            return serialize(writer.tree(value, level))
        except RecursionError:
            refuse_depth()
        except EdnEncodeError as error:
            # the path begins in the value or the data, as edn's does
            error.path = error.path.partition("]")[2]
            error.args = (error.message, error.path)
            raise
