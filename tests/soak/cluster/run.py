"""Runs the soak of the cluster and judges it: prints a table, and how many faults there were.

    python -m soak.cluster.run MINUTES [--seed N] [--faults NAME,...] [--without RULE]
                               [--workers N] [--clients N] [--no-engine]

Exit code 1 if a promise was broken. Raw clients, both proxies, and the accounts run in this
process; the Python clients in another one. Past 400 lines, since one object knows the workers, the
clients, and what the faults excuse.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from chansock.clock import loop_factory
from soak.cluster import CLIENTS, CLIENTS_PER_USER
from soak.cluster.account import Account, Orders
from soak.cluster.clients import Client, PlainClient, PlainWsLink, RoamingAjaxLink
from soak.cluster.engine import Engine
from soak.cluster.faults import FAULTS, NEEDS_ENGINE
from soak.cluster.rules import OF_RESUME, RULES
from soak.resume import run, user_of
from soak.resume.account import Ledger, newest_of
from soak.resume.children import CHILDREN, Child, environment
from soak.resume.proxy import Proxy
from soak.resume.raw_ws import WsLink

DRAIN = 60.0  # seconds until all must be quiet
TO_CONNECT = 30.0
TO_STOP = 15.0
PYTHON_CLIENTS = 6
BROKEN = 0.15  # the share of connections that the proxy breaks
AFTER_LOSS = 60.0  # seconds within which gaps are right after the engine lost its tail
# Of each twelve raw clients; the others have a WebSocket.
AJAX, BOTH, PLAIN = (0, 6), (1, 7), (2,)


class Router(Proxy):
    """The proxy in front of all workers: each connection goes to one chosen by chance."""

    def __init__(self, workers: list[Worker], random: random.Random) -> None:
        self.workers = workers
        super().__init__(0, random)
        self.calm_now = False

    @property
    def target(self) -> int:  # type: ignore[override]
        return self.random.choice([worker for worker in self.workers if worker.port]).port

    @target.setter
    def target(self, port: int) -> None:
        pass

    @property
    def is_calm(self) -> bool:  # type: ignore[override]
        return self.calm_now or self.random.random() >= BROKEN

    @is_calm.setter
    def is_calm(self, value: bool) -> None:
        self.calm_now = value


class Worker(run.Server):
    """The present process of one worker."""

    def __init__(self, words: list[str], rule: str) -> None:
        super().__init__("", "", rule)
        self.words = words  # folder, seed, workers, engine
        self.is_paused = self.is_up = False
        self.asking = asyncio.Lock()

    async def start(self) -> None:
        words = [str(self.port), str(self.life), *self.words, *filter(None, [self.rule])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "soak.cluster.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.port = (await self.answer())["port"]
        self.is_up = True

    async def report(self) -> Any:
        return await asyncio.shield(self._report())  # a caller that is cancelled leaves no answer

    async def _report(self) -> Any:
        async with self.asking:
            return await super().report()

    def kill(self) -> None:
        self.is_up = False
        super().kill()

    async def stop(self) -> None:
        """Stop it cleanly."""
        self.is_up = False
        self.cpu_before = self.cpu()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.to_thread(self.process.wait, TO_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError(f"worker {self.life} did not stop in {TO_STOP} s") from None


class Soak:
    """The engine, all workers and clients, what is done to them, and what they got."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self.options = options
        self.folder = Path(folder)
        self.seconds = options.minutes * 60
        self.random = random.Random(options.seed)
        self.faults: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.accounts: dict[str, Account] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.raw: list[Client] = []
        self.children: list[Child] = []
        self.child_names: list[str] = []
        self.orders = Orders()
        self.workers: list[Worker] = []
        self.engine: Engine | None = None
        self.senders = 0
        self.dead: dict[int, dict[str, int]] = {}  # sender: what was stored for certain
        self.unclean_ends = 0
        self.trouble_until = self.settling_until = 0.0
        self.paused: set[int] = set()  # senders that were paused, or are
        self.read_to = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.users = max(1, options.clients // CLIENTS_PER_USER)
        for name in ("handled", "ports"):
            (self.folder / name).touch()

    def fault(self, kind: str, text: str) -> None:
        self.faults[kind] += 1
        if self.faults[kind] <= 5:
            print(f"fault: {kind}: {text}", file=sys.stderr, flush=True)
        if self.faults[kind] <= 2 and (account := self.accounts.get(text.partition(": ")[0])):
            print("  after", ", ".join(account.recent), file=sys.stderr, flush=True)

    # -- who is there

    async def start(self) -> None:
        url = "-"
        if not self.options.no_engine:
            self.engine = Engine(self.folder, random.Random(f"{self.options.seed}/engine"))
            await self.engine.start()
            url = self.engine.url
        words = [str(self.folder), self.options.seed, str(self.options.workers), url]
        for _ in range(self.options.workers):
            self.workers.append(Worker(words, self.options.without or ""))
            await self.start_worker(self.workers[-1])
        self.proxy = Router(self.workers, random.Random(f"{self.options.seed}/proxy"))
        port = await self.proxy.start()
        for number in range(self.options.clients - PYTHON_CLIENTS):
            self.make_raw(number, port)
        await self.make_python(port)

    def account(self, name: str, *, is_plain: bool = False) -> Account:
        user = user_of(name)
        account = Account(name, user, self.fault, self.orders, is_plain=is_plain)
        self.accounts[name] = account
        self.ledgers[name] = Ledger(account)
        return account

    def make_raw(self, number: int, port: int) -> None:
        name = f"u{number % self.users}.raw-{number}"
        place = number % 12
        seeded = random.Random(f"{self.options.seed}/{name}")
        is_plain = place in PLAIN
        account = self.account(name, is_plain=is_plain)
        client = (PlainClient if is_plain else Client)(name, account, seeded, port)
        if is_plain:
            client.new_link.append(PlainWsLink)
        if not is_plain and place not in AJAX:
            client.new_link.append(WsLink)
        if place in (*AJAX, *BOTH):
            client.new_link.append(RoamingAjaxLink)
        client.changes_transport = len(client.new_link) > 1
        self.raw.append(client)

    async def make_python(self, port: int) -> None:
        names = [f"u{number % self.users}.py-{number}" for number in range(PYTHON_CLIENTS)]
        for name in names:
            self.account(name)
        process = await asyncio.create_subprocess_exec(
            *CHILDREN["py"],
            f"http://127.0.0.1:{port}/chsk",
            *names,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
            limit=1 << 24,
        )
        self.children.append(Child(self, process, names))  # type: ignore[arg-type]
        self.child_names = names

    async def start_worker(self, worker: Worker) -> None:
        """Start a worker, as a new sender."""
        worker.life, self.senders = self.senders, self.senders + 1
        for account in self.accounts.values():
            account.sender_began(worker.life)
        await worker.start()
        if self.accounts and self.is_going:
            worker.tell("go", *self.accounts)

    is_going = False

    def ended(self, worker: Worker) -> None:
        """Note what a worker that has ended had stored for certain."""
        sender = worker.life - (worker.process.returncode == -9)  # `kill` has counted on
        stored = self.folder / f"stored.{sender}"
        self.dead[sender] = json.loads(stored.read_text()) if stored.exists() else {}
        if self.engine is None:
            self.dead[sender] = {}

    def any_worker(self) -> Worker:
        return self.random.choice([worker for worker in self.workers if worker.is_up])

    def any_user(self) -> str:
        return f"u{self.random.randrange(self.users)}"

    # -- what faults excuse

    def excuse(self, seconds: float) -> None:
        for account in self.accounts.values():
            account.excuse(seconds)

    def lose_replies(self) -> None:
        for account in self.accounts.values():
            account.killed()

    def unclean(self) -> None:
        """Note that a worker's end leaves the fate of client events unknown."""
        self.read_log()
        self.unclean_ends += 1

    def lose_tail(self) -> None:
        """Note that the engine loses what was stored last, and records of clients."""
        self.unclean()
        self.orders.lose(float("inf"))  # until `lost`
        self.excuse(AFTER_LOSS)
        for account in self.accounts.values():
            account.forgotten()

    def lost(self) -> None:
        """Note that what came last is lost, if it is."""
        self.orders.lose(time.monotonic())

    def trouble(self, seconds: float) -> None:
        """Note that workers may not hear each other for so long: presence may be late, and of
        clients that move, events may come again and replies be lost."""
        self.trouble_until = max(self.trouble_until, time.monotonic() + seconds)

    @property
    def is_troubled(self) -> bool:
        return time.monotonic() < self.trouble_until

    def settle(self, seconds: float) -> None:
        """Note that users who left may stay in presence for so long.

        An engine that lost its data removes nobody until each worker had a lease's time to report
        its users.
        """
        self.settling_until = max(self.settling_until, time.monotonic() + seconds)

    @property
    def is_settling(self) -> bool:
        return time.monotonic() < self.settling_until

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # -- the run

    async def do_faults(self) -> None:
        """Do one fault after the other until time is up; each ends by itself."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            await asyncio.sleep(self.random.uniform(1, 4))
            name = self.random.choice(self.options.faults)
            self.done[name] += 1
            for account in self.accounts.values():
                account.note(f"-- {name}")
            await FAULTS[name](self)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self.is_troubled:  # workers that don't hear each other cannot hand clients over
                self.unclean()
                self.lose_replies()
            else:
                self.read_log()

    def read_log(self) -> None:
        """Read what the handlers got."""
        with (self.folder / "handled").open("rb") as file:
            file.seek(self.read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.read_to += len(whole)
        for line in whole.decode().splitlines():
            name, k, number, marked, sender = line.split()
            ledger = self.ledgers.get(name)
            if ledger is None:
                self.fault("unknown client", name)
                continue
            if self.is_troubled and marked == "1":
                self.unclean_ends += 1  # several homes, one after the other, may not know
            elif int(sender) in self.paused and self.is_troubled and int(k) <= ledger.newest:
                # It goes on with what its client had sent before it went elsewhere.
                self.done["handled late, by one that was paused"] += 1
                continue
            is_marked = marked == "1"
            ledger.take(int(k), self.unclean_ends, number=int(number), is_marked=is_marked)

    async def run(self) -> None:
        await self.start()
        lives = [asyncio.create_task(client.run()) for client in self.raw]
        await self.until(lambda: all(a.was for a in self.accounts.values()), TO_CONNECT, "connect")
        self.is_going = True
        self.tell_all("go", *self.accounts)
        start, cpu = time.monotonic(), time.process_time()
        following = asyncio.create_task(self.follow())
        doing = asyncio.create_task(self.do_faults())
        await asyncio.wait([following, doing], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        doing.result()
        for task in self.tasks:
            task.cancel()
        self.seconds_run = time.monotonic() - start
        self.cpu = time.process_time() - cpu
        await self.drain()
        following.cancel()
        await self.judge()
        for client in self.raw:
            client.is_over = True
            client.end()
        await asyncio.wait([*lives, following], timeout=5)
        for child in self.children:
            await child.end()
        for worker in self.workers:
            await worker.stop()

    def tell_all(self, *words: str) -> None:
        for worker in self.workers:
            worker.tell(*words)

    async def until(self, is_so: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                self.done[f"did not {what} in time"] += 1
                return
            await asyncio.sleep(0.2)

    async def drain(self) -> None:
        """Break nothing any more, and wait until all have all."""
        start = time.monotonic()
        self.tell_all("hold")
        self.proxy.is_calm = True
        self.proxy.break_all()
        for client in self.raw:
            client.is_going = client.is_wild = False
            client.away_until = 0.0
        for child in self.children:
            child.tell("hold")
        await self.until(self.is_quiet, DRAIN, "become quiet")
        while any([(await worker.report())["floods"] for worker in self.workers]):
            await asyncio.sleep(0.2)
        self.tell_all("final")
        self.reports = [await worker.report() for worker in self.workers]
        await self.until(self.is_complete, DRAIN, "become complete")
        self.drained = time.monotonic() - start

    def is_quiet(self) -> bool:
        self.read_log()
        return all(client.is_quiet for client in self.raw) and all(
            child.is_quiet for child in self.children
        )

    def sent(self) -> dict[str, int]:
        sent = {client.name: client.made for client in self.raw}
        for child in self.children:
            sent.update(child.sent)
        return sent

    def lacking(self, name: str) -> list[str]:
        account = self.accounts[name]
        lacking = []
        for report in self.reports:
            expected = newest_of(report["numbers"], name, user_of(name))
            lacking += account.lacks(report["sender"], expected, is_alive=True)
        for sender, numbers in self.dead.items():
            expected = newest_of(numbers, name, user_of(name))
            lacking += account.lacks(sender, expected, is_alive=False)
        return lacking

    def is_complete(self) -> bool:
        self.read_log()
        sent = self.sent()
        return all(
            not self.lacking(name)
            and not account.asked
            and self.ledgers[name].has_all(sent.get(name, 0))
            for name, account in self.accounts.items()
        )

    async def judge(self) -> None:
        sent = self.sent()
        self.reports = [await worker.report() for worker in self.workers]
        for name, account in self.accounts.items():
            for text in self.lacking(name):
                account.fault("missing at the end", text)
            account.judge_replies()
            self.ledgers[name].end(sent.get(name, 0))
            if not account.events:
                account.fault("deaf", "got no event at all")
        there = {user_of(name) for name in self.accounts}
        for report in self.reports:
            users = set(report["users"])
            for user in users ^ there:
                kind = "ghost" if user in users else "absent"
                self.fault(kind, f"{user}: at worker {report['sender']}, at the end")
            for name, count in report["counts"].items():
                if name.startswith("keys"):
                    self.fault("keys", f"{count} {name}")
            if errors := report["logged"].get("ERRORS"):
                self.done["errors logged"] += errors
        self.judge_ports()

    def judge_ports(self) -> None:
        """Judge that open and close alternate for each user. A kill may swallow one."""
        last: dict[str, str] = {}
        for line in (self.folder / "ports").read_text().splitlines():
            user, what, sender = line.split()
            self.done[f"uidport-{what}"] += 1
            if last.get(user, "close") == what:
                if self.unclean_ends:
                    self.done["uidport twice, after a kill"] += 1
                else:
                    self.fault("uidport twice", f"{user}: {what} again, at worker {sender}")
            last[user] = what

    # -- what is printed

    def table(self) -> str:
        accounts, ledgers = self.accounts.values(), self.ledgers.values()
        was: Counter[str] = Counter()
        for account in accounts:
            was += account.was
        cpu = sum(worker.cpu_before for worker in self.workers)
        refused = sum(report["counts"].get("sends refused", 0) for report in self.reports)
        rows: list[tuple[str, Any]] = [
            ("seed, seconds", f"{self.options.seed}, {self.seconds_run:.0f}"),
            ("clients, users", f"{len(accounts)}, {self.users}"),
            ("workers, senders in all", f"{len(self.workers)}, {self.senders}"),
            ("cores: workers, this process", f"{cpu / self.seconds_run:.2f}, "
             f"{self.cpu / self.seconds_run:.2f}"),
            ("events received", sum(account.events for account in accounts)),
            ("client events handled", sum(ledger.events for ledger in ledgers)),
            ("handled again, marked", sum(ledger.marked for ledger in ledgers)),
            ("replies", sum(account.replies for account in accounts)),
            ("replies that may be lost, were", sum(x.lost_to_kills for x in accounts)),
            ("sends refused, by those alive", refused),
            ("came back", dict(was)),
            *sorted(self.done.items()),
            *sorted(self.proxy.counts.items()),
            ("seconds to drain", f"{self.drained:.1f}"),
            *sorted(self.faults.items()),
        ]  # fmt: skip
        lines = [f"{name:<34}{value}" for name, value in rows]
        return "\n".join([*lines, f"{sum(self.faults.values())} faults"])

    def kill(self) -> None:
        """End every process."""
        for worker in self.workers:
            with contextlib.suppress(AttributeError):
                worker.process.kill()
                worker.process.wait()
        for child in self.children:
            child.kill()
        if self.engine is not None:
            self.engine.kill()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak.cluster.run")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--without", help=f"a rule to switch off: {', '.join(RULES)}")
    parser.add_argument("--faults", help=f"of these, with commas: {', '.join(FAULTS)}")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--no-engine", action="store_true", help="one worker, without an engine")
    options = parser.parse_args(arguments)
    if options.no_engine and options.workers != 1:
        parser.error(f"expected --workers 1 with --no-engine, got {options.workers}")
    rules = OF_RESUME if options.no_engine else [*RULES]
    if options.without and options.without not in rules:
        parser.error(f"expected a rule of {', '.join(rules)}, got {options.without}")
    known = [name for name in FAULTS if not (options.no_engine and name in NEEDS_ENGINE)]
    options.faults = options.faults.split(",") if options.faults else known
    if unknown := [name for name in options.faults if name not in known]:
        parser.error(f"expected faults of {', '.join(known)}, got {', '.join(unknown)}")
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
            soak.kill()
    print(soak.table())
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
