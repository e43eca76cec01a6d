from collections.abc import Callable
from typing import Any, final

@final
class Writer:
    def __new__(
        cls,
        keys: str = "keyword",
        default: Callable[[Any], object] | None = None,
        max_depth: int = 500,
        tagged: bool = True,
    ) -> Writer: ...
    @property
    def tagged(self) -> bool: ...
    @property
    def keyword_keys(self) -> bool: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def default(self) -> Callable[[Any], object] | None: ...
    def encode(self, value: object) -> bytes: ...

def dumps(
    value: object,
    *,
    keys: str = "keyword",
    default: Callable[[Any], object] | None = None,
) -> bytes: ...

@final
class Shape:
    @property
    def kind(self) -> int: ...

class TextKey(Exception): ...

def plain(value: object) -> Any: ...
def shown(value: object) -> str: ...
