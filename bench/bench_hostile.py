"""What hostile peers cost: how far the server's memory rises, and what another client waits.

The attacks are those of tests/support/hostile.py, mostly larger. Each is made against chansock, the
same channel in aiohttp, and `websockets` or aiohttp alone where it makes sense for them. The aim
for the wait of the other client is 50 ms, or twice what it is with the best of the others in the
same run. The server has core 0; the attacker runs on core 1 when the other client does not
want to, so that the wait is the server's; `no_attack` shows what the machine adds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import hostile
from hostile_attack import AIOHTTP, CHANSOCK, EDGE

AIM = 0.05  # seconds
LIMIT = 40.0  # seconds of one attack
ROUNDS = 3


@pytest.fixture(scope="module")
def lines(printed: list[str]) -> list[str]:
    title = f"{'hostile peers':28}{'server':18}{'memory, KiB':>12}{'longest wait, ms':>18}"
    printed.append(f"{title}  outcome")
    return printed


def line(name: str, server: str, rounds: list[hostile.Found]) -> str:
    growth = max(found.growth for found in rounds) / hostile.KIB
    wait = median(found.worst for found in rounds) * 1000
    outcome = " / ".join(dict.fromkeys(found.outcome for found in rounds))
    if hostile.ATTACKS[name].logged is not None:
        outcome += f", {max(found.logged for found in rounds) / hostile.KIB:,.0f} KiB of log"
    waited = f"{wait:18.1f}" if any(found.asked for found in rounds) else f"{'-':>18}"
    return f"{name:28}{server:18}{growth:12,.0f}{waited}  {outcome}"


def rivals(name: str) -> list[str]:
    """Name the servers that an attack is met by with other code than ours.

    In aiohttp, a WebSocket is served by our own code; a request without one is not.
    """
    servers = hostile.ATTACKS[name].servers
    return [s for s in servers if s != CHANSOCK and (s != EDGE or AIOHTTP in servers)]


@pytest.mark.parametrize("name", hostile.ATTACKS)
def test_hostile_peer(name: str, lines: list[str], pytestconfig: pytest.Config) -> None:
    cores = (0, 1) if (os.cpu_count() or 1) > 1 else None
    rounds: dict[str, list[hostile.Found]] = {s: [] for s in hostile.ATTACKS[name].servers}
    for _ in range(1 if pytestconfig.getoption("quick") else ROUNDS):
        for server, found in rounds.items():
            found.append(hostile.run(name, server, is_full=True, seconds=LIMIT, cores=cores))
    waits = {server: median(one.worst for one in found) for server, found in rounds.items()}
    aim = max(AIM, 2 * min((waits[server] for server in rivals(name)), default=0.0))
    for server, found in rounds.items():
        missed = server == CHANSOCK and waits[server] > aim
        over = f"  over the aim of {aim * 1000:.0f} ms" if missed else ""
        lines.append(line(name, server, found) + over)
