# Values to Sente's MessagePack: for the engine, by cimport.
from collections.abc import Callable
from typing import Any, final

@final
class MessagePackWriter:
    def __new__(
        cls, keys: str = "keyword", default: Callable[[Any], object] | None = None
    ) -> MessagePackWriter: ...
    @property
    def keyword_keys(self) -> bool: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def default(self) -> Callable[[Any], object] | None: ...
