from collections.abc import Callable
from typing import Any, final

from chansock._fast.events.packet import Packer

@final
class MessagePackPacker(Packer):
    def __new__(
        cls, keys: str = "keyword", default: Callable[[Any], object] | None = None
    ) -> MessagePackPacker: ...
    @property
    def default(self) -> Callable[[Any], object] | None: ...
    @property
    def keys(self) -> str: ...
