"""The lines of a pipe, as `chansock connect` reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from growth import growth

from chansock.cli import terminal


def lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    with path.open("rb") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        return list(terminal._piped())


@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"a\n", b"a\n\nbc\nd", b"\n\nabc\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_lines_are_those_of_the_text_wherever_it_is_cut(
    text: bytes, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(text)
    monkeypatch.setattr(terminal, "READ_BYTES", size)
    wanted = text.removesuffix(b"\n").split(b"\n") if text else []
    assert lines(tmp_path / "in", monkeypatch) == wanted


def test_a_long_line_is_read_in_linear_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "READ_BYTES", 256)

    def read(size: int) -> None:
        path = tmp_path / str(size)
        if not path.exists():
            path.write_bytes(b"x" * size)
        assert [len(line) for line in lines(path, monkeypatch)] == [size]

    assert growth(read, 1 << 17, 1 << 20) < 24  # 8 times the text; copied each time it is 64
