"""The parent of the workers: starts them, replaces those that die, and ends them in order.

The parent loads no application and runs no loop: it waits for signals and looks at its children
between them. Workers get a place each, from 0 on; the worker of a place listens on the socket of
that place. The first worker starts alone, so that an application which cannot be served says so
once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from chansock.errors import ConfigError
from chansock.workers.child import SIGNALS, Child
from chansock.workers.private_engine import PrivateEngine

__all__ = ["IS_AVAILABLE", "NOT_AVAILABLE", "NOT_STARTED", "Start", "supervise"]

log = logging.getLogger("chansock.workers")

# sigtimedwait tells who sent a signal, and prctl ends children with their parent.
IS_AVAILABLE: Final = sys.platform == "linux" and hasattr(signal, "sigtimedwait")
NOT_AVAILABLE: Final = "expected Linux for more than one worker, got another system"
NOT_STARTED: Final = 3  # the exit status if nothing could be served, as the command's
LOOK_EVERY: Final = 0.5  # at the engine and at what is due; a signal wakes at once
STARTING_LOOK_EVERY: Final = 0.02  # while a worker starts: its report is no signal
MAX_DEATHS: Final = 5
DEATHS_WITHIN: Final = 30.0
FIRST_DELAY: Final = 0.2  # doubled with each death; 5 of them take 3 s
MAX_DELAY: Final = 5.0
KILL_AFTER: Final = 2.0  # seconds that a worker has left after the second signal
SI_KERNEL: Final = 0x80  # siginfo: a terminal's, not a process's

# start(place, fd): a worker that reports to fd (chansock.workers.report).
Start: TypeAlias = Callable[[int, int], Child]


def supervise(start: Start, number: int, engine: PrivateEngine, show: Callable[[str], None]) -> int:
    """Run so many workers until SIGINT or SIGTERM; return the status to exit with.

    Calls show(url) once, when all of them listen. A second signal ends the workers at once.
    SIGHUP replaces one after the other: a new worker first listens, then the old one stops. A
    worker that dies is started again. If workers die at once and none is left that listens, the
    result is the exit status of the last one.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    supervisor = _Supervisor(start, number, engine, show)
    try:
        return supervisor.run()
    finally:
        supervisor.kill()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@dataclass(slots=True, eq=False)
class _Worker:
    place: int
    process: Child
    pipe: int  # what it reports; -1 once it listens
    told: bytes = b""
    is_listening: bool = False
    replaces: _Worker | None = None


@dataclass(slots=True)
class _Place:
    """Who serves it, who stops or begins to, and how often its workers died."""

    worker: _Worker | None = None
    due: float = 0.0  # when the next one starts, if there is none
    deaths: deque[float] = field(default_factory=deque)


class _Supervisor:
    def __init__(
        self, start: Start, number: int, engine: PrivateEngine, show: Callable[[str], None]
    ) -> None:
        self._start_child = start
        self._engine = engine
        self._show = show
        self._places = [_Place() for _ in range(number)]
        self._workers: list[_Worker] = []  # all that have not ended
        self._to_replace: deque[int] = deque()
        self._url: str | None = None  # of the first one that listened
        self._is_shown = False
        self._status: int | None = None  # to exit with, once it ends
        self._kill_at: float | None = None

    def run(self) -> int:
        while True:
            self._look()
            if self._status is not None and not self._workers:
                return self._status
            is_starting = any(not worker.is_listening for worker in self._workers)
            interval = STARTING_LOOK_EVERY if is_starting else LOOK_EVERY
            info = signal.sigtimedwait(SIGNALS, min(interval, self._until_due()))
            if info is None or info.si_signo == signal.SIGCHLD:
                continue
            if info.si_signo == signal.SIGHUP and info.si_code != SI_KERNEL:
                self._replace_all()
            else:
                self._end(signal.Signals(info.si_signo))

    def kill(self) -> None:
        """End what is left, after an error of this process."""
        for worker in self._workers:
            worker.process.send_signal(signal.SIGKILL)
        while any(worker.process.poll() is None for worker in self._workers):
            time.sleep(0.001)

    def _look(self) -> None:
        for worker in list(self._workers):
            self._read(worker)
            if (status := worker.process.poll()) is not None:
                self._read(worker)
                self._ended(worker, status)
        if self._status is not None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._signal_all(signal.SIGKILL)
            return
        self._engine.revive()
        now = time.monotonic()
        for number, place in enumerate(self._places):
            # The others wait until one has shown that the application can be served.
            if place.worker is None and place.due <= now and (self._url or number == 0):
                place.worker = self._start(number)
        self._replace_next()
        if not self._is_shown and self._url and all(self._is_listening(p) for p in self._places):
            self._is_shown = True
            self._show(self._url)

    @staticmethod
    def _is_listening(place: _Place) -> bool:
        return place.worker is not None and place.worker.is_listening

    def _until_due(self) -> float:
        if self._kill_at is not None:
            return max(STARTING_LOOK_EVERY, self._kill_at - time.monotonic())
        waiting = [place.due for place in self._places if place.worker is None and place.due]
        return max(0.0, min(waiting, default=float("inf")) - time.monotonic())

    # -- one worker

    def _start(self, place: int, replaces: _Worker | None = None) -> _Worker:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            process = self._start_child(place, writer)
        finally:
            os.close(writer)
        worker = _Worker(place, process, reader, replaces=replaces)
        self._workers.append(worker)
        log.info("worker_started place=%d pid=%d", place, process.pid)
        return worker

    def _read(self, worker: _Worker) -> None:
        if worker.pipe < 0:
            return
        try:
            worker.told += os.read(worker.pipe, 4096)
        except BlockingIOError:
            return
        *lines, worker.told = worker.told.split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "engine" and not self._engine.is_started:
                try:
                    self._engine.start()
                except (ConfigError, OSError) as error:
                    log.error("workers_not_started workers: %s", error)
                    self._give_up(NOT_STARTED)
            elif word == "listening":
                self._listens(worker, rest)
                return

    def _listens(self, worker: _Worker, url: str) -> None:
        worker.is_listening = True
        os.close(worker.pipe)
        worker.pipe = -1
        self._url = self._url or url
        if worker.replaces is not None:
            log.info(
                "worker_replaced place=%d pid=%d old_pid=%d",
                worker.place,
                worker.process.pid,
                worker.replaces.process.pid,
            )
            worker.replaces.process.send_signal(signal.SIGTERM)
            worker.replaces = None
            self._places[worker.place].worker = worker

    def _ended(self, worker: _Worker, status: int) -> None:
        self._workers.remove(worker)
        if worker.pipe >= 0:
            os.close(worker.pipe)
        place = self._places[worker.place]
        if self._status is not None:
            return
        if place.worker is worker:
            self._died(worker, place, status)
        elif not worker.is_listening:
            self._to_replace.clear()
            log.error(
                "restart_given_up place=%d pid=%d exit_status=%d: the workers before it stay",
                worker.place,
                worker.process.pid,
                status,
            )
        # Else it was replaced, and has stopped.

    def _died(self, worker: _Worker, place: _Place, status: int) -> None:
        successor = next((each for each in self._workers if each.replaces is worker), None)
        if successor is not None:
            successor.replaces = None
        now = time.monotonic()
        place.deaths.append(now)
        while place.deaths[0] < now - DEATHS_WITHIN:
            place.deaths.popleft()
        count = len(place.deaths)
        is_last = not any(each.is_listening for each in self._workers)
        # It said itself why it cannot serve, and another one would say the same.
        is_hopeless = self._url is None and status > 0
        if is_hopeless or (is_last and not worker.is_listening and count >= MAX_DEATHS):
            log.error("workers_given_up pid=%d exit_status=%d", worker.process.pid, status)
            self._give_up(status if status > 0 else 128 - status if status < 0 else NOT_STARTED)
            return
        delay = 0.0 if count == 1 else min(FIRST_DELAY * 2 ** (count - 2), MAX_DELAY)
        place.worker, place.due = successor, now + delay
        log.error(
            "worker_died place=%d pid=%d exit_status=%d: another starts in %.1f s",
            worker.place,
            worker.process.pid,
            status,
            delay,
        )

    # -- all of them

    def _replace_all(self) -> None:
        if self._status is None:
            log.info("workers_restarting number=%d", len(self._places))
            self._to_replace = deque(range(len(self._places)))

    def _replace_next(self) -> None:
        if any(not worker.is_listening for worker in self._workers):
            return
        while self._to_replace:
            place = self._places[number := self._to_replace.popleft()]
            if place.worker is not None:  # else it starts anew anyway
                self._start(number, replaces=place.worker)
                return

    def _end(self, number: signal.Signals) -> None:
        if self._status is None:
            log.info("workers_stopping signal=%s", number.name)
            self._status = 0
        elif self._kill_at is None:
            self._kill_at = time.monotonic() + KILL_AFTER
        self._signal_all(signal.SIGTERM)

    def _give_up(self, status: int) -> None:
        if self._status is None:
            self._status = status
            self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.process.send_signal(number)
