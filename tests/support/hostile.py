"""What hostile peers do to a server, what it costs the server, and what another client notices.

`run(name)` starts a server and an innocent client, each in a process of its own, and attacks the
server from this process. It returns how far the server's memory rose, and how long the innocent
client waited at most for an answer. No test here: test_hostile.py sets limits, and
bench/bench_hostile.py shows the figures, beside those of other servers.

    hostile_peer     a raw socket, and bytes
    hostile_attack   what an attack is
    hostile_frames   attacks by frames, heads and bodies
    hostile_values   attacks by what is in a packet
    hostile_state    attacks on what is kept
    hostile_server   the server, or a rival
    hostile_client   the innocent client
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_frames
import hostile_state
import hostile_values
from hostile_attack import CHANSOCK, KIB, Attack, Target
from peer import TEXT, Peer, frame

__all__ = ["ATTACKS", "KIB", "Found", "run"]

HERE = Path(__file__).parent
LIMIT = 240.0  # seconds of one attack

ATTACKS: dict[str, Attack] = {
    attack.run.__name__: attack
    for module in (hostile_frames, hostile_values, hostile_state)
    for attack in module.ATTACKS
}


@dataclass(frozen=True)
class Found:
    """What came of an attack."""

    outcome: str
    growth: int  # bytes that the server's memory rose, at the highest
    worst: float  # seconds that the innocent client waited for one answer, see `run`
    asked: int  # its questions that were answered
    meanwhile: int  # those until the attack was over
    logged: int  # bytes that the server has logged


async def _warm(port: int) -> None:
    """Use a connection as others will, so that what is made once is made."""
    async with await Peer.connect(port) as client:
        await client.upgrade("/chsk?client-id=bob")
        await client.text()
        for event in (f':t/echo "{"w" * 100_000}"', ":t/push 1024"):
            await client.send(frame(TEXT, f'[[{event}] "q"]'))
            while not (await client.text()).endswith(' "q"]'):
                pass


def _yield_to_others(core: int | None) -> None:
    """Pin this thread to one core, where the innocent client runs before it.

    What the innocent client waits for is then the server, not the attacker's work.
    """
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, 5)
    if core is not None:
        os.sched_setaffinity(thread, {core})


def _waited(innocent: subprocess.Popen[str], seconds: float) -> tuple[float, int, int]:
    """End the innocent client; return its longest wait, its answers, and those meanwhile."""
    try:
        report, _ = innocent.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return seconds, 0, 0
    found = json.loads(report)
    return found["worst"], found["asked"], found["meanwhile"]


def run(
    name: str,
    server: str = CHANSOCK,
    *,
    is_full: bool = False,
    seconds: float = LIMIT,
    cores: tuple[int, int] | None = None,
) -> Found:
    """Run one attack against a server of its own.

    server: a name of hostile_server.SERVERS. is_full: as much of the attack as the bench has.
    cores: one for the server, one for all others; without them, no wait for a processor counts as
    a wait for the server. An attack that takes longer than `seconds` ends with the outcome "no end
    within ...".
    """
    attack = ATTACKS[name]
    size = attack.full if is_full else attack.size
    paths = [str(HERE.parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    running: list[subprocess.Popen[str]] = []

    def start(script: str, core: int | None, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running.append(process)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        return process

    async def attacked(target: Target) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await attack.run(target)
        except TimeoutError:
            return f"no end within {seconds:.0f} s"
        except ConnectionError as error:
            return f"cut off: {error}"
        finally:
            target.close()

    with tempfile.NamedTemporaryFile() as log:
        options: dict[str, Any] = {"server": server, "packer": attack.packer}
        options |= {"config": attack.settings(size), "users": attack.has_users}
        if attack.logged is not None:
            options["log"] = log.name
        own, theirs = cores or (None, None)
        try:
            process = start("hostile_server.py", own, json.dumps(options))
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if attack.packer == "EDN":
                asyncio.run(_warm(port))
            pid = () if cores else (str(process.pid),)
            innocent = start("hostile_client.py", theirs, str(port), attack.packer, *pid)
            assert innocent.stdout is not None
            if innocent.stdout.readline() != "ready\n":
                raise RuntimeError("the server did not take the innocent client")
            target = Target(process, innocent, port, attack.packer, size)
            with ThreadPoolExecutor(1, initializer=_yield_to_others, initargs=(theirs,)) as other:
                outcome = other.submit(asyncio.run, attacked(target)).result()
            growth = (target.most or target.memory.most()) - target.before
            worst, asked, meanwhile = _waited(innocent, seconds)
            logged = os.stat(log.name).st_size
        finally:
            for one in running:
                one.kill()
                one.communicate()
    return Found(outcome, growth, worst, asked, meanwhile, logged)
