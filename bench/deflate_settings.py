"""What permessage-deflate costs by its settings: what `Compression` chooses between.

Microseconds of CPU and bytes for one message, deflated by itself as the server does it: zlib's own
settings are 15 bits and memory level 8. The messages are edn as in bench/data, cut to size.

    python bench/deflate_settings.py
"""

from __future__ import annotations

from pathlib import Path
from time import thread_time

from chansock._fast.ws.frames import Deflate

SIZES = (128, 1024, 16384, 65536)
SETTINGS = ((12, 5, 6), (12, 5, 1), (15, 5, 6), (15, 8, 6))  # bits, memory level, level
LIMIT = 1 << 20


def cost(payload: bytes, window_bits: int, memory_level: int, level: int) -> tuple[float, int]:
    """Return the least time in seconds, and the size of the frame."""
    deflate = Deflate(
        window_bits=window_bits, level=level, memory_level=memory_level, threshold=0, kept=0,
        max_size=LIMIT, answer="permessage-deflate",
    )  # fmt: skip
    frame = deflate.frame(payload, False)
    best = float("inf")
    for _ in range(5):
        start = thread_time()
        for _ in range(200):
            deflate.frame(payload, False)
        best = min(best, (thread_time() - start) / 200)
    return best, len(payload if frame is None else frame)


def main() -> None:
    text = max(Path(__file__).parent.joinpath("data").glob("*.edn"), key=lambda p: p.stat().st_size)
    content = text.read_bytes()
    print(f"{'bits  memory  level':22}", *(f"{f'{size:,} B':>20}" for size in SIZES))
    for bits, memory, level in SETTINGS:
        costs = (cost(content[:size], bits, memory, level) for size in SIZES)
        print(
            f"{bits:4} {memory:7} {level:6}   ",
            *(f"{seconds * 1e6:8.1f} us {size:6,} B" for seconds, size in costs),
        )


if __name__ == "__main__":
    main()
