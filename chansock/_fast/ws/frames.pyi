from typing import TypeAlias, final

_Buffer: TypeAlias = bytes | bytearray | memoryview
_What: TypeAlias = tuple[str, bytes] | tuple[str, bytes, bool] | tuple[str, int, str]

@final
class Parser:
    def __new__(
        cls,
        max_size: int,
        masked: bool = True,
        *,
        may_deflate: bool = False,
        max_empty: int = 100,
    ) -> Parser: ...
    def step(self, data: bytearray, start: int = 0) -> tuple[_What | None, int, int]: ...

def frame(opcode: int, payload: _Buffer, mask: bytes | None = None, fin: bool = True) -> bytes: ...
def is_close_code(code: int) -> bool: ...
def close_payload(code: int, reason: str = "") -> bytes: ...

@final
class Deflate:
    def __new__(
        cls,
        *,
        window_bits: int,
        level: int,
        memory_level: int,
        threshold: int,
        kept: int,
        max_size: int,
        answer: str,
    ) -> Deflate: ...
    @property
    def window_bits(self) -> int: ...
    @property
    def threshold(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def answer(self) -> str: ...
    def frame(self, payload: bytes, is_binary: bool) -> bytes | None: ...
    def slide(self, window: bytes | None, message: bytes) -> bytes | None: ...
    def read(self, payload: bytes, is_text: bool = True, window: bytes | None = None) -> bytes: ...
