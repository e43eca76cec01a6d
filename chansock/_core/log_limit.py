"""Limit the log lines that a peer can cause, so that no peer can flood the log.

    log_limit.warning(log, "ping_timeout uid=%r client=%r", uid, client_id[:8])

Each kind of line may come BURST times, and then RATE times a second. The lines past that are
counted, and every PERIOD one line says how many there were:

    ping_timeout: 12,345 more in the last 60 s

The kind of a line is what stands in its format before the first value, or `kind`, and with a
traceback the type of the exception. It must come from a fixed set (reasons, status codes, ids
of registered handlers), never from a peer's text. Long lines and tracebacks are cut. No
decision about the channel is made here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

__all__ = ["LogLimit", "call_later"]

BURST: Final = 20  # lines of one kind at once: enough to see who and why
RATE: Final = 1.0  # lines of one kind per second after that: 13 MB a day if they have 150 bytes
PERIOD: Final = 60.0  # seconds from the first line left out to the line that counts them
MAX_KINDS: Final = 1000  # past it only the first word of a line counts; some 40 are in use
MAX_LINE: Final = 2000  # characters; a refused origin is logged with the list of those allowed
MAX_TRACEBACK: Final = 8000  # characters; an exception may quote a message of a peer in full

Later: TypeAlias = Callable[[float, Callable[[Any], object], Any], object]


class _Kind:
    """Lines of one kind: how many may come now, and how many were left out."""

    __slots__ = ("at", "left_out", "level", "log", "name", "since", "tokens")

    def __init__(self, name: str, log: logging.Logger, level: int, now: float) -> None:
        self.name = name
        self.log = log
        self.level = level
        self.tokens = float(BURST)
        self.at = now  # when the tokens were counted
        self.left_out = 0
        self.since = now  # when the first of those was left out


class LogLimit:
    """Writes log lines up to a rate for each kind, and counts the rest.

    `now()` returns the time in seconds; `later(delay, call, arg)` calls `call(arg)` once after
    a delay, as `TimerQueue.schedule` and `loop.call_later` do. It is called only while lines are
    left out. The methods may be called from any thread from which `later` may be called.
    """

    def __init__(self, now: Callable[[], float], later: Later) -> None:
        self._now = now
        self._later = later
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.RLock()  # a collection within it may run code that logs
        self._is_due = False  # the next counts are asked for
        self._is_closed = False

    def debug(self, log: logging.Logger, text: str, *args: object, kind: str = "") -> None:
        """Log as `log.debug` does, within the limit."""
        if self._may(log, logging.DEBUG, text, kind, None):
            _write(log, logging.DEBUG, text, args)

    def info(self, log: logging.Logger, text: str, *args: object, kind: str = "") -> None:
        """Log as `log.info` does, within the limit."""
        if self._may(log, logging.INFO, text, kind, None):
            _write(log, logging.INFO, text, args)

    def warning(self, log: logging.Logger, text: str, *args: object, kind: str = "") -> None:
        """Log as `log.warning` does, within the limit."""
        if self._may(log, logging.WARNING, text, kind, None):
            _write(log, logging.WARNING, text, args)

    def error(
        self,
        log: logging.Logger,
        text: str,
        *args: object,
        kind: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Log as `log.error` does, within the limit, with the traceback of `error`."""
        if self._may(log, logging.ERROR, text, kind, error):
            _write(log, logging.ERROR, text, args, error)

    def exception(self, log: logging.Logger, text: str, *args: object, kind: str = "") -> None:
        """Log as `log.exception` does, within the limit; the exception is the one in flight."""
        error = sys.exception()
        if self._may(log, logging.ERROR, text, kind, error):
            _write(log, logging.ERROR, text, args, error)

    def count(self, kind: str) -> None:
        """Count a line that is left out since its connection had one of this kind before."""
        with self._lock:
            found = self._kinds.get(kind)
            is_due = found is not None and self._leave_out(found, self._now())
        if is_due:
            self._ask()

    def sum_up(self, _: object = None) -> None:
        """Log how many lines of each kind were left out since the last time."""
        with self._lock:
            self._is_due = False
            now = self._now()
            found = [
                (kind, kind.left_out, max(1, round(now - kind.since)))
                for kind in self._kinds.values()
                if kind.left_out
            ]
            for kind, _, _ in found:
                kind.left_out = 0
        for kind, count, seconds in found:
            text = f"{kind.name}: {count:,} more in the last {seconds} s"
            _write(kind.log, kind.level, text, ())

    def close(self) -> None:
        """Log the last counts; `later` is not called any more."""
        self._is_closed = True
        self.sum_up()

    # -- what may come

    def _may(
        self, log: logging.Logger, level: int, text: str, kind: str, error: BaseException | None
    ) -> bool:
        if not log.isEnabledFor(level):
            return False
        name = kind or _before_values(text)
        if error is not None:
            name = f"{name} {type(error).__name__}"
        with self._lock:
            now = self._now()
            found = self._kinds.get(name)
            if found is None:
                if len(self._kinds) >= MAX_KINDS:
                    name = text.partition(" ")[0]
                found = self._kinds.setdefault(name, _Kind(name, log, level, now))
            found.tokens = min(float(BURST), found.tokens + (now - found.at) * RATE)
            found.at = now
            if found.tokens >= 1.0:
                found.tokens -= 1.0
                return True
            is_due = self._leave_out(found, now)
        if is_due:
            self._ask()
        return False

    def _leave_out(self, kind: _Kind, now: float) -> bool:
        """Count a line; return whether the time to log the counts must be asked for."""
        if not kind.left_out:
            kind.since = now
        kind.left_out += 1
        if self._is_due or self._is_closed:
            return False
        self._is_due = True
        return True

    def _ask(self) -> None:
        try:
            self._later(PERIOD, self.sum_up, None)
        except RuntimeError:  # the loop is closed; `close` logs the counts
            self._is_due = False


def call_later(delay: float, call: Callable[[Any], object], arg: Any) -> None:
    """Call `call(arg)` after a delay, on the running loop or else in a thread of its own."""
    loop = None
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
    if loop is not None:
        loop.call_later(delay, call, arg)
        return
    timer = threading.Timer(delay, call, (arg,))
    timer.daemon = True
    timer.start()


def _before_values(text: str) -> str:
    """Return the beginning of a format: `refused reason=csrf status=403` of "...=403: %s"."""
    head, percent, _ = text.partition("%")
    return head.rpartition(" ")[0].rstrip(":") if percent else head


def _write(
    log: logging.Logger,
    level: int,
    text: str,
    args: tuple[object, ...],
    error: BaseException | None = None,
) -> None:
    """Log one line as `log.log` does, cut to a bounded length."""
    try:
        whole = text % args if args else text
    except Exception as why:  # of a repr, mostly: of data too deep, or an int too long
        whole = f"{text} ({type(why).__name__} while formatting)"
        text, args = whole, ()
    if len(whole) > MAX_LINE:
        text, args = _cut(whole, MAX_LINE), ()
    path, line, function, _ = log.findCaller(False, 3)  # who called our caller
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, level, path, line, text, args, exc_info, function)
    if error is not None:
        shown = ""
        with suppress(Exception):  # of what an exception of the application says about itself
            shown = "".join(traceback.format_exception(error)).rstrip("\n")
        if len(shown) > MAX_TRACEBACK:
            record.exc_text = _cut(shown, MAX_TRACEBACK)  # formatters use it instead of their own
    log.handle(record)


def _cut(text: str, limit: int) -> str:
    """Return the beginning and the end of a text that is too long."""
    half = limit // 2
    return f"{text[:half]} ...({len(text) - 2 * half:,} characters)... {text[-half:]}"
