from collections.abc import Callable
from typing import final

def is_host(text: bytes) -> bool: ...

@final
class RequestReader:
    def __new__(
        cls, judge: Callable[[bytes], int], max_head: int, max_fields: int, max_body: int
    ) -> RequestReader: ...
    @property
    def wants_websocket(self) -> bool: ...
    @property
    def key(self) -> bytes | None: ...
    def read(
        self, data: bytes, start: int = 0
    ) -> tuple[str | tuple[bytes, bytes] | tuple[int, str] | None, int]: ...
