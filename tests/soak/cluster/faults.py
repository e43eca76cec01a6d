"""What is done to the cluster: each fault has a name, and can be chosen alone.

A fault also notes what it excuses: a gap that a client may be told, a reply that may be lost, a
client event that may be handled again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from soak.cluster import GRACE, KEEP_SECONDS, LEASE
from soak.resume import KEEP_EVENTS, user_of
from soak.resume.raw import RawClient

if TYPE_CHECKING:
    from soak.cluster.run import Soak

__all__ = ["FAULTS", "NEEDS_ENGINE"]

BACK = 15.0  # seconds within which each client is back after a kill
MEMORY = "3mb"
MARGIN = 4.0  # seconds for the news that a user has left


async def cut_clients(soak: Soak) -> None:
    """Break all connections of clients, and refuse new ones for a while."""
    soak.proxy.shut(soak.random.uniform(0.2, 2.0))


async def kill_worker(soak: Soak) -> None:
    """Kill -9 of a worker; it starts again after a while, as a new sender."""
    worker = soak.any_worker()
    soak.unclean()
    soak.lose_replies()
    if soak.engine is None:
        soak.excuse(BACK)
    worker.kill()
    soak.ended(worker)
    await asyncio.sleep(soak.random.uniform(0, 3))
    await soak.start_worker(worker)


async def restart_worker(soak: Soak) -> None:
    """Stop a worker cleanly and start a new process in its place."""
    worker = soak.any_worker()
    if soak.engine is None:  # what is kept ends with the process
        soak.unclean()
        soak.lose_replies()
        soak.excuse(BACK)
    await worker.stop()
    soak.ended(worker)
    await soak.start_worker(worker)


async def pause_worker(soak: Soak) -> None:
    """SIGSTOP of a worker, sometimes for longer than its lease."""
    worker = soak.any_worker()
    soak.unclean()
    soak.lose_replies()
    is_long = soak.seconds > 120 and soak.random.random() < 0.2
    seconds = LEASE + soak.random.uniform(2, 5) if is_long else soak.random.uniform(0.5, 4)
    worker.is_paused = True
    soak.paused.add(worker.life)
    soak.trouble(seconds + 5)
    worker.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    worker.process.send_signal(signal.SIGCONT)
    worker.is_paused = False


async def flood(soak: Soak) -> None:
    """Send a user more than is kept; some of its clients are away for it."""
    user = soak.any_user()
    for client in soak.raw:
        if user_of(client.name) == user:
            client.account.excuse(12)
            if soak.random.random() < 0.7:
                client.stay_away(soak.random.uniform(1, 4))
    soak.any_worker().tell("flood", user, str(KEEP_EVENTS + 300))


async def long_absence(soak: Soak) -> None:
    """Have a client be away for longer than anything is kept."""
    client = soak.random.choice(soak.raw)
    away = KEEP_SECONDS + soak.random.uniform(3, 6)
    client.account.excuse(away + 10)
    client.account.forgotten()
    client.stay_away(away)


async def silence(soak: Soak) -> None:
    """Have a client be away while its user gets something, and then nothing until that expires."""
    client = soak.random.choice(soak.raw)
    silent = KEEP_SECONDS * 1.125 + soak.random.uniform(3, 6)  # logs live an eighth longer
    away = silent + 4.0
    client.account.excuse(away + 10)
    client.account.forgotten()
    client.stay_away(away)
    user = user_of(client.name)
    soak.beside(fall_silent(soak, user, silent))


async def fall_silent(soak: Soak, user: str, seconds: float) -> None:
    await asyncio.sleep(2.5)  # some events still come
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for worker in soak.workers:  # one that has started again knows nothing of it
            if worker.is_up:
                worker.tell("silence", user, f"{min(left, 2.0):.1f}")
        await asyncio.sleep(1.0)


async def absence(soak: Soak) -> None:
    """Have all clients of a user be away until it must be gone everywhere, and look.

    No other fault happens meanwhile: a worker without an engine does not hear that a user left.
    """
    user = soak.any_user()
    clients: list[RawClient] = [each for each in soak.raw if user_of(each.name) == user]
    if any(user_of(name) == user for name in soak.child_names):
        return
    for client in clients:
        client.account.excuse(4 * (LEASE + GRACE + MARGIN))
        client.account.forgotten()
    end = time.monotonic() + LEASE + GRACE + MARGIN
    while time.monotonic() < end or soak.is_troubled or soak.is_settling:
        for client in clients:
            client.stay_away(MARGIN)
        await asyncio.sleep(1.0)
    for worker in soak.workers:
        report = await worker.report()
        if user in report["users"]:
            soak.fault("ghost", f"{user}: still connected at worker {report['sender']}")
        soak.done["absences judged"] += 1


async def kill_engine(soak: Soak) -> None:
    """Kill -9 of the engine; it starts again with its data."""
    assert soak.engine is not None
    soak.trouble(10)
    soak.engine.main.kill()
    await asyncio.sleep(soak.random.uniform(0.1, 3))
    await soak.engine.main.start()


async def empty_engine(soak: Soak) -> None:
    """Kill -9 of the engine; it starts again without any data."""
    assert soak.engine is not None
    soak.settle(10 + LEASE)
    soak.trouble(10)
    soak.lose_tail()
    soak.engine.main.kill()
    soak.lost()
    await soak.engine.main.start(is_empty=True)


async def failover(soak: Soak) -> None:
    """Have the replica take over, without what came last."""
    assert soak.engine is not None
    soak.settle(10 + LEASE)
    soak.trouble(10)
    soak.lose_tail()
    await soak.engine.fail_over(soak.random.uniform(0.1, 1.0))
    soak.lost()


async def client_kill(soak: Soak) -> None:
    """Have the engine end connections of the workers."""
    assert soak.engine is not None
    soak.trouble(5)
    kind = soak.random.choice(("normal", "pubsub"))
    await soak.engine.main.ask(f"CLIENT KILL TYPE {kind} SKIPME yes")


async def cut_engine(soak: Soak) -> None:
    """Break all connections to the engine, and refuse new ones for a while."""
    assert soak.engine is not None
    seconds = soak.random.uniform(0.2, 3)
    soak.trouble(seconds + 5)
    soak.engine.proxy.shut(seconds)
    await asyncio.sleep(seconds)


async def stall_engine(soak: Soak) -> None:
    """Pass on nothing between workers and engine, one way or both."""
    assert soak.engine is not None
    soak.trouble(10)
    await soak.engine.stall(soak.random.uniform(0.5, 5))


async def pause_engine(soak: Soak) -> None:
    """SIGSTOP of the engine."""
    assert soak.engine is not None
    soak.trouble(10)
    soak.engine.main.signal(signal.SIGSTOP)
    await asyncio.sleep(soak.random.uniform(0.5, 4))
    soak.engine.main.signal(signal.SIGCONT)


async def memory(soak: Soak) -> None:
    """Fill the engine's memory for a while."""
    assert soak.engine is not None
    seconds = soak.random.uniform(0.5, 4)
    soak.trouble(seconds + 8)
    await soak.engine.main.ask(f"CONFIG SET maxmemory {MEMORY}")
    await asyncio.sleep(seconds)
    await soak.engine.main.ask("CONFIG SET maxmemory 0")


_OF_WORKERS = (
    cut_clients, kill_worker, restart_worker, pause_worker, flood, long_absence, absence, silence,
)  # fmt: skip
_OF_ENGINE = (
    kill_engine, empty_engine, failover, client_kill, cut_engine, stall_engine, pause_engine,
    memory,
)  # fmt: skip
FAULTS: dict[str, Callable[[Soak], Awaitable[None]]] = {
    fault.__name__.replace("_", "-"): fault for fault in (*_OF_WORKERS, *_OF_ENGINE)
}
NEEDS_ENGINE = {fault.__name__.replace("_", "-") for fault in _OF_ENGINE}
