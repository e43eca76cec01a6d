from typing import TypeAlias, final

_Buffer: TypeAlias = bytes | bytearray | memoryview
_What: TypeAlias = (
    tuple[str, bytes] | tuple[str, bytes, bool] | tuple[str, int, str]
)

@final
class Parser:
    def __init__(self, max_size: int, masked: bool = True) -> None: ...
    def step(self, data: bytearray, start: int = 0) -> tuple[_What | None, int, int]: ...

def frame(opcode: int, payload: _Buffer, mask: bytes | None = None, fin: bool = True) -> bytes: ...
def close_payload(code: int, reason: str = "") -> bytes: ...
