from collections.abc import Callable
from typing import final

def unquote_form(text: bytes) -> bytes: ...

@final
class RequestReader:
    def __new__(
        cls, is_head: Callable[[bytes], bool], max_head: int, max_fields: int, max_body: int
    ) -> RequestReader: ...
    def read(
        self, data: bytes, start: int = 0
    ) -> tuple[str | tuple[bytes, bytes] | tuple[int, str] | None, int]: ...
