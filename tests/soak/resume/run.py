"""Runs the soak of resume and judges it: prints a table, and how many faults there were.

    python -m soak.resume.run MINUTES [--seed N] [--without RULE] [--only KIND]

Exit code 1 if there was a fault. In the last fifth of the time the server's process is killed
now and then (`--kills SHARE`): its clients miss events then, and are told so; theirs come again,
marked. Raw clients, the proxy, and the accounts run in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chansock.clock import loop_factory
from soak.resume import KEEP_EVENTS, KEEP_SECONDS, USERS, user_of
from soak.resume.account import Account, Ledger, newest_of
from soak.resume.children import CHILDREN, Child, environment
from soak.resume.proxy import Proxy
from soak.resume.raw import RawClient
from soak.resume.raw_ajax import AjaxLink
from soak.resume.raw_ws import WsLink
from soak.resume.rules import NEEDS_KILLS, OF_CLIENT, RULES

RAW = 24
DRAIN = 60.0  # seconds until all must be quiet


class Server:
    """The server's present process."""

    def __init__(self, log: str, seed: str, rule: str) -> None:
        self.log, self.seed, self.rule = log, seed, rule
        self.port = self.life = 0
        self.cpu_before = 0.0
        self.counts: Counter[str] = Counter()

    async def start(self) -> None:
        words = [str(self.port), str(self.life), self.log, self.seed, self.rule]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "soak.resume.server", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.port = (await self.answer())["port"]

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()

    async def answer(self) -> Any:
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        if not line:
            raise RuntimeError(f"the server ended: {self.process.wait()}")
        return json.loads(line)

    async def report(self) -> Any:
        self.tell("report")
        return await self.answer()

    def cpu(self) -> float:
        """The seconds of CPU time of all its processes."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return self.cpu_before + (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.cpu_before = self.cpu()
        self.process.kill()
        self.process.wait()
        self.life += 1


class Soak:
    """All clients, what is done to them, and what they got."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self.options = options
        self.seconds = options.minutes * 60
        self.random = random.Random(options.seed)
        self.faults: Counter[str] = Counter()
        self.samples: list[str] = []
        self.done: Counter[str] = Counter()
        self.accounts: dict[str, Account] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.raw: list[RawClient] = []
        self.children: list[Child] = []
        self.log = Path(folder) / "handled"
        self.log.touch()
        self.read_to = 0
        rule = options.without or ""
        self.server = Server(str(self.log), options.seed, "" if rule in OF_CLIENT else rule)
        self.kills = options.kills
        self.killing: asyncio.Task[None] | None = None

    def fault(self, kind: str, text: str) -> None:
        self.faults[kind] += 1
        if self.faults[kind] <= 5:
            text = f"{kind}: {text}"
            self.samples.append(text)
            print(f"fault: {text}", file=sys.stderr, flush=True)
        if self.faults[kind] <= 2 and (account := self.accounts.get(text.split(": ")[1])):
            print("  after", ", ".join(account.recent), file=sys.stderr, flush=True)

    def account(self, name: str) -> Account:
        account = self.accounts[name] = Account(name, self.fault)
        self.ledgers[name] = Ledger(account)
        return account

    # -- who is there

    async def start(self) -> None:
        await self.server.start()
        self.proxy = Proxy(self.server.port, random.Random(f"{self.options.seed}/proxy"))
        port = await self.proxy.start()
        only = self.options.only
        if only in (None, "raw"):
            self.make_raw(port)
        for kind, command in CHILDREN.items():
            if only in (None, kind) and (child := await Child.make(kind, command, port, self)):
                self.children.append(child)
        self.server.tell("go", *self.accounts)

    def make_raw(self, port: int) -> None:
        for number in range(RAW):
            name = f"u{number % USERS}.raw-{number}"
            seeded = random.Random(f"{self.options.seed}/{name}")
            client = RawClient(name, self.account(name), seeded, port)
            client.is_careless = self.options.without == "buffer"
            links = [[WsLink], [AjaxLink], [WsLink, AjaxLink]][number % 3]
            client.new_link.extend(links)
            client.changes_transport = len(links) > 1
            self.raw.append(client)

    # -- what is done to them

    async def restarts(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(3, 12))
            self.server.tell("restart")

    async def outages(self) -> None:
        """Break all connections for a while; sometimes a user misses too much meanwhile."""
        while True:
            await asyncio.sleep(self.random.uniform(4, 14))
            self.done["outages"] += 1
            self.proxy.shut(self.random.uniform(0.2, 2.5))
            if self.random.random() < 0.5:
                self.flood(f"u{self.random.randrange(USERS)}")

    def flood(self, user: str) -> None:
        """Send a user more than is kept; some of its raw clients are away for it."""
        self.done["floods"] += 1
        for account in self.accounts.values():
            if user_of(account.name) == user:
                account.excuse(10)
        for client in self.raw:
            if user_of(client.name) == user and self.random.random() < 0.7:
                client.stay_away(self.random.uniform(1, 4))
        self.server.tell("flood", user, str(KEEP_EVENTS + 300))

    async def long_absences(self) -> None:
        """Have a raw client be away for longer than anything is kept."""
        while True:
            if not self.raw:
                await asyncio.sleep(60)  # there is nobody to be away
                continue
            client = self.random.choice(self.raw)
            away = KEEP_SECONDS + self.random.uniform(4, 8)
            client.account.excuse(away + 10)
            client.account.forgotten()
            self.done["long absences"] += 1
            client.stay_away(away)
            await asyncio.sleep(away * self.random.uniform(0.2, 1))

    async def kill_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(6, 16))
            self.killing = asyncio.create_task(self.kill())
            await asyncio.shield(self.killing)

    async def kill(self) -> None:
        self.done["kills"] += 1
        self.server.kill()
        for account in self.accounts.values():
            account.excuse(15)
            account.killed()
        await self.server.start()
        self.server.tell("go", *self.accounts)

    async def follow(self) -> None:
        """Read what the handlers got."""
        while True:
            await asyncio.sleep(0.2)
            self.read_log()

    def read_log(self) -> None:
        with self.log.open("rb") as file:
            file.seek(self.read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.read_to += len(whole)
        for line in whole.decode().splitlines():
            name, k, number, marked, life = line.split()
            if name in self.ledgers:
                ledger = self.ledgers[name]
                ledger.take(int(k), int(life), number=int(number), is_marked=marked == "1")
            else:
                self.fault("unknown client", name)

    # -- the run

    async def run(self) -> None:
        await self.start()
        lives = [asyncio.create_task(client.run()) for client in self.raw]
        start, cpu = time.monotonic(), time.process_time()
        works = [self.follow(), self.restarts(), self.outages()]
        if self.seconds * (1 - self.kills) > 2 * KEEP_SECONDS:
            works.append(self.long_absences())
        tasks = [asyncio.create_task(work) for work in works]
        await self.let_run(tasks, self.seconds * (1 - self.kills))
        if self.kills:
            tasks[1].cancel()  # a restart at a kill has nothing to tell
            tasks.append(asyncio.create_task(self.kill_now_and_then()))
            await self.let_run([tasks[0], *tasks[2:]], self.seconds * self.kills)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)
        if self.killing is not None:
            await self.killing
        self.seconds_run = time.monotonic() - start
        await self.drain()
        self.cpu = time.process_time() - cpu
        tasks[0].cancel()
        await self.judge()
        for client in self.raw:
            client.is_over = True
            client.end()
        await asyncio.wait([*lives, *tasks[:1]], timeout=5)
        for child in self.children:
            await child.end()

    async def let_run(self, tasks: list[asyncio.Task[None]], seconds: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self) -> None:
        """Break nothing any more, and wait until all have all."""
        self.server.tell("hold")
        self.proxy.is_calm = True
        self.proxy.break_all()
        for client in self.raw:
            client.is_going = client.is_wild = False
            client.away_until = 0.0
        for child in self.children:
            child.tell("hold")
        end = time.monotonic() + DRAIN
        while time.monotonic() < end and not self.is_quiet():
            await asyncio.sleep(0.2)
        while (await self.server.report())["floods"]:
            await asyncio.sleep(0.2)
        self.server.tell("final")
        self.report = await self.server.report()
        while time.monotonic() < end and not self.is_complete():
            await asyncio.sleep(0.2)
        self.drained = DRAIN - (end - time.monotonic())

    def is_quiet(self) -> bool:
        self.read_log()
        return all(client.is_quiet for client in self.raw) and all(
            child.is_quiet for child in self.children
        )

    def sent(self) -> dict[str, int]:
        """How many events each client sent."""
        sent = {client.name: client.made for client in self.raw}
        for child in self.children:
            sent.update(child.sent)
        return sent

    def is_complete(self) -> bool:
        self.read_log()
        sent = self.sent()
        return all(
            account.is_complete(self.newest(name)) and self.ledgers[name].has_all(sent[name])
            for name, account in self.accounts.items()
        )

    def newest(self, name: str) -> dict[str, int]:
        return newest_of(self.report["numbers"], name, user_of(name))

    async def judge(self) -> None:
        sent = self.sent()
        self.server.cpu_before = self.server.cpu()
        self.report = await self.server.report()
        for name, account in self.accounts.items():
            account.end(self.newest(name))
            self.ledgers[name].end(sent[name])
            if not account.events:
                self.fault("deaf", f"{name} got no event at all")
        for name, count in self.report["counts"].items():
            if name.startswith("keys"):
                self.fault("keys", f"{count} {name}")
        if errors := self.report["logged"].get("ERRORS"):
            self.fault("logged", f"{errors} errors")

    # -- what is printed

    def table(self) -> str:
        accounts, report = self.accounts.values(), self.report
        was: Counter[str] = Counter()
        for account in accounts:
            was += account.was
        by_kind: Counter[str] = Counter()
        for name in self.accounts:
            by_kind[name.partition(".")[2].rpartition("-")[0]] += 1
        ledgers = self.ledgers.values()
        rows: list[tuple[str, Any]] = [
            ("seed, seconds", f"{self.options.seed}, {self.seconds_run:.0f}"),
            ("clients", dict(by_kind)),
            ("cores: server, this process", f"{self.server.cpu_before / self.seconds_run:.2f}, "
             f"{self.cpu / self.seconds_run:.2f}"),
            ("events received", sum(account.events for account in accounts)),
            ("events handled", sum(ledger.events for ledger in ledgers)),
            ("handled again, marked", sum(ledger.marked for ledger in ledgers)),
            ("replies", sum(account.replies for account in accounts)),
            ("replies lost to kills, absences", sum(x.lost_to_kills for x in accounts)),
            ("handled too late for a reply", sum(account.late for account in accounts)),
            ("refused for want of room", sum(len(account.unsent) for account in accounts)),
            ("came back", dict(was)),
            ("restarts", report["counts"].get("restarts", 0)),
            *self.done.items(),
            *sorted(self.proxy.counts.items()),
            ("logged by the server", report["logged"]),
            ("seconds to drain", f"{self.drained:.1f}"),
            *sorted(self.faults.items()),
        ]  # fmt: skip
        rows = [(name, dict(x) if isinstance(x, Counter) else x) for name, x in rows]
        lines = [f"{name:<34}{value}" for name, value in rows]
        return "\n".join([*lines, f"{sum(self.faults.values())} faults"])


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak.resume.run")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--without", choices=sorted(RULES), help="a rule to switch off")
    parser.add_argument("--only", choices=["raw", *CHILDREN], help="clients of this kind")
    parser.add_argument("--kills", type=float, help="the share of the time with kills")
    options = parser.parse_args(arguments)
    if options.kills is None:
        options.kills = 0.6 if options.without in NEEDS_KILLS else 0.2
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options, folder)
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(soak.run())
        finally:
            soak.server.process.kill()
            soak.server.process.wait()
            for child in soak.children:
                child.kill()
    print(soak.table())
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
