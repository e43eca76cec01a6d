"""Runs the soak and judges it: starts the server, drives the clients, prints a table.

    python -m soak.run MINUTES [--clients N] [--seed SEED]

Exit code 1 if a rule was broken. The clients run in this process, on asyncio's own loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from soak import STEADY, note_stalls, user_of
from soak.account import Snapshot
from soak.client import Client
from soak.link import PATIENCE
from soak.packed import Packed, packer_of

ROOT = Path(__file__).parents[2]
RATE = 1_000_000 / 1800  # numbered events a second: a million in half an hour
KIB = 1024
# What a soak may leave behind in bytes: heaps break up, and caches (spare stores of the
# sockets, freelists, edn's keywords) fill until each has met its worst case. A leak of one
# pointer for each event would be 8 MB in half an hour, of one object for each connection more.
MAY_GROW = 2 * KIB * KIB


class Server:
    """The server's process, its memory and its descriptors."""

    def __init__(self, clients: int, rate: float, seed: str) -> None:
        tests = ROOT / "tests"
        paths = [str(ROOT), str(tests), str(tests / "support"), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "soak.server", str(clients), str(rate), seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self.folder = Path(f"/proc/{self.process.pid}")

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended: {self.process.wait()}")
        return line

    async def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    async def answer(self) -> Any:
        return json.loads(await asyncio.to_thread(self._line))

    async def report(self) -> Any:
        await self.tell("report")
        return await self.answer()

    def memory(self) -> int:
        """Bytes resident."""
        fields = (self.folder / "status").read_text()
        return int(fields.split("VmRSS:")[1].split()[0]) * KIB

    def descriptors(self) -> int:
        return len(list((self.folder / "fd").iterdir()))

    def cpu(self) -> float:
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Soak:
    """The World of all clients."""

    def __init__(self, minutes: float, clients: int, seed: str) -> None:
        self.seconds = minutes * 60
        self.seed = seed
        self.is_over = False
        self.ports: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.fault_count = 0
        self.lates: list[tuple[float, str]] = []
        self.stalls: list[float] = []  # when this process had stood still
        self.samples: list[tuple[float, int]] = []  # (seconds, bytes)
        self.number = clients
        self.clients: list[Client] = []

    def fault(self, text: str) -> None:
        self.fault_count += 1
        if len(self.faults) < 30:
            self.faults.append(text)
            print(f"fault: {text}", file=sys.stderr, flush=True)

    def late(self, text: str) -> None:
        self.lates.append((time.monotonic(), text))

    def make_clients(self) -> None:
        uids = [user_of(number, self.number) for number in range(self.number)]
        users = Counter(uids)
        steady = min(STEADY, self.number // 10)
        self.clients = [
            Client(
                self,
                f"c{number}",
                uid,
                Packed(packer_of(uid, self.seed)),
                is_steady=number < steady,
                is_alone=users[uid] == 1,
            )
            for number, uid in enumerate(uids)
        ]

    async def sample(self, server: Server) -> None:
        """Note memory, as often as a minute of half an hour."""
        start = time.monotonic()
        while True:
            await asyncio.sleep(self.seconds / 30)
            seconds = time.monotonic() - start
            self.samples.append((seconds, server.memory()))
            print(
                f"{seconds:7.1f} s  {self.samples[-1][1] // KIB} KiB  "
                f"{server.descriptors()} descriptors  "
                f"{sum(x.account.received for x in self.clients)} events received  "
                f"{self.fault_count} faults",
                file=sys.stderr,
                flush=True,
            )

    async def run(self, server: Server) -> dict[str, Any]:
        self.ports = await server.answer()
        self.make_clients()
        await server.report()
        descriptors = server.descriptors()
        cpu, own_cpu, start = server.cpu(), time.process_time(), time.monotonic()
        await server.tell("go")
        lives = [asyncio.create_task(client.run()) for client in self.clients]
        watching = [asyncio.create_task(x) for x in (self.sample(server), note_stalls(self.stalls))]
        await asyncio.wait(lives, timeout=self.seconds, return_when=asyncio.FIRST_EXCEPTION)
        await server.tell("hold")
        await self.read_out(server)
        seconds = time.monotonic() - start
        cpu, own_cpu = server.cpu() - cpu, time.process_time() - own_cpu
        self.is_over = True
        for life in lives:
            try:
                await asyncio.wait_for(life, 60)
            except Exception as error:
                self.fault(f"a client failed: {error!r}")
        for task in watching:
            task.cancel()
        report = await self.settled(server)
        self.judge(report)
        if server.descriptors() != descriptors:
            self.fault(f"{server.descriptors()} descriptors at the end, {descriptors} at the start")
        first, last = self.memory()
        final = await self.stop(server)
        rest = add_up(self.clients)
        return {
            "report": report,
            "final": final,
            "seconds": seconds,
            "cpu": cpu / seconds,
            "own_cpu": own_cpu / seconds,
            "first": first,
            "last": last,
            "descriptors": descriptors,
            **rest,
        }

    async def read_out(self, server: Server) -> None:
        """Wait until nothing waits for those who never leave, and now do."""
        steady = [client.name for client in self.clients if client.is_steady]
        for _ in range(100):
            ledgers = (await server.report())["ledgers"]
            if not any(Snapshot(*ledgers[name]).waiting for name in steady):
                return
            await asyncio.sleep(0.1)
        self.fault("events wait for clients that read")

    async def settled(self, server: Server) -> Any:
        """Wait until everybody is gone, and give the server's last report."""
        report: Any = None
        for _ in range(150):
            report = await server.report()
            if not any(report["tables"].values()) and not report["connected"]:
                break
            await asyncio.sleep(0.1)
        else:
            self.fault(f"not empty at the end: {report['tables']}, {report['connected']} connected")
        return report

    def judge(self, report: Any) -> None:
        """Hold all accounts against the server's last report."""
        for text in report["faults"]:
            self.fault(f"server: {text}")
        stalls = self.stalls + report["stalls"]
        self.lates += [(at, f"server: {text}") for at, text in report["lates"]]
        cut = {client.name: client.cut for client in self.clients}
        for at, name, expected, got in report["gaps"]:
            if expected < got and cut[name].issuperset(range(expected, got)):
                self.counts["gaps where a client cut its POST"] += 1
            else:
                self.lates.append((at, f"server: {name}: expected its event {expected}, got {got}"))
        for at, text in self.lates:
            if not any(at - PATIENCE - 5 < stall < at + 1 for stall in stalls):
                self.fault(text)
        for client in self.clients:
            account = client.account
            ledger = Snapshot(*report["ledgers"][client.name])
            account.settle(ledger)
            if not client.sure <= ledger.heard <= client.sent:
                self.fault(f"{client.name}: heard {ledger.heard} of {client.sent}")
            if client.is_steady and (account.gone or ledger.cut or ledger.grace) and not stalls:
                self.fault(f"{client.name} never left, and missed {account.gone}: {ledger}")
        stats = report["stats"]
        found = add_up(self.clients)
        if stats["written"] != found["received"] + found["gone"]:
            self.fault(f"written {stats['written']}, but {found}")
        resets = self.counts["end ws reset"] + self.counts["end ajax reset"]
        if found["moments"] > 3 + resets / 6 + len(stalls) * self.number / 10:
            # Who reads and then resets leaves the server a moment to write in, and no more,
            # unless this process stood still just then. One in a hundred loses something in it,
            # one in ten where others want the processors ten times over.
            self.fault(f"{found['moments']} of {resets} resets lost what was not in the kernel")
        if stats["cut"] < found["breaks"]:
            self.fault(f"{found['breaks']} gaps behind {stats['cut']} breaks")
        if sum(stats["closed"].values()) != self.counts["connected ws"]:
            self.fault(f"closed {stats['closed']} of {self.counts['connected ws']} sockets")
        if report["answers"] > self.counts["questions answered"]:
            self.fault(f"{report['answers']} answers of {self.counts['questions answered']}")
        for name in ("bad_packet", "bad_event", "forged", "unclaimed"):
            if stats[name]:
                self.fault(f"{name}: {stats[name]}")

    def memory(self) -> tuple[int, int]:
        """Return what was held in the second sixth and in the last one; the medians."""
        end = self.seconds
        early = [size for at, size in self.samples if end / 6 <= at <= end / 3]
        late = [size for at, size in self.samples if at >= end * 5 / 6]
        first, last = int(statistics.median(early)), int(statistics.median(late))
        if last - first > MAY_GROW:
            self.fault(f"memory grew by {(last - first) // KIB} KiB, from {first // KIB}")
        return first, last

    async def stop(self, server: Server) -> Any:
        """Keep some away, with events that wait when the server stops."""
        away = [client for client in self.clients if client.is_alone][:20]
        for client in away:
            link = await client.connect(is_ws=True)
            if link is not None:
                await link.reset()
        await server.tell("stop")
        final = await server.answer()
        for text in final["faults"]:
            self.fault(f"server: {text}")
        stats = final["stats"]
        lost = sum(stats["lost"].values())
        if stats["lost"]["stopped"] != 3 * len(away):
            self.fault(f"stopped: {stats['lost']['stopped']}, expected {3 * len(away)}")
        if stats["sent"] != stats["written"] + stats["replaced"] + lost:
            self.fault(f"at the stop {stats}")
        if server.process.wait(20):
            self.fault(f"the server ended with {server.process.returncode}")
        return final


def add_up(clients: list[Client]) -> dict[str, int]:
    """What all accounts say together."""
    accounts = [client.account for client in clients]
    return {
        "received": sum(x.received for x in accounts),
        "gone": sum(x.gone for x in accounts),
        "late": sum(x.late for x in accounts),
        "breaks": sum(x.breaks for x in accounts),
        "moments": sum(x.moments for x in accounts),
    }


def table(soak: Soak, found: dict[str, Any]) -> str:
    stats, report, counts = found["report"]["stats"], found["report"], soak.counts
    lost = ", ".join(f"{name} {count}" for name, count in found["final"]["stats"]["lost"].items())
    ends = sorted((name, count) for name, count in counts.items() if name.startswith("end "))
    rows = [
        ("seed, clients, seconds", f"{soak.seed}, {soak.number}, {found['seconds']:.0f}"),
        ("clients by packer", dict(Counter(x.packed.name for x in soak.clients))),
        ("cores: server, clients", f"{found['cpu']:.2f}, {found['own_cpu']:.2f}"),
        ("numbered events", report["total"]),
        ("sent, one for each client meant", stats["sent"]),
        ("written / replaced", f"{stats['written']} / {stats['replaced']}"),
        ("lost", lost),
        ("received", found["received"]),
        ("written and not received", f"{found['gone']} in {found['breaks']} gaps"),
        ("of these unread in the kernel", found["gone"] - found["late"]),
        ("resets in the moment of a write", found["moments"]),
        ("breaks counted (cut)", stats["cut"]),
        ("connections: ws, ajax", f"{counts['connected ws']}, {counts['connected ajax']}"),
        *((name, count) for name, count in ends),
        *((n, counts[n]) for n in ("back at once", "back within grace", "back after grace")),
        ("polls answered by a handshake", counts["polls answered by a handshake"]),
        ("polls outlived by their socket", counts["sockets that were the newest again"]),
        ("polls answered 503", counts["polls answered 503"]),
        ("closed, by code", stats["closed"]),
        ("gaps where a client cut its POST", counts["gaps where a client cut its POST"]),
        ("floods", counts["floods"]),
        ("replies, of requests", f"{counts['replies']}, {asked(counts)}"),
        ("questions answered, heard", f"{counts['questions answered']}, {report['answers']}"),
        ("logged", report["logged"]),
        ("memory, second sixth", f"{found['first'] // KIB} KiB"),
        ("memory, last sixth", f"{found['last'] // KIB} KiB"),
        ("descriptors, start and end", found["descriptors"]),
        ("stalls: server, clients", f"{len(report['stalls'])}, {len(soak.stalls)}"),
        ("ends by time", len(soak.lates)),
        ("faults", soak.fault_count),
    ]
    return "\n".join(f"{name:<34}{value}" for name, value in rows)


def asked(counts: Counter[str]) -> int:
    return sum(count for name, count in counts.items() if name.startswith("asked "))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    soak = Soak(options.minutes, options.clients, options.seed)
    server = Server(options.clients, RATE * options.clients / 500, options.seed)
    try:
        found = asyncio.run(soak.run(server))
    finally:
        server.process.kill()
        server.process.wait()
    print(table(soak, found))
    for text in soak.faults:
        print(f"fault: {text}")
    return 1 if soak.fault_count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
