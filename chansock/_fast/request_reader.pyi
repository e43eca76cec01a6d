from typing import final

@final
class RequestReader:
    def __init__(self, max_head: int, max_fields: int, max_body: int) -> None: ...
    def read(
        self, data: bytes, start: int = 0
    ) -> tuple[str | tuple[bytes, bytes] | tuple[int, str] | None, int]: ...
