"""README's programs do what README says they print."""

from __future__ import annotations

import pytest
from dist_content import ROOT
from readme_pair import programs, run_pair

README = ROOT / "README.md"


def test_readme_has_both_programs() -> None:
    assert list(programs(README.read_text(encoding="utf-8"))) == ["server.py", "client.py"]


@pytest.mark.slow
def test_both_programs_of_the_readme_run_against_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    printed, status = run_pair(README)
    assert printed == "42\nchat/said {'from': 'ada', 'text': 'hello'}\n"
    assert status == 0
