from collections.abc import Callable, Mapping
from typing import Any, final

from typing_extensions import Buffer

from chansock.values import FrozenDict

@final
class Reader:
    def __new__(
        cls,
        keys: str = "keyword",
        readers: Mapping[str, Callable[[Any], Any]] | None = None,
        max_depth: int = 500,
        tagged: bool = True,
    ) -> Reader: ...
    @property
    def tagged(self) -> bool: ...
    @property
    def keyword_keys(self) -> bool: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def readers(self) -> dict[str, Callable[[Any], Any]]: ...
    def decode(self, text: Buffer | str) -> Any: ...
    def decode_one(self, buffer: Buffer, pos: int = 0) -> tuple[Any, int]: ...

def loads(
    text: Buffer | str,
    *,
    keys: str = "keyword",
    readers: Mapping[str, Callable[[Any], Any]] | None = None,
    max_depth: int = 500,
) -> Any: ...
def read_one(
    buffer: Buffer,
    pos: int = 0,
    *,
    keys: str = "keyword",
    readers: Mapping[str, Callable[[Any], Any]] | None = None,
    max_depth: int = 500,
) -> tuple[Any, int]: ...
def frozen(plain: dict[Any, Any], has_text: bool) -> FrozenDict[Any, Any]: ...

@final
class CollisionLimit: ...
