"""Raw and wrong input that was tried on a Sente server, tried on ours: case by case the same,
or a difference that stands in `probe_differences` and, with its reason, in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from probe_differences import DIFFERENCES, LATE, Result
from probe_replay import FOLDER, NAMES, ProbeReplay, differences
from recorded_servers import PROBES, probed
from timed_replay import SocketLoop

import chansock
from chansock._fast.io.epoll import IS_AVAILABLE

DOCS = Path(__file__).parents[2] / "docs" / "sente.md"
ROWS = {case: ours for rows in DIFFERENCES.values() for case, ours in rows.items()}


@pytest.mark.parametrize("uses_epoll", [False, IS_AVAILABLE])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if PROBES[name] == {} else name for name in NAMES],
)
def test_each_case_is_answered_as_by_sente_or_as_the_docs_say(
    name: str, uses_epoll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chansock.server.USES_EPOLL", uses_epoll)
    probe = ProbeReplay(name)

    async def main() -> None:
        chsk = probed(name, told=probe.told)
        async with chansock.serve(chsk, port=0) as listener:
            await probe.play(chsk, listener.port)

    loop = SocketLoop()
    try:
        loop.run(main())
    finally:
        loop.close()
    found: dict[tuple[str, str], Result] = {}
    for recorded, ours in zip(probe.recorded, probe.cases, strict=True):
        if differs := differences(recorded, ours):
            assert (name, recorded.text) not in found
            found[name, recorded.text] = differs
    assert found == {case: ours for case, ours in ROWS.items() if case[0] == name}


def test_every_probe_in_the_folder_is_replayed() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.jsonl" for name in NAMES}
    assert PROBES.keys() == set(NAMES)
    assert len(NAMES) == 10


def test_each_difference_stands_in_the_docs_with_its_reason() -> None:
    told = dict(re.findall(r"^- \*\*(.+?)\.\*\* (.+)$", DOCS.read_text("utf-8"), re.MULTILINE))
    assert DIFFERENCES.keys() - {LATE} <= told.keys()
    assert all(len(reason) > 40 for reason in told.values())
